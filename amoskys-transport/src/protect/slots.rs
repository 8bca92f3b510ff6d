//! The bytes of a key file: slots of 128 bytes, four to a sector. The first says what it is; each of the others holds a
//! key, or zeros. `docs/formats.md` draws them.

pub(super) const SLOT: usize = 128;
pub(super) const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"AMOSUBJ\0";
const CRC_AT: usize = SLOT - 4;

/// The first slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Keys the digests of subjects.
    pub(super) salt: [u8; 32],
}

/// A key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u128,
    pub(super) secret: [u8; 32],
    /// HMAC-SHA-256 of the subject under the salt.
    pub(super) subject: [u8; 32],
}

/// Why a slot cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotFault {
    Damaged(&'static str),
    Version(u16),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; SLOT] {
        let mut out = [0; SLOT];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[16..48].copy_from_slice(&self.salt);
        with_crc(out)
    }

    pub(super) fn decode(slot: &[u8; SLOT]) -> Result<Self, SlotFault> {
        if slot[..8] != MAGIC {
            return Err(SlotFault::Damaged("it does not begin as a file of keys"));
        }
        if !crc_fits(slot) {
            return Err(SlotFault::Damaged("the checksum does not match"));
        }
        let version = u16::from_le_bytes([slot[8], slot[9]]);
        // The rest is for features that every reader must know.
        if version != VERSION || slot[10..16] != [0; 6] || slot[48..CRC_AT].iter().any(|byte| *byte != 0) {
            return Err(SlotFault::Version(version.max(VERSION + 1)));
        }
        Ok(Self {
            salt: array(&slot[16..48]),
        })
    }
}

impl Entry {
    pub(super) fn encode(&self) -> [u8; SLOT] {
        let mut out = [0; SLOT];
        out[0] = 1;
        out[8..24].copy_from_slice(&self.id.to_le_bytes());
        out[24..56].copy_from_slice(&self.secret);
        out[56..88].copy_from_slice(&self.subject);
        with_crc(out)
    }

    /// The key in a slot; `None` if there is none.
    pub(super) fn decode(slot: &[u8; SLOT]) -> Result<Option<Self>, SlotFault> {
        if slot.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !crc_fits(slot) {
            return Err(SlotFault::Damaged("the checksum does not match"));
        }
        if slot[0] != 1 || slot[1..8] != [0; 7] || slot[88..CRC_AT].iter().any(|byte| *byte != 0) {
            return Err(SlotFault::Version(VERSION + 1));
        }
        Ok(Some(Self {
            id: u128::from_le_bytes(array(&slot[8..24])),
            secret: array(&slot[24..56]),
            subject: array(&slot[56..88]),
        }))
    }
}

fn with_crc(mut slot: [u8; SLOT]) -> [u8; SLOT] {
    let crc = crc32fast::hash(&slot[..CRC_AT]);
    slot[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn crc_fits(slot: &[u8; SLOT]) -> bool {
    crc32fast::hash(&slot[..CRC_AT]).to_le_bytes() == slot[CRC_AT..]
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}
