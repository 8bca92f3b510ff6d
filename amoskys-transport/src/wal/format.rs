//! The bytes of a segment file. `docs/formats.md` draws them.
//!
//! All integers are little-endian. A segment is a header, then records one after the other, each padded to a
//! multiple of 8 bytes, then zeros to the end of the file.

/// Format version this code writes, and the newest it reads.
pub(crate) const VERSION: u16 = 1;
/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER: usize = 64;
/// Bytes in front of each record.
pub(crate) const RECORD_HEADER: usize = 32;
/// Records begin at multiples of this.
pub(crate) const ALIGN: u64 = 8;

/// Segment flag: records were given up, and what took their place stands at their last offsets; other offsets may be
/// missing.
const SPARSE: u8 = 1;
/// Segment flag: the records are encrypted.
const ENCRYPTED: u8 = 2;
/// Record flag: the record is encrypted.
pub(crate) const RECORD_ENCRYPTED: u32 = 1;

/// No log comes this far; a number beyond it is damage, and counting on from it must not overflow.
pub(crate) const MAX_OFFSET: u64 = 1 << 62;

const MAGIC: [u8; 8] = *b"AMOSSEG\0";

/// What stands at the beginning of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The log it belongs to.
    pub(crate) log: u128,
    /// Offset of its first record.
    pub(crate) first: u64,
    /// Begins every record header of this segment, and enters its checksum. Drawn at random, so that bytes
    /// inside a record, which an outsider may choose, are not taken for a record header after damage.
    pub(crate) mark: u32,
    /// When it was created, by the wall clock, in nanoseconds since the Unix epoch. For people only.
    pub(crate) created: i64,
    /// Of a segment whose records were given up in part: the offset behind its last record. Files of segments that
    /// begin below that are left over from before.
    pub(crate) sparse: Option<u64>,
    /// Its records are encrypted, and what is needed to decrypt them stands behind the header.
    pub(crate) encrypted: bool,
}

/// Why a segment header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Too short, no magic, or the checksum is wrong.
    Damaged,
    /// Intact, of a version or with flags this code does not know.
    Version(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        if let Some(end) = self.sparse {
            out[10] |= SPARSE;
            out[52..60].copy_from_slice(&end.to_le_bytes());
        }
        if self.encrypted {
            out[10] |= ENCRYPTED;
        }
        out[16..32].copy_from_slice(&self.log.to_le_bytes());
        out[32..40].copy_from_slice(&self.first.to_le_bytes());
        out[40..44].copy_from_slice(&self.mark.to_le_bytes());
        out[44..52].copy_from_slice(&self.created.to_le_bytes());
        let crc = crc32fast::hash(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER>() else {
            return Err(HeaderFault::Damaged);
        };
        if bytes[0..8] != MAGIC || crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(HeaderFault::Damaged);
        }
        let version = u16_at(bytes, 8);
        // Bytes 10 to 16 are flags of features that every reader must know.
        if version != VERSION || bytes[10] & !(SPARSE | ENCRYPTED) != 0 || bytes[11..16] != [0; 5] {
            return Err(HeaderFault::Version(version.max(VERSION + 1)));
        }
        let header = Self {
            log: u128::from_le_bytes(array_at(bytes, 16)),
            first: u64_at(bytes, 32),
            mark: u32_at(bytes, 40),
            created: i64::from_le_bytes(array_at(bytes, 44)),
            sparse: (bytes[10] & SPARSE != 0).then(|| u64_at(bytes, 52)),
            encrypted: bytes[10] & ENCRYPTED != 0,
        };
        let in_range = |end| (header.first..=MAX_OFFSET).contains(&end);
        if header.sparse.is_none_or(in_range) {
            Ok(header)
        } else {
            Err(HeaderFault::Damaged)
        }
    }
}

/// What stands before each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Bytes of the record, without header and padding.
    pub(crate) len: u32,
    /// Its offset in the log.
    pub(crate) offset: u64,
    /// How many records before it were written in the same commit. All earlier ones were durable before a
    /// byte of this one was written, which tells a torn tail from damage.
    pub(crate) group: u32,
    /// CRC-32 of the record.
    pub(crate) crc: u32,
    /// Reserved for features that every reader must know; 0.
    pub(crate) flags: u32,
}

impl RecordHeader {
    pub(crate) fn encode(&self, mark: u32) -> [u8; RECORD_HEADER] {
        let mut out = [0; RECORD_HEADER];
        out[0..4].copy_from_slice(&mark.to_le_bytes());
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..20].copy_from_slice(&self.group.to_le_bytes());
        out[20..24].copy_from_slice(&self.flags.to_le_bytes());
        out[24..28].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..28]);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in `bytes`, if it is whole and of the segment with this mark.
    pub(crate) fn decode(bytes: &[u8], mark: u32) -> Option<Self> {
        let bytes = bytes.first_chunk::<RECORD_HEADER>()?;
        if u32_at(bytes, 0) != mark || crc32fast::hash(&bytes[..28]) != u32_at(bytes, 28) {
            return None;
        }
        let header = Self {
            len: u32_at(bytes, 4),
            offset: u64_at(bytes, 8),
            group: u32_at(bytes, 16),
            flags: u32_at(bytes, 20),
            crc: u32_at(bytes, 24),
        };
        (header.offset <= MAX_OFFSET).then_some(header)
    }

    /// Bytes it takes in the file, with header and padding.
    pub(crate) fn stored_len(&self) -> u64 {
        stored_len(u64::from(self.len))
    }
}

/// Bytes a record of `len` bytes takes in a segment.
pub(crate) fn stored_len(len: u64) -> u64 {
    (RECORD_HEADER as u64 + len).next_multiple_of(ALIGN)
}

/// The file name of the segment that begins with this offset. Names sort like offsets.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// The offset in a segment's file name; `None` if it is not one.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let first =
        (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?;
    first.filter(|first| *first <= MAX_OFFSET)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
