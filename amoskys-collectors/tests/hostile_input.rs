//! Bytes that may be anything: readers and decoders count and skip, they neither panic nor hang.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use amoskys_collectors::capture::{CaptureReader, LinkType, Packet, PacketBlock};
use amoskys_collectors::flow::{
    Columns, FlowConfig, FlowHandler, FlowMeter, RowFormat, RowWriter, TunnelMode,
};
use amoskys_collectors::packet::dns::DnsDecoder;
use amoskys_collectors::packet::http::RequestReader;
use amoskys_collectors::packet::tls::HelloReader;
use amoskys_collectors::packet::{Decoded, decode};
use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use common::*;
use proptest::prelude::*;

/// Every link type that is known, and some that are not.
fn link_type() -> impl Strategy<Value = LinkType> {
    let known = [
        0, 1, 6, 9, 10, 11, 12, 14, 50, 51, 101, 104, 105, 107, 108, 109, 113, 119, 127, 138, 163, 192,
    ];
    let known = known
        .into_iter()
        .chain([228, 229, 239, 258, 276, 999])
        .map(LinkType)
        .collect::<Vec<_>>();
    prop::sample::select(known)
}

/// Bytes that are often a beginning of something.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            &[0x08, 0x00, 0x45, 0x00][..],
            &[0x86, 0xdd, 0x60, 0x00],
            &[0x81, 0x00, 0x00, 0x05],
            &[0x88, 0x47, 0x00, 0x00],
            &[0x88, 0x64, 0x11, 0x00],
            &[0x89, 0x26],
            &[0x88, 0xe7],
            &[0xaa, 0xaa, 0x03, 0x00, 0x00, 0x00],
            &[0xff, 0x03, 0x00, 0x21],
            &[0xc0, 0x0c],
            &[0x00, 0x35, 0x00, 0x35],
            // Tunnels.
            &[0x12, 0xb5, 0x12, 0xb5, 0, 80, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0],
            &[0x17, 0xc1, 0x17, 0xc1, 0, 80, 0, 0, 0, 0, 0x65, 0x58],
            &[0x08, 0x68, 0x08, 0x68, 0, 80, 0, 0, 0x34, 255],
            // Beginnings of TLS, QUIC and HTTP.
            &[0x16, 3, 1, 0, 80, 1, 0, 0, 76, 3, 3],
            &[0xc0, 0, 0, 0, 1, 8],
            b"GET / HTTP/1.1\r\nHost: ",
            &[0; 16],
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec(pieces, 0..20).prop_map(|pieces| pieces.concat())
}

struct Rows(RowWriter<Vec<u8>>);

impl FlowHandler for Rows {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        assert!(record.packets() > 0);
        for summary in [
            record.gaps,
            record.active,
            record.idle,
            record.forward.lengths,
            record.backward.payload,
        ] {
            assert!(summary.std_dev.is_finite() && summary.std_dev >= 0.0 && summary.min <= summary.max);
        }
        self.0.write(record).unwrap();
    }
}

fn meter(packets: &[(LinkType, i64, u32, Vec<u8>)]) {
    let mut meter = FlowMeter::new(FlowConfig {
        max_flows: 16,
        follow_fragments: true,
        tunnels: TunnelMode::Both,
        entropy_bytes: 64,
        ..FlowConfig::default()
    })
    .unwrap();
    let mut rows = Rows(RowWriter::with_columns(Vec::new(), RowFormat::Json, Columns::All).unwrap());
    for (link, nanos, wire_len, data) in packets {
        let packet = Packet {
            time: Timestamp::from_nanos(*nanos),
            link: *link,
            wire_len: *wire_len,
            data,
            ..Packet::default()
        };
        meter.push(&packet, &mut rows);
    }
    meter.finish(&mut rows);
    let stats = meter.stats();
    assert_eq!(stats.packets, stats.metered + stats.arp + stats.skipped_total());
    for line in rows
        .0
        .into_inner()
        .unwrap()
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        serde_json::from_slice::<serde_json::Value>(line).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_packet_is_decoded_or_skipped(link in link_type(), data in bytes(), wire_len: u32) {
        let packet = Packet { link, data: &data, wire_len, ..Packet::default() };
        if let Decoded::Ip(ip) = decode(&packet) {
            prop_assert!(ip.payload().len() <= data.len());
        }
    }

    #[test]
    fn any_dns_message_ends(data in bytes(), length: u32) {
        let mut decoder = DnsDecoder::new();
        let record = decoder.decode(&data, length);
        prop_assert!(record.questions.len() <= 16 && record.addresses.len() <= 16);
        prop_assert!(record.questions.iter().all(|question| question.name.len() <= 255 * 4 && question.name.is_ascii()));
    }

    #[test]
    fn any_beginning_of_a_stream_is_read_or_left(mut data in bytes(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), hello: bool) {
        if hello {
            data = client_hello("example.org");
        }
        for (at, value) in changes {
            if !data.is_empty() {
                let at = at.index(data.len());
                data[at] = value;
            }
        }
        let mut reader = HelloReader::new();
        let mut scratch = Vec::new();
        reader.read_stream(&data, &mut scratch);
        prop_assert!(scratch.len() <= data.len());
        prop_assert!(reader.server_name().len() <= 255 && reader.server_name().is_ascii() && reader.alpn().is_ascii());
        prop_assert!(reader.ja4(false).is_ascii());
        reader.read_message(&data);
        let mut requests = RequestReader::new();
        requests.read(&data);
        prop_assert!(requests.host().is_ascii() && requests.user_agent().len() <= 128);
        #[cfg(feature = "quic")]
        if let Some(connection) = amoskys_collectors::packet::quic::Connection::of_first(&data) {
            connection.read(&data, |_, part| assert!(part.len() <= data.len()));
        }
    }

    #[test]
    fn any_packets_at_any_times_are_metered(
        packets in prop::collection::vec((link_type(), any::<i64>(), any::<u32>(), bytes()), 0..60)
    ) {
        meter(&packets);
    }

    /// Packets that are nearly right get further.
    #[test]
    fn damaged_packets_are_metered(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..80),
        leaps in prop::collection::vec((any::<prop::sample::Index>(), any::<i64>()), 0..5),
    ) {
        let mut packets: Vec<_> = traffic(6, 12)
            .into_iter()
            .chain(openings(12))
            .map(|frame| (LinkType::ETHERNET, frame.nanos, frame.bytes.len() as u32, frame.bytes))
            .collect();
        for (packet, byte, value) in changes {
            let packet = packet.index(packets.len());
            let data = &mut packets[packet].3;
            let at = byte.index(data.len());
            data[at] = value;
        }
        for (packet, nanos) in leaps {
            let at = packet.index(packets.len());
            packets[at].1 = nanos;
        }
        meter(&packets);
    }

    #[test]
    fn any_file_is_read_to_an_end(
        beginning in prop::sample::select(vec![
            &[0xd4, 0xc3, 0xb2, 0xa1][..],
            &[0xa1, 0xb2, 0x3c, 0x4d],
            &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a],
            &[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d],
            &[],
        ]),
        rest in bytes(),
    ) {
        let file = [beginning, &rest].concat();
        if let Ok(mut reader) = CaptureReader::new(file.as_slice()) {
            let mut packets = 0;
            while let Some(packet) = reader.next_packet().unwrap() {
                prop_assert!(packet.data.len() <= file.len());
                packets += 1;
            }
            prop_assert!(packets <= file.len());
            prop_assert!(reader.offset() <= file.len() as u64);
        }
    }

    #[test]
    fn a_damaged_pcapng_is_read_to_an_end(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..30)) {
        let mut file = pcapng(&traffic(4, 4));
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        if let Ok(mut reader) = CaptureReader::new(file.as_slice()) {
            while reader.next_packet().unwrap().is_some() {}
        }
    }

    /// By the block, or now one way and now the other, a file has the packets and the damage that it has by the packet.
    #[test]
    fn blocks_hold_the_packets_of_a_file_whatever_it_is(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), old: bool,
        step in 1_usize..5000, mixed: bool,
    ) {
        let frames = traffic(8, 8);
        let mut file = if old { pcap(&frames) } else { pcapng(&frames) };
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        let Ok(mut reader) = CaptureReader::new(file.as_slice()) else { return Ok(()) };
        let mut expected = Vec::new();
        while let Some(packet) = reader.next_packet().unwrap() {
            expected.push((packet.time, packet.interface, packet.wire_len, packet.data.to_vec()));
        }
        let mut by_block = CaptureReader::new(Steps(&file, step)).unwrap();
        let (mut found, mut block) = (Vec::new(), PacketBlock::default());
        let own = |packet: Packet<'_>| (packet.time, packet.interface, packet.wire_len, packet.data.to_vec());
        while by_block.next_block(&mut block).unwrap() {
            prop_assert!(!block.is_empty());
            prop_assert_eq!(block.len(), block.iter().count());
            found.extend(block.iter().map(own));
            if mixed {
                found.extend(by_block.next_packet().unwrap().map(own));
            }
        }
        prop_assert!(!by_block.next_block(&mut block).unwrap() && block.is_empty());
        prop_assert_eq!(found, expected);
        prop_assert_eq!(by_block.damage(), reader.damage());
        prop_assert_eq!(by_block.dropped_by_capture(), reader.dropped_by_capture());
        prop_assert_eq!(by_block.offset(), reader.offset());
    }
}

/// Gives so many bytes at a time.
struct Steps<'a>(&'a [u8], usize);

impl std::io::Read for Steps<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(buffer.len()).min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}
