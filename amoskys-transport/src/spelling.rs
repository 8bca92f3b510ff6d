//! How names are written where a separator must not be part of them: in certificates, file names and trust maps.

use amoskys_core::Name;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Agents' names are no longer.
const MAX_BYTES: usize = 255;

/// The name, percent-encoded but for letters, digits and `-._~`.
pub(crate) fn spell(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}

/// Reads a name in exactly the form in which it is written: what looks different is different.
pub(crate) fn read(text: &str) -> Result<Name, String> {
    let name = percent_decode_str(text).decode_utf8();
    let name = name.map_err(|_| "the name is not UTF-8".to_owned())?;
    check(&name)?;
    let expected = spell(&name);
    if expected == text {
        Ok(Name::from(&*name))
    } else {
        Err(format!("write the name as {expected}"))
    }
}

/// The name of the stream into which a bus seals what it takes from agents of the predecessor.
#[cfg(any(feature = "legacy", feature = "pki"))]
pub(crate) fn gateway_of(bus: &Name) -> Name {
    Name::from(format!("{bus}-gateway"))
}

/// Whether there may be an agent of this name.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_BYTES || name.chars().any(char::is_control) {
        return Err(format!(
            "the name is not 1 to {MAX_BYTES} bytes of text without control characters"
        ));
    }
    Ok(())
}
