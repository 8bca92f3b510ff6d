//! Ping sweeps, also over networks where many answer.
//!
//! **Idea.** Who looks for hosts pings many that it never pinged before, within minutes, mostly side by side; a part of them does not
//! exist. Monitors ping many hosts too, but the same ones all the time, and those on their list are mostly there.
//!
//! **Priors.** Hosts pinged for the first time within five minutes: twenty are nothing, each doubling adds 2, at most 8. Three in ten without
//! an answer add 2, one in ten 1, fewer take 2 away. Addresses side by side add 1. A network of which half the addresses are in use shows it
//! after about a hundred. Nobody outside has many hosts of a site on a list: from there eight are nothing, and 2 are added; that all answer says
//! nothing, because a router keeps what is for nobody to itself.
//!
//! **Fails** for sweeps over hosts that are all there, which the first round of a monitor looks like, for those below twenty hosts in five
//! minutes, and for those from many addresses.
//!
//! **Cost.** One look-up for each echo flow that is decided; 250 bytes for each host that pings.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, PEERS, Span, Target};
use crate::measure::{BoundedMap, Distinct, hash_address, seconds_between};
use crate::odds::logit;
use crate::sighting::peers::is_near;
use crate::sighting::service::ICMP;
use crate::sighting::{Outcome, Sighting, is_host, is_local};

/// Seconds over which hosts count.
const WINDOW: f64 = 300.0;
/// Seconds after which a host that was pinged before is news again.
const FORGET: f64 = 3_600.0;
/// Hosts that are still nothing, and those of a site for somebody outside.
const USUAL: [f64; 2] = [20.0, 8.0];

/// Whom each host pings.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pings {
    clients: BoundedMap<IpAddr, Sweep>,
    prior: f64,
    floor: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sweep {
    known: Distinct,
    since: Timestamp,
    hosts: u32,
    silent: u32,
    near: u32,
    before: Option<IpAddr>,
    examples: Vec<IpAddr>,
    span: Option<Span>,
    gate: Gate,
}

impl Pings {
    pub(super) fn new(config: &DetectionConfig) -> Self {
        Self {
            clients: BoundedMap::new(config.capacity.hosts),
            prior: logit(config.priors.scan),
            floor: config.speaks_from(),
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.clients.evicted()
    }

    pub(super) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        let Sighting::Judged {
            contact,
            outcome,
            began,
        } = sighting
        else {
            return;
        };
        let (client, server) = (contact.client, contact.server);
        if !contact.is_icmp() || !is_host(client) || !is_host(server) {
            return;
        }
        let sweep = self.clients.entry(&client, Sweep::default);
        sweep.refresh(mark);
        if !sweep.known.insert(hash_address(server)) {
            return;
        }
        sweep.add(server, *outcome, *began, mark);
        if f64::from(sweep.hosts) < USUAL[1] {
            return;
        }
        let card = sweep.card(client, server, self.prior);
        let Some(span) = sweep.span else { return };
        if card.log_odds() < self.floor || !sweep.gate.pass(mark.time, card.log_odds()) {
            return;
        }
        findings.push(Finding {
            detector: Detector::HostSweep,
            accused: client,
            target: Target {
                host: None,
                service: Some((ICMP, 0)),
                name: None,
            },
            peers: sweep.examples.clone(),
            card,
            title: format!(
                "Host sweep: {client} pinged {} hosts, {} of which did not answer",
                sweep.hosts, sweep.silent
            ),
            span,
        });
    }
}

impl Sweep {
    /// Starts over where the window is over; forgets whom it pinged where that is long ago, or the clock was set anew.
    fn refresh(&mut self, mark: Mark) {
        let Some(span) = self.span else { return };
        let known = match seconds_between(span.latest, mark.time) {
            pause if (-60.0..FORGET).contains(&pause) => std::mem::take(&mut self.known),
            _ => Distinct::default(),
        };
        if (-60.0..WINDOW).contains(&seconds_between(self.since, mark.time)) {
            self.known = known;
        } else {
            *self = Self {
                known,
                gate: self.gate,
                ..Self::default()
            };
        }
    }

    fn add(&mut self, server: IpAddr, outcome: Outcome, began: Mark, mark: Mark) {
        match &mut self.span {
            Some(span) => span.extend(mark),
            none => {
                let mut span = Span::of(began);
                span.extend(mark);
                *none = Some(span);
                self.since = mark.time;
            }
        }
        self.hosts = self.hosts.saturating_add(1);
        self.silent = self.silent.saturating_add(u32::from(outcome.is_failure()));
        let near = self.before.is_some_and(|before| is_near(before, server));
        self.near = self.near.saturating_add(u32::from(near));
        self.before = Some(server);
        if self.examples.len() < PEERS {
            self.examples.push(server);
        }
    }

    fn card(&self, client: IpAddr, server: IpAddr, prior: f64) -> Card {
        let hosts = f64::from(self.hosts);
        let (silent, near) = (f64::from(self.silent) / hosts, f64::from(self.near) / hosts);
        let inwards = !is_local(client) && is_local(server);
        let usual = USUAL[usize::from(inwards)];
        let by_hosts = |hosts: f64| (2.0 * (hosts / usual).log2()).clamp(-2.0, 8.0);
        let by_silent = match silent {
            share if share >= 0.3 => 2.0,
            share if share >= 0.1 => 1.0,
            _ if inwards => 0.0,
            _ => -2.0,
        };
        let score = |set: bool, by: f64| if set { by } else { 0.0 };
        Card::new(prior)
            .with_count(Feature::PingedHosts, hosts, by_hosts)
            .with(Feature::SilentHosts, silent, by_silent)
            .with(Feature::SideBySide, near, score(near >= 0.6, 1.0))
            .with(
                Feature::FromOutside,
                f64::from(u8::from(inwards)),
                score(inwards, 2.0),
            )
    }
}
