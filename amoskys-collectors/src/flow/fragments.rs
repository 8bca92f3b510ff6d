//! Ports of IP fragments: only the first one of a packet has them.

use std::collections::{HashMap, VecDeque};

use crate::packet::IpPacket;

/// Packets whose fragments are waited for. More than these are followed no longer, the oldest first.
const MAX_PACKETS: usize = 4096;
/// After this long the rest of a packet does not come any more: hosts give it up after 30 s, or 60.
const LIFETIME_NS: u64 = 30_000_000_000;

/// What the fragments of one packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Whole {
    source: u128,
    destination: u128,
    id: u32,
    protocol: u8,
    version: u8,
}

/// What the first fragment said.
#[derive(Clone, Copy, Debug)]
struct First {
    ports: [u16; 2],
    time: i64,
    /// Tells it from an earlier packet of the same id.
    number: u64,
}

/// The ports of packets that came in fragments. Memory is fixed: about 700 KB once used.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    firsts: HashMap<Whole, First>,
    /// In the order they came.
    order: VecDeque<(Whole, u64)>,
    next: u64,
}

impl Fragments {
    /// Remembers the ports of a first fragment, or gives a later one those of its first. A later one that came before
    /// its first stays without.
    #[cold]
    pub(super) fn follow(&mut self, ip: &mut IpPacket<'_>, time: i64) {
        let whole = Whole {
            source: ip.source,
            destination: ip.destination,
            id: ip.fragment_id,
            protocol: ip.protocol,
            version: ip.version,
        };
        if ip.later_fragment {
            let is_recent = |first: &&First| time.saturating_sub(first.time).unsigned_abs() <= LIFETIME_NS;
            if let Some(first) = self.firsts.get(&whole).filter(is_recent) {
                ip.ports = first.ports;
            }
        } else if ip.ports != [0, 0] {
            self.remember(whole, ip.ports, time);
        }
    }

    fn remember(&mut self, whole: Whole, ports: [u16; 2], time: i64) {
        if self.order.len() >= MAX_PACKETS
            && let Some((oldest, number)) = self.order.pop_front()
            && self
                .firsts
                .get(&oldest)
                .is_some_and(|first| first.number == number)
        {
            self.firsts.remove(&oldest);
        }
        let number = self.next;
        self.next += 1;
        self.firsts.insert(whole, First { ports, time, number });
        self.order.push_back((whole, number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let mut fragments = Fragments::default();
        let whole = |id| Whole {
            source: 1,
            destination: 2,
            id,
            protocol: 17,
            version: 4,
        };
        for id in 0..10_000 {
            fragments.remember(whole(id), [1, 2], 0);
            // The same id again, which must not leave the queue behind the table.
            fragments.remember(whole(id), [3, 4], 0);
        }
        assert!(fragments.firsts.len() <= MAX_PACKETS && fragments.order.len() <= MAX_PACKETS);
        assert!(fragments.firsts.contains_key(&whole(9_999)) && !fragments.firsts.contains_key(&whole(0)));
    }
}
