//! Who is refused again and again, and how long he is kept out for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use amoskys_core::Name;

use crate::wal::segment::lock;

/// So many refusals in a row cost nothing: an honest client that finds its way again has one or two.
const FREE: u32 = 3;
/// The first penalty. Each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// Who did nothing wrong for so long, and something good since, makes up for what was before.
pub(crate) const GOOD_STANDING: Duration = Duration::from_secs(10);
/// What lies longer back is forgotten.
const MEMORY: Duration = Duration::from_secs(600);
/// Offenders kept in mind. Strangers choose some of them.
const KNOWN: usize = 4096;

/// Whom a refusal is counted against.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// A client with a certificate.
    Known(Name),
    /// Whoever comes from there; of IPv6 the first 64 bits, which one host can vary behind as it likes.
    From(IpAddr),
}

impl Who {
    pub(crate) fn from(address: IpAddr) -> Self {
        Self::From(network(address))
    }
}

/// What stands for an address where addresses are counted.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> 64 << 64;
            IpAddr::V6(bits.into())
        }
        address => address,
    }
}

#[derive(Debug, Default)]
pub(crate) struct Offenders(Mutex<BTreeMap<Who, Offence>>);

#[derive(Clone, Copy, Debug)]
struct Offence {
    strikes: u32,
    last: Instant,
    until: Instant,
}

impl Offenders {
    /// Counts a refusal. If it is one too many: how many there were, and how long the offender is kept out.
    pub(crate) fn strike(&self, who: Who, longest: Duration, now: Instant) -> Option<(u32, Duration)> {
        let mut known = lock(&self.0);
        if known.len() >= KNOWN && !known.contains_key(&who) {
            known.retain(|_, offence| now.duration_since(offence.last) < MEMORY);
            while known.len() >= KNOWN {
                // One that is not kept out, if there is one, and lies back longest.
                let oldest = known
                    .iter()
                    .min_by_key(|(_, offence)| (offence.until > now, offence.last))
                    .map(|(who, _)| who.clone())?;
                known.remove(&oldest);
            }
        }
        let offence = known.entry(who).or_insert(Offence {
            strikes: 0,
            last: now,
            until: now,
        });
        if now.duration_since(offence.last) >= MEMORY {
            offence.strikes = 0;
        }
        offence.strikes = offence.strikes.saturating_add(1);
        offence.last = now;
        let over = offence.strikes.checked_sub(FREE + 1)?;
        let penalty = FIRST.saturating_mul(1 << over.min(20)).min(longest);
        offence.until = now + penalty;
        (!penalty.is_zero()).then_some((offence.strikes, penalty))
    }

    /// How much longer he is kept out.
    pub(crate) fn penalty(&self, who: &Who, now: Instant) -> Option<Duration> {
        let left = lock(&self.0).get(who)?.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// He has behaved.
    pub(crate) fn forgive(&self, who: &Who) {
        lock(&self.0).remove(who);
    }

    /// Whoever could not be believed may be believed now.
    pub(crate) fn forgive_all(&self) {
        lock(&self.0).clear();
    }

    /// How many agents and how many addresses are kept out.
    pub(crate) fn kept_out(&self, now: Instant) -> (usize, usize) {
        let known = lock(&self.0);
        let out = known.iter().filter(|(_, offence)| offence.until > now);
        let agents = out.clone().filter(|(who, _)| matches!(who, Who::Known(_)));
        let agents = agents.count();
        (agents, out.count() - agents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_grow_are_forgiven_and_memory_is_bounded() {
        let (offenders, now) = (Offenders::default(), Instant::now());
        let (who, longest) = (Who::Known("a".into()), Duration::from_secs(1));
        for _ in 0..FREE {
            assert_eq!(offenders.strike(who.clone(), longest, now), None);
        }
        assert_eq!(offenders.penalty(&who, now), None);
        for (strikes, millis) in [(4, 250), (5, 500), (6, 1000), (7, 1000)] {
            let penalty = Duration::from_millis(millis);
            assert_eq!(
                offenders.strike(who.clone(), longest, now),
                Some((strikes, penalty))
            );
            assert_eq!(offenders.penalty(&who, now), Some(penalty));
        }
        assert_eq!(offenders.kept_out(now), (1, 0));
        assert_eq!(offenders.penalty(&who, now + longest), None);
        assert_eq!(offenders.kept_out(now + longest), (0, 0));
        // What lies long back is forgotten.
        assert_eq!(offenders.strike(who.clone(), longest, now + MEMORY), None);
        for _ in 0..10 {
            offenders.strike(who.clone(), longest, now + MEMORY);
        }
        offenders.forgive(&who);
        assert_eq!(offenders.penalty(&who, now + MEMORY), None);

        for n in 0..3 * KNOWN as u32 {
            offenders.strike(Who::from(IpAddr::from(n.to_be_bytes())), longest, now);
        }
        assert!(lock(&offenders.0).len() <= KNOWN);
        // Nobody is kept out where penalties are switched off.
        for _ in 0..10 {
            assert_eq!(offenders.strike(who.clone(), Duration::ZERO, now), None);
        }
    }

    #[test]
    fn addresses_of_one_host_are_one() {
        let address = |text: &str| network(text.parse().unwrap());
        assert_eq!(address("2001:db8:0:1::7"), address("2001:db8:0:1:ffff::"));
        assert_ne!(address("2001:db8:0:1::7"), address("2001:db8:0:2::7"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }
}
