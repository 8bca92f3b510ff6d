//! Floods of whole connections: one client asks a service for far more than anybody does.
//!
//! **Idea.** Connections that carry data are counted for each service with a memory of ten seconds, and with one of ten minutes, or of as long as the
//! sensor has watched. A flood is many in ten seconds, by one client, and many times what was usual.
//!
//! **Priors.** 400 in ten seconds are nothing: busy services and small load tests come to that. Each doubling adds 2.2, at most 9; that one
//! client has more than four fifths of them 1.5, less takes away; that they are eight times what was usual adds up to 1.5, that they are less up to 6 is
//! taken away. So a load balancer in front of a busy server does not flood it, once the sensor has watched for half a minute. Sure from
//! about 1,500, earlier where the client's rate of new connections stands out.
//!
//! **Fails** against floods from many addresses, within kept connections, and below a hundred a second. A large load test is one.
//!
//! **Cost.** Part of the look-up for SYN floods.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::undecided::MEMORY;
use crate::finding::{Card, Feature};
use crate::measure::{Leaky, seconds_between};

/// Connections that are still nothing.
pub(super) const USUAL: f64 = 400.0;
/// Seconds of what is usual, and seconds after which something is known of it.
const LONG: f64 = 600.0;
const KNOWN: f64 = 30.0;

/// Whole connections to a service, and their most frequent client.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Requests {
    latest: Leaky,
    usual: Leaky,
    /// Who has most of the latest (Boyer and Moore 1981), by how much more than the others, and how many.
    most: Option<IpAddr>,
    lead: Leaky,
    mine: Leaky,
}

impl Requests {
    /// Counts one; says whether they are many.
    pub(super) fn add(&mut self, client: IpAddr, now: Timestamp) -> bool {
        self.usual.add(now, 1.0, LONG);
        let latest = self.latest.add(now, 1.0, MEMORY);
        if self.most == Some(client) {
            self.lead.add(now, 1.0, MEMORY);
        } else if self.lead.read(now, MEMORY) >= 1.0 {
            self.lead.add(now, -1.0, MEMORY);
        } else {
            (self.most, self.mine) = (Some(client), Leaky::default());
            self.lead = Leaky::default();
            self.lead.add(now, 1.0, MEMORY);
        }
        if self.most == Some(client) {
            self.mine.add(now, 1.0, MEMORY);
        }
        latest >= USUAL
    }

    pub(super) const fn most(&self) -> Option<IpAddr> {
        self.most
    }

    pub(super) fn amount(&self, now: Timestamp) -> f64 {
        self.mine.read(now, MEMORY)
    }

    /// `None` as long as nothing is known of what is usual.
    pub(super) fn card(&self, prior: f64, since: Timestamp, now: Timestamp) -> Option<Card> {
        let watched = seconds_between(since, now);
        if watched < KNOWN {
            return None;
        }
        let (mine, all) = (self.amount(now), self.latest.read(now, MEMORY).max(1.0));
        let share = (mine / all).min(1.0);
        let usual = self.usual.read(now, LONG) * MEMORY / watched.min(LONG);
        let growth = all / usual.max(1.0);
        let by_amount = |amount: f64| (2.2 * (amount / USUAL).log2()).min(9.0);
        let by_share = if share >= 0.8 { 1.5 } else { 10.0 * (share - 0.8) };
        let by_growth = (growth / 8.0).log2().clamp(-6.0, 1.5);
        Some(
            Card::new(prior)
                .with(Feature::WholeConnections, mine.round(), by_amount(mine))
                .open_by_count(mine, by_amount)
                .with(Feature::TopShare, share, by_share)
                .with(Feature::Growth, growth, by_growth),
        )
    }
}
