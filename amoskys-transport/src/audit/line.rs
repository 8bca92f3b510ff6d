//! One line: encoded once, authenticated as the bytes that stand in the file, so that no rule of how JSON may be written
//! matters to the check.

use std::collections::BTreeMap;

use amoskys_core::BoxError;
use serde::{Deserialize, Serialize};

use super::key::Mac;

/// Bytes of a MAC.
pub(super) const MAC: usize = 32;
/// The longest line, its line feed not counted.
pub(super) const MAX_LINE: usize = 64 << 10;
/// Keep a MAC made for something else from passing here.
const LINE: &[u8] = b"amoskys audit line 1\0";
const HEAD: &[u8] = b"amoskys audit head 1\0";
/// Between what is authenticated and the MAC, which is the last member.
const MEMBER: &[u8] = b",\"mac\":\"";
const END: &[u8] = b"\"}";
const TAIL: usize = MEMBER.len() + 2 * MAC + END.len();

/// What a line is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Kind {
    /// A decision, as the caller gave it.
    Entry,
    /// All lines before `before` were deleted to keep the bound on files; `last` is the MAC of the last of them.
    Dropped { before: u64, last: String },
    /// A torn last line was cut off.
    Torn { bytes: u64 },
    /// The log was not whole when it was opened; it goes on here.
    Resumed { why: String },
}

/// A line but for its MAC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// Number of the line, from 0 on, without holes across files.
    pub(super) n: u64,
    /// MAC of the line before; zeros in the first line.
    pub(super) prev: String,
    pub(super) kind: Kind,
    /// Wall clock, nanoseconds since 1970.
    pub(super) time: u64,
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) object: String,
    pub(super) outcome: String,
    pub(super) reason: String,
    pub(super) attributes: BTreeMap<String, String>,
}

/// A line by number and MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) n: u64,
    pub(super) mac: [u8; MAC],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadBody {
    head: u64,
    last: String,
}

/// What is wrong with a line by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFault {
    /// Not a line of this format.
    Form,
    /// The MAC is not of these bytes under this key.
    Mac,
}

/// The line, without its line feed, and its MAC.
pub(super) fn encode(body: &Body, key: &dyn Mac) -> Result<(Vec<u8>, [u8; MAC]), BoxError> {
    seal(serde_json::to_vec(body)?, LINE, key)
}

/// Reads a line. Without a key only its form is looked at.
pub(super) fn decode(line: &[u8], key: Option<&dyn Mac>) -> Result<(Body, Point), LineFault> {
    let (content, mac) = open(line, LINE, key)?;
    let body: Body = serde_json::from_slice(&content).map_err(|_| LineFault::Form)?;
    unhex(body.prev.as_bytes()).ok_or(LineFault::Form)?;
    let point = Point { n: body.n, mac };
    Ok((body, point))
}

/// The line in the head file, without its line feed.
pub(super) fn encode_head(point: &Point, key: &dyn Mac) -> Result<Vec<u8>, BoxError> {
    let body = HeadBody {
        head: point.n,
        last: hex(&point.mac),
    };
    Ok(seal(serde_json::to_vec(&body)?, HEAD, key)?.0)
}

pub(super) fn decode_head(line: &[u8], key: Option<&dyn Mac>) -> Result<Point, LineFault> {
    let (content, _) = open(line, HEAD, key)?;
    let body: HeadBody = serde_json::from_slice(&content).map_err(|_| LineFault::Form)?;
    let mac = unhex(body.last.as_bytes()).ok_or(LineFault::Form)?;
    Ok(Point { n: body.head, mac })
}

fn seal(mut json: Vec<u8>, domain: &[u8], key: &dyn Mac) -> Result<(Vec<u8>, [u8; MAC]), BoxError> {
    // The closing brace comes back behind the MAC.
    json.pop();
    if json.len() + TAIL > MAX_LINE {
        return Err("the line is too long".into());
    }
    let mac = key.mac(&[domain, &json].concat())?;
    json.extend_from_slice(MEMBER);
    json.extend_from_slice(hex(&mac).as_bytes());
    json.extend_from_slice(END);
    Ok((json, mac))
}

/// The JSON without the MAC, and the MAC.
fn open(line: &[u8], domain: &[u8], key: Option<&dyn Mac>) -> Result<(Vec<u8>, [u8; MAC]), LineFault> {
    if line.len() > MAX_LINE {
        return Err(LineFault::Form);
    }
    let at = line.len().checked_sub(TAIL).ok_or(LineFault::Form)?;
    let (content, tail) = line.split_at(at);
    let digits = tail.strip_prefix(MEMBER).and_then(|rest| rest.strip_suffix(END));
    let mac = digits.and_then(unhex).ok_or(LineFault::Form)?;
    if let Some(key) = key {
        let expected = key.mac(&[domain, content].concat()).map_err(|_| LineFault::Mac)?;
        // In constant time, though who checks has the key.
        let differs = expected.iter().zip(mac).fold(0, |all, (a, b)| all | (a ^ b));
        if differs != 0 {
            return Err(LineFault::Mac);
        }
    }
    let mut json = content.to_vec();
    json.push(b'}');
    Ok((json, mac))
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Only lower-case digits, so that no two spellings are the same MAC.
pub(super) fn unhex(digits: &[u8]) -> Option<[u8; MAC]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * MAC {
        return None;
    }
    let mut bytes = [0; MAC];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditKey;

    fn key() -> AuditKey {
        AuditKey::from_bytes(&[7; 32])
    }

    fn body() -> Body {
        Body {
            n: 3,
            prev: hex(&[9; MAC]),
            kind: Kind::Entry,
            time: 1_700_000_000_000_000_000,
            actor: "amoskys://admin/ \"ö\"\n".into(),
            action: "revoke".into(),
            object: "agent/gateway-3".into(),
            outcome: "success".into(),
            reason: "key lost".into(),
            attributes: BTreeMap::from([("mac".into(), "\",\"mac\":\"".into())]),
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let (line, mac) = encode(&body(), &key()).unwrap();
        assert!(!line.contains(&b'\n'));
        let point = Point { n: 3, mac };
        assert_eq!(decode(&line, Some(&key())), Ok((body(), point)));
        assert_eq!(decode(&line, None), Ok((body(), point)));
        serde_json::from_slice::<serde_json::Value>(&line).unwrap();
        assert_eq!(
            decode(&line, Some(&AuditKey::from_bytes(&[8; 32]))),
            Err(LineFault::Mac)
        );
        let head = encode_head(&point, &key()).unwrap();
        assert_eq!(decode_head(&head, Some(&key())), Ok(point));
        assert!(decode(&head, Some(&key())).is_err() && decode_head(&line, Some(&key())).is_err());
    }

    #[test]
    fn every_change_of_one_byte_and_every_cut_is_found() {
        let (line, _) = encode(&body(), &key()).unwrap();
        for at in 0..line.len() {
            assert!(decode(&line[..at], Some(&key())).is_err());
            for bit in 0..8 {
                let mut other = line.clone();
                other[at] ^= 1 << bit;
                assert!(decode(&other, Some(&key())).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn an_openssl_hmac_of_the_line_is_the_same() {
        // printf 'amoskys audit line 1\0{"n":0' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07
        let mac = key().mac(b"amoskys audit line 1\0{\"n\":0").unwrap();
        assert_eq!(hex(&mac), OPENSSL);
    }

    const OPENSSL: &str = "48eabc9268597e25a5ee7ffac63e72981ea7e677d80af874d4c9a69710958fa2";
}
