//! Shells that call back: a server gives orders, and the client obeys.
//!
//! **Idea.** In a connection that a client has opened, it asks and the server answers. Where a shell was tied to the connection it is the other way
//! round: after a pause, as long as it takes a person or a script to think, the server says a few bytes, and the client answers at once with
//! as much or more, again and again, in plain text. So: in the first packets of a connection to the outside, orders (a short message of the
//! server after a second or more, which the client answers within two) and nothing that the client says after a pause by itself. Where that
//! is so, and the server's messages are short on the mean, each later burst with one of them is taken for an order too.
//!
//! **Priors.** Each order adds 1.2, at most 6. Three times as much from the client as from the server adds 1.5, less takes 1 away, and less than
//! the server 4. Plain text adds 1.5, anything else takes 3 away; outside adds 1, a port of no common service 1. Three orders of a plain shell make the layer sure. Protocols in which a
//! server speaks first (mail, FTP: it begins with a number of three digits) are left out, and so are TLS, HTTP and SSH.
//!
//! **Fails** for shells within TLS or other encryption, which are told as beacons if at all, for those that are served inside, and for orders without
//! pauses. Accuses wrongly programs that are asked by the server, in text and with pauses, over a connection of their own, such as some remote
//! maintenance.
//!
//! **Cost.** A comparison for each record of a TCP flow; for those to the outside that last, a pass over the first 20 packets.

use amoskys_core::event::FlowRecord;
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Mark, Span, Target};
use crate::measure::float;
use crate::odds::logit;
use crate::sighting::service::{TCP, is_common};
use crate::sighting::{Contact, Sighting, is_host, is_local};

/// Microseconds of a pause before an order, and within which it is answered.
const PAUSE: u32 = 1_000_000;
const AT_ONCE: u32 = 2_000_000;
/// Payload bytes of an order, and of the server's messages on the mean.
const ORDER: u64 = 120;
const SHORT: f64 = 60.0;
/// Seconds a connection must last to be looked at, and orders below which there is nothing to say.
const LASTS: f64 = 3.0;
const FEWEST: u32 = 2;

/// Looks for shells that call back. What it needs is in each record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Shells {
    prior: f64,
    floor: f64,
}

impl Shells {
    pub(super) fn new(config: &DetectionConfig) -> Self {
        Self {
            prior: logit(config.priors.channel),
            floor: config.speaks_from(),
        }
    }

    pub(super) fn observe(&self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        let Sighting::Grew { contact, flow, .. } = sighting else {
            return;
        };
        let outwards = is_local(contact.client) && !is_local(contact.server);
        if contact.protocol != TCP
            || !contact.certain
            || !outwards
            || !is_host(contact.server)
            || flow.duration().as_secs_f64() < LASTS
            || is_other_protocol(contact.server_bytes(flow))
            || is_other_protocol(contact.client_bytes(flow))
        {
            return;
        }
        let orders = orders(contact, flow);
        if orders < FEWEST {
            return;
        }
        let (sent, received) = contact.payload(flow);
        let share = float(sent) / float(received.max(1));
        let text = is_text(contact.client_bytes(flow)) && is_text(contact.server_bytes(flow));
        let uncommon = !is_common(contact.port);
        let flag = |set: bool| f64::from(u8::from(set));
        let score = |set: bool, by: f64| if set { by } else { 0.0 };
        let card = Card::new(self.prior)
            .with_count(Feature::Commands, f64::from(orders), |orders| {
                (1.2 * orders).min(6.0)
            })
            .with(
                Feature::ClientShare,
                share,
                match share {
                    share if share >= 3.0 => 1.5,
                    share if share >= 1.0 => -1.0,
                    _ => -4.0,
                },
            )
            .with(Feature::PlainText, flag(text), if text { 1.5 } else { -3.0 })
            .with(Feature::PeerOutside, 1.0, 1.0)
            .with(Feature::UncommonPort, flag(uncommon), score(uncommon, 1.0));
        if card.log_odds() < self.floor {
            return;
        }
        let Contact {
            client, server, port, ..
        } = *contact;
        findings.push(Finding {
            detector: Detector::ReverseShell,
            accused: client,
            target: Target::service(server, TCP, port),
            peers: vec![server],
            card,
            title: format!("Shell that calls back: {client} obeys {server} port {port}"),
            span: Span::of(mark),
        });
    }
}

/// How often the server said a little after a pause, and the client answered at once; 0 if the client says something by itself.
fn orders(contact: &Contact, flow: &FlowRecord) -> u32 {
    let mut orders = 0;
    // Bytes of the latest order, and microseconds since.
    let mut order: Option<(u64, u32)> = None;
    let mut pause = 0_u32;
    let mut seen = [false; 2];
    for packet in &flow.sequence {
        // Since the last message of either side.
        pause = pause.saturating_add(packet.gap_us);
        if let Some((_, since)) = &mut order {
            *since = since.saturating_add(packet.gap_us);
        }
        let direction = if packet.backward {
            &flow.backward
        } else {
            &flow.forward
        };
        // The first packet of each side is its SYN, which carries options instead of data.
        let first = !std::mem::replace(&mut seen[usize::from(packet.backward)], true);
        let payload = u64::from(packet.length).saturating_sub(direction.lengths.min);
        if first || payload == 0 {
            continue;
        }
        let of_server = packet.backward == contact.forward;
        if of_server {
            order = (pause >= PAUSE && payload <= ORDER).then_some((payload, 0));
        } else {
            // Terminals repeat the order, less its end of line, before they answer.
            match order.take() {
                Some((asked, since)) if since <= AT_ONCE && payload + 2 >= asked => orders += 1,
                _ if pause >= PAUSE => return 0,
                _ => {}
            }
        }
        pause = 0;
    }
    let (_, server) = contact.directions(flow);
    if orders == 0 || float(server.payload.sum) > SHORT * float(server.data_packets) {
        return orders;
    }
    let bursts = server.data_packets.min(flow.subflows.saturating_sub(1));
    orders.max(u32::try_from(bursts).unwrap_or(u32::MAX))
}

/// Whether the first bytes are those of TLS, HTTP, SSH, or a server that reports in numbers.
fn is_other_protocol(bytes: &[u8]) -> bool {
    let number = bytes.len() >= 3 && bytes[..3].iter().all(u8::is_ascii_digit);
    number || bytes.starts_with(&[22, 3]) || bytes.starts_with(b"HTTP/") || bytes.starts_with(b"SSH-")
}

fn is_text(bytes: &[u8]) -> bool {
    let text = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 27);
    !bytes.is_empty() && bytes.iter().all(text)
}
