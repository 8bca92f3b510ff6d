//! QUIC Initial packets (RFC 9000, RFC 9369): their protection has keys that everyone can work out, so that the client
//! hello inside can be read.

use ring::aead::quic::{AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

use super::{be16, be32};

/// Longest connection id.
const MAX_ID: usize = 20;
/// Longest packet that is decrypted.
const MAX_PACKET: usize = 2048;

/// What differs between versions.
struct Version {
    salt: [u8; 20],
    /// Labels of key, initialisation vector and header protection, as `HkdfLabel` has them.
    labels: [&'static [u8]; 3],
    /// Bits of the first byte that say that it is an Initial packet.
    initial: u8,
}

const LABELS_1: [&[u8]; 3] = [b"tls13 quic key", b"tls13 quic iv", b"tls13 quic hp"];
const LABELS_2: [&[u8]; 3] = [b"tls13 quicv2 key", b"tls13 quicv2 iv", b"tls13 quicv2 hp"];

const VERSION_1: Version = Version {
    salt: [
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc,
        0xbb, 0x7f, 0x0a,
    ],
    labels: LABELS_1,
    initial: 0x00,
};
const VERSION_2: Version = Version {
    salt: [
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9,
        0xbd, 0x2e, 0xd9,
    ],
    labels: LABELS_2,
    initial: 0x10,
};
/// Drafts 29 to 32, which were in use before the standard.
const DRAFT_29: Version = Version {
    salt: [
        0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11, 0xe0, 0x43,
        0x90, 0xa8, 0x99,
    ],
    labels: LABELS_1,
    initial: 0x00,
};

impl Version {
    fn of(number: u32) -> Option<&'static Self> {
        match number {
            1 => Some(&VERSION_1),
            0x6b33_43cf => Some(&VERSION_2),
            0xff00_001d..=0xff00_0020 => Some(&DRAFT_29),
            _ => None,
        }
    }
}

/// What the keys of a connection's Initial packets are made of: its version, and the connection id that the client
/// chose for the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    version: u32,
    length: u8,
    id: [u8; MAX_ID],
}

/// Where an Initial packet has what.
struct Initial<'a> {
    connection: Connection,
    /// Where the packet number is, and where the packet ends.
    number_at: usize,
    end: usize,
    bytes: &'a [u8],
}

impl Connection {
    /// The connection that a client's first Initial packet begins. `None` if the datagram begins with something else.
    #[must_use]
    pub fn of_first(datagram: &[u8]) -> Option<Self> {
        Initial::find(datagram).map(|initial| initial.connection)
    }

    /// Decrypts a client's Initial packet of this connection, at the start of the datagram, and gives the parts of the
    /// handshake in it, each with its place. `false` if it is none, or cannot be decrypted.
    pub fn read(&self, datagram: &[u8], mut part: impl FnMut(u64, &[u8])) -> bool {
        let mut buffer = [0; MAX_PACKET];
        let Some(initial) = Initial::find(datagram) else {
            return false;
        };
        // The version of the connection may have been negotiated; each packet states its own.
        let connection = Connection {
            version: initial.connection.version,
            ..*self
        };
        let Some(frames) = connection.decrypt(&initial, &mut buffer) else {
            return false;
        };
        read_frames(frames, &mut part).is_some()
    }

    fn decrypt<'b>(&self, initial: &Initial<'_>, buffer: &'b mut [u8; MAX_PACKET]) -> Option<&'b [u8]> {
        let version = Version::of(self.version)?;
        let secret = Salt::new(HKDF_SHA256, &version.salt).extract(self.id.get(..self.length.into())?);
        let mut client = [0; 32];
        expand(&secret, b"tls13 client in", &mut client)?;
        let client = ring::hkdf::Prk::new_less_safe(HKDF_SHA256, &client);
        let (mut key, mut iv, mut mask_key) = ([0; 16], [0; 12], [0; 16]);
        let [key_label, iv_label, mask_label] = version.labels;
        expand(&client, key_label, &mut key)?;
        expand(&client, iv_label, &mut iv)?;
        expand(&client, mask_label, &mut mask_key)?;

        let packet = buffer.get_mut(..initial.end)?;
        packet.copy_from_slice(initial.bytes.get(..initial.end)?);
        // The sample begins four bytes after the packet number, which is as long as that at most (RFC 9001, 5.4.2).
        let sample = packet.get(initial.number_at + 4..initial.number_at + 20)?;
        let mask = HeaderProtectionKey::new(&AES_128, &mask_key)
            .ok()?
            .new_mask(sample)
            .ok()?;
        *packet.first_mut()? ^= mask[0] & 0x0f;
        let number_length = usize::from(packet.first()? & 3) + 1;
        let mut number: u64 = 0;
        for (byte, mask) in packet
            .get_mut(initial.number_at..initial.number_at + number_length)?
            .iter_mut()
            .zip(&mask[1..])
        {
            *byte ^= mask;
            number = number << 8 | u64::from(*byte);
        }
        for (byte, bits) in iv[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= bits;
        }
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
        let (header, body) = packet.split_at_mut_checked(initial.number_at + number_length)?;
        let plain = key.open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(&*header), body);
        plain.ok().map(|plain| &*plain)
    }
}

impl<'a> Initial<'a> {
    /// Reads the header, as far as it is not protected.
    fn find(bytes: &'a [u8]) -> Option<Self> {
        let &[first, ..] = bytes else { return None };
        let number = be32(bytes, 1)?;
        let version = Version::of(number)?;
        // Long header; the fixed bit may be greased away, but seldom is in an Initial packet.
        if first & 0xf0 != 0xc0 | version.initial {
            return None;
        }
        let mut at = 5;
        let (length, id) = take_id(bytes, &mut at)?;
        let _source = take_id(bytes, &mut at)?;
        let token = usize::try_from(varint(bytes, &mut at)?).ok()?;
        at = at.checked_add(token)?;
        let rest = usize::try_from(varint(bytes, &mut at)?).ok()?;
        let end = at.checked_add(rest)?;
        if end > bytes.len() || end > MAX_PACKET {
            return None;
        }
        Some(Self {
            connection: Connection {
                version: number,
                length,
                id,
            },
            number_at: at,
            end,
            bytes,
        })
    }
}

fn take_id(bytes: &[u8], at: &mut usize) -> Option<(u8, [u8; MAX_ID])> {
    let length = *bytes.get(*at)?;
    let mut id = [0; MAX_ID];
    let place = id.get_mut(..length.into())?;
    place.copy_from_slice(bytes.get(*at + 1..*at + 1 + usize::from(length))?);
    *at += 1 + usize::from(length);
    Some((length, id))
}

/// An integer of variable length (RFC 9000 section 16).
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    let value = match first >> 6 {
        0 => u64::from(first),
        1 => u64::from(be16(bytes, *at)? & 0x3fff),
        2 => u64::from(be32(bytes, *at)? & 0x3fff_ffff),
        _ => u64::from_be_bytes(*bytes.get(*at..)?.first_chunk()?) & (u64::MAX >> 2),
    };
    *at += 1 << (first >> 6);
    Some(value)
}

/// Frames that an Initial packet may hold (RFC 9000 section 12.4).
fn read_frames(bytes: &[u8], part: &mut impl FnMut(u64, &[u8])) -> Option<()> {
    let mut at = 0;
    while let Some(kind) = bytes.get(at) {
        at += 1;
        match kind {
            // PADDING, PING.
            0 | 1 => {}
            // ACK, with counts of ECN or without.
            2 | 3 => {
                varint(bytes, &mut at)?;
                varint(bytes, &mut at)?;
                let ranges = varint(bytes, &mut at)?;
                varint(bytes, &mut at)?;
                let more = if *kind == 3 { 3 } else { 0 };
                for _ in 0..ranges.checked_mul(2)?.checked_add(more)? {
                    varint(bytes, &mut at)?;
                }
            }
            // CRYPTO.
            6 => {
                let offset = varint(bytes, &mut at)?;
                let length = usize::try_from(varint(bytes, &mut at)?).ok()?;
                part(offset, bytes.get(at..at.checked_add(length)?)?);
                at += length;
            }
            // CONNECTION_CLOSE, or something that may not be here.
            _ => return None,
        }
    }
    Some(())
}

/// Lengths of what is derived.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// `HKDF-Expand-Label` of TLS 1.3 with an empty context (RFC 8446 section 7.1).
fn expand(secret: &ring::hkdf::Prk, label: &[u8], out: &mut [u8]) -> Option<()> {
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let info: [&[u8]; 4] = [&length, &[u8::try_from(label.len()).ok()?], label, &[0]];
    secret.expand(&info, Length(out.len())).ok()?.fill(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// The handshake message of RFC 9001, appendix A.2, in its CRYPTO frame.
    const FRAME: &str = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c
        00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007
        000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43
        e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ff
        ffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff";

    /// The packet of the appendix, protected with the keys that it states.
    fn packet() -> Vec<u8> {
        let header = hex("c300000001088394c8f03e5157080000449e00000002");
        let mut body = hex(FRAME);
        body.resize(1162, 0);
        let key = LessSafeKey::new(
            UnboundKey::new(&AES_128_GCM, &hex("1f369613dd76d5467730efcbe3b1a22d")).unwrap(),
        );
        let mut nonce: [u8; 12] = hex("fa044b2f42a3fd3b46fb255c").try_into().unwrap();
        nonce[11] ^= 2;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&header), &mut body)
            .unwrap();
        assert_eq!(
            &body[..16],
            hex("d1b1c98dd7689fb8ec11d242b123dc9b"),
            "the sample of the appendix"
        );
        [hex("c000000001088394c8f03e5157080000449e7b9aec34"), body].concat()
    }

    #[test]
    fn the_packet_of_the_standard_is_read() {
        let packet = packet();
        assert_eq!(packet.len(), 1200);
        let connection = Connection::of_first(&packet).unwrap();
        let mut found = Vec::new();
        assert!(connection.read(&packet, |offset, bytes| found.push((offset, bytes.to_vec()))));
        assert_eq!(found, [(0, hex(FRAME)[4..].to_vec())]);
        let mut reader = crate::packet::tls::HelloReader::new();
        assert_eq!(
            reader.read_message(&found[0].1),
            crate::packet::tls::Parsed::Whole
        );
        assert_eq!(
            (reader.server_name(), reader.alpn()),
            (&b"example.com"[..], &b"alpn"[..])
        );
        assert_eq!(&reader.ja4(true)[..10], b"q13d0211an");
    }

    #[test]
    fn a_changed_or_cut_packet_is_not() {
        let whole = packet();
        let connection = Connection::of_first(&whole).unwrap();
        for at in [0, 17, 18, 25, 600, 1199] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(!connection.read(&changed, |_, _| panic!("read")), "{at}");
        }
        for cut in [0, 5, 17, 1000, 1199] {
            assert_eq!(Connection::of_first(&whole[..cut]), None);
        }
    }
}
