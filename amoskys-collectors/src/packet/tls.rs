//! TLS client hellos (RFC 8446 section 4.1.2) and their fingerprint.
//!
//! The fingerprint is JA4, whose definition is published by FoxIO under the BSD licence. Its companions for servers,
//! certificates and HTTP (JA4+) are under a licence that does not allow use in products, and are not here.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::{be16, printable};

/// Lists longer than this are no client's: the hello is not read.
const MAX_LIST: usize = 256;
/// What is kept of the names of application protocols.
const MAX_ALPN_BYTES: usize = 64;

/// What came of reading the beginning of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It was read.
    Whole,
    /// More bytes are needed.
    Part,
    /// It is something else, or broken.
    Other,
}

/// Reads client hellos, one after the other, into the same memory.
#[derive(Debug, Default)]
pub struct HelloReader {
    version: u16,
    has_server_name: bool,
    server_name: Vec<u8>,
    /// First and last byte of the first protocol.
    first_alpn: Option<(u8, u8)>,
    alpn: Vec<u8>,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    signatures: Vec<u16>,
    text: Vec<u8>,
}

impl HelloReader {
    /// A reader that has not read anything.
    #[must_use]
    pub fn new() -> Self {
        Self {
            server_name: Vec::with_capacity(256),
            alpn: Vec::with_capacity(MAX_ALPN_BYTES),
            ciphers: Vec::with_capacity(MAX_LIST),
            extensions: Vec::with_capacity(MAX_LIST),
            signatures: Vec::with_capacity(MAX_LIST),
            text: Vec::with_capacity(2 * 5 * MAX_LIST),
            ..Self::default()
        }
    }

    /// Reads the beginning of a TCP stream: TLS records that hold a client hello, which may be cut into several
    /// records. `scratch` is used to put them together.
    pub fn read_stream(&mut self, mut bytes: &[u8], scratch: &mut Vec<u8>) -> Parsed {
        scratch.clear();
        loop {
            // Type handshake, version 3.x; a plain record holds 2^14 bytes at most.
            match *bytes {
                [0x16, 3, ..] | [0x16] | [] => {}
                _ => return Parsed::Other,
            }
            let Some(length) = be16(bytes, 3) else {
                return Parsed::Part;
            };
            if length == 0 || length > 1 << 14 {
                return Parsed::Other;
            }
            let body = &bytes[5..];
            let fragment = body.get(..usize::from(length)).unwrap_or(body);
            if scratch.is_empty() && fragment.len() == usize::from(length) {
                // Nearly always the first record holds it all.
                match self.read_message(fragment) {
                    Parsed::Part => {}
                    done => return done,
                }
            }
            scratch.extend_from_slice(fragment);
            match self.read_message(scratch) {
                Parsed::Part if fragment.len() == usize::from(length) => bytes = &body[usize::from(length)..],
                done => return done,
            }
        }
    }

    /// Reads a handshake message, which QUIC carries without records.
    pub fn read_message(&mut self, bytes: &[u8]) -> Parsed {
        match *bytes {
            [1, high, middle, low, ref rest @ ..] => {
                let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if length > 1 << 16 {
                    return Parsed::Other;
                }
                match rest.get(..length) {
                    None => Parsed::Part,
                    Some(body) if self.read_hello(body).is_some() => Parsed::Whole,
                    Some(_) => Parsed::Other,
                }
            }
            [1, ..] | [] => Parsed::Part,
            _ => Parsed::Other,
        }
    }

    /// Whether the hello asks for a server by name.
    #[must_use]
    pub fn server_name(&self) -> &[u8] {
        &self.server_name
    }

    /// The application protocols offered, with commas between.
    #[must_use]
    pub fn alpn(&self) -> &[u8] {
        &self.alpn
    }

    /// The highest version offered.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    fn read_hello(&mut self, body: &[u8]) -> Option<()> {
        self.clear();
        let mut body = Bytes(body);
        self.version = body.u16()?;
        // Random.
        body.take(32)?;
        let session = body.u8()?;
        body.take(session.into())?;
        let length = body.u16()?;
        list(body.take(length.into())?, &mut self.ciphers)?;
        let methods = body.u8()?;
        body.take(methods.into())?;
        if body.0.is_empty() {
            // SSL 3.0 and the first TLS had no extensions.
            return Some(());
        }
        let length = body.u16()?;
        let mut extensions = Bytes(body.take(length.into())?);
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let length = extensions.u16()?;
            let value = extensions.take(length.into())?;
            self.read_extension(kind, Bytes(value))?;
        }
        Some(())
    }

    fn clear(&mut self) {
        self.has_server_name = false;
        self.server_name.clear();
        self.first_alpn = None;
        self.alpn.clear();
        self.ciphers.clear();
        self.extensions.clear();
        self.signatures.clear();
    }

    fn read_extension(&mut self, kind: u16, mut value: Bytes<'_>) -> Option<()> {
        if is_grease(kind) {
            return Some(());
        }
        if self.extensions.len() == MAX_LIST {
            return None;
        }
        self.extensions.push(kind);
        match kind {
            0 => {
                self.has_server_name = true;
                // A list of one host name; a server sends it back empty, and a client may not.
                if value.u16().is_some() && value.u8() == Some(0) {
                    let length = value.u16()?;
                    let name = value.take(length.into())?;
                    self.server_name.clear();
                    self.server_name
                        .extend(name.iter().take(255).map(|byte| printable(*byte)));
                }
            }
            13 => {
                let length = value.u16()?;
                self.signatures.clear();
                list(value.take(length.into())?, &mut self.signatures)?;
            }
            16 => {
                let length = value.u16()?;
                self.read_alpn(Bytes(value.take(length.into())?))?;
            }
            43 => {
                let length = value.u8()?;
                let mut versions = Bytes(value.take(length.into())?);
                let mut highest = 0;
                while let Some(version) = versions.u16() {
                    if !is_grease(version) {
                        highest = highest.max(version);
                    }
                }
                if highest != 0 {
                    self.version = highest;
                }
            }
            _ => {}
        }
        Some(())
    }

    fn read_alpn(&mut self, mut protocols: Bytes<'_>) -> Option<()> {
        self.alpn.clear();
        while !protocols.0.is_empty() {
            let length = protocols.u8()?;
            let name = protocols.take(length.into())?;
            if let ([first, ..], [.., last], None) = (name, name, self.first_alpn) {
                self.first_alpn = Some((*first, *last));
            }
            if self.alpn.len() + 1 + name.len() <= MAX_ALPN_BYTES {
                if !self.alpn.is_empty() {
                    self.alpn.push(b',');
                }
                self.alpn.extend(name.iter().map(|byte| printable(*byte)));
            }
        }
        Some(())
    }

    /// The fingerprint JA4 of the hello that was read last, which came in QUIC or over TCP: 36 characters.
    pub fn ja4(&mut self, quic: bool) -> [u8; 36] {
        let mut out = [b'0'; 36];
        out[0] = if quic { b'q' } else { b't' };
        out[1..3].copy_from_slice(version_name(self.version));
        out[3] = if self.has_server_name { b'd' } else { b'i' };
        out[4..6].copy_from_slice(&two_digits(self.ciphers.len()));
        out[6..8].copy_from_slice(&two_digits(self.extensions.len()));
        if let Some((first, last)) = self.first_alpn {
            let plain = first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric();
            (out[8], out[9]) = if plain {
                (first, last)
            } else {
                (HEX[usize::from(first >> 4)], HEX[usize::from(last & 15)])
            };
        }
        out[10] = b'_';
        self.ciphers.sort_unstable();
        self.text.clear();
        push_list(&mut self.text, self.ciphers.iter().copied());
        out[11..23].copy_from_slice(&short_hash(&self.text));
        out[23] = b'_';
        self.extensions.sort_unstable();
        self.text.clear();
        let named = [0, 16];
        let others = self.extensions.iter().filter(|kind| !named.contains(*kind));
        push_list(&mut self.text, others.copied());
        if !self.signatures.is_empty() {
            self.text.push(b'_');
            let signatures = self.signatures.iter().enumerate();
            for (n, scheme) in signatures {
                push_hex(&mut self.text, n > 0, *scheme);
            }
        }
        if !self.extensions.is_empty() {
            out[24..36].copy_from_slice(&short_hash(&self.text));
        }
        out
    }
}

/// A cursor whose every step may fail.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        be16(self.take(2)?, 0)
    }
}

/// Numbers of two bytes, without those that mean nothing.
fn list(bytes: &[u8], to: &mut Vec<u16>) -> Option<()> {
    let (pairs, []) = bytes.as_chunks::<2>() else {
        return None;
    };
    let numbers = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
    for number in numbers.filter(|number| !is_grease(*number)) {
        if to.len() == MAX_LIST {
            return None;
        }
        to.push(number);
    }
    Some(())
}

/// Values that clients send to keep servers from choking on new ones (RFC 8701).
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

fn version_name(version: u16) -> &'static [u8; 2] {
    match version {
        0x0304 => b"13",
        0x0303 => b"12",
        0x0302 => b"11",
        0x0301 => b"10",
        0x0300 => b"s3",
        0x0002 => b"s2",
        _ => b"00",
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[expect(clippy::cast_possible_truncation, reason = "below 100")]
fn two_digits(count: usize) -> [u8; 2] {
    let count = count.min(99) as u8;
    [b'0' + count / 10, b'0' + count % 10]
}

fn push_list(text: &mut Vec<u8>, numbers: impl Iterator<Item = u16>) {
    for (n, number) in numbers.enumerate() {
        push_hex(text, n > 0, number);
    }
}

fn push_hex(text: &mut Vec<u8>, comma: bool, number: u16) {
    let separator = if comma { "," } else { "" };
    // Writing to memory does not fail.
    let _ = write!(text, "{separator}{number:04x}");
}

/// The first twelve digits of SHA-256; zeros for nothing.
fn short_hash(text: &[u8]) -> [u8; 12] {
    let mut out = [b'0'; 12];
    if !text.is_empty() {
        let digest = Sha256::digest(text);
        for (pair, byte) in out.chunks_exact_mut(2).zip(digest) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(list: &str) -> Vec<u8> {
        list.split(',')
            .flat_map(|number| u16::from_str_radix(number, 16).unwrap().to_be_bytes())
            .collect()
    }

    fn with_length(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    /// The hello of the example in the description of JA4, with values of RFC 8701 strewn in.
    fn hello() -> Vec<u8> {
        let ciphers =
            numbers("2a2a,1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035");
        let signatures = with_length(&numbers("0403,0804,0401,0503,0805,0501,0806,0601"));
        let mut extensions = Vec::new();
        let mut add = |kind: u16, value: &[u8]| {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(with_length(value));
        };
        add(0x4a4a, &[]);
        let name = [&[0][..], &with_length(b"example.org")].concat();
        add(0x0000, &with_length(&name));
        for kind in [0x0017, 0xff01, 0x000a, 0x000b, 0x0023] {
            add(kind, &[]);
        }
        add(0x0010, &with_length(b"\x02h2\x08http/1.1"));
        add(0x0005, &[]);
        add(0x000d, &signatures);
        for kind in [0x0012, 0x0033, 0x002d] {
            add(kind, &[]);
        }
        add(0x002b, &[6, 0x3a, 0x3a, 3, 3, 3, 4]);
        for kind in [0x001b, 0x4469, 0x0015] {
            add(kind, &[]);
        }
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &with_length(&ciphers),
            &[1, 0],
            &with_length(&extensions),
        ]
        .concat();
        [&[1, 0][..], &with_length(&body)].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message
            .chunks(size)
            .flat_map(|part| [&[0x16, 3, 1][..], &with_length(part)].concat())
            .collect()
    }

    #[test]
    fn the_published_example_has_its_fingerprint() {
        let mut reader = HelloReader::new();
        assert_eq!(reader.read_message(&hello()), Parsed::Whole);
        assert_eq!(
            std::str::from_utf8(&reader.ja4(false)).unwrap(),
            "t13d1516h2_8daaf6152771_e5627efa2ab1"
        );
        assert_eq!(reader.ja4(true)[0], b'q');
        assert_eq!(
            (reader.server_name(), reader.version()),
            (&b"example.org"[..], 0x0304)
        );
        assert_eq!(reader.alpn(), b"h2,http/1.1");
    }

    #[test]
    fn a_hello_cut_anywhere_waits_for_the_rest_and_records_are_joined() {
        let (mut reader, mut scratch) = (HelloReader::new(), Vec::new());
        for size in [1 << 14, 100, 7] {
            let stream = records(&hello(), size);
            for cut in 0..stream.len() {
                assert_eq!(
                    reader.read_stream(&stream[..cut], &mut scratch),
                    Parsed::Part,
                    "{cut}"
                );
            }
            assert_eq!(reader.read_stream(&stream, &mut scratch), Parsed::Whole);
            assert_eq!(reader.server_name(), b"example.org");
        }
    }

    #[test]
    fn other_things_are_other_things() {
        let (mut reader, mut scratch) = (HelloReader::new(), Vec::new());
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            &[0x17, 3, 3, 0, 1, 0],
            &[0x16, 3, 1, 0, 0],
            &[0x16, 3, 1, 0, 4, 2, 0, 0, 0],
        ] {
            assert_eq!(reader.read_stream(bytes, &mut scratch), Parsed::Other);
        }
        // Lengths that go beyond their list.
        let mut broken = hello();
        broken[4 + 2 + 32 + 1] = 0xff;
        assert_eq!(reader.read_message(&broken), Parsed::Other);
    }

    #[test]
    fn an_alpn_of_odd_bytes_and_a_hello_without_extensions() {
        let mut reader = HelloReader::new();
        let body = [&[3, 1][..], &[7; 32], &[0], &[0, 0], &[1, 0]].concat();
        let message = [&[1, 0][..], &with_length(&body)].concat();
        assert_eq!(reader.read_message(&message), Parsed::Whole);
        assert_eq!(&reader.ja4(false), b"t10i000000_000000000000_000000000000");
        reader.first_alpn = Some((0xab, 0xcd));
        assert_eq!(&reader.ja4(false)[..10], b"t10i0000ad");
    }
}
