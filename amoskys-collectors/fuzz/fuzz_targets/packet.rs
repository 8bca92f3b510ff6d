//! One packet of any link type: two bytes of link type, then the packet.
#![no_main]

use amoskys_collectors::capture::{LinkType, Packet};
use amoskys_collectors::packet::{Decoded, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((link, data)) = input.split_first_chunk() else { return };
    let packet = Packet {
        link: LinkType(u16::from_le_bytes(*link)),
        wire_len: data.len() as u32,
        data,
        ..Packet::default()
    };
    if let Decoded::Ip(ip) = decode(&packet) {
        assert!(ip.payload().len() <= data.len());
    }
});
