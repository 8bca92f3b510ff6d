//! Password guessing, and exploits that call the same procedure again and again.
//!
//! **Idea.** A program that guesses passwords connects to a login service, exchanges the same few messages, is turned
//! away and connects again. So: many short connections of one client to one service that asks for a login, with
//! nearly the same number of bytes, quickly one after the other, and no long session among them. An exploit that
//! needs many tries against a remote-procedure service (Zerologon needs 256 on average) shows as connections
//! with the same payload sizes, up to a tenth, within a minute.
//!
//! **Priors.** Attempts within ten minutes: three are nothing, each doubling adds 2.6, at most 8. A login service adds 2, one of
//! mail 1, because mail programs connect often. Sizes within 10 % of each other add 1.5, within 25 % half of it; far apart
//! they take 2 away. Less than 20 s between two attempts adds 1. What takes away: intervals of clockwork, as of
//! a monitor (-2.5) or of more than 50 s (-1.5), and each longer session (-1, at most -3), as of an
//! administrator at work. About ten attempts make the layer sure.
//!
//! Equal calls: four in a minute are nothing, each doubling adds 3; remote-procedure or file service +1.5, less than 2 s
//! apart +1. About sixteen make it sure.
//!
//! **Fails** against guesses hours apart or spread over many clients, guesses within one connection, and over HTTP, where
//! sizes do not tell a form from a page. Accuses wrongly scripts that log in dozens of times in a few minutes and do
//! the same small thing each time; a baseline teaches it.
//!
//! **Cost.** One look-up for each TCP flow that ends, and sorting up to 64 numbers on login services; 2.5 kB for each client
//! and service.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::measure::{BoundedMap, Leaky, Ring, float, median, relative_spread, seconds_between};
use crate::odds::logit;
use crate::sighting::service::{ServiceKind, TCP};
use crate::sighting::{Contact, Outcome, Sighting};

/// Seconds over which attempts count.
const WINDOW: f64 = 600.0;
/// Seconds over which equal calls count.
const MINUTE: f64 = 60.0;
/// Payload bytes and seconds beyond which a connection is a session, not an attempt.
const SESSION: (u64, f64) = (20_000, 120.0);
/// Attempts that are nothing.
const USUAL: f64 = 3.0;

/// Attempts of each client on each service that asks for a login or is reached from afar.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Guesses {
    series: BoundedMap<(IpAddr, IpAddr, u16), Series>,
    guessing_prior: f64,
    calls_prior: f64,
    floor: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Series {
    attempts: Ring<Attempt, 64>,
    sessions: Leaky,
    span: Option<Span>,
    gate: Gate,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Attempt {
    start: Timestamp,
    sent: u64,
    received: u64,
}

impl Guesses {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            series: BoundedMap::new(config.capacity.pairs),
            guessing_prior: logit(config.priors.guessing),
            calls_prior: logit(config.priors.calls),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.series.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        if let Sighting::Closed {
            contact,
            flow,
            outcome: Some(Outcome::Answered),
            began,
        } = sighting
            && contact.protocol == TCP
            && contact.certain
        {
            let kind = ServiceKind::of(contact, flow);
            if kind != ServiceKind::Other {
                self.closed(contact, flow, kind, *began, mark, findings);
            }
        }
    }

    fn closed(
        &mut self,
        contact: &Contact,
        flow: &FlowRecord,
        kind: ServiceKind,
        began: Mark,
        mark: Mark,
        findings: &mut Vec<Finding>,
    ) {
        let (sent, received) = contact.payload(flow);
        let series = self
            .series
            .entry(&(contact.client, contact.server, contact.port), Series::default);
        if series
            .span
            .is_some_and(|span| !(-60.0..WINDOW).contains(&seconds_between(span.latest, mark.time)))
        {
            *series = Series::default();
        }
        if sent.saturating_add(received) > SESSION.0 || flow.duration().as_secs_f64() > SESSION.1 {
            series.sessions.add(mark.time, 1.0, WINDOW);
            return;
        }
        if sent == 0 || received == 0 {
            return; // Reading the greeting, as monitors do, is no attempt.
        }
        series.attempts.push(Attempt {
            start: contact.start,
            sent,
            received,
        });
        match &mut series.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(began)),
        }
        let Some(span) = series.span else { return };
        let (card, detector, count) = match kind {
            ServiceKind::Remote => {
                let (card, count) = series.calls_card(self.calls_prior, mark.time);
                (card, Detector::RepeatedCalls, count)
            }
            _ => {
                let sessions = series.sessions.read(mark.time, WINDOW);
                let (card, count) =
                    series.guessing_card(contact.port, sessions, self.guessing_prior, mark.time);
                (card, Detector::PasswordGuessing, count)
            }
        };
        if card.log_odds() < self.floor || !series.gate.pass(mark.time, card.log_odds()) {
            return;
        }
        let Contact {
            client, server, port, ..
        } = *contact;
        let title = match detector {
            Detector::RepeatedCalls => {
                format!(
                    "Repeated equal calls: {client} called {server} port {port} {count} times in a minute"
                )
            }
            _ => format!("Password guessing: {client} tried to log in at {server} port {port} {count} times"),
        };
        let target = Target::service(server, TCP, port);
        findings.push(Finding {
            detector,
            accused: client,
            target,
            peers: vec![server],
            card,
            title,
            span,
        });
    }
}

impl Series {
    fn recent(&self, now: Timestamp, window: f64) -> Vec<Attempt> {
        let since = |attempt: &&Attempt| (0.0..window).contains(&seconds_between(attempt.start, now));
        self.attempts.iter().filter(since).copied().collect()
    }

    fn guessing_card(&self, port: u16, sessions: f64, prior: f64, now: Timestamp) -> (Card, usize) {
        let recent = self.recent(now, WINDOW);
        let count = recent.len();
        let amount = float(count as u64);
        if amount <= USUAL {
            return (Card::new(prior), count);
        }
        let mut sizes: Vec<f64> = recent
            .iter()
            .map(|attempt| float(attempt.sent + attempt.received))
            .collect();
        let spread = relative_spread(&mut sizes);
        let alike = match spread {
            s if s < 0.1 => 1.5,
            s if s < 0.25 => 0.75,
            s if s > 0.6 => -2.0,
            _ => 0.0,
        };
        let mut intervals = intervals(&recent);
        let interval = median(&mut intervals);
        let clockwork = count >= 8 && interval >= SHORTEST_POLL && relative_spread(&mut intervals) < 0.03;
        let pace = match interval {
            i if i < 20.0 => 1.0,
            i if i > 50.0 => -1.5,
            _ => 0.0,
        } - if clockwork { 2.5 } else { 0.0 };
        let login = if matches!(port, 110 | 143 | 465 | 587 | 993 | 995) {
            1.0
        } else {
            2.0
        };
        let card = Card::new(prior)
            .with_count(Feature::Attempts, amount, |amount| {
                (2.6 * (amount / USUAL).log2()).min(8.0)
            })
            .with(Feature::LoginService, 1.0, login)
            .with(Feature::AttemptSpread, spread, alike)
            .with(Feature::AttemptInterval, interval, pace)
            .with(Feature::LongSessions, sessions, -sessions.min(3.0));
        (card, count)
    }

    fn calls_card(&self, prior: f64, now: Timestamp) -> (Card, usize) {
        let recent = self.recent(now, MINUTE);
        // Sizes are those of packets, some of which the sensor may have missed or seen twice.
        let sizes: Vec<f64> = recent
            .iter()
            .map(|attempt| float(attempt.sent + attempt.received))
            .collect();
        let usual = median(&mut sizes.clone());
        let count = sizes
            .iter()
            .filter(|size| (**size - usual).abs() <= 0.1 * usual)
            .count();
        let amount = float(count as u64);
        if amount <= 4.0 {
            return (Card::new(prior), count);
        }
        let interval = median(&mut intervals(&recent));
        let card = Card::new(prior)
            .with_count(Feature::SameCalls, amount, |amount| 3.0 * (amount / 4.0).log2())
            .with(Feature::RemoteService, 1.0, 1.5)
            .with(
                Feature::AttemptInterval,
                interval,
                if interval < 2.0 { 1.0 } else { 0.0 },
            );
        (card, count)
    }
}

/// Seconds below which clockwork is a program's pace, not a timer: a guesser in a loop keeps a steady pace too.
const SHORTEST_POLL: f64 = 5.0;

fn intervals(attempts: &[Attempt]) -> Vec<f64> {
    let mut starts: Vec<Timestamp> = attempts.iter().map(|attempt| attempt.start).collect();
    starts.sort_unstable();
    starts
        .windows(2)
        .map(|pair| seconds_between(pair[0], pair[1]))
        .collect()
}
