//! Splits a capture in two as two sensors would see it: each conversation by one of them.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;

use amoskys_collectors::capture::CaptureReader;
use amoskys_collectors::packet::{Decoded, decode};

/// Writes the packets of `capture` to two files, all packets between the same two hosts to the same one.
pub(crate) fn split(capture: &Path, halves: [&Path; 2]) {
    let mut reader =
        CaptureReader::new(BufReader::new(File::open(capture).expect("open"))).expect("a capture");
    let mut writers = halves.map(|half| {
        let mut writer = BufWriter::new(File::create(half).expect("create"));
        // pcap with nanoseconds, Ethernet.
        for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 1] {
            writer.write_all(&word.to_le_bytes()).expect("write");
        }
        writer
    });
    while let Some(packet) = reader.next_packet().expect("read") {
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let pair = match decode(&packet) {
            Decoded::Ip(ip) => number(ip.source()) ^ number(ip.destination()),
            Decoded::Arp(arp) => number(arp.sender_ip.into()) ^ number(arp.target_ip.into()),
            _ => 0,
        };
        let half = (pair.count_ones() % 2) as usize;
        let nanos = packet.time.nanos();
        let fields = [
            u32::try_from(nanos / 1_000_000_000).expect("before 2106"),
            u32::try_from(nanos % 1_000_000_000).expect("less than a second"),
            u32::try_from(packet.data.len()).expect("a packet"),
            packet.wire_len,
        ];
        for field in fields {
            writers[half].write_all(&field.to_le_bytes()).expect("write");
        }
        writers[half].write_all(packet.data).expect("write");
    }
    for writer in &mut writers {
        writer.flush().expect("write");
    }
}
