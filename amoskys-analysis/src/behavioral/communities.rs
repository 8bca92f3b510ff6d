//! Guesses of SNMP communities: an agent does not answer who does not know its word.
//!
//! **Idea.** A manager that knows the community is answered; one that knows a wrong one, or whose agent is gone, asks a few times, waits, and asks
//! the same again. Who guesses goes on with another word at once, so requests without an answer come faster than any manager's, and differ in
//! length.
//!
//! **Priors.** Unanswered requests within a minute: eight are nothing, each doubling adds 2.6, at most 8. Different sizes add 1.5, that the agent
//! answers others 1.5. Being answered takes 4 away. About 35 make the layer sure.
//!
//! **Fails** for fewer than some twenty words a minute, and after the word was found. A manager that asks an agent of another community for
//! many objects at once guesses, as far as the network shows.
//!
//! **Cost.** Two look-ups for each record of a flow to port 161; 200 bytes for each client and agent.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::measure::{BoundedMap, Leaky, float, seconds_between};
use crate::odds::logit;
use crate::sighting::service::UDP;
use crate::sighting::{Sighting, is_host};

/// The agents' port.
const SNMP: u16 = 161;
/// Seconds over which requests count, and requests that are nothing.
const MINUTE: f64 = 60.0;
const USUAL: f64 = 8.0;

/// Unanswered requests of each client to each agent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Communities {
    pairs: BoundedMap<(IpAddr, IpAddr), Requests>,
    agents: BoundedMap<IpAddr, ()>,
    prior: f64,
    floor: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Requests {
    unanswered: Leaky,
    answered: Leaky,
    /// Mean size of the requests of the first flow; whether others differ.
    size: Option<f64>,
    varied: bool,
    span: Option<Span>,
    gate: Gate,
}

impl Communities {
    pub(super) fn new(config: &DetectionConfig) -> Self {
        Self {
            pairs: BoundedMap::new(config.capacity.hosts),
            agents: BoundedMap::new(config.capacity.hosts),
            prior: logit(config.priors.guessing),
            floor: config.speaks_from(),
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.pairs.evicted() + self.agents.evicted()
    }

    pub(super) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        let Sighting::Grew {
            contact,
            flow,
            growth,
        } = sighting
        else {
            return;
        };
        if contact.protocol != UDP || contact.port != SNMP || !is_host(contact.server) {
            return;
        }
        let (client, server) = (contact.client, contact.server);
        let answered = growth.received > 0;
        if answered {
            self.agents.entry(&server, || ());
        }
        let requests = self.pairs.entry(&(client, server), Requests::default);
        let old = |span: Span| !(-60.0..MINUTE).contains(&seconds_between(span.latest, mark.time));
        if requests.span.is_some_and(old) {
            *requests = Requests::default();
        }
        let (sent, _) = contact.directions(flow);
        let size = sent.payload.mean().max(1.0);
        let sum = match answered {
            true => &mut requests.answered,
            false => &mut requests.unanswered,
        };
        sum.add(mark.time, float(growth.sent) / size, MINUTE);
        let first = *requests.size.get_or_insert(size);
        requests.varied |= sent.payload.std_dev > 0.0 || (first - size).abs() > 0.5;
        match &mut requests.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(mark)),
        }
        let amount = requests.unanswered.read(mark.time, MINUTE);
        if answered || amount <= USUAL {
            return;
        }
        let others = self.agents.peek(&server).is_some();
        let flag = |set: bool| f64::from(u8::from(set));
        let score = |set: bool, by: f64| if set { by } else { 0.0 };
        let let_in = requests.answered.read(mark.time, MINUTE);
        let card = Card::new(self.prior)
            .with_count(Feature::Communities, amount.round(), |amount| {
                (2.6 * (amount / USUAL).log2()).clamp(0.0, 8.0)
            })
            .with(
                Feature::RequestSizes,
                flag(requests.varied),
                score(requests.varied, 1.5),
            )
            .with(Feature::AnswersOthers, flag(others), score(others, 1.5))
            .with(Feature::LetIn, let_in.round(), score(let_in >= 0.5, -4.0));
        let Some(span) = requests.span else { return };
        if card.log_odds() < self.floor || !requests.gate.pass(mark.time, card.log_odds()) {
            return;
        }
        let count = amount.round();
        findings.push(Finding {
            detector: Detector::CommunityGuessing,
            accused: client,
            target: Target::service(server, UDP, SNMP),
            peers: vec![server],
            card,
            title: format!("Guesses of SNMP communities: {client} asked {server} {count} times in vain"),
            span,
        });
    }
}
