//! What we accept, an independent implementation of protobuf accepts, and it sees no difference between the
//! bytes and what we make of them.
#![no_main]

use amoskys_core::wire::{decode_event, encode_event};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire_protobuf/peer.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod peer;

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = decode_event(bytes) else { return };
    let mut ours = Vec::new();
    encode_event(&event, &mut ours);
    let before = peer::read("Event", bytes).expect("the peer accepts it too");
    let after = peer::read("Event", &ours).expect("the peer reads what we write");
    assert_eq!(peer::fields(&*before, true), peer::fields(&*after, true));
});
