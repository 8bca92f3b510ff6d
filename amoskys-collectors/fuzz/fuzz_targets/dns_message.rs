//! A DNS message.
#![no_main]

use amoskys_collectors::packet::dns::DnsDecoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    let mut decoder = DnsDecoder::new();
    let first = decoder.decode(message, 0).clone();
    assert!(first.questions.iter().all(|question| question.name.is_ascii() && question.name.len() <= 1020));
    assert_eq!(*decoder.decode(message, 0), first, "nothing is left over from the message before");
});
