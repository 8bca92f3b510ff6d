//! Who talked to whom, and how much: the busiest hosts and pairs, in bounded memory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use amoskys_core::event::{DnsRecord, FlowRecord};

/// Traffic by host and by pair of hosts.
///
/// When there are too many, the half with the fewest flows is forgotten; what is left is exact for pairs that
/// were busy from their first flow on, and a lower bound for others.
#[derive(Clone, Debug, Default)]
pub(super) struct Talkers {
    pairs: BTreeMap<(IpAddr, IpAddr), Traffic>,
    hosts: BTreeMap<IpAddr, HostTraffic>,
    names: BTreeMap<IpAddr, String>,
    total: Traffic,
    pairs_forgotten: bool,
    hosts_forgotten: bool,
}

/// Flows, packets and bytes, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Traffic {
    pub(super) flows: u64,
    pub(super) bytes: u64,
    pub(super) packets: u64,
}

/// What a host began, and what others began with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HostTraffic {
    /// Flows whose first packet it sent.
    pub(super) begun: Traffic,
    /// Flows whose first packet it was sent.
    pub(super) accepted: Traffic,
}

impl HostTraffic {
    pub(super) fn flows(&self) -> u64 {
        self.begun.flows.saturating_add(self.accepted.flows)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.begun.bytes.saturating_add(self.accepted.bytes)
    }
}

const MOST_PAIRS: usize = 16_384;
const MOST_HOSTS: usize = 8_192;
const MOST_NAMES: usize = 4_096;

impl Talkers {
    /// Adds a flow that has ended.
    pub(super) fn flow(&mut self, flow: &FlowRecord) {
        let traffic = Traffic {
            flows: 1,
            bytes: flow.bytes(),
            packets: flow.packets(),
        };
        let (from, to) = (flow.key.source, flow.key.destination);
        self.total.add(traffic);
        self.pairs.entry((from, to)).or_default().add(traffic);
        self.hosts.entry(from).or_default().begun.add(traffic);
        self.hosts.entry(to).or_default().accepted.add(traffic);
        if self.pairs.len() > MOST_PAIRS {
            self.pairs_forgotten = true;
            keep_busiest(&mut self.pairs, MOST_PAIRS / 2, |traffic| {
                (traffic.flows, traffic.bytes)
            });
        }
        if self.hosts.len() > MOST_HOSTS {
            self.hosts_forgotten = true;
            keep_busiest(&mut self.hosts, MOST_HOSTS / 2, |host| {
                (host.flows(), host.bytes())
            });
        }
    }

    /// Learns the name of a host from a DNS answer: the first name heard for an address stays.
    pub(super) fn dns(&mut self, dns: &DnsRecord) {
        let Some(question) = dns.questions.first().filter(|_| dns.response && dns.rcode == 0) else {
            return;
        };
        if !matches!(question.qtype, 1 | 28) || question.name.is_empty() {
            return;
        }
        for address in &dns.addresses {
            if self.names.len() < MOST_NAMES {
                let name = || question.name.chars().take(super::MOST_NAME_CHARS).collect();
                self.names.entry(*address).or_insert_with(name);
            }
        }
    }

    /// All traffic.
    pub(super) fn total(&self) -> Traffic {
        self.total
    }

    /// How many hosts there are, and whether some were forgotten, so that there are more.
    pub(super) fn hosts_seen(&self) -> (u64, bool) {
        let seen = if self.hosts_forgotten {
            MOST_HOSTS
        } else {
            self.hosts.len()
        };
        (u64::try_from(seen).unwrap_or(u64::MAX), self.hosts_forgotten)
    }

    /// Whether pairs were forgotten.
    pub(super) fn is_partial(&self) -> bool {
        self.pairs_forgotten
    }

    /// The name a DNS answer gave to an address.
    pub(super) fn name(&self, host: IpAddr) -> Option<&str> {
        self.names.get(&host).map(String::as_str)
    }

    /// All pairs that are known: who began, with whom, how much.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (IpAddr, IpAddr, Traffic)> {
        self.pairs
            .iter()
            .map(|((from, to), traffic)| (*from, *to, *traffic))
    }

    /// Whether `from` is known to have begun a flow with `to`.
    pub(super) fn has_pair(&self, from: IpAddr, to: IpAddr) -> bool {
        self.pairs.contains_key(&(from, to))
    }

    /// The `most` hosts with the largest share of flows and bytes, the busiest first.
    pub(super) fn busiest_hosts(&self, most: usize) -> Vec<(IpAddr, HostTraffic)> {
        let mut hosts: Vec<_> = self
            .hosts
            .iter()
            .map(|(host, traffic)| (*host, *traffic))
            .collect();
        let total = self.total;
        hosts.sort_by(|a, b| {
            let share = |host: &HostTraffic| total.share(host.flows(), host.bytes());
            share(&b.1).total_cmp(&share(&a.1)).then(a.0.cmp(&b.0))
        });
        hosts.truncate(most);
        hosts
    }
}

impl Traffic {
    pub(super) fn add(&mut self, other: Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.packets = self.packets.saturating_add(other.packets);
    }

    /// How large a part of this traffic so many flows and bytes are, each counting half.
    #[expect(clippy::cast_precision_loss, reason = "shares are compared, not summed")]
    pub(super) fn share(self, flows: u64, bytes: u64) -> f64 {
        let part = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        f64::midpoint(part(flows, self.flows), part(bytes, self.bytes))
    }
}

fn keep_busiest<K: Ord + Copy, V>(map: &mut BTreeMap<K, V>, keep: usize, busy: impl Fn(&V) -> (u64, u64)) {
    let mut ranked: Vec<_> = map
        .iter()
        .map(|(key, value)| (std::cmp::Reverse(busy(value)), *key))
        .collect();
    ranked.sort_unstable();
    for (_, key) in ranked.drain(..).skip(keep) {
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amoskys_core::event::{DnsQuestion, FlowKey};
    use std::net::Ipv4Addr;

    fn flow(from: u32, to: u32) -> FlowRecord {
        let address = |number: u32| IpAddr::V4(Ipv4Addr::from(number));
        let key = FlowKey {
            source: address(from),
            destination: address(to),
            ..FlowKey::default()
        };
        FlowRecord {
            key,
            ..FlowRecord::default()
        }
    }

    #[test]
    fn a_sweep_of_many_hosts_is_bounded_and_the_busy_pair_survives() {
        let mut talkers = Talkers::default();
        for _ in 0..100 {
            talkers.flow(&flow(1, 2));
        }
        for to in 0..100_000 {
            talkers.flow(&flow(7, 1000 + to));
        }
        assert!(talkers.pairs.len() <= MOST_PAIRS && talkers.hosts.len() <= MOST_HOSTS);
        assert!(talkers.is_partial());
        assert_eq!(talkers.total().flows, 100_100);
        let busiest = talkers.busiest_hosts(3);
        assert_eq!(busiest[0].0, IpAddr::V4(Ipv4Addr::from(7)));
        assert_eq!(busiest[0].1.begun.flows, 100_000);
        assert_eq!(busiest[1].1.flows(), 100);
    }

    #[test]
    fn names_come_from_successful_address_answers_only() {
        let mut talkers = Talkers::default();
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let answer = |name: &str, qtype, rcode| DnsRecord {
            response: true,
            rcode,
            questions: vec![DnsQuestion {
                name: name.to_owned(),
                qtype,
                qclass: 1,
            }],
            addresses: vec![address],
            ..DnsRecord::default()
        };
        talkers.dns(&answer("text.example", 16, 0));
        talkers.dns(&answer("failed.example", 1, 3));
        assert_eq!(talkers.name(address), None);
        talkers.dns(&answer("web.example", 1, 0));
        talkers.dns(&answer("other.example", 1, 0));
        assert_eq!(talkers.name(address), Some("web.example"));
    }
}
