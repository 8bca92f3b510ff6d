//! The bytes of a protected event: salt, nonce, ciphertext, tag.

use amoskys_core::event::{Protected, ProtectionScheme};
use amoskys_core::{Event, EventId, wire};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use super::{ProtectError, SubjectKey};

const SALT: usize = 16;
const DOMAIN: &[u8; 24] = b"amoskys protected event\n";

/// Encrypts what an event holds for the outer event with this id.
pub(super) fn seal(key: &SubjectKey, id: EventId, inner: &Event) -> Result<Protected, ProtectError> {
    let mut random = [0; SALT + NONCE_LEN];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| ProtectError::Random)?;
    let (salt, nonce) = split(&random);
    let mut text = Vec::new();
    wire::encode_event(inner, &mut text);
    let event_key = event_key(key, &salt)?;
    let tag = event_key
        .seal_in_place_separate_tag(nonce, additional(key.id(), id), &mut text)
        .map_err(|_| ProtectError::Random)?;
    let mut sealed = Vec::with_capacity(random.len() + text.len() + tag.as_ref().len());
    sealed.extend_from_slice(&random);
    sealed.extend_from_slice(&text);
    sealed.extend_from_slice(tag.as_ref());
    Ok(Protected {
        key: key.id(),
        scheme: ProtectionScheme::HmacSha256Aes256Gcm,
        sealed,
    })
}

/// Decrypts; `None` if it is of another scheme, or not what was encrypted for this event.
pub(super) fn open(key: &SubjectKey, id: EventId, protected: &Protected) -> Option<Event> {
    if protected.scheme != ProtectionScheme::HmacSha256Aes256Gcm {
        return None;
    }
    let (random, text) = protected.sealed.split_first_chunk()?;
    let (salt, nonce) = split(random);
    let mut text = text.to_vec();
    let event_key = event_key(key, &salt).ok()?;
    let text = event_key
        .open_in_place(nonce, additional(protected.key, id), &mut text)
        .ok()?;
    wire::decode_event(text).ok().filter(|inner| inner.id == id)
}

fn split(random: &[u8; SALT + NONCE_LEN]) -> ([u8; SALT], Nonce) {
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE_LEN]);
    salt.copy_from_slice(&random[..SALT]);
    nonce.copy_from_slice(&random[SALT..]);
    (salt, Nonce::assume_unique_for_key(nonce))
}

fn event_key(key: &SubjectKey, salt: &[u8; SALT]) -> Result<LessSafeKey, ProtectError> {
    let key = UnboundKey::new(&AES_256_GCM, &key.derive(salt)).map_err(|_| ProtectError::Random)?;
    Ok(LessSafeKey::new(key))
}

/// Binds it to its event, so that it cannot be put into another.
fn additional(key: u128, id: EventId) -> Aad<[u8; 56]> {
    let mut out = [0; 56];
    out[..24].copy_from_slice(DOMAIN);
    out[24..40].copy_from_slice(&key.to_le_bytes());
    out[40..48].copy_from_slice(&id.origin.to_le_bytes());
    out[48..].copy_from_slice(&id.ordinal.to_le_bytes());
    Aad::from(out)
}
