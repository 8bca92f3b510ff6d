//! The head of an HTTP/1 request (RFC 9112), as far as flows need it.

use super::printable;
use super::tls::Parsed;

/// Headers looked at.
const MAX_HEADERS: usize = 48;
/// What is kept of a value.
const MAX_VALUE: usize = 128;

/// Reads heads of requests, one after the other, into the same memory.
#[derive(Debug, Default)]
pub struct RequestReader {
    method: Vec<u8>,
    host: Vec<u8>,
    user_agent: Vec<u8>,
}

impl RequestReader {
    /// A reader that has not read anything.
    #[must_use]
    pub fn new() -> Self {
        Self {
            method: Vec::with_capacity(MAX_VALUE),
            host: Vec::with_capacity(MAX_VALUE),
            user_agent: Vec::with_capacity(MAX_VALUE),
        }
    }

    /// Whether bytes may begin a request: a method of capital letters, and a space.
    #[must_use]
    pub fn may_begin(bytes: &[u8]) -> bool {
        let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
        (3..=16).contains(&letters) && bytes.get(letters).is_none_or(|byte| *byte == b' ')
    }

    /// Reads a head. Of one that is not whole, what there is can be asked for as well.
    pub fn read(&mut self, bytes: &[u8]) -> Parsed {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => Parsed::Whole,
            Ok(httparse::Status::Partial) => Parsed::Part,
            // There may be more headers than places for them.
            Err(httparse::Error::TooManyHeaders) => Parsed::Whole,
            Err(_) => return Parsed::Other,
        };
        self.method.clear();
        self.host.clear();
        self.user_agent.clear();
        keep(&mut self.method, request.method.unwrap_or_default().as_bytes());
        for header in request.headers.iter() {
            if header.name.eq_ignore_ascii_case("host") {
                keep(&mut self.host, header.value);
            } else if header.name.eq_ignore_ascii_case("user-agent") {
                keep(&mut self.user_agent, header.value);
            }
        }
        parsed
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        &self.method
    }

    /// The header `Host`.
    #[must_use]
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// The header `User-Agent`.
    #[must_use]
    pub fn user_agent(&self) -> &[u8] {
        &self.user_agent
    }
}

/// Keeps the beginning of the first value.
fn keep(to: &mut Vec<u8>, value: &[u8]) {
    if to.is_empty() {
        to.extend(value.iter().take(MAX_VALUE).map(|byte| printable(*byte)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_parts() {
        let mut reader = RequestReader::new();
        let request =
            b"GET /x HTTP/1.1\r\nhost: example.org\r\nUSER-AGENT: a\xe4b\r\nHost: second\r\n\r\nbody";
        assert!(RequestReader::may_begin(request) && RequestReader::may_begin(b"GET"));
        assert_eq!(reader.read(request), Parsed::Whole);
        assert_eq!(
            (reader.method(), reader.host()),
            (&b"GET"[..], &b"example.org"[..])
        );
        assert_eq!(reader.user_agent(), b"a?b");
        assert_eq!(reader.read(&request[..20]), Parsed::Part);
        assert_eq!(reader.method(), b"GET");
        for other in [
            &b"HTTP/1.1 200 OK\r\n"[..],
            b"\x16\x03\x01",
            b"get /",
            b"EHLO\r\n",
            b"",
        ] {
            assert!(!RequestReader::may_begin(other), "{other:?}");
        }
        assert_eq!(reader.read(b"GET \x00\x01\r\n"), Parsed::Other);
    }
}
