//! Floods of half-open connections (SYN floods).
//!
//! **Idea.** Connections to one service that are begun and not completed are counted with a memory of ten seconds,
//! against those that are completed. Many of the one and hardly any of the other is a flood. A burst of a second
//! counts as whole as one of ten.
//!
//! **Priors.** A client that keeps trying a dead server makes a few attempts a second at most: 20 within ten
//! seconds are unremarkable, each doubling adds 2.5 to the log-odds. A share of nine tenths not completed adds 2.5; where
//! many are completed, the service lives, and up to 4 are taken away. If the attempts come from many addresses, an
//! outage of a popular service looks alike, and 2 are taken away until there are a thousand. From about 120
//! unfinished connections on, the layer is sure.
//!
//! **Fails** against floods of completed connections and of requests, and slow ones (less than about 10 a second).
//! If senders are forged, one of the most frequent is named though it may be innocent; the title says so.
//!
//! **Cost.** One table look-up for each TCP flow that begins, and one when its outcome is known; about 500 bytes for each
//! service.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::requests::Requests;
use super::senders::Senders;
use super::undecided::{MEMORY, Undecided};
use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::layer::Backlog;
use crate::measure::{BoundedMap, Leaky};
use crate::odds::logit;
use crate::sighting::service::TCP;
use crate::sighting::{Contact, Outcome, Sighting};

/// Unfinished connections that are still nothing.
const USUAL: f64 = 20.0;
/// Connections without a known outcome that make a crowd.
const CROWD: u32 = 400;

/// Attempts on each service.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Floods {
    services: BoundedMap<Service, Attempts>,
    late: Backlog<Service>,
    /// Time of the first attempt on anything.
    since: Option<Timestamp>,
    prior: f64,
    floor: f64,
}

/// Server and port.
type Service = (IpAddr, u16);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Attempts {
    unfinished: Leaky,
    finished: Leaky,
    undecided: Undecided<CROWD>,
    senders: Senders,
    requests: Requests,
    span: Option<Span>,
    gate: Gate,
}

impl Floods {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            services: BoundedMap::new(config.capacity.pairs),
            late: Backlog::default(),
            since: None,
            prior: logit(config.priors.flood),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.services.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        match sighting {
            Sighting::Opened { contact, .. } if is_attempt(contact) => {
                self.since.get_or_insert(mark.time);
                let service = (contact.server, contact.port);
                let attempts = self.services.entry(&service, Attempts::default);
                attempts.opened(contact.client, mark);
                self.report(service, mark, false, findings);
            }
            Sighting::Judged { contact, outcome, .. } if is_attempt(contact) => {
                let service = (contact.server, contact.port);
                if let Some(attempts) = self.services.get(&service) {
                    attempts.judged(*outcome, mark);
                    let many =
                        *outcome == Outcome::Answered && attempts.requests.add(contact.client, mark.time);
                    if many {
                        self.requests(service, mark, findings);
                    }
                    self.report(service, mark, false, findings);
                }
            }
            Sighting::Tick { end } => {
                for service in self.late.take() {
                    self.report(service, mark, *end, findings);
                }
            }
            _ => {}
        }
    }

    /// Many whole connections to a service.
    fn requests(&mut self, (server, port): Service, mark: Mark, findings: &mut Vec<Finding>) {
        let (Some(attempts), Some(since)) = (self.services.peek_mut(&(server, port)), self.since) else {
            return;
        };
        let (Some(client), Some(span)) = (attempts.requests.most(), attempts.span) else {
            return;
        };
        let Some(card) = attempts.requests.card(self.prior, since, mark.time) else {
            return;
        };
        if card.log_odds() < self.floor || !attempts.gate.pass(mark.time, card.log_odds()) {
            return;
        }
        let count = attempts.requests.amount(mark.time).round();
        findings.push(Finding {
            detector: Detector::RequestFlood,
            accused: client,
            target: Target::service(server, TCP, port),
            peers: vec![server],
            card,
            title: format!(
                "Flood of requests: {client} made about {count} whole connections to {server} port {port} in ten seconds"
            ),
            span,
        });
    }

    fn report(&mut self, service: Service, mark: Mark, end: bool, findings: &mut Vec<Finding>) {
        let Some(attempts) = self.services.peek_mut(&service) else {
            return;
        };
        if attempts.amount(mark.time) < USUAL {
            return;
        }
        let card = attempts.card(self.prior, mark.time);
        let Some(span) = attempts.span else { return };
        if card.log_odds() < self.floor {
            return;
        }
        if !attempts.gate.pass(mark.time, card.log_odds()) && !end {
            self.late.add(service);
            return;
        }
        findings.extend(attempts.finding(service, card, span));
    }
}

impl Attempts {
    fn opened(&mut self, client: IpAddr, mark: Mark) {
        let sums = [self.unfinished, self.finished];
        let known: f64 = sums.iter().map(|sum| sum.read(mark.time, MEMORY)).sum();
        let left = self.undecided.read(mark.time) + known;
        if left < 0.5 {
            // Nothing is left of what was before.
            *self = Self {
                requests: self.requests,
                gate: self.gate,
                ..Self::default()
            };
        }
        self.undecided.begin(mark.time);
        self.senders.add(client);
        match &mut self.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(mark)),
        }
    }

    fn judged(&mut self, outcome: Outcome, mark: Mark) {
        self.undecided.decide(mark.time);
        match outcome {
            Outcome::Answered => self.finished.add(mark.time, 1.0, MEMORY),
            Outcome::Unanswered | Outcome::HalfOpen => self.unfinished.add(mark.time, 1.0, MEMORY),
            // A refusal costs the server no memory, but the attempts are a flood all the same.
            Outcome::Refused | Outcome::Empty => self.unfinished.add(mark.time, 0.5, MEMORY),
        };
    }

    /// Unfinished connections, and half of the undecided ones if they have been a crowd for long.
    fn amount(&self, now: Timestamp) -> f64 {
        let finished = self.finished.read(now, MEMORY);
        self.unfinished.read(now, MEMORY) + self.undecided.counted(now, finished)
    }

    fn card(&self, prior: f64, now: Timestamp) -> Card {
        let amount = self.amount(now);
        let finished = self.finished.read(now, MEMORY);
        let seen = amount + finished;
        let share = amount / seen;
        let by_share = |share: f64| {
            if share >= 0.9 {
                2.5
            } else {
                (10.8 * (share - 0.9) + 2.5).max(-4.0)
            }
        };
        let by_amount = |amount: f64| 2.5 * (amount / USUAL).log2();
        let sources = self.senders.count();
        Card::new(prior)
            .with(Feature::HalfOpen, amount.round(), by_amount(amount))
            .open_by_count(amount, by_amount)
            .with(Feature::HalfOpenShare, share, by_share(share))
            .open_by_share(amount, seen, by_share)
            .with(Feature::Sources, sources.round(), self.senders.outage(amount))
    }

    fn finding(&mut self, (server, port): Service, card: Card, span: Span) -> Option<Finding> {
        let (accused, from) = self.senders.accuse()?;
        Some(Finding {
            detector: Detector::HalfOpenFlood,
            accused,
            target: Target::service(server, TCP, port),
            peers: vec![server],
            card,
            title: format!(
                "SYN flood: connections to {server} port {port} begun and not completed, from {from}"
            ),
            span,
        })
    }
}

fn is_attempt(contact: &Contact) -> bool {
    contact.protocol == TCP && contact.certain
}
