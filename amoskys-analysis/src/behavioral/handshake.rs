//! TLS handshakes out of order, as exploits of the TLS stack leave them (Heartbleed, CVE-2014-0160).
//!
//! **Idea.** In a full handshake of TLS 1.2 or before, the server's certificate is answered by the client's key exchange: 50
//! to a few thousand bytes. Then the server speaks a few dozen bytes, and only then data may follow. Two shapes break this
//! order, and need no look into the content: the client says less than a key exchange can be, and the server answers with
//! more than its part of a handshake can be (a small question, memory for an answer); or the client sends many kilobytes
//! where the key exchange is due.
//!
//! Versions are told by the server's hello: that of TLS 1.3 is 118 bytes or longer, or 86 without a session id. A server that sends
//! less than 700 bytes before the client speaks again resumes a session, and is left out.
//!
//! **Priors.** Less than 50 bytes before more than 1,000 in answer: +9. More than 8,000 bytes at the key exchange: +7; honest only with
//! False Start (RFC 7918), a rare extension, and an upload as the first request. An answer as large as the message: +1.5. The client
//! resets the connection: +1.
//!
//! **Fails** when the exploit runs after a regular handshake, against TLS 1.3, and where packets are lost at the sensor.
//!
//! **Cost.** A look at twenty packet lengths for each TLS flow that ends.

use amoskys_core::event::{FlowDirection, FlowEnd, FlowPhase, FlowRecord, PacketSample};
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Mark, Span, Target};
use crate::measure::float;
use crate::odds::logit;
use crate::sighting::service::TCP;
use crate::sighting::{Contact, Sighting};

/// The least a server sends with its certificate.
const CERTIFICATE: u64 = 700;
/// Less than any key exchange, or any finished message.
const TOO_LITTLE: u64 = 50;
/// More than any key exchange with a client certificate.
const TOO_MUCH: u64 = 8_000;
/// More than a server's part of a handshake after the key exchange.
const LARGE_ANSWER: u64 = 1_000;

/// Needs no memory but its settings: each flow speaks for itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handshakes {
    prior: f64,
    floor: f64,
}

/// The first flights of a connection, in payload bytes.
#[derive(Debug, Default, PartialEq)]
struct Flights {
    hello: u64,
    certificate: u64,
    early: u64,
    answer: u64,
}

impl Handshakes {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            prior: logit(config.priors.handshake),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn observe(&self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        if let Sighting::Closed {
            contact, flow, began, ..
        } = sighting
            && contact.protocol == TCP
            && contact.certain
            && contact.forward
            && is_client_hello(contact.client_bytes(flow))
            && is_old_server_hello(contact.server_bytes(flow))
        {
            let card = self.card(flow);
            if card.log_odds() >= self.floor {
                let Contact {
                    client, server, port, ..
                } = *contact;
                let mut span = Span::of(*began);
                span.extend(mark);
                findings.push(Finding {
                    detector: Detector::TlsHandshake,
                    accused: client,
                    target: Target::service(server, TCP, port),
                    peers: vec![server],
                    card,
                    title: format!(
                        "Broken TLS handshake: {client} made {server} port {port} answer out of order"
                    ),
                    span,
                });
            }
        }
    }

    fn card(&self, flow: &FlowRecord) -> Card {
        let flights = Flights::of(flow);
        if flights.certificate < CERTIFICATE {
            return Card::new(self.prior);
        }
        // Beyond the first packets only the totals are known; they hold what the sequence no longer shows.
        let sent = flow.forward.payload.sum.saturating_sub(flights.hello);
        let received = flow.backward.payload.sum.saturating_sub(flights.certificate);
        let little = (1..TOO_LITTLE).contains(&flights.early) && flights.answer >= LARGE_ANSWER;
        let much = flights.early >= TOO_MUCH;
        if !little && !much {
            return Card::new(self.prior);
        }
        let reply = if little { flights.answer } else { received };
        let large_reply = much && received >= LARGE_ANSWER && float(received) >= 0.9 * float(sent);
        let reset = flow.phase == FlowPhase::End(FlowEnd::Reset)
            && flow.tcp.as_ref().is_some_and(|tcp| tcp.forward.flags.rst > 0);
        Card::new(self.prior)
            .with(
                Feature::EarlyBytes,
                float(flights.early),
                if little { 9.0 } else { 7.0 },
            )
            .with(
                Feature::ReplyBytes,
                float(reply),
                if large_reply { 1.5 } else { 0.0 },
            )
            .with(
                Feature::Reset,
                f64::from(u8::from(reset)),
                if reset { 1.0 } else { 0.0 },
            )
    }
}

impl Flights {
    fn of(flow: &FlowRecord) -> Self {
        let mut flights = [0_u64; 4];
        let mut at = 0;
        let mut begun = [false; 2];
        for packet in &flow.sequence {
            let direction = if packet.backward {
                &flow.backward
            } else {
                &flow.forward
            };
            // The first packet of each side is its SYN, which carries options instead of data.
            let first = !std::mem::replace(&mut begun[usize::from(packet.backward)], true);
            let payload = payload(packet, direction);
            if first || payload == 0 {
                continue;
            }
            if packet.backward != (at % 2 == 1) {
                at += 1;
            }
            match flights.get_mut(at) {
                Some(flight) => *flight += payload,
                None => break,
            }
        }
        let [hello, certificate, early, answer] = flights;
        Self {
            hello,
            certificate,
            early,
            answer,
        }
    }
}

/// Payload of a packet: what it is longer than the shortest of its direction. Options of selective acknowledgement (12, 20
/// or 28 bytes, RFC 2018) are none.
fn payload(packet: &PacketSample, direction: &FlowDirection) -> u64 {
    let longer = u64::from(packet.length).saturating_sub(direction.lengths.min);
    if matches!(longer, 12 | 20 | 28) { 0 } else { longer }
}

/// A handshake record with a client hello (RFC 5246, sections 6.2.1 and 7.4).
fn is_client_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [22, 3, _, _, _, 1, ..])
}

/// A server hello that cannot be of TLS 1.3.
fn is_old_server_hello(bytes: &[u8]) -> bool {
    match bytes {
        [22, 3, _, _, _, 2, 0, high, low, ..] => {
            let length = u16::from_be_bytes([*high, *low]);
            length < 118 && length != 86
        }
        _ => false,
    }
}
