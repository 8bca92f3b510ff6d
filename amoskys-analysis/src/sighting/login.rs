//! Whether somebody who logs in was let in, as far as the outside of the connection shows it.
//!
//! **SSH.** Until a client is let in, both sides take turns: one request, one answer, and the answers that turn it down are all of
//! one size (RFC 4252, section 5.1). Afterwards a server speaks of many things (its keys, channels, output, how the
//! program ended), in messages of many sizes. The packets beyond the first twenty, of which only number, sum and squares are known,
//! are therefore uniform in the one case and not in the other. Content is encrypted and not needed.
//!
//! **FTP.** Who was let in transfers something: another connection between the two while this one is open. Who was not, and tries
//! again, gets the same two answers in turn.
//!
//! **SMB.** A refusal is the third or fourth message of the server, and its last. **HTTP.** The only answer says 401.

use amoskys_core::event::{FlowDirection, FlowRecord, PacketSample};
use serde::{Deserialize, Serialize};

use super::Contact;
use crate::measure::float;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Login {
    /// The client was let in.
    LetIn,
    /// It was turned away, this often at least. Never tried if 0.
    TurnedAway(u32),
    /// The outside does not show it.
    Unknown,
}

/// Payload bytes of a packet that none has while a login is negotiated, but key exchanges have.
const EXCHANGE: u64 = 200;
/// Payload bytes after the first packets that no login needs.
const WORK: f64 = 4_000.0;
/// Packets of a server from which on their spread says something.
const ENOUGH: f64 = 5.0;
/// Spread of sizes, as a share of their mean, below which answers are one and the same, and above which they are not.
const UNIFORM: (f64, f64) = (0.25, 0.5);
/// Bytes of the shortest message that turns a client down, encrypted.
const REFUSAL: f64 = 44.0;
/// Tries in one connection; servers allow fewer.
const MOST: u32 = 10;

impl Login {
    pub(crate) fn of(contact: &Contact, flow: &FlowRecord) -> Self {
        let greeting = contact.server_bytes(flow);
        if greeting.starts_with(b"SSH-") {
            ssh(contact, flow)
        } else if is_unauthorized(greeting) {
            http(contact, flow)
        } else if matches!(contact.port, 139 | 445) {
            smb(contact, flow)
        } else if greeting.starts_with(b"220") && matches!(contact.port, 21 | 990) {
            ftp(contact, flow)
        } else {
            Self::Unknown
        }
    }
}

/// A status line that asks for a user and a password (RFC 9110, section 15.5.2).
pub(crate) fn is_unauthorized(greeting: &[u8]) -> bool {
    greeting.starts_with(b"HTTP/1.") && greeting.get(8..).is_some_and(|rest| rest.starts_with(b" 401"))
}

/// Whether a request in the clear sends a form to a page whose name speaks of logging in, as far as its first bytes show.
pub(crate) fn is_form(request: &[u8]) -> bool {
    const PAGES: [&[u8]; 7] = [
        b"login", b"signin", b"sign-in", b"logon", b"auth", b"wp-log", b"session",
    ];
    request.strip_prefix(b"POST /").is_some_and(|path| {
        let path = path.to_ascii_lowercase();
        PAGES
            .iter()
            .any(|page| path.windows(page.len()).any(|part| part == *page))
    })
}

fn ssh(contact: &Contact, flow: &FlowRecord) -> Login {
    if flow.sequence.is_empty() {
        return Login::Unknown;
    }
    let [client, server] = sides(contact, flow);
    let (sizes, mean) = (server.spread(), server.mean());
    let varied = server.count >= ENOUGH && sizes >= UNIFORM.1;
    if varied || server.sum >= WORK || client.sum >= WORK {
        return Login::LetIn;
    }
    // The service is accepted, and the question which methods there are is answered.
    let rest = server.count + float(server.negotiated);
    if rest < 2.0 {
        return Login::TurnedAway(0);
    }
    let alike = server.count >= 2.0 && sizes <= UNIFORM.0 && mean >= REFUSAL;
    Login::TurnedAway(if alike { whole(rest - 2.0) } else { 1 })
}

fn ftp(contact: &Contact, flow: &FlowRecord) -> Login {
    let [requests, answers] = [true, false].map(|client| -> Vec<u64> {
        let payload = payloads(flow).filter(|(backward, _)| (*backward == contact.forward) != client);
        payload.map(|(_, payload)| payload).collect()
    });
    // After the greeting: a password is asked for, refused, asked for, refused.
    let answers = answers.get(1..).unwrap_or_default();
    let [asked, refused, ..] = *answers else {
        return Login::Unknown;
    };
    let repeated = answers
        .chunks_exact(2)
        .filter(|pair| **pair == [asked, refused])
        .count();
    match requests.len() >= 2 * repeated && repeated >= 2 {
        true => Login::TurnedAway(u32::try_from(repeated).unwrap_or(MOST).min(MOST)),
        false => Login::Unknown,
    }
}

fn smb(contact: &Contact, flow: &FlowRecord) -> Login {
    let (sent, received) = contact.directions(flow);
    let short = (2..=4).contains(&received.data_packets) && received.payload.sum < 1_500;
    match short && sent.data_packets >= 2 {
        true => Login::TurnedAway(1),
        false => Login::Unknown,
    }
}

fn http(contact: &Contact, flow: &FlowRecord) -> Login {
    let (sent, received) = contact.directions(flow);
    match sent.data_packets <= 1 && received.data_packets <= 2 {
        true => Login::TurnedAway(1),
        false => Login::Unknown,
    }
}

/// What one side sent with data after the first packets of the flow.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    count: f64,
    sum: f64,
    squares: f64,
    /// Packets with data among the first ones, after the key exchange.
    negotiated: u64,
}

impl Rest {
    fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    fn spread(&self) -> f64 {
        let variance = (self.squares / self.count.max(1.0) - self.mean().powi(2)).max(0.0);
        variance.sqrt() / self.mean().max(1.0)
    }
}

/// Client and server.
fn sides(contact: &Contact, flow: &FlowRecord) -> [Rest; 2] {
    let mut rests = [&flow.forward, &flow.backward].map(|direction| {
        let payload = &direction.payload;
        let (count, mean) = (float(payload.count), payload.mean());
        Rest {
            count: float(direction.data_packets),
            sum: float(payload.sum),
            squares: payload.std_dev.powi(2) * (count - 1.0).max(0.0) + count * mean * mean,
            negotiated: 0,
        }
    });
    let (mut exchange, mut keyed, mut agreed) = (None, false, false);
    for (backward, payload) in payloads(flow) {
        let rest = &mut rests[usize::from(backward)];
        rest.count -= 1.0;
        rest.sum -= float(payload);
        rest.squares -= float(payload).powi(2);
        rest.negotiated += 1;
        let of_server = backward == contact.forward;
        // A key exchange may end in a short packet after the large ones of its message. What is large later on is a warning to
        // whom it may concern.
        if !agreed && (payload >= EXCHANGE || exchange == Some(backward)) {
            rests.iter_mut().for_each(|rest| rest.negotiated = 0);
            exchange = Some(backward);
            keyed |= of_server;
        } else {
            exchange = None;
            agreed |= keyed && of_server;
        }
    }
    for rest in &mut rests {
        (rest.count, rest.sum) = (rest.count.max(0.0), rest.sum.max(0.0));
    }
    let [forward, backward] = rests;
    if contact.forward {
        [forward, backward]
    } else {
        [backward, forward]
    }
}

/// Direction and payload of the first packets that carry any.
fn payloads(flow: &FlowRecord) -> impl Iterator<Item = (bool, u64)> {
    let mut begun = [false; 2];
    flow.sequence.iter().filter_map(move |packet| {
        let direction = if packet.backward {
            &flow.backward
        } else {
            &flow.forward
        };
        // The first packet of each side is its SYN, which carries options instead of data.
        let first = !std::mem::replace(&mut begun[usize::from(packet.backward)], true);
        let payload = payload(packet, direction);
        (!first && payload > 0).then_some((packet.backward, payload))
    })
}

/// What a packet is longer than the shortest of its direction.
fn payload(packet: &PacketSample, direction: &FlowDirection) -> u64 {
    u64::from(packet.length).saturating_sub(direction.lengths.min)
}

fn whole(tries: f64) -> u32 {
    (1..=MOST)
        .rev()
        .find(|count| f64::from(*count) <= tries)
        .unwrap_or(1)
}
