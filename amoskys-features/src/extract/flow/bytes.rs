//! What the first bytes of a payload tell.

/// Entropy of some bytes, in bits per byte; 0 for none.
#[expect(clippy::cast_precision_loss, reason = "a few bytes")]
pub(crate) fn entropy(bytes: &[u8]) -> f64 {
    let mut sorted = bytes.to_vec();
    sorted.sort_unstable();
    let shares = sorted
        .chunk_by(|a, b| a == b)
        .map(|run| run.len() as f64 / bytes.len() as f64);
    shares.map(|share| -share * share.log2()).sum::<f64>().max(0.0)
}

/// The share of printable ASCII, with space, tab and line ends; NaN for none.
#[expect(clippy::cast_precision_loss, reason = "a few bytes")]
pub(crate) fn printable_share(bytes: &[u8]) -> f64 {
    if bytes.is_empty() {
        return f64::NAN;
    }
    let printable = bytes
        .iter()
        .filter(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
    printable.count() as f64 / bytes.len() as f64
}

/// The head of a TLS record (RFC 8446 section 5.1) that holds a handshake message.
pub(crate) struct TlsRecord {
    pub(crate) version: u16,
    pub(crate) length: u16,
}

/// The TLS record that a direction begins with, if it is of a handshake.
pub(crate) fn tls_record(bytes: &[u8]) -> Option<TlsRecord> {
    match *bytes {
        [22, 3, minor @ 0..=4, high, low, 1 | 2, ..] => Some(TlsRecord {
            version: 0x0300 | u16::from(minor),
            length: u16::from_be_bytes([high, low]),
        }),
        _ => None,
    }
}

/// The method of the HTTP/1 request that a direction begins with.
pub(crate) fn http_method(bytes: &[u8]) -> Option<&'static str> {
    const METHODS: [&str; 9] = [
        "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH", "TRACE",
    ];
    let is_begun = |method: &&str| {
        bytes
            .strip_prefix(method.as_bytes())
            .is_some_and(|rest| matches!(rest, [b' ', b'/' | b'*' | b'a'..=b'z' | b'0'..=b'9', ..]))
    };
    METHODS.into_iter().find(is_begun)
}

/// The status of the HTTP/1 response that a direction begins with.
pub(crate) fn http_status(bytes: &[u8]) -> Option<u16> {
    let [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'1',
        b'.',
        b'0' | b'1',
        b' ',
        digits @ ..,
    ] = bytes
    else {
        return None;
    };
    let digits = digits.get(..3)?;
    digits.iter().try_fold(0_u16, |code, digit| {
        digit
            .is_ascii_digit()
            .then(|| code * 10 + u16::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        assert_eq!(http_method(b"GET /index.html "), Some("GET"));
        assert_eq!(http_method(b"CONNECT a.b:443 "), Some("CONNECT"));
        for other in [&b"GETTING on"[..], b"get /", b"", b"GET"] {
            assert_eq!(http_method(other), None);
        }
        assert_eq!(http_status(b"HTTP/1.1 404 Not"), Some(404));
        for other in [&b"HTTP/1.1 4x4 Not"[..], b"HTTP/2 404", b"HTTP/1.1 40"] {
            assert_eq!(http_status(other), None);
        }
        let hello = tls_record(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
        assert_eq!((hello.version, hello.length), (0x0301, 512));
        assert!(tls_record(&[23, 3, 3, 0, 9, 1]).is_none() && tls_record(&[]).is_none());
        assert!((entropy(b"aabb") - 1.0).abs() < 1e-12 && entropy(b"") == 0.0);
        assert!((printable_share(b"ab\x00\xff") - 0.5).abs() < 1e-12 && printable_share(b"").is_nan());
    }
}
