//! What only some flows need: ICMP, DNS, and pauses. Kept apart, so that the others stay small.

use amoskys_core::event::{DnsRecord, DnsStats, IcmpStats, Summary};

use super::moments::Periods;
use crate::packet::IpPacket;

/// Bytes kept of the first name asked for.
const NAME_BYTES: usize = 64;
/// Echo requests remembered, to match replies with.
const REQUESTS: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct Extra {
    pub(super) pauses: Pauses,
    pub(super) icmp: IcmpTrack,
    pub(super) dns: DnsTrack,
}

impl Extra {
    const NEW: Self = Self {
        pauses: Pauses {
            count: 0,
            active: Periods::NONE,
            idle: Periods::NONE,
        },
        icmp: IcmpTrack::NEW,
        dns: DnsTrack::NEW,
    };
}

/// Storage for extras, used again like the places of flows.
#[derive(Default)]
pub(super) struct Extras {
    all: Vec<Extra>,
    free: Vec<u32>,
}

impl Extras {
    /// The extra with this number, or a new one in its place.
    #[inline]
    pub(super) fn of(&mut self, number: &mut u32) -> &mut Extra {
        if *number == super::slab::NONE {
            *number = self.allocate();
        }
        &mut self.all[*number as usize]
    }

    pub(super) fn get(&self, number: u32) -> Option<&Extra> {
        self.all.get(number as usize)
    }

    fn allocate(&mut self) -> u32 {
        if let Some(number) = self.free.pop() {
            self.all[number as usize] = Extra::NEW;
            return number;
        }
        self.all.push(Extra::NEW);
        self.free.reserve(self.all.len());
        u32::try_from(self.all.len() - 1).unwrap_or(super::slab::NONE)
    }

    pub(super) fn release(&mut self, number: u32) {
        if number != super::slab::NONE {
            self.free.push(number);
        }
    }
}

/// Periods of activity that are over, and the pauses after them.
#[derive(Clone, Copy)]
pub(super) struct Pauses {
    count: u32,
    active: Periods,
    idle: Periods,
}

impl Pauses {
    /// A period of activity ended, and was followed by a pause.
    pub(super) fn add(&mut self, active: u64, idle: u64) {
        self.count += 1;
        self.active.add(active);
        self.idle.add(idle);
    }

    /// Distributions of active and idle periods, when the current period has lasted `current`.
    pub(super) fn summaries(this: Option<&Self>, current: u64) -> (Summary, Summary) {
        let (count, mut active, idle) = this.map_or((0, Periods::NONE, Periods::NONE), |pauses| {
            (pauses.count, pauses.active, pauses.idle)
        });
        active.add(current);
        (active.summary(count + 1), idle.summary(count))
    }
}

/// Messages of an ICMP or ICMPv6 flow.
#[derive(Clone, Copy)]
pub(super) struct IcmpTrack {
    any: bool,
    first_type: u8,
    first_code: u8,
    next_request: u8,
    echo_requests: u32,
    echo_replies: u32,
    altered_replies: u32,
    unsolicited_replies: u32,
    unreachable: u32,
    time_exceeded: u32,
    redirects: u32,
    other: u32,
    /// Identifier and sequence number, and a digest of the data, of the latest requests.
    requests: [(u32, u32); REQUESTS],
}

impl IcmpTrack {
    const NEW: Self = Self {
        any: false,
        first_type: 0,
        first_code: 0,
        next_request: 0,
        echo_requests: 0,
        echo_replies: 0,
        altered_replies: 0,
        unsolicited_replies: 0,
        unreachable: 0,
        time_exceeded: 0,
        redirects: 0,
        other: 0,
        requests: [(0, 0); REQUESTS],
    };

    pub(super) fn count(&mut self, packet: &IpPacket<'_>, kind: u8, code: u8, echo: u32) {
        if !self.any {
            (self.any, self.first_type, self.first_code) = (true, kind, code);
        }
        let counter = match (packet.version, kind) {
            (4, 8) | (6, 128) => {
                let slot = usize::from(self.next_request) % REQUESTS;
                self.requests[slot] = (echo, data_digest(packet));
                self.next_request = self.next_request.wrapping_add(1);
                &mut self.echo_requests
            }
            (4, 0) | (6, 129) => {
                self.match_reply(packet, echo);
                &mut self.echo_replies
            }
            (4, 3) | (6, 1) => &mut self.unreachable,
            (4, 11) | (6, 3) => &mut self.time_exceeded,
            (4, 5) | (6, 137) => &mut self.redirects,
            _ => &mut self.other,
        };
        *counter += 1;
    }

    fn match_reply(&mut self, packet: &IpPacket<'_>, echo: u32) {
        let known = REQUESTS.min(self.echo_requests as usize);
        let latest = usize::from(self.next_request);
        let mut requests = (1..=known).map(|back| self.requests[(latest + REQUESTS * 32 - back) % REQUESTS]);
        match requests.find(|(id, _)| *id == echo) {
            None => self.unsolicited_replies += 1,
            // Where a packet was cut, its data cannot be compared.
            Some((_, digest)) if digest != 0 => {
                let reply = data_digest(packet);
                self.altered_replies += u32::from(reply != 0 && reply != digest);
            }
            Some(_) => {}
        }
    }

    pub(super) fn public(&self) -> IcmpStats {
        IcmpStats {
            first_type: self.first_type,
            first_code: self.first_code,
            echo_requests: u64::from(self.echo_requests),
            echo_replies: u64::from(self.echo_replies),
            altered_replies: u64::from(self.altered_replies),
            unsolicited_replies: u64::from(self.unsolicited_replies),
            unreachable: u64::from(self.unreachable),
            time_exceeded: u64::from(self.time_exceeded),
            redirects: u64::from(self.redirects),
            other: u64::from(self.other),
        }
    }
}

/// A digest of length and data of an echo; 0 if it was not captured whole. Not made to withstand someone who
/// wants two to be equal: who tunnels through echoes wants them to differ.
fn data_digest(packet: &IpPacket<'_>) -> u32 {
    if packet.payload.len() != packet.payload_length as usize {
        return 0;
    }
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = packet.payload.as_chunks::<8>();
    let hash = words.iter().fold(u64::from(packet.payload_length), |hash, word| {
        mix(hash, u64::from_le_bytes(*word))
    });
    let hash = rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)));
    ((hash >> 32) as u32).max(1)
}

/// DNS messages of a flow.
#[derive(Clone, Copy)]
pub(super) struct DnsTrack {
    queries: u32,
    responses: u32,
    nx_domain: u32,
    errors: u32,
    answers: u64,
    first_type: u16,
    name_len: u8,
    name: [u8; NAME_BYTES],
}

impl DnsTrack {
    const NEW: Self = Self {
        queries: 0,
        responses: 0,
        nx_domain: 0,
        errors: 0,
        answers: 0,
        first_type: 0,
        name_len: 0,
        name: [0; NAME_BYTES],
    };

    #[expect(clippy::cast_possible_truncation, reason = "at most NAME_BYTES")]
    pub(super) fn count(&mut self, message: &DnsRecord) {
        if self.queries == 0
            && self.responses == 0
            && let Some(question) = message.questions.first()
        {
            // Names in presentation format are ASCII, so any cut is a valid one.
            let length = question.name.len().min(NAME_BYTES);
            self.name[..length].copy_from_slice(&question.name.as_bytes()[..length]);
            (self.name_len, self.first_type) = (length as u8, question.qtype);
        }
        if message.response {
            // A packet of DNS over TCP may hold many messages, so that these may outgrow the packets.
            self.responses = self.responses.saturating_add(1);
            self.nx_domain = self.nx_domain.saturating_add(u32::from(message.rcode == 3));
            self.errors = self
                .errors
                .saturating_add(u32::from(!matches!(message.rcode, 0 | 3)));
            self.answers += u64::from(message.answers);
        } else {
            self.queries = self.queries.saturating_add(1);
        }
    }

    /// Writes the counts to `stats`; false if there were no messages.
    pub(super) fn write(&self, stats: &mut DnsStats) -> bool {
        stats.queries = u64::from(self.queries);
        stats.responses = u64::from(self.responses);
        stats.nx_domain = u64::from(self.nx_domain);
        stats.errors = u64::from(self.errors);
        stats.answers = self.answers;
        stats.first_type = self.first_type;
        stats.first_name.clear();
        let name = &self.name[..usize::from(self.name_len)];
        stats
            .first_name
            .push_str(std::str::from_utf8(name).unwrap_or_default());
        self.queries > 0 || self.responses > 0
    }
}
