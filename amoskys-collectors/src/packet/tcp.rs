/// A TCP header (RFC 9293).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpHeader {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Maximum segment size; 0 if not given. Read with SYN only.
    pub mss: u16,
    /// Window scale; 255 if not given. Read with SYN only.
    pub window_scale: u8,
}

/// Bits of [`TcpHeader::flags`].
pub(crate) mod flags {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const ACK: u8 = 16;
}

impl TcpHeader {
    /// No window scale was announced.
    pub(crate) const NO_SCALE: u8 = u8::MAX;

    /// Reads a header, and its length as it states it. One that was cut is read as far as it goes; `None` if not even
    /// its flags are there, or its length is impossible, so that no receiver would look at them.
    #[inline]
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut padded = [0; 20];
        let head = match bytes.first_chunk() {
            Some(head) => head,
            None => {
                padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
                &padded
            }
        };
        if bytes.len() < 14 {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = usize::from(head[12] >> 4) * 4;
        if length < 20 {
            return None;
        }
        let flags = head[13];
        let (mss, window_scale) = if flags & flags::SYN == 0 {
            (0, Self::NO_SCALE)
        } else {
            read_options(bytes.get(20..length).or(bytes.get(20..)).unwrap_or_default())
        };
        let header = Self {
            seq: word(4),
            ack: word(8),
            flags,
            window: u16::from_be_bytes([head[14], head[15]]),
            mss,
            window_scale,
        };
        Some((header, length))
    }

    /// Maximum segment size and window scale that the options of a SYN announce, as they are told in a header.
    #[cfg(all(feature = "ebpf", target_os = "linux"))]
    pub(crate) fn announced(options: &[u8]) -> (u16, u8) {
        read_options(options)
    }
}

/// Maximum segment size and window scale.
fn read_options(mut options: &[u8]) -> (u16, u8) {
    let (mut mss, mut window_scale) = (0, TcpHeader::NO_SCALE);
    while let [kind, rest @ ..] = options {
        options = match *kind {
            0 => break,
            1 => rest,
            _ => {
                let Some(&length) = rest.first() else { break };
                let Some(option) = options.get(2..usize::from(length)) else {
                    break;
                };
                match (*kind, option) {
                    (2, [high, low]) => mss = u16::from_be_bytes([*high, *low]),
                    (3, [shift]) => window_scale = *shift,
                    _ => {}
                }
                &options[usize::from(length)..]
            }
        };
    }
    (mss, window_scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn(options: &[u8]) -> TcpHeader {
        let mut bytes = vec![0; 20];
        bytes[12] = u8::try_from((20 + options.len()) / 4).unwrap() << 4;
        bytes[13] = flags::SYN;
        bytes.extend(options);
        TcpHeader::decode(&bytes).unwrap().0
    }

    #[test]
    fn a_cut_header_is_read_as_far_as_it_goes() {
        let mut bytes: [u8; 20] = std::array::from_fn(|n| n as u8);
        assert_eq!(
            TcpHeader::decode(&bytes),
            None,
            "no header is as short as it says"
        );
        bytes[12] = 0x50;
        assert_eq!(TcpHeader::decode(&bytes[..13]), None);
        let (cut, _) = TcpHeader::decode(&bytes[..14]).unwrap();
        assert_eq!(
            (cut.seq, cut.ack, cut.flags, cut.window),
            (0x0405_0607, 0x0809_0a0b, 13, 0)
        );
        assert_eq!(TcpHeader::decode(&bytes[..16]).unwrap().0.window, 0x0e0f);
    }

    #[test]
    fn options_are_read_as_far_as_they_make_sense() {
        let header = syn(&[2, 4, 5, 180, 1, 3, 3, 7]);
        assert_eq!((header.mss, header.window_scale), (1460, 7));
        // A length of 0 or 1 would never advance; one beyond the end has no value.
        for broken in [[1, 1, 2, 0], [1, 1, 2, 1], [1, 1, 2, 9], [0, 2, 4, 5]] {
            assert_eq!(syn(&broken).mss, 0);
        }
    }
}
