//! Password spraying: one client is turned away by many servers.
//!
//! **Idea.** Who tries a password or two on each of many machines stays below any count of attempts on one. Where connections show
//! that a login was turned away, they are counted over all servers on the same port: attempts of ten minutes, as
//! for guesses on one server, from five servers on.
//!
//! **Priors.** As for guesses: each doubling from three attempts on adds 2.6; a login service adds 2, that they were seen to be turned away
//! 1.5, less than 20 s between two of them 1. Being let in takes away as there. A client that is let in everywhere, as a program that manages
//! machines, has no attempts.
//!
//! **Fails** where it does not show how a login went: encrypted protocols other than SSH. Accuses wrongly a program that
//! manages machines with a password or key that has been withdrawn.
//!
//! **Cost.** One look-up for each refusal; 3 kB for each client and port.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, TURNED_AWAY, WINDOW, by_attempts, by_let_in, intervals};
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, PEERS, Span, Target};
use crate::measure::{BoundedMap, Leaky, Ring, float, median, seconds_between};
use crate::sighting::Contact;
use crate::sighting::service::TCP;

/// Servers from which on it is no guessing on each of them.
const SERVERS: usize = 5;

/// Refusals of each client, by port.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sprays {
    clients: BoundedMap<(IpAddr, u16), Spray>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Spray {
    refusals: Ring<(IpAddr, Attempt), 64>,
    let_in: Leaky,
    span: Option<Span>,
    gate: Gate,
}

impl Sprays {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            clients: BoundedMap::new(limit),
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.clients.evicted()
    }

    pub(super) fn let_in(&mut self, contact: &Contact, mark: Mark) {
        if let Some(spray) = self.clients.peek_mut(&(contact.client, contact.port)) {
            spray.let_in.add(mark.time, 1.0, WINDOW);
        }
    }

    /// Counts a refusal; says what they amount to, if that is news.
    pub(super) fn turned_away(
        &mut self,
        contact: &Contact,
        attempt: Attempt,
        prior: f64,
        began: Mark,
        mark: Mark,
    ) -> Option<Finding> {
        let spray = self
            .clients
            .entry(&(contact.client, contact.port), Spray::default);
        let since = |span: Span| seconds_between(span.latest, mark.time);
        if spray
            .span
            .is_some_and(|span| !(-60.0..WINDOW).contains(&since(span)))
        {
            *spray = Spray::default();
        }
        spray.refusals.push((contact.server, attempt));
        match &mut spray.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(began)),
        }
        let (card, servers) = spray.card(prior, mark)?;
        let span = spray.span?;
        spray.gate.pass(mark.time, card.log_odds()).then(|| {
            let Contact { client, port, .. } = *contact;
            let count = servers.len();
            Finding {
                detector: Detector::PasswordSpraying,
                accused: client,
                target: Target {
                    host: None,
                    service: Some((TCP, port)),
                    name: None,
                },
                peers: servers.into_iter().take(PEERS).collect(),
                card,
                title: format!("Password spraying: {client} was turned away by {count} hosts on port {port}"),
                span,
            }
        })
    }
}

impl Spray {
    /// What it amounts to, and the servers; `None` if they are few.
    fn card(&self, prior: f64, mark: Mark) -> Option<(Card, Vec<IpAddr>)> {
        let (mut servers, mut recent) = (Vec::new(), Vec::new());
        for (server, attempt) in self.refusals.iter().rev() {
            if (0.0..WINDOW).contains(&seconds_between(attempt.start, mark.time)) {
                recent.push(*attempt);
                if !servers.contains(server) {
                    servers.push(*server);
                }
            }
        }
        if servers.len() < SERVERS {
            return None;
        }
        let amount = float(recent.len() as u64);
        let let_in = self.let_in.read(mark.time, WINDOW);
        let interval = median(&mut intervals(&recent));
        let card = Card::new(prior)
            .with_count(Feature::Attempts, amount, by_attempts)
            .with(Feature::LoginService, 1.0, 2.0)
            .with(Feature::TurnedAway, 1.0, TURNED_AWAY)
            .with(
                Feature::AttemptInterval,
                interval,
                if interval < 20.0 { 1.0 } else { 0.0 },
            )
            .with(Feature::LetIn, let_in, by_let_in(let_in, amount));
        let hosts = float(servers.len() as u64);
        Some((
            card.with(Feature::SprayedHosts, hosts, (hosts / 20.0).min(0.5)),
            servers,
        ))
    }
}
