//! The classic capture format: a 24-byte header, then records with 16-byte headers.

use amoskys_core::Timestamp;

use super::{Head, LinkType, MAX_PACKET_BYTES, Packet};

pub(super) const FILE_HEADER_BYTES: usize = 24;

/// What the file header says about all records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    big_endian: bool,
    nanoseconds: bool,
    record_header_bytes: u8,
    link: LinkType,
}

/// What a record header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    time: Timestamp,
    pub(super) captured: u32,
    wire_len: u32,
}

impl FileHeader {
    pub(super) fn record_header_bytes(self) -> usize {
        usize::from(self.record_header_bytes)
    }

    /// `None` if the bytes do not begin with one of the format's magic numbers.
    pub(super) fn parse(bytes: &[u8; FILE_HEADER_BYTES]) -> Option<Self> {
        let magic = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // Alexey Kuznetzov's patched libpcap wrote eight more bytes per record, under its own magic.
        let (big_endian, nanoseconds, record_header_bytes) = match magic {
            0xa1b2_c3d4 => (true, false, 16),
            0xd4c3_b2a1 => (false, false, 16),
            0xa1b2_3c4d => (true, true, 16),
            0x4d3c_b2a1 => (false, true, 16),
            0xa1b2_cd34 => (true, false, 24),
            0x34cd_b2a1 => (false, false, 24),
            _ => return None,
        };
        // The upper half of the field describes frame check sequences, which the IP lengths make us ignore.
        let network = if big_endian {
            [bytes[22], bytes[23]]
        } else {
            [bytes[21], bytes[20]]
        };
        Some(Self {
            big_endian,
            nanoseconds,
            record_header_bytes,
            link: LinkType(u16::from_be_bytes(network)),
        })
    }

    #[inline]
    pub(super) fn record(self, bytes: &[u8]) -> Option<RecordHeader> {
        let bytes: &[u8; 16] = bytes.first_chunk()?;
        let field = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut fields = [field(0), field(4), field(8), field(12)];
        if self.big_endian {
            fields = fields.map(u32::swap_bytes);
        }
        let [secs, fraction, captured, wire_len] = fields;
        let unit = if self.nanoseconds { 1 } else { 1000 };
        // Neither term can overflow. A fraction of a second or more is absurd, but harmless.
        let nanos = i64::from(secs) * 1_000_000_000 + i64::from(fraction) * unit;
        Some(RecordHeader {
            time: Timestamp::from_nanos(nanos),
            captured,
            wire_len,
        })
    }

    /// The record that begins at this place of a buffer, and its packet, if the buffer holds it whole.
    #[inline]
    pub(super) fn next_record(self, buffer: &[u8], at: usize) -> Option<(RecordHeader, &[u8])> {
        let record = buffer.get(at..)?;
        let head = self.record(record)?;
        let captured = head.captured as usize;
        if captured > MAX_PACKET_BYTES {
            return None;
        }
        let from = self.record_header_bytes();
        let data = record.get(from..from + captured)?;
        Some((head, data))
    }

    /// What is known of the packet whose bytes begin at `start` of a buffer, by the record's header before them.
    #[inline]
    pub(crate) fn head_before(self, buffer: &[u8], start: u32) -> Option<Head> {
        let at = (start as usize).checked_sub(self.record_header_bytes())?;
        let record = self.record(buffer.get(at..)?)?;
        Some(self.head(record, start as usize))
    }

    /// The packet whose bytes begin at `start` of a buffer, by the record's header before them.
    #[inline]
    pub(crate) fn packet_at(self, buffer: &[u8], start: u32) -> Option<Packet<'_>> {
        let at = (start as usize).checked_sub(self.record_header_bytes())?;
        let (record, data) = self.next_record(buffer, at)?;
        Some(self.head(record, start as usize).packet(data))
    }

    /// What is known of the packet of a record whose bytes begin at `start` of a buffer.
    #[inline]
    pub(super) fn head(self, record: RecordHeader, start: usize) -> Head {
        Head {
            time: record.time,
            interface: 0,
            wire_len: record.wire_len,
            start: start as u32,
            length: record.captured,
            link: self.link,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(magic: [u8; 4], network: [u8; 4]) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[..4].copy_from_slice(&magic);
        bytes[20..].copy_from_slice(&network);
        bytes
    }

    #[test]
    fn either_byte_order_and_both_units() {
        let record_le = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0];
        let record_be = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4];
        let cases = [
            ([0xd4, 0xc3, 0xb2, 0xa1], [1, 0, 0, 0], &record_le, 1_000_002_000),
            ([0xa1, 0xb2, 0xc3, 0xd4], [0, 0, 0, 1], &record_be, 1_000_002_000),
            ([0x4d, 0x3c, 0xb2, 0xa1], [1, 0, 0, 0], &record_le, 1_000_000_002),
            ([0xa1, 0xb2, 0x3c, 0x4d], [0, 0, 0, 1], &record_be, 1_000_000_002),
        ];
        for (magic, network, record, nanos) in cases {
            let file = FileHeader::parse(&header(magic, network)).unwrap();
            assert_eq!(file.link, LinkType::ETHERNET);
            let record = file.record(record).unwrap();
            assert_eq!(record.time.nanos(), nanos);
            assert_eq!((record.captured, record.wire_len), (3, 4));
        }
    }

    #[test]
    fn frame_check_bits_are_not_part_of_the_link_type() {
        let file = FileHeader::parse(&header([0xd4, 0xc3, 0xb2, 0xa1], [1, 0, 0, 0x24])).unwrap();
        assert_eq!(file.link, LinkType::ETHERNET);
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(FileHeader::parse(&header(*b"PK\x03\x04", [0; 4])), None);
    }
}
