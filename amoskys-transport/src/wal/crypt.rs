//! Encryption of what lies in a segment, and of the values beside it: AES-256-GCM with random nonces, under keys derived
//! (HKDF-SHA256) from the log's key and a random salt.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use super::log_key::{LogKey, LogKeyId, LogKeys};

/// Bytes that encryption adds to a record: its nonce before, its tag behind.
pub(crate) const OVERHEAD: usize = NONCE_LEN + 16;
/// Bytes of a [`KeySlot`].
pub(crate) const SLOT: usize = 64;
/// Where the slot is, and where it is again: one lost page of the disk must not take a whole segment with it.
pub(crate) const SLOTS: [u64; 2] = [64, 4096];
/// Where the records of an encrypted segment begin.
pub(crate) const ENCRYPTED_START: u64 = 4096 + SLOT as u64;

const MAGIC: [u8; 8] = *b"AMOSLOCK";
const SEGMENT: &[u8] = b"amoskys log segment\n";
const VALUE: &[u8] = b"amoskys log value\n";

/// What has to be known, beside the key, to decrypt a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeySlot {
    pub(crate) key: LogKeyId,
    /// The log's identity.
    pub(crate) log: u128,
    pub(crate) salt: [u8; 16],
}

impl KeySlot {
    pub(crate) fn draw(key: LogKeyId, log: u128) -> Result<Self, Unspecified> {
        let salt = draw()?;
        Ok(Self { key, log, salt })
    }

    pub(crate) fn encode(&self) -> [u8; SLOT] {
        let mut out = [0; SLOT];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.key.0);
        out[16..32].copy_from_slice(&self.log.to_le_bytes());
        out[32..48].copy_from_slice(&self.salt);
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<SLOT>()?;
        let crc = u32::from_le_bytes(bytes[60..].try_into().ok()?);
        if bytes[..8] != MAGIC || crc32fast::hash(&bytes[..60]) != crc {
            return None;
        }
        Some(Self {
            key: LogKeyId(bytes[8..16].try_into().ok()?),
            log: u128::from_le_bytes(bytes[16..32].try_into().ok()?),
            salt: bytes[32..48].try_into().ok()?,
        })
    }
}

/// How the records of a segment are locked.
#[derive(Clone, Debug, Default)]
pub(crate) enum Lock {
    /// Not at all.
    #[default]
    Open,
    /// Encrypted, and this decrypts them.
    Cipher(Arc<Cipher>),
    /// Encrypted, and it is not known how to decrypt them.
    Shut,
}

/// Encrypts and decrypts the records of one segment.
pub(crate) struct Cipher {
    key: LessSafeKey,
    /// Which key it was derived from.
    pub(crate) of: LogKeyId,
    /// Identity of the log, and mark of the segment.
    place: [u8; 20],
}

impl Cipher {
    pub(crate) fn new(key: &LogKey, slot: &KeySlot, mark: u32) -> Result<Self, Unspecified> {
        let mut place = [0; 20];
        place[..16].copy_from_slice(&slot.log.to_le_bytes());
        place[16..].copy_from_slice(&mark.to_le_bytes());
        Ok(Self {
            key: derive(key, &slot.salt, SEGMENT)?,
            of: key.id(),
            place,
        })
    }

    /// What a record is bound to: taken to another place, it does not decrypt.
    fn bound_to(&self, offset: u64) -> Aad<[u8; 28]> {
        let mut place = [0; 28];
        place[..20].copy_from_slice(&self.place);
        place[20..].copy_from_slice(&offset.to_le_bytes());
        Aad::from(place)
    }

    /// Appends the record, encrypted: [`OVERHEAD`] bytes more.
    pub(crate) fn encrypt(&self, offset: u64, record: &[u8], out: &mut Vec<u8>) -> Result<(), Unspecified> {
        encrypt(&self.key, self.bound_to(offset), record, out)
    }

    /// Decrypts a stored record in its place, and says where in it the record is.
    pub(crate) fn decrypt(&self, offset: u64, stored: &mut [u8]) -> Option<Range<usize>> {
        decrypt(&self.key, self.bound_to(offset), stored)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cipher").field(&self.of).finish()
    }
}

/// Encrypts a value that is kept under a name.
pub(crate) fn encrypt_value(key: &LogKey, name: &str, value: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let salt: [u8; 16] = draw()?;
    let mut out = Vec::with_capacity(24 + OVERHEAD + value.len());
    out.extend_from_slice(&key.id().0);
    out.extend_from_slice(&salt);
    encrypt(
        &derive(key, &salt, VALUE)?,
        Aad::from(name.as_bytes()),
        value,
        &mut out,
    )?;
    Ok(out)
}

/// Decrypts a value. `None` if none of the keys fits.
pub(crate) fn decrypt_value(keys: &dyn LogKeys, name: &str, stored: &[u8]) -> Option<Vec<u8>> {
    let (id, rest) = stored.split_first_chunk::<8>()?;
    let (salt, body) = rest.split_first_chunk::<16>()?;
    let key = keys.by_id(LogKeyId(*id)).ok()??;
    let mut body = body.to_vec();
    let range = decrypt(
        &derive(&key, salt, VALUE).ok()?,
        Aad::from(name.as_bytes()),
        &mut body,
    )?;
    body.truncate(range.end);
    body.drain(..range.start);
    Some(body)
}

fn derive(key: &LogKey, salt: &[u8], what_for: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(key.secret());
    let info = [what_for];
    Ok(LessSafeKey::new(UnboundKey::from(
        derived.expand(&info, &AES_256_GCM)?,
    )))
}

fn encrypt<A: AsRef<[u8]>>(
    key: &LessSafeKey,
    aad: Aad<A>,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Unspecified> {
    // Random, and not made of the offset: after a crash an offset is used again.
    let nonce: [u8; NONCE_LEN] = draw()?;
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut out[start..])?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

fn decrypt<A: AsRef<[u8]>>(key: &LessSafeKey, aad: Aad<A>, stored: &mut [u8]) -> Option<Range<usize>> {
    let (nonce, body) = stored.split_first_chunk_mut::<NONCE_LEN>()?;
    let plain = key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, body)
        .ok()?;
    Some(NONCE_LEN..NONCE_LEN + plain.len())
}

fn draw<const N: usize>() -> Result<[u8; N], Unspecified> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_decrypts_in_its_place_only() {
        let key = LogKey::from_bytes([7; 32]);
        let slot = KeySlot::draw(key.id(), 9).unwrap();
        assert_eq!(KeySlot::decode(&slot.encode()), Some(slot));
        let cipher = Cipher::new(&key, &slot, 5).unwrap();
        let mut stored = Vec::new();
        cipher.encrypt(3, b"a record", &mut stored).unwrap();
        assert_eq!(stored.len(), 8 + OVERHEAD);
        let open = |cipher: &Cipher, offset, mut stored: Vec<u8>| {
            cipher
                .decrypt(offset, &mut stored)
                .map(|range| stored[range].to_vec())
        };
        assert_eq!(
            open(&cipher, 3, stored.clone()).as_deref(),
            Some(&b"a record"[..])
        );
        assert_eq!(open(&cipher, 4, stored.clone()), None);
        let other_slot = KeySlot::draw(key.id(), 9).unwrap();
        for other in [
            Cipher::new(&key, &slot, 6).unwrap(),
            Cipher::new(&key, &other_slot, 5).unwrap(),
            Cipher::new(&key, &KeySlot { log: 8, ..slot }, 5).unwrap(),
            Cipher::new(&LogKey::from_bytes([8; 32]), &slot, 5).unwrap(),
        ] {
            assert_eq!(open(&other, 3, stored.clone()), None);
        }
        for bit in 0..stored.len() * 8 {
            let mut altered = stored.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&cipher, 3, altered), None, "bit {bit}");
        }
        for len in 0..stored.len() {
            assert_eq!(open(&cipher, 3, stored[..len].to_vec()), None);
        }
    }
}
