//! How states are written.
//!
//! ```text
//! "AMAN" | version u16 LE | model digest, 32 bytes | state (postcard) | SHA-256 of all before, 32 bytes
//! ```

use amoskys_core::{AnalyzerError, BoxError, Digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: &[u8; 4] = b"AMAN";
/// Changes whenever the state's layout does.
const VERSION: u16 = 2;
const HEADER: usize = 4 + 2 + 32;

/// Writes a state of a model.
pub(crate) fn encode(model: Digest, state: &impl Serialize) -> Result<Vec<u8>, AnalyzerError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(model.0);
    let mut bytes = postcard::to_extend(state, bytes)
        .map_err(|error| refuse("it cannot be encoded".to_owned(), Some(error.into())))?;
    let digest = Digest::of(&bytes);
    bytes.extend(digest.0);
    Ok(bytes)
}

/// Reads a state that [`encode`] wrote for the same model.
pub(crate) fn decode<T: DeserializeOwned>(model: Digest, bytes: &[u8]) -> Result<T, AnalyzerError> {
    let damaged = || refuse("it is damaged, or not such a state".to_owned(), None);
    let (content, digest) = bytes.split_last_chunk::<32>().ok_or_else(damaged)?;
    if content.len() < HEADER || content[..4] != MAGIC[..] {
        return Err(damaged());
    }
    let version = u16::from_le_bytes([content[4], content[5]]);
    if version != VERSION {
        return Err(refuse(
            format!("it has version {version}, this program reads version {VERSION}"),
            None,
        ));
    }
    if Digest::of(content).0 != *digest {
        return Err(damaged());
    }
    if content[6..HEADER] != model.0 {
        return Err(refuse("it is of another model".to_owned(), None));
    }
    match postcard::take_from_bytes(&content[HEADER..]) {
        Ok((state, [])) => Ok(state),
        Ok(_) => Err(damaged()),
        Err(error) => Err(refuse("it does not decode".to_owned(), Some(error.into()))),
    }
}

/// The same state, as one of another model. `None` if it is no state of [`encode`]'s.
pub(crate) fn for_model(mut bytes: Vec<u8>, model: Digest) -> Option<Vec<u8>> {
    let length = bytes.len().checked_sub(32).filter(|length| *length >= HEADER)?;
    if bytes[..4] != MAGIC[..] || Digest::of(&bytes[..length]).0 != bytes[length..] {
        return None;
    }
    bytes[6..HEADER].copy_from_slice(&model.0);
    bytes.truncate(length);
    let digest = Digest::of(&bytes);
    bytes.extend(digest.0);
    Some(bytes)
}

fn refuse(reason: String, source: Option<BoxError>) -> AnalyzerError {
    AnalyzerError::Snapshot { reason, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_what_was_written_for_it() {
        let model = Digest::of(b"mine");
        let state = vec![(f64::NAN, 1_u8), (0.1 + 0.2, 2)];
        let bytes = encode(model, &state).unwrap();
        let back: Vec<(f64, u8)> = decode(model, &bytes).unwrap();
        assert_eq!(back[1].0.to_bits(), state[1].0.to_bits());
        assert!(decode::<Vec<(f64, u8)>>(Digest::of(b"yours"), &bytes).is_err());
        let yours = for_model(bytes.clone(), Digest::of(b"yours")).unwrap();
        let back: Vec<(f64, u8)> = decode(Digest::of(b"yours"), &yours).unwrap();
        assert_eq!(back[1].0.to_bits(), state[1].0.to_bits());
        assert_eq!(for_model(bytes[1..].to_vec(), model), None);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode::<Vec<(f64, u8)>>(model, &damaged).is_err(), "byte {at}");
            assert!(
                decode::<Vec<(f64, u8)>>(model, &bytes[..at]).is_err(),
                "cut at {at}"
            );
        }
    }
}
