//! From records to sightings: who was client and who server, how it ended, what came since the last record.
//!
//! The layers share this work, and read sightings instead of flow records.

mod address;
pub(crate) mod decoys;
pub(crate) mod login;
pub(crate) mod peers;
pub(crate) mod service;
mod tracker;

use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::{ArpRecord, DnsRecord, FlowDirection, FlowRecord, TcpState};
use serde::{Deserialize, Serialize};

pub(crate) use self::address::{is_host, is_local};
use self::service::{ICMP, ICMPV6, TCP, UDP, is_common};
pub(crate) use self::tracker::Tracker;
use crate::finding::Mark;

/// What a layer is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sighting<'a> {
    /// A flow began.
    Opened { contact: Contact, flow: &'a FlowRecord },
    /// It has become known how a connection attempt ended. Once for each flow that is an attempt.
    Judged {
        contact: Contact,
        outcome: Outcome,
        began: Mark,
    },
    /// A flow has gone on, or ended.
    Grew {
        contact: Contact,
        flow: &'a FlowRecord,
        growth: Growth,
    },
    /// A flow ended.
    Closed {
        contact: Contact,
        flow: &'a FlowRecord,
        outcome: Option<Outcome>,
        began: Mark,
    },
    /// A DNS message.
    Dns(&'a DnsRecord),
    /// An ARP message.
    Arp(&'a ArpRecord),
    /// Event time has come to another second, or the source has ended.
    Tick { end: bool },
}

/// Who called whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub(crate) client: IpAddr,
    pub(crate) server: IpAddr,
    pub(crate) client_port: u16,
    pub(crate) port: u16,
    pub(crate) protocol: u8,
    /// Whether the flow's source is the client.
    pub(crate) forward: bool,
    /// Whether the first packet shows who called. Otherwise it was guessed from the ports.
    pub(crate) certain: bool,
    /// Time of the first packet.
    pub(crate) start: Timestamp,
}

impl Contact {
    /// By the handshake if it was seen, else by the ports: the common port is the server's, and of two
    /// uncommon ones in TCP the lower.
    pub(crate) fn of(flow: &FlowRecord) -> Self {
        let key = flow.key;
        let (forward, certain) = match (key.protocol, &flow.tcp) {
            (TCP, Some(tcp)) => match (tcp.syn, tcp.syn_ack) {
                (Some(syn), _) if syn == flow.first => (tcp.forward.flags.syn > 0, true),
                (_, Some(answer)) if answer == flow.first => (tcp.forward.flags.syn == 0, true),
                // Nobody but a prober begins like this, so it is clear who called.
                _ if is_stealth_probe(flow) => (true, true),
                _ => (guess(key.source_port, key.destination_port, true), false),
            },
            (UDP, _) => (
                guess(key.source_port, key.destination_port, false),
                is_common(key.destination_port),
            ),
            _ => (true, true),
        };
        let key = if forward { key } else { key.reversed() };
        Self {
            client: key.source,
            server: key.destination,
            client_port: key.source_port,
            port: key.destination_port,
            protocol: key.protocol,
            forward,
            certain,
            start: flow.first,
        }
    }

    /// Whether it is ICMP or ICMPv6.
    pub(crate) const fn is_icmp(&self) -> bool {
        matches!(self.protocol, ICMP | ICMPV6)
    }

    /// The first payload bytes the server sent.
    pub(crate) fn server_bytes<'a>(&self, flow: &'a FlowRecord) -> &'a [u8] {
        if self.forward {
            &flow.backward.first_bytes
        } else {
            &flow.forward.first_bytes
        }
    }

    /// The first payload bytes the client sent.
    pub(crate) fn client_bytes<'a>(&self, flow: &'a FlowRecord) -> &'a [u8] {
        if self.forward {
            &flow.forward.first_bytes
        } else {
            &flow.backward.first_bytes
        }
    }

    /// What the client sent, and the server.
    pub(crate) const fn directions<'a>(
        &self,
        flow: &'a FlowRecord,
    ) -> (&'a FlowDirection, &'a FlowDirection) {
        if self.forward {
            (&flow.forward, &flow.backward)
        } else {
            (&flow.backward, &flow.forward)
        }
    }

    /// Payload bytes the client sent, and the server.
    pub(crate) const fn payload(&self, flow: &FlowRecord) -> (u64, u64) {
        let (forward, backward) = (flow.forward.payload.sum, flow.backward.payload.sum);
        if self.forward {
            (forward, backward)
        } else {
            (backward, forward)
        }
    }
}

/// Whether the source is the client, by the ports alone.
fn guess(source_port: u16, destination_port: u16, lower_serves: bool) -> bool {
    match (is_common(source_port), is_common(destination_port)) {
        (true, false) => false,
        (false, true) => true,
        _ => !lower_serves || destination_port <= source_port,
    }
}

/// How an attempt to connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Data went over it.
    Answered,
    /// The connection was made and closed again without data.
    Empty,
    /// The server agreed, and the client did not complete the connection.
    HalfOpen,
    /// The server refused.
    Refused,
    /// Nothing came back.
    Unanswered,
}

impl Outcome {
    /// What is known so far; at the end of a flow, what it amounts to. `None` if it is open, or if the flow is
    /// no attempt to connect: its beginning was not seen, or it is an ICMP message that asks for nothing.
    pub(crate) fn of(flow: &FlowRecord, ended: bool) -> Option<Self> {
        let both = flow.forward.packets > 0 && flow.backward.packets > 0;
        if let Some(icmp) = &flow.icmp {
            let asked = matches!(icmp.first_type, 8 | 128);
            return match (asked, icmp.echo_replies > 0 || both) {
                (false, _) => None,
                (true, true) => Some(Self::Answered),
                (true, false) => ended.then_some(Self::Unanswered),
            };
        }
        let Some(tcp) = &flow.tcp else {
            // Whoever goes on sending knows that somebody listens: a stream, not a question.
            return match both {
                true => Some(Self::Answered),
                false if flow.forward.packets > STREAM_PACKETS => None,
                false => ended.then_some(Self::Unanswered),
            };
        };
        let data = flow.forward.data_packets > 0 || flow.backward.data_packets > 0;
        if is_stealth_probe(flow) {
            return match both {
                true => Some(Self::Refused),
                false => ended.then_some(Self::Unanswered),
            };
        }
        if is_turned_back(flow) {
            return Some(Self::Refused);
        }
        if is_unasked(flow) {
            return None; // The one who resets it is no caller.
        }
        match tcp.state {
            TcpState::Refused => Some(Self::Refused),
            // Where the sensor sees one direction only, the client's going on shows that it was answered.
            TcpState::SynSent | TcpState::SynReceived if data => Some(Self::Answered),
            TcpState::SynSent => ended.then_some(Self::Unanswered),
            TcpState::SynReceived => ended.then_some(Self::HalfOpen),
            TcpState::Midstream => None,
            _ if tcp.syn.is_none() => None,
            _ if data => Some(Self::Answered),
            _ if ended && tcp.ack.is_none() => Some(Self::HalfOpen),
            _ => ended.then_some(Self::Empty),
        }
    }

    /// Whether a prober learns no more from it than that the host or port exists.
    pub(crate) const fn is_failure(self) -> bool {
        !matches!(self, Self::Answered)
    }
}

/// Unanswered packets of a conversation without handshake beyond which it is no attempt; resolvers and probers give up before.
const STREAM_PACKETS: u64 = 4;

/// A TCP packet that opens nothing and that no honest stack sends to begin with: no SYN, ACK or RST (the NULL,
/// FIN and Xmas scans).
fn is_stealth_probe(flow: &FlowRecord) -> bool {
    flow.tcp.as_ref().is_some_and(|tcp| {
        let flags = &tcp.forward.flags;
        flags.syn == 0
            && flags.ack == 0
            && flags.rst == 0
            && flow.forward.packets <= 2
            && flow.forward.data_packets == 0
    })
}

/// A packet or two without data into a connection that the other side does not know and resets: how ACK, window and Maimon
/// scans look, and one by one also what is left of an old connection. Only towards what looks like a service: a server that
/// goes on with connections that a client has forgotten calls nobody.
pub(crate) fn is_turned_back(flow: &FlowRecord) -> bool {
    let resets = flow.tcp.as_ref().is_some_and(|tcp| {
        let (sent, back) = (&tcp.forward.flags, &tcp.backward.flags);
        let asked = tcp.syn.is_some() || tcp.syn_ack.is_some();
        !asked && sent.ack > 0 && sent.rst == 0 && back.rst > 0 && back.rst == flow.backward.packets
    });
    resets
        && flow.forward.packets <= 2
        && flow.forward.data_packets == 0
        && guess(flow.key.source_port, flow.key.destination_port, true)
}

/// A SYN+ACK without a SYN before it, and a reset in answer.
fn is_unasked(flow: &FlowRecord) -> bool {
    flow.tcp.as_ref().is_some_and(|tcp| {
        tcp.syn.is_none()
            && tcp.syn_ack.is_some_and(|answer| answer == flow.first)
            && tcp.forward.flags.rst.max(tcp.backward.flags.rst) > 0
            && flow.forward.data_packets == 0
            && flow.backward.data_packets == 0
    })
}

/// What a flow has grown by since its last record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Growth {
    /// Payload bytes the client sent.
    pub(crate) sent: u64,
    /// Payload bytes the server sent.
    pub(crate) received: u64,
    /// ICMP echo replies with other data than the request.
    pub(crate) altered: u64,
    /// ICMP echo replies without a request.
    pub(crate) unmatched: u64,
    /// ICMP echo messages.
    pub(crate) echoes: u64,
}
