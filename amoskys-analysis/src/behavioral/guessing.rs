//! Password guessing, and exploits that call the same procedure again and again.
//!
//! **Idea.** A program that guesses passwords connects to a login service, exchanges the same few messages, is turned
//! away and connects again. So: many short connections of one client to one service that asks for a login, with
//! nearly the same number of bytes, quickly one after the other, and no long session among them. An exploit that
//! needs many tries against a remote-procedure service (Zerologon needs 256 on average) shows as connections
//! with the same payload sizes, up to a tenth, within a minute.
//!
//! **Priors.** Attempts within ten minutes: three are nothing, each doubling adds 2.6, at most 8. A login service adds 2, one of
//! mail 1, because mail programs connect often. Where connections show how a login went (`sighting::login`), those that were let
//! in are no attempts, more than four fifths turned away add 1.5, and each further try in one connection counts half: clients
//! offer their keys one by one too. Where they do not, sizes within 10 % of each other add 1.5, within 25 % half of it; far apart
//! they take 2 away. Less than 20 s between two attempts adds 1. What takes away: intervals of clockwork, as of
//! a monitor (-2.5) or of more than 50 s (-1.5), each longer session (-1, at most -3), as of an
//! administrator at work, and being let in (-1, at most -2; 4 more where it comes near the number of refusals, as of
//! programs that are asked before they say who they are). Eight to ten attempts make the layer sure.
//!
//! Forms of web pages in the clear, by requests whose page speaks of logging in, do not show how a login went, and programs log in by them for each
//! of their runs: 2 less, so that about fifteen quick alike ones are sure, and other requests of the same client to the service say nothing.
//!
//! Equal calls: four in a minute are nothing, each doubling adds 3; remote-procedure or file service +1.5, less than 2 s
//! apart +1. About sixteen make it sure.
//!
//! **Fails** against guesses hours apart or spread over many clients, and over forms of web pages whose names do not speak of logging in, or
//! within TLS. Accuses wrongly scripts that log in dozens of times in a few minutes and do the same small thing each time, if it is
//! by a service that does not show how a login went; a baseline teaches it.
//!
//! **Cost.** One look-up for each TCP flow that ends, and sorting up to 64 numbers on login services; 2.5 kB for each client
//! and service.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, TURNED_AWAY, USUAL, WINDOW, by_attempts, by_let_in, intervals};
use super::spraying::Sprays;
use super::transfers::Transfers;
use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::measure::{BoundedMap, Leaky, Ring, float, median, relative_spread, seconds_between};
use crate::odds::logit;
use crate::sighting::login::{Login, is_form};
use crate::sighting::service::{ServiceKind, TCP};
use crate::sighting::{Contact, Outcome, Sighting};

/// Seconds over which equal calls count.
const MINUTE: f64 = 60.0;
/// Payload bytes and seconds beyond which a connection is a session, not an attempt.
const SESSION: (u64, f64) = (20_000, 120.0);

/// Attempts of each client on each service that asks for a login or is reached from afar.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Guesses {
    series: BoundedMap<(IpAddr, IpAddr, u16), Series>,
    sprays: Sprays,
    transfers: Transfers,
    guessing_prior: f64,
    calls_prior: f64,
    floor: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Series {
    attempts: Ring<Attempt, 64>,
    sessions: Leaky,
    let_in: Leaky,
    /// Whether they are by a form of a web page.
    forms: bool,
    span: Option<Span>,
    gate: Gate,
}

impl Guesses {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            series: BoundedMap::new(config.capacity.pairs),
            sprays: Sprays::new(config.capacity.hosts),
            transfers: Transfers::new(config.capacity.pairs.min(1_024)),
            guessing_prior: logit(config.priors.guessing),
            calls_prior: logit(config.priors.calls),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.series.evicted() + self.sprays.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        match sighting {
            Sighting::Opened { contact, .. } if contact.protocol == TCP && contact.certain => {
                self.transfers.opened(contact);
            }
            Sighting::Closed {
                contact,
                flow,
                outcome: Some(Outcome::Answered),
                began,
            } if contact.protocol == TCP && contact.certain => {
                let attempt = self.attempt(contact, flow);
                let form = is_form(contact.client_bytes(flow));
                let kind = match attempt.login {
                    Login::TurnedAway(_) => ServiceKind::Login,
                    _ if form => ServiceKind::Login,
                    _ => ServiceKind::of(contact, flow),
                };
                let service = (contact.client, contact.server, contact.port);
                // What a web server answers with is known of each answer alone: honest ones count against refusals.
                if kind != ServiceKind::Other {
                    if form {
                        self.series.entry(&service, Series::default).forms = true;
                    }
                    self.closed(contact, flow, kind, attempt, *began, mark, findings);
                } else if let Some(series) = self.series.peek_mut(&service)
                    && !series.forms
                {
                    series.let_in.add(mark.time, 1.0, WINDOW);
                }
            }
            _ => {}
        }
    }

    fn attempt(&self, contact: &Contact, flow: &FlowRecord) -> Attempt {
        let (sent, received) = contact.payload(flow);
        let login = match self.transfers.during(contact) {
            true => Login::LetIn,
            false => Login::of(contact, flow),
        };
        Attempt {
            start: contact.start,
            sent,
            received,
            login,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what is known of a connection that ended"
    )]
    fn closed(
        &mut self,
        contact: &Contact,
        flow: &FlowRecord,
        kind: ServiceKind,
        attempt: Attempt,
        began: Mark,
        mark: Mark,
        findings: &mut Vec<Finding>,
    ) {
        let (sent, received) = (attempt.sent, attempt.received);
        let series = self
            .series
            .entry(&(contact.client, contact.server, contact.port), Series::default);
        if series
            .span
            .is_some_and(|span| !(-60.0..WINDOW).contains(&seconds_between(span.latest, mark.time)))
        {
            *series = Series::default();
        }
        if attempt.login == Login::LetIn {
            series.let_in.add(mark.time, 1.0, WINDOW);
            self.sprays.let_in(contact, mark);
            return;
        }
        if sent.saturating_add(received) > SESSION.0 || flow.duration().as_secs_f64() > SESSION.1 {
            series.sessions.add(mark.time, 1.0, WINDOW);
            return;
        }
        // Reading the greeting, as monitors do, or asking for keys is no attempt.
        if sent == 0 || received == 0 || attempt.login == Login::TurnedAway(0) {
            return;
        }
        series.attempts.push(attempt);
        match &mut series.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(began)),
        }
        if matches!(attempt.login, Login::TurnedAway(_)) {
            let card = self
                .sprays
                .turned_away(contact, attempt, self.guessing_prior, began, mark);
            findings.extend(card.filter(|spray| spray.card.log_odds() >= self.floor));
        }
        let Some(span) = series.span else { return };
        let (card, detector, count) = match kind {
            ServiceKind::Remote => {
                let (card, count) = series.calls_card(self.calls_prior, mark.time);
                (card, Detector::RepeatedCalls, count)
            }
            _ => {
                let (card, count) = series.guessing_card(contact.port, self.guessing_prior, mark.time);
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

    fn guessing_card(&self, port: u16, prior: f64, now: Timestamp) -> (Card, usize) {
        let recent = self.recent(now, WINDOW);
        let amount: f64 = recent.iter().map(Attempt::worth).sum();
        let count = recent.iter().map(Attempt::tries).sum();
        if amount <= USUAL {
            return (Card::new(prior), count);
        }
        let (sessions, let_in) = (self.sessions.read(now, WINDOW), self.let_in.read(now, WINDOW));
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
        let refused = recent.iter().filter(|attempt| attempt.is_turned_away()).count();
        let refused = float(refused as u64) / float(recent.len() as u64);
        // Monitors keep to the clock, but they know their passwords.
        let steady = recent.len() >= 8 && relative_spread(&mut intervals) < 0.03;
        let clockwork = refused <= 0.8 && steady && interval >= SHORTEST_POLL;
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
        let form = self.forms && refused <= 0.8;
        let card = Card::new(prior)
            .with_count(Feature::Attempts, amount, by_attempts)
            .with(Feature::LoginService, 1.0, login)
            .with(Feature::FormLogin, 1.0, if form { -2.0 } else { 0.0 })
            .with(Feature::AttemptInterval, interval, pace)
            .with(Feature::LongSessions, sessions, -sessions.min(3.0))
            .with(Feature::LetIn, let_in, by_let_in(let_in, amount));
        // What was turned away needs not be alike: there may have been more than one try in a connection.
        let card = match refused > 0.8 {
            true => card.with(Feature::TurnedAway, refused, TURNED_AWAY),
            false => card.with(Feature::AttemptSpread, spread, alike),
        };
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
