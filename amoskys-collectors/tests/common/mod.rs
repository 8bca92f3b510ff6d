//! Captures made by hand, for tests.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses its part, and may panic"
)]

use amoskys_collectors::capture::{LinkType, Packet};
use amoskys_core::Timestamp;

pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// A frame and when it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) nanos: i64,
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    pub(crate) fn packet(&self) -> Packet<'_> {
        Packet {
            time: Timestamp::from_nanos(self.nanos),
            link: LinkType::ETHERNET,
            wire_len: u32::try_from(self.bytes.len()).unwrap(),
            data: &self.bytes,
            ..Packet::default()
        }
    }
}

fn ethernet(from: u8, to: u8, ether_type: u16) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from];
    bytes.extend(ether_type.to_be_bytes());
    bytes
}

/// An Ethernet frame with an IPv4 packet from 10.0.0.`from` to 10.0.0.`to`.
pub(crate) fn ipv4(nanos: i64, from: u8, to: u8, protocol: u8, transport: &[u8]) -> Frame {
    let length = u16::try_from(20 + transport.len()).unwrap().to_be_bytes();
    let mut bytes = ethernet(from, to, 0x0800);
    bytes.extend([0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0]);
    bytes.extend([10, 0, 0, from, 10, 0, 0, to]);
    bytes.extend(transport);
    Frame { nanos, bytes }
}

pub(crate) fn udp(
    nanos: i64,
    (from, from_port): (u8, u16),
    (to, to_port): (u8, u16),
    payload: &[u8],
) -> Frame {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut bytes: Vec<u8> = [from_port, to_port, length, 0]
        .iter()
        .flat_map(|field| field.to_be_bytes())
        .collect();
    bytes.extend(payload);
    ipv4(nanos, from, to, 17, &bytes)
}

/// A TCP segment between client port 40000 of host 1 and server port 80 of host 2.
pub(crate) fn tcp(nanos: i64, from_client: bool, flags: u8, seq: u32, payload: &[u8]) -> Frame {
    let (from, to, ports) = if from_client {
        (1, 2, [40_000, 80])
    } else {
        (2, 1, [80, 40_000_u16])
    };
    let mut bytes: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    bytes.extend(seq.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0x50, flags, 0x10, 0, 0, 0, 0, 0]);
    bytes.extend(payload);
    ipv4(nanos, from, to, 6, &bytes)
}

pub(crate) fn icmp_echo(nanos: i64, from: u8, to: u8, request: bool, sequence: u16, data: &[u8]) -> Frame {
    let mut bytes = vec![if request { 8 } else { 0 }, 0, 0, 0, 0, 7];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(data);
    ipv4(nanos, from, to, 1, &bytes)
}

/// Host `sender` says to everyone that 10.0.0.`ip` is at its address.
pub(crate) fn arp_reply(nanos: i64, sender: u8, ip: u8) -> Frame {
    let mut bytes = ethernet(sender, 9, 0x0806);
    bytes.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    bytes.extend([2, 0, 0, 0, 0, sender, 10, 0, 0, ip]);
    bytes.extend([2, 0, 0, 0, 0, 9, 10, 0, 0, 9]);
    Frame { nanos, bytes }
}

/// A DNS query for `name`.
pub(crate) fn dns_query(nanos: i64, from: u8, id: u16, name: &str) -> Frame {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 16, 0, 1]);
    udp(nanos, (from, 5000), (53, 53), &message)
}

/// A pcap file with nanoseconds.
pub(crate) fn pcap(frames: &[Frame]) -> Vec<u8> {
    let mut file = vec![
        0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
    ];
    for frame in frames {
        let (secs, nanos) = (frame.nanos / SECOND, frame.nanos % SECOND);
        let len = frame.bytes.len() as i64;
        for field in [secs, nanos, len, len] {
            file.extend(u32::try_from(field).unwrap().to_le_bytes());
        }
        file.extend(&frame.bytes);
    }
    file
}

/// Some traffic of every kind: `hosts` hosts that do a bit of everything over `secs` seconds.
pub(crate) fn traffic(hosts: u8, secs: i64) -> Vec<Frame> {
    let mut frames = Vec::new();
    for second in 0..secs {
        for host in 10..10 + hosts {
            let at = second * SECOND + i64::from(host) * 1_000_000;
            frames.push(udp(at, (host, 1000 + u16::from(host)), (200, 9), &[host; 30]));
            match (second + i64::from(host)) % 5 {
                0 => frames.push(dns_query(at + 1, host, second as u16, "www.example.org")),
                1 => frames.push(icmp_echo(at + 1, host, 200, true, second as u16, b"abcdefgh")),
                2 => frames.push(arp_reply(at + 1, host, host)),
                3 => frames.push(ipv4(at + 1, host, 200, 6, &[0; 20])),
                _ => {}
            }
        }
    }
    frames
}

/// A TLS client hello for a server of this name, in its record.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let entry = [&[0][..], &sized(name.as_bytes())].concat();
    let server_name = [&[0, 0][..], &sized(&sized(&entry))].concat();
    let alpn = [&[0, 16][..], &sized(&sized(b"\x02h2"))].concat();
    let versions = [0, 43, 0, 3, 2, 3, 4];
    // As large as a key against quantum computers makes it.
    let key_share = [&[0, 51][..], &sized(&[7; 1200])].concat();
    let extensions = sized(&[&server_name[..], &alpn, &versions, &key_share].concat());
    let body = [
        &[3, 3][..],
        &[9; 32],
        &[0, 0, 4, 0x13, 1, 0x13, 2, 1, 0],
        &extensions,
    ]
    .concat();
    let message = [&[1, 0][..], &sized(&body)].concat();
    [&[0x16, 3, 1][..], &sized(&message)].concat()
}

/// Beginnings of connections, one a second: a client hello in two or three segments, at times out of order, or a
/// request.
pub(crate) fn openings(secs: i64) -> Vec<Frame> {
    let hello = client_hello("www.example.org");
    let mut frames = Vec::new();
    for second in 0..secs {
        let at = second * SECOND;
        // A number of its own, or it would be the same connection again.
        let isn = second as u32 * 100_000;
        let mut add = |nanos: i64, flags, seq, payload: &[u8]| {
            frames.push(tcp(at + nanos, true, flags, isn + seq, payload))
        };
        add(0, SYN, 999, &[]);
        match second % 4 {
            0 => add(
                1,
                ACK | PSH,
                1000,
                b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: test\r\n\r\n",
            ),
            1 => {
                add(1, ACK, 1000, &hello[..600]);
                add(2, ACK | PSH, 1600, &hello[600..]);
            }
            2 => {
                add(1, ACK | PSH, 1600, &hello[600..]);
                add(2, ACK, 1000, &hello[..600]);
            }
            _ => {
                add(1, ACK, 1000, &hello[..3]);
                add(2, ACK, 1600, &hello[600..]);
                add(3, ACK | PSH, 1003, &hello[3..600]);
            }
        }
        add(4, RST, 3000, &[]);
    }
    frames
}

/// A pcapng file of Ethernet frames.
pub(crate) fn pcapng(frames: &[Frame]) -> Vec<u8> {
    pcapng_of(&[LinkType::ETHERNET], frames.iter().map(|frame| (0, frame)))
}

/// A pcapng file with interfaces of these link types, and frames with the number of their interface. Times are
/// nanoseconds.
pub(crate) fn pcapng_of<'a>(
    links: &[LinkType],
    frames: impl IntoIterator<Item = (usize, &'a Frame)>,
) -> Vec<u8> {
    let mut file = block(
        0x0a0d_0d0a,
        &[
            0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
        ],
    );
    for link in links {
        // No snap length; time stamps of 10^-9 s.
        let [low, high] = link.0.to_le_bytes();
        file.extend(block(
            1,
            &[low, high, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0],
        ));
    }
    for (interface, frame) in frames {
        let len = frame.bytes.len() as i64;
        let mut body = Vec::new();
        for field in [
            interface as i64,
            frame.nanos >> 32,
            frame.nanos & 0xffff_ffff,
            len,
            len,
        ] {
            body.extend(u32::try_from(field).unwrap().to_le_bytes());
        }
        body.extend(&frame.bytes);
        file.extend(block(6, &body));
    }
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let total = u32::try_from(12 + padded).unwrap().to_le_bytes();
    let mut block = kind.to_le_bytes().to_vec();
    block.extend(total);
    block.extend(body);
    block.resize(8 + padded, 0);
    block.extend(total);
    block
}

/// A packet of 100 bytes of UDP payload in two fragments, by version 4 or 6.
pub(crate) fn fragments(version: u8, id: u8) -> [Frame; 2] {
    let udp = [&[0x30, 0x39, 0, 9, 0, 108, 0, 0][..], &[7; 100]].concat();
    [(0, &udp[..56]), (56, &udp[56..])].map(|(offset, part): (usize, &[u8])| {
        let more = u8::from(offset == 0);
        let units = (offset / 8) as u8;
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if version == 4 {
            bytes.extend([
                8,
                0,
                0x45,
                0,
                0,
                20 + part.len() as u8,
                0,
                id,
                more << 5,
                units,
                64,
                17,
                0,
                0,
            ]);
            bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        } else {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8 + part.len() as u8, 44, 64]);
            bytes.extend([[0x20; 16], [0x30; 16]].concat());
            bytes.extend([17, 0, 0, units << 3 | more, 0, 0, 0, id]);
        }
        bytes.extend(part);
        Frame {
            nanos: i64::from(id) * SECOND + offset as i64,
            bytes,
        }
    })
}
