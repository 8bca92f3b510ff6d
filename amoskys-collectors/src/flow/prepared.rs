//! Packets decoded ahead of being counted, so that the memory of their flows has time to come.

use super::divide::Stamped;
use super::key::Key;
use super::table::Table;
use crate::capture::Packet;
use crate::packet::tunnel::{Tunnel, innermost};
use crate::packet::{IpPacket, SkipReason, decode_into};
use amoskys_core::event::ArpRecord;

/// So many packets are decoded before the first of them is counted. Twice as many gave nothing more.
pub(super) const AHEAD: usize = 16;

/// What decoding gave besides an IP packet; `Ok(None)` if it is one.
pub(super) type NotMetered = Result<Option<ArpRecord>, SkipReason>;

/// A packet, decoded.
#[derive(Clone, Copy)]
pub(super) struct Prepared<'a> {
    pub(super) packet: Packet<'a>,
    pub(super) ip: IpPacket<'a>,
    pub(super) decoded: NotMetered,
    /// Of the IP packet, if it is one.
    pub(super) sought: Sought,
    /// The tunnel it was taken out of.
    pub(super) tunnel: Option<Tunnel>,
}

/// What the flow of a packet is found by.
#[derive(Clone, Copy)]
pub(super) struct Sought {
    pub(super) key: Key,
    /// The packet goes from the key's high end to the low one.
    pub(super) descending: bool,
    pub(super) hash: u32,
}

impl Sought {
    #[inline]
    pub(super) fn of(ip: &IpPacket<'_>, table: &Table) -> Self {
        let (key, descending) = Key::of(ip);
        let hash = table.hash(&key);
        Self {
            key,
            descending,
            hash,
        }
    }
}

impl<'a> Prepared<'a> {
    pub(super) const NONE: Self = Self {
        packet: Packet::NONE,
        ip: IpPacket::NONE,
        decoded: Err(SkipReason::Truncated),
        sought: Sought {
            key: Key::NONE,
            descending: false,
            hash: 0,
        },
        tunnel: None,
    };

    /// Decodes a packet in this place.
    #[inline]
    pub(super) fn prepare(&mut self, packet: Packet<'a>, table: &Table) {
        self.packet = packet;
        self.decoded = decode_into(&packet, &mut self.ip);
        if self.decoded == Ok(None) {
            self.seek(table);
        }
    }

    /// Decodes a packet, or the one that it carries.
    #[inline]
    pub(super) fn prepare_part(&mut self, packet: Packet<'a>, item: &Stamped, table: &Table) {
        self.packet = packet;
        self.decoded = decode_into(&packet, &mut self.ip);
        self.tunnel = None;
        if self.decoded == Ok(None) {
            if item.inner
                && let Some((inner, tunnel)) = innermost(&self.ip)
            {
                (self.ip, self.tunnel) = (inner, Some(tunnel));
            }
            if let Some(ports) = item.ports {
                self.ip.ports = ports;
            }
            self.seek(table);
        }
    }

    #[inline]
    fn seek(&mut self, table: &Table) {
        self.sought = Sought::of(&self.ip, table);
        table.fetch_place(self.sought.hash);
    }

    /// Asks for the memory of the flow it probably belongs to.
    #[inline]
    pub(super) fn fetch(&self, table: &Table) {
        if self.decoded == Ok(None) {
            table.fetch_flow(self.sought.hash);
        }
    }
}
