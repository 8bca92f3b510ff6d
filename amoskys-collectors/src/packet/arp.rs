use std::net::Ipv4Addr;

use amoskys_core::event::{ArpRecord, MacAddr};

use super::{Link, SkipReason, be16};

/// Reads an ARP message for IPv4 with 48-bit hardware addresses. Others count as not IP.
pub(super) fn decode(bytes: &[u8], link: Link<'_>) -> Result<ArpRecord, SkipReason> {
    let bytes: &[u8; 28] = bytes.first_chunk().ok_or(SkipReason::Truncated)?;
    // Protocol IPv4, lengths 6 and 4. The hardware type is Ethernet (1) or IEEE 802 (6).
    if bytes[2..6] != [0x08, 0x00, 6, 4] {
        return Err(SkipReason::NonIp);
    }
    let mac = |at: usize| MacAddr(std::array::from_fn(|i| bytes[at + i]));
    let ip = |at: usize| Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|i| bytes[at + i]));
    Ok(ArpRecord {
        operation: be16(bytes, 6).unwrap_or_default().into(),
        sender_mac: mac(8),
        sender_ip: ip(14),
        target_mac: mac(18),
        target_ip: ip(24),
        frame_source: link.source().unwrap_or_default(),
        frame_destination: link.destination().unwrap_or_default(),
        vlan: link.vlans.outer(),
    })
}
