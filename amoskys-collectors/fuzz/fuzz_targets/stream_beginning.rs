//! The beginning of a TCP stream, and of a datagram: client hellos of TLS and QUIC, and HTTP requests.
#![no_main]

use amoskys_collectors::packet::http::RequestReader;
use amoskys_collectors::packet::quic::Connection;
use amoskys_collectors::packet::tls::{HelloReader, Parsed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut hello = HelloReader::new();
    let mut scratch = Vec::new();
    if hello.read_stream(input, &mut scratch) == Parsed::Whole {
        assert!(hello.ja4(false).is_ascii());
    }
    assert!(scratch.len() <= input.len());
    if hello.read_message(input) == Parsed::Whole {
        assert!(hello.ja4(true).is_ascii() && hello.server_name().is_ascii());
    }
    let mut request = RequestReader::new();
    request.read(input);
    assert!(request.host().is_ascii() && request.method().len() <= 128);
    if let Some(connection) = Connection::of_first(input) {
        connection.read(input, |_, part| assert!(part.len() <= input.len()));
    }
});
