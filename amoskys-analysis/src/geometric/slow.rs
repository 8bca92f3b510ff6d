//! Requests that are begun and never finished (Slowloris, slow bodies): they keep a server's places occupied.
//!
//! **Idea.** A client opens many connections to a web server, begins a request on each, and goes on with a few bytes now and then, so that the server
//! waits and says nothing. Honest clients send a request at once; where a server is slow to answer, they send nothing more. So: connections of one
//! client to one service, in the clear, that began with an HTTP request eight seconds ago or more, on which the client has sent little and
//! a few bytes of it just now, and the server nothing.
//!
//! **Priors.** Six such connections within two minutes are nothing, each doubling adds 3, at most 12. From about 45 on the layer is sure.
//!
//! **Fails** over TLS, where the server has spoken before the request, against clients that read slowly, and from many addresses.
//!
//! **Cost.** A comparison for each record of a flow; one look-up for those that look like this; 250 bytes for each client and service.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::measure::{BoundedMap, Distinct, mix, seconds_between};
use crate::odds::logit;
use crate::sighting::Sighting;
use crate::sighting::service::TCP;

/// Seconds after which a request should have been sent, payload bytes of one that is not, and of what it goes on with in some seconds.
const BEGUN: f64 = 8.0;
const LITTLE: u64 = 5_000;
const DRIP: u64 = 200;
/// Seconds without such a connection after which counting starts over.
const FORGET: f64 = 120.0;
/// Connections that are nothing.
const USUAL: f64 = 6.0;
/// How requests begin (RFC 9110, section 9).
const METHODS: [&[u8]; 6] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ", b"DELETE "];

/// Unfinished requests of each client to each service.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SlowRequests {
    services: BoundedMap<(IpAddr, IpAddr, u16), Requests>,
    prior: f64,
    floor: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Requests {
    connections: Distinct,
    span: Option<Span>,
    gate: Gate,
}

impl SlowRequests {
    pub(super) fn new(config: &DetectionConfig) -> Self {
        Self {
            services: BoundedMap::new(config.capacity.hosts),
            prior: logit(config.priors.flood),
            floor: config.speaks_from(),
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.services.evicted()
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
        if contact.protocol != TCP
            || !(1..=DRIP).contains(&growth.sent)
            || flow.duration().as_secs_f64() < BEGUN
        {
            return;
        }
        let (sent, received) = contact.payload(flow);
        let request = |method: &&[u8]| contact.client_bytes(flow).starts_with(method);
        if received > 0 || sent > LITTLE || !contact.certain || !METHODS.iter().any(request) {
            return;
        }
        let (client, server, port) = (contact.client, contact.server, contact.port);
        let requests = self.services.entry(&(client, server, port), Requests::default);
        let old = |span: Span| !(-60.0..FORGET).contains(&seconds_between(span.latest, mark.time));
        if requests.span.is_some_and(old) {
            *requests = Requests::default();
        }
        requests.connections.insert(mix(u64::from(contact.client_port)));
        match &mut requests.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(mark)),
        }
        let by_count = |count: f64| (3.0 * (count / USUAL).log2()).clamp(-3.0, 12.0);
        let count = requests.connections.estimate();
        let card = Card::new(self.prior)
            .with(Feature::Unfinished, count.round(), by_count(count))
            .open_by_count(count, by_count);
        let Some(span) = requests.span else { return };
        if card.log_odds() < self.floor || !requests.gate.pass(mark.time, card.log_odds()) {
            return;
        }
        let count = count.round();
        findings.push(Finding {
            detector: Detector::SlowRequests,
            accused: client,
            target: Target::service(server, TCP, port),
            peers: vec![server],
            card,
            title: format!(
                "Slow requests: {client} keeps about {count} requests to {server} port {port} unfinished"
            ),
            span,
        });
    }
}
