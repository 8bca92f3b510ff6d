//! No bytes do harm, and what was decoded is the same after another trip.
#![no_main]

use amoskys_core::wire::{
    decode_event, decode_events, decode_ledger, encode_event, encode_events, encode_ledger,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = decode_event(bytes) {
        let mut once = Vec::new();
        encode_event(&event, &mut once);
        let again = decode_event(&once).expect("what was encoded is decoded");
        let mut twice = Vec::new();
        encode_event(&again, &mut twice);
        assert_eq!(once, twice);
    }
    if let Ok(events) = decode_events(bytes) {
        let mut once = Vec::new();
        encode_events(&events, &mut once);
        assert_eq!(
            decode_events(&once).expect("what was encoded is decoded").len(),
            events.len()
        );
    }
    if let Ok(ledger) = decode_ledger(bytes) {
        assert_eq!(decode_ledger(&encode_ledger(&ledger)), Ok(ledger));
    }
});
