//! The IP packet is found behind every link layer there is. The headers are written down here by hand, so TShark is
//! asked whether it reads them the same way; without TShark that part is skipped, unless `AMOSKYS_REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::process::Command;

use amoskys_collectors::capture::{LinkType, Packet};
use amoskys_collectors::packet::{Decoded, SkipReason, decode};
use amoskys_core::event::FlowRecord;
use common::*;

/// From the IP header on: UDP from port 1111 to port 2222.
fn ip() -> Vec<u8> {
    udp(0, (1, 1111), (2, 2222), b"payload").bytes[14..].to_vec()
}

/// The same over IPv6.
fn ip6() -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, 15, 17, 64];
    bytes.extend([0xfd; 15]);
    bytes.push(1);
    bytes.extend([0xfd; 15]);
    bytes.push(2);
    bytes.extend(&ip()[20..]);
    bytes
}

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
const SNAP: [u8; 8] = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];

fn behind(header: &[&[u8]]) -> Vec<u8> {
    let mut bytes = header.concat();
    bytes.extend(ip());
    bytes
}

fn before_ip6(header: &[&[u8]]) -> Vec<u8> {
    let mut bytes = header.concat();
    bytes.extend(ip6());
    bytes
}

fn ethernet(rest: &[u8]) -> Vec<u8> {
    behind(&[&MACS, rest])
}

fn llc_length() -> [u8; 2] {
    (ip().len() as u16 + 8).to_be_bytes()
}

/// What it is, its link type, and the frame.
fn frames() -> Vec<(&'static str, LinkType, Vec<u8>)> {
    // TShark tells a control word by the manufacturer of the address behind it.
    let known = [0, 0x1b, 0x21, 0, 0, 2, 0, 0x1b, 0x21, 0, 0, 1, 8, 0];
    let inner_ethernet = [&MACS[..], &[8, 0]].concat();
    let wlan = [&[8, 1, 0, 0][..], &MACS, &[2, 0, 0, 0, 0, 3], &[0, 0]].concat();
    let qos = [&[0x88, 1, 0, 0][..], &MACS, &[2, 0, 0, 0, 0, 3], &[0, 0, 0, 0]].concat();
    let nflog = [
        &[2, 0, 0, 0, 8, 0, 1, 0, 8, 0, 0, 0][..],
        &(ip().len() as u16 + 4).to_le_bytes(),
        &[9, 0],
    ]
    .concat();
    let mut avs = vec![0; 64];
    avs[..8].copy_from_slice(&[0x80, 0x21, 0x10, 0x01, 0, 0, 0, 64]);
    let mut prism = vec![0; 144];
    prism[..8].copy_from_slice(&[0x44, 0, 0, 0, 144, 0, 0, 0]);
    let mut pktap = vec![0; 108];
    pktap[0] = 108;
    (pktap[4], pktap[8]) = (1, 1);
    let sll = [&[0, 0, 0, 1, 0, 6][..], &MACS[..6], &[0, 0, 8, 0]].concat();
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6][..], &MACS[..6], &[0, 0]].concat();
    let llc = |sap: &[u8]| ethernet(&[&llc_length()[..], sap].concat());
    vec![
        ("Ethernet", LinkType::ETHERNET, ethernet(&[8, 0])),
        (
            "Ethernet, IPv6",
            LinkType::ETHERNET,
            before_ip6(&[&MACS, &[0x86, 0xdd]]),
        ),
        ("802.1Q", LinkType::ETHERNET, ethernet(&[0x81, 0, 0x60, 5, 8, 0])),
        (
            "802.1ad",
            LinkType::ETHERNET,
            ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, 8, 0]),
        ),
        (
            "three tags",
            LinkType::ETHERNET,
            ethernet(&[0x91, 0, 0, 7, 0x81, 0, 0, 5, 0x81, 0, 0, 9, 8, 0]),
        ),
        (
            "MPLS",
            LinkType::ETHERNET,
            ethernet(&[0x88, 0x47, 0, 1, 0x01, 64]),
        ),
        (
            "three labels",
            LinkType::ETHERNET,
            ethernet(&[0x88, 0x47, 0, 1, 0, 64, 0, 2, 0, 64, 0, 3, 1, 64]),
        ),
        (
            "pseudo-wire",
            LinkType::ETHERNET,
            ethernet(&[&[0x88, 0x47, 0, 1, 1, 64, 0, 0, 0, 0][..], &known].concat()),
        ),
        (
            "pseudo-wire without control word",
            LinkType::ETHERNET,
            ethernet(&[&[0x88, 0x47, 0, 1, 1, 64][..], &known].concat()),
        ),
        (
            "PPPoE",
            LinkType::ETHERNET,
            ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 37, 0, 0x21]),
        ),
        (
            "VN-Tag",
            LinkType::ETHERNET,
            ethernet(&[0x89, 0x26, 0, 0, 0, 1, 8, 0]),
        ),
        (
            "E-Tag",
            LinkType::ETHERNET,
            ethernet(&[0x89, 0x3f, 0, 0, 0, 1, 0, 0, 8, 0]),
        ),
        (
            "802.1ah",
            LinkType::ETHERNET,
            ethernet(&[&[0x88, 0xe7, 0, 0, 0, 1][..], &inner_ethernet].concat()),
        ),
        (
            "Cisco metadata",
            LinkType::ETHERNET,
            ethernet(&[0x89, 0x09, 1, 1, 0, 1, 0, 9, 8, 0]),
        ),
        ("802.3 with SNAP", LinkType::ETHERNET, llc(&SNAP)),
        (
            "802.3 with an IP access point",
            LinkType::ETHERNET,
            llc(&[6, 6, 3]),
        ),
        (
            "loopback, little-endian",
            LinkType::NULL,
            behind(&[&[2, 0, 0, 0]]),
        ),
        ("loopback, big-endian", LinkType::NULL, behind(&[&[0, 0, 0, 2]])),
        (
            "loopback, IPv6 of macOS",
            LinkType::NULL,
            before_ip6(&[&[30, 0, 0, 0]]),
        ),
        (
            "loopback, IPv6 of FreeBSD",
            LinkType::NULL,
            before_ip6(&[&[28, 0, 0, 0]]),
        ),
        ("loopback of OpenBSD", LinkType::LOOP, behind(&[&[0, 0, 0, 2]])),
        (
            "encapsulating interface",
            LinkType::ENC,
            behind(&[&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]),
        ),
        ("raw", LinkType::RAW, ip()),
        ("raw, IPv6", LinkType::RAW, ip6()),
        ("raw IPv4", LinkType::IPV4, ip()),
        ("raw IPv6", LinkType::IPV6, ip6()),
        ("PPP with framing", LinkType::PPP, behind(&[&[0xff, 3, 0, 0x21]])),
        ("PPP without", LinkType::PPP, behind(&[&[0, 0x21]])),
        ("PPP, short protocol", LinkType::PPP, behind(&[&[0x21]])),
        ("PPP, IPv6", LinkType::PPP, before_ip6(&[&[0xff, 3, 0, 0x57]])),
        (
            "PPP, MPLS",
            LinkType::PPP,
            behind(&[&[0xff, 3, 2, 0x81, 0, 1, 1, 64]]),
        ),
        ("PPP in HDLC", LinkType::PPP_HDLC, behind(&[&[0xff, 3, 0, 0x21]])),
        (
            "Cisco HDLC as PPP",
            LinkType::PPP_HDLC,
            behind(&[&[0x0f, 0, 8, 0]]),
        ),
        (
            "PPPoE alone",
            LinkType::PPP_ETHER,
            behind(&[&[0x11, 0, 0, 1, 0, 37, 0, 0x21]]),
        ),
        ("Cisco HDLC", LinkType::C_HDLC, behind(&[&[0x0f, 0, 8, 0]])),
        (
            "Frame Relay",
            LinkType::FRAME_RELAY,
            behind(&[&[0x18, 0x41, 3, 0xcc]]),
        ),
        ("ATM", LinkType::ATM_RFC1483, behind(&[&SNAP])),
        (
            "Token Ring",
            LinkType::TOKEN_RING,
            behind(&[&[0x10, 0x40], &MACS, &SNAP]),
        ),
        (
            "Token Ring with a route",
            LinkType::TOKEN_RING,
            behind(&[
                &[0x10, 0x40],
                &MACS[..6],
                &[0x82, 0, 0, 0, 0, 1],
                &[6, 0x30, 0, 1, 0, 2],
                &SNAP,
            ]),
        ),
        ("FDDI", LinkType::FDDI, behind(&[&[0x50], &MACS, &SNAP])),
        ("IEEE 1394", LinkType::IEEE1394, behind(&[&[1; 16], &[8, 0]])),
        ("cooked", LinkType::LINUX_SLL, behind(&[&sll])),
        ("cooked, second version", LinkType::LINUX_SLL2, behind(&[&sll2])),
        ("wireless LAN", LinkType::IEEE802_11, behind(&[&wlan, &SNAP])),
        (
            "wireless LAN, quality of service",
            LinkType::IEEE802_11,
            behind(&[&qos, &SNAP]),
        ),
        (
            "radiotap",
            LinkType::IEEE802_11_RADIOTAP,
            behind(&[&[0, 0, 8, 0, 0, 0, 0, 0], &wlan, &SNAP]),
        ),
        (
            "Prism",
            LinkType::IEEE802_11_PRISM,
            behind(&[&prism, &wlan, &SNAP]),
        ),
        ("AVS", LinkType::IEEE802_11_AVS, behind(&[&avs, &wlan, &SNAP])),
        (
            "PPI",
            LinkType::PPI,
            behind(&[&[0, 0, 8, 0, 1, 0, 0, 0], &inner_ethernet]),
        ),
        ("packet tap", LinkType::PKTAP, behind(&[&pktap, &inner_ethernet])),
        ("netfilter log", LinkType::NFLOG, behind(&[&nflog])),
    ]
}

fn packet(link: LinkType, data: &[u8]) -> Packet<'_> {
    Packet {
        link,
        wire_len: data.len() as u32,
        data,
        ..Packet::default()
    }
}

#[test]
fn the_ip_packet_is_found() {
    for (name, link, frame) in frames() {
        match decode(&packet(link, &frame)) {
            Decoded::Ip(ip) => assert_eq!(
                (ip.ports(), ip.payload()),
                ((1111, 2222), &b"payload"[..]),
                "{name}"
            ),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn frames_cut_anywhere_are_counted_or_used_as_far_as_they_go() {
    for (name, link, frame) in frames() {
        for end in 0..frame.len() {
            if let Decoded::Ip(ip) = decode(&packet(link, &frame[..end])) {
                let ports = ip.ports();
                assert!(
                    ports == (1111, 2222) || ports == (0, 0),
                    "{name} cut at {end}: {ports:?}"
                );
            }
        }
    }
}

#[test]
fn tags_are_kept_with_the_flow() {
    struct Tags(Vec<[Option<u16>; 2]>);
    impl amoskys_collectors::flow::FlowHandler for Tags {
        fn flow(&mut self, _: amoskys_core::Timestamp, record: &FlowRecord) {
            self.0.push([record.vlan, record.inner_vlan]);
        }
    }
    let mut tags = Tags(Vec::new());
    for (name, link, frame) in frames() {
        let mut meter = amoskys_collectors::flow::FlowMeter::new(Default::default()).unwrap();
        if ["802.1Q", "802.1ad", "three tags", "Ethernet"].contains(&name) {
            meter.push(&packet(link, &frame), &mut tags);
        }
    }
    assert_eq!(
        tags.0,
        [
            [None, None],
            [Some(5), None],
            [Some(7), Some(5)],
            [Some(7), Some(5)]
        ]
    );
}

#[test]
fn what_is_not_ip_is_not_mistaken_for_it() {
    let skipped = |link, frame: &[u8]| match decode(&packet(link, frame)) {
        Decoded::Skipped(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        skipped(LinkType::ETHERNET, &ethernet(&[0x88, 0xcc])),
        SkipReason::NonIp
    );
    assert_eq!(
        skipped(LinkType::ETHERNET, &ethernet(&[0x86, 0xdd])),
        SkipReason::BadIpHeader
    );
    assert_eq!(skipped(LinkType(147), &ip()), SkipReason::UnknownLink);
    assert_eq!(skipped(LinkType::ETHERNET, &MACS), SkipReason::Truncated);
    // Wireless frames: encrypted, without data, or with several packets in one.
    for control in [[0x08, 0x41], [0x48, 0x01], [0x80, 0x00]] {
        let frame = behind(&[&control, &[0, 0], &MACS, &[0; 8], &SNAP]);
        assert_eq!(skipped(LinkType::IEEE802_11, &frame), SkipReason::NonIp);
    }
}

#[test]
fn tshark_reads_the_same() {
    if !Command::new("tshark")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        assert_ne!(
            std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref(),
            Ok("1"),
            "tshark is missing"
        );
        eprintln!("skipped: tshark is missing");
        return;
    }
    let frames = frames();
    let links: Vec<LinkType> = frames.iter().map(|(_, link, _)| *link).collect();
    let contents: Vec<Frame> = frames
        .iter()
        .map(|(_, _, bytes)| Frame {
            nanos: 0,
            bytes: bytes.clone(),
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.pcapng");
    std::fs::write(&path, pcapng_of(&links, contents.iter().enumerate())).unwrap();
    let mut tshark = Command::new("tshark");
    tshark
        .args(["-T", "fields", "-e", "udp.srcport", "-e", "udp.dstport", "-r"])
        .arg(&path);
    let output = String::from_utf8(tshark.output().unwrap().stdout).unwrap();
    assert_eq!(output.lines().count(), frames.len());
    for (line, (name, ..)) in output.lines().zip(frames) {
        assert_eq!(line, "1111\t2222", "{name}");
    }
}
