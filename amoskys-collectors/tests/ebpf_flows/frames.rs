//! Frames to be sent.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use amoskys_collectors::capture::{CaptureReader, LinkType};

use super::common;

/// Frames, each behind its length.
pub(crate) fn write_frames<'a>(path: &Path, frames: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut file = std::io::BufWriter::new(File::create(path).unwrap());
    let mut count = 0;
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        file.write_all(&length.to_ne_bytes()).unwrap();
        file.write_all(frame).unwrap();
        count += 1;
    }
    file.flush().unwrap();
    count
}

/// The Ethernet frames of a capture that were captured whole and fit the link.
pub(crate) fn frames_of(capture: &Path) -> Vec<Vec<u8>> {
    let mut reader = CaptureReader::new(File::open(capture).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        if packet.link == LinkType::ETHERNET
            && packet.data.len() == packet.wire_len as usize
            && (14..9000).contains(&packet.data.len())
        {
            frames.push(packet.data.to_vec());
        }
    }
    frames
}

pub(crate) fn lab() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/lab.pcap")
}

/// The IPv4 packet of a plain Ethernet frame, between other hosts of which `by` is a part.
fn moved(frame: &[u8], by: u8) -> Option<Vec<u8>> {
    let mut packet = match frame.get(12..14)? {
        [8, 0] => frame.get(14..)?.to_vec(),
        _ => return None,
    };
    *packet.get_mut(12)? ^= by;
    *packet.get_mut(16)? ^= by;
    Some(packet)
}

fn in_ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    let macs = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    [&macs[..], &kind.to_be_bytes(), packet].concat()
}

/// From one end of a tunnel to the other.
fn in_ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 9, 0, 0, 64, protocol, 0, 0];
    packet.extend([192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(payload);
    packet
}

fn in_gre(packet: &[u8]) -> Vec<u8> {
    in_ethernet(0x0800, &in_ipv4(47, &[&[0, 0, 8, 0][..], packet].concat()))
}

fn in_vxlan(packet: &[u8]) -> Vec<u8> {
    let carried = in_ethernet(0x0800, packet);
    let length = u16::try_from(16 + carried.len()).unwrap().to_be_bytes();
    let head = [
        0x30, 0x39, 0x12, 0xb5, length[0], length[1], 0, 0, 8, 0, 0, 0, 0, 1, 2, 0,
    ];
    in_ethernet(0x0800, &in_ipv4(17, &[&head[..], &carried].concat()))
}

/// An IPv4 packet as an IPv6 one, with a header between that says nothing.
fn in_ipv6(packet: &[u8]) -> Option<Vec<u8>> {
    let head = usize::from(packet.first()? & 15) * 4;
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    // Of a fragment or of ICMP it would be another packet.
    if packet[6..8] != [0, 0] && packet[6..8] != [0x40, 0] || packet[9] == 1 {
        return None;
    }
    let payload = packet.get(head..length)?;
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    bytes.extend([60, 64]);
    for end in [12, 16] {
        bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(&packet[end..end + 4]);
    }
    bytes.extend([packet[9], 0, 1, 4, 0, 0, 0, 0]);
    bytes.extend(payload);
    Some(in_ethernet(0x86dd, &bytes))
}

/// An IPv4 packet in pieces of 32 bytes.
fn fragments(packet: &[u8], id: u16) -> Vec<Vec<u8>> {
    let head = usize::from(packet[0] & 15) * 4;
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let Some(payload) = packet.get(head..length) else {
        return Vec::new();
    };
    let pieces = payload.chunks(32).enumerate();
    let last = payload.len().div_ceil(32);
    pieces
        .map(|(n, piece)| {
            let mut fragment = packet[..head].to_vec();
            let total = u16::try_from(head + piece.len()).unwrap();
            let more = if n + 1 < last { 0x2000 } else { 0 };
            let offset = u16::try_from(n * 4).unwrap() | more;
            fragment[2..4].copy_from_slice(&total.to_be_bytes());
            fragment[4..6].copy_from_slice(&id.to_be_bytes());
            fragment[6..8].copy_from_slice(&offset.to_be_bytes());
            fragment.extend(piece);
            in_ethernet(0x0800, &fragment)
        })
        .collect()
}

/// Packets of the lab, and connections that begin in all ways, and these between other hosts: over IPv6, in pieces, in
/// tunnels and behind a label.
pub(crate) fn mixed() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let openings = common::openings(40).into_iter().map(|frame| frame.bytes);
    let frames = openings.chain(frames_of(&lab()).into_iter().take(3000));
    for (n, frame) in frames.enumerate() {
        let other = |by| moved(&frame, by);
        let id = u16::try_from(n).unwrap();
        if let (Some(a), Some(b), Some(c), Some(d), Some(e)) =
            (other(1), other(2), other(4), other(8), other(16))
        {
            all.extend([in_gre(&a), in_vxlan(&b)]);
            all.push(in_ethernet(0x8847, &[&[0, 0, 0x11, 64][..], &d].concat()));
            all.extend(in_ipv6(&e));
            // Messages in pieces, and a connection's first packets.
            if c[9] != 6 || n % 8 == 0 {
                all.extend(fragments(&c, id));
            }
        }
        all.push(frame);
    }
    all
}

/// Captures below a folder.
pub(crate) fn list(folder: &Path, captures: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, captures);
        } else if path
            .extension()
            .is_some_and(|extension| ["pcap", "pcapng", "cap"].iter().any(|known| extension == *known))
            && path.metadata().unwrap().len() < 8 << 20
        {
            captures.push(path);
        }
    }
}

/// An Ethernet frame with an IPv4 datagram from one of many ports.
pub(crate) fn datagram(port: u16, bytes: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let length = u16::try_from(28 + bytes).unwrap();
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 9]);
    frame.extend(u16::try_from(8 + bytes).unwrap().to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(frame.len() + bytes, 7);
    frame
}
