//! How states and fitted transforms are written: a header that says what it is, the body in postcard, and a
//! digest over both.
//!
//! ```text
//! "AMFX" | version u16 LE | 32 bytes identity | body | 32 bytes SHA-256 of all before
//! ```
//!
//! The identity is a digest of what the state belongs to (configuration, schemas), so that a state is never
//! continued under another configuration.

use amoskys_core::{AnalyzerError, Digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: &[u8; 4] = b"AMFX";
const VERSION: u16 = 1;
const HEADER: usize = 4 + 2 + 32;

/// Writes a state.
pub(crate) fn encode(identity: Digest, body: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(identity.0);
    let mut bytes = postcard::to_extend(body, bytes)?;
    let digest = Digest::of(&bytes);
    bytes.extend(digest.0);
    Ok(bytes)
}

/// Reads a state that [`encode`] wrote for the same identity.
pub(crate) fn decode<T: DeserializeOwned>(identity: Digest, bytes: &[u8]) -> Result<T, DecodeError> {
    let Some((content, digest)) = bytes.split_last_chunk::<32>() else {
        return Err(DecodeError::Damaged);
    };
    if content.len() < HEADER || content[..4] != MAGIC[..] {
        return Err(DecodeError::Damaged);
    }
    let version = u16::from_le_bytes([content[4], content[5]]);
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    if Digest::of(content).0 != *digest {
        return Err(DecodeError::Damaged);
    }
    if content[6..HEADER] != identity.0 {
        return Err(DecodeError::Foreign);
    }
    match postcard::take_from_bytes(&content[HEADER..]) {
        Ok((body, [])) => Ok(body),
        Ok(_) => Err(DecodeError::Damaged),
        Err(error) => Err(DecodeError::Body(error)),
    }
}

/// Why a state could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it is damaged, or not such a state")]
    Damaged,
    #[error("it has version {0}; this program reads version {VERSION}")]
    Version(u16),
    #[error("it belongs to another configuration or schema")]
    Foreign,
    #[error("its body does not decode")]
    Body(#[source] postcard::Error),
}

impl From<DecodeError> for AnalyzerError {
    fn from(error: DecodeError) -> Self {
        let reason = error.to_string();
        let source = match error {
            DecodeError::Body(cause) => Some(cause.into()),
            _ => None,
        };
        Self::Snapshot { reason, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_what_was_written_for_it() {
        let identity = Digest::of(b"mine");
        let body = vec![(1.5_f64, String::from("x")), (f64::NAN, String::new())];
        let bytes = encode(identity, &body).unwrap();
        let back: Vec<(f64, String)> = decode(identity, &bytes).unwrap();
        assert_eq!(back[1].0.to_bits(), body[1].0.to_bits());
        let foreign = decode::<Vec<(f64, String)>>(Digest::of(b"yours"), &bytes);
        assert!(matches!(foreign, Err(DecodeError::Foreign)));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(
                decode::<Vec<(f64, String)>>(identity, &damaged).is_err(),
                "byte {at}"
            );
            assert!(
                decode::<Vec<(f64, String)>>(identity, &bytes[..at]).is_err(),
                "cut at {at}"
            );
        }
    }
}
