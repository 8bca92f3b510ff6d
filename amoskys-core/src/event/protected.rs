/// A payload that only those can read who have the key, until the key is erased.
///
/// It takes the place of the payload, and of attributes, of an event about somebody whose data may have to be erased
/// one day. What makes and opens it is in the crate that keeps the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protected {
    /// Which key. Random, so that it says nothing about whose it is.
    pub key: u128,
    /// How it is encrypted.
    pub scheme: ProtectionScheme,
    /// The encrypted event, with all that is needed besides the key.
    pub sealed: Vec<u8>,
}

/// How a payload is encrypted. `docs/formats.md` in the repository draws the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtectionScheme {
    /// Not said. Nothing can open it.
    #[default]
    Unknown,
    /// AES-256-GCM, each event under a key of its own that is derived with HMAC-SHA-256.
    HmacSha256Aes256Gcm,
}
