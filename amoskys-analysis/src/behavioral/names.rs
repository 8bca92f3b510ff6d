//! DNS tunnels: data in the names asked for, and in the answers.
//!
//! **Idea.** Whoever tunnels through a resolver owns one domain and must put every message into a new name below it, because
//! names asked before are answered from caches. So below one domain: many distinct names, hardly any asked twice, long, of
//! many different characters, asked for with types that carry free data back, with large answers.
//!
//! The domain is the last two labels of a name, or three where the second is a common registry label of a country (`co.uk`); the
//! full list of registries changes weekly and is not needed to group names.
//!
//! **Priors.** Distinct names: five are nothing, each doubling adds 1.3, at most 6. Mean length below the domain: 15 bytes
//! are usual, each ten more add 1, at most 3, shorter takes up to 1 away. Entropy of the characters: above 4.2 bits +1, above 5
//! bits +1.5 (host names: 3.5 to 4.1). Types without addresses (NULL, TXT, CNAME, MX, private ones): above half of the
//! queries +2.5, above a fifth +1.5. Mean answer above 80 bytes +1. Names asked again and again: -1.5. Answers within
//! 127.0.0.0/8 are those of block lists and reputation services, which put what they are asked about into names too (RFC
//! 5782): -5. Reverse lookups (`arpa`) and reversed addresses are left out, and multicast DNS, and hosts that answer for the domain themselves:
//! a resolver that passes a tunnel on is not its author.
//!
//! Messages are never put together of the same labels again: fewer than seven new labels for ten names take 2 away, as where a mail server asks for
//! keys and policies of many senders at one provider; such look-ups, by labels that begin with an underscore (RFC 8552), are no free data either. New
//! names other than of mail or lists, two seconds or more apart and at an even pace, are what a beacon asks for: 0.5 for each interval that keeps to the period within a third, at most 6, and 0.8 less for each
//! that does not, as for connections (`temporal::beacon`), down to nothing.
//!
//! **Fails** for tunnels that ask seldom (fewer than twenty names an hour), and over encrypted DNS. Accuses wrongly services
//! that ask reputation by long names and answer outside 127.0.0.0/8.
//!
//! **Cost.** About 1 µs for each DNS message; 500 bytes for each client and domain.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::DnsRecord;
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::measure::{BoundedMap, Distinct, Ring, float, hash_bytes, median, seconds_between};
use crate::odds::logit;
use crate::sighting::{Sighting, is_host};

/// Seconds without a query after which counting starts over.
const FORGET: f64 = 3_600.0;
/// New labels for each name below which names are put together of a few labels.
const NEW_LABELS: f64 = 0.7;
/// New names that make a rhythm; seconds below which a period is the pace of people or programs; part of it by which an interval may differ.
const RHYTHM: (usize, f64, f64) = (8, 2.0, 1.0 / 3.0);
/// Characters that are told apart: letters, digits, the hyphen, bytes beyond ASCII by their low bits, the rest.
const CHARACTERS: usize = 102;

/// What each client asks below each domain.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Names {
    domains: BoundedMap<(IpAddr, u64), Domain>,
    /// Who answers for which domain.
    answerers: BoundedMap<(IpAddr, u64), ()>,
    prior: f64,
    floor: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Domain {
    name: String,
    server: Option<IpAddr>,
    queries: u64,
    responses: u64,
    unique: Distinct,
    labels: Distinct,
    /// When names came that were new.
    news: Ring<Timestamp, 24>,
    /// Intervals between them that keep to one period, and those that do not.
    rhythm: (u32, u32),
    fresh: u64,
    bytes: u64,
    rare: f64,
    answered: u64,
    answer_bytes: u64,
    listed: u64,
    characters: Vec<u32>,
    span: Option<Span>,
    gate: Gate,
}

impl Names {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            domains: BoundedMap::new(config.capacity.pairs),
            answerers: BoundedMap::new(config.capacity.pairs),
            prior: logit(config.priors.name_tunnel),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.domains.evicted() + self.answerers.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        if let Sighting::Dns(record) = sighting {
            let (client, server) = match record.response {
                false => (record.key.source, record.key.destination),
                true => (record.key.destination, record.key.source),
            };
            if is_host(client) && is_host(server) {
                self.message(record, client, server, mark, findings);
            }
        }
    }

    fn message(
        &mut self,
        record: &DnsRecord,
        client: IpAddr,
        server: IpAddr,
        mark: Mark,
        findings: &mut Vec<Finding>,
    ) {
        let Some(question) = record.questions.first() else {
            return;
        };
        let mut name = Name::parse(&question.name);
        // Resolvers vary the case at random as a protection against forged answers.
        name.bytes.make_ascii_lowercase();
        let Some((below, domain)) = name.split() else {
            return;
        };
        if is_reversed_address(below) {
            return;
        }
        let hash = hash_bytes(domain);
        self.answerers.entry(&(server, hash), || ());
        let entry = self.domains.entry(&(client, hash), Domain::default);
        if entry
            .span
            .is_some_and(|span| !(-60.0..FORGET).contains(&seconds_between(span.latest, mark.time)))
        {
            *entry = Domain {
                gate: entry.gate,
                ..Domain::default()
            };
        }
        if entry.name.is_empty() {
            entry.name = domain
                .iter()
                .take(64)
                .map(|byte| {
                    if byte.is_ascii_graphic() {
                        char::from(*byte)
                    } else {
                        '?'
                    }
                })
                .collect();
        }
        entry.server = Some(server);
        entry.count(record, below, question.qtype, mark.time);
        match &mut entry.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(mark)),
        }
        if entry.fresh < 8 || self.answerers.peek(&(client, hash)).is_some() {
            return;
        }
        let card = entry.card(self.prior);
        let Some(span) = entry.span else { return };
        if card.log_odds() >= self.floor && entry.gate.pass(mark.time, card.log_odds()) {
            let title = format!(
                "DNS tunnel: {client} asks for about {} names below {}",
                entry.unique.estimate().round(),
                entry.name
            );
            findings.push(Finding {
                detector: Detector::NameTunnel,
                accused: client,
                target: Target {
                    host: Some(server),
                    service: Some((17, 53)),
                    name: Some(hash),
                },
                peers: vec![server],
                card,
                title,
                span,
            });
        }
    }
}

impl Domain {
    fn count(&mut self, record: &DnsRecord, below: &[u8], qtype: u16, now: Timestamp) {
        // Keys and policies of senders, and servers of recipients: asked for whenever there is mail.
        let of_mail = qtype == 15 || (qtype == 16 && has_attribute(below));
        if record.response {
            self.responses = self.responses.saturating_add(1);
            if record.answers > 0 {
                self.answered = self.answered.saturating_add(1);
                self.answer_bytes = self.answer_bytes.saturating_add(u64::from(record.answer_bytes));
            }
            let listed = !record.addresses.is_empty() && record.addresses.iter().all(IpAddr::is_loopback);
            self.listed = self.listed.saturating_add(u64::from(listed));
        } else {
            self.queries = self.queries.saturating_add(1);
            self.rare += match qtype {
                16 if of_mail => 0.0,
                // CNAME, NULL, TXT, SIG, KEY, and private use: free data, hardly ever asked for by hosts.
                5 | 10 | 16 | 24 | 25 | 65_280.. => 1.0,
                // MX: free names.
                15 => 0.5,
                _ => 0.0,
            };
        }
        if !below.is_empty() && self.unique.insert(hash_bytes(below)) {
            self.fresh = self.fresh.saturating_add(1);
            if !of_mail {
                self.news.push(now);
                self.rhythm = rhythm(&self.news);
            }
            for label in below.split(|byte| *byte == b'.') {
                self.labels.insert(hash_bytes(label));
            }
            self.bytes = self.bytes.saturating_add(below.len() as u64);
            if self.characters.is_empty() {
                self.characters = vec![0; CHARACTERS];
            }
            for byte in below {
                let cell = &mut self.characters[character(*byte)];
                *cell = cell.saturating_add(1);
            }
        }
    }

    fn card(&self, prior: f64) -> Card {
        let unique = self.unique.estimate();
        // Where only responses are seen, they stand for the queries.
        let queries = float(self.queries.max(self.responses)).max(1.0);
        let share = (unique / queries).min(1.0);
        let length = float(self.bytes) / float(self.fresh).max(1.0);
        let entropy = entropy(&self.characters);
        let rare = self.rare / float(self.queries).max(1.0);
        let answer = float(self.answer_bytes) / float(self.answered).max(1.0);
        let listed = float(self.listed) / float(self.answered).max(1.0);
        let step = |value: f64, high: (f64, f64), low: (f64, f64)| match value {
            v if v > high.0 => high.1,
            v if v > low.0 => low.1,
            _ => 0.0,
        };
        let repeated = match share {
            s if s > 0.7 => 0.5,
            s if s < 0.3 && unique < 200.0 => -1.5,
            _ => 0.0,
        };
        let labels = self.labels.estimate() / unique.max(1.0);
        let (kept, missed) = (f64::from(self.rhythm.0), f64::from(self.rhythm.1));
        let even = match labels >= NEW_LABELS && listed <= 0.5 {
            true => (0.5 * kept - 0.8 * missed).clamp(0.0, 6.0),
            false => 0.0,
        };
        let by_unique = |unique: f64| (1.3 * (unique / 5.0).log2()).clamp(-2.0, 6.0);
        Card::new(prior)
            .with(Feature::UniqueNames, unique.round(), by_unique(unique))
            .open_by_count(unique, by_unique)
            .with(Feature::NameShare, share, repeated)
            .with(
                Feature::NewLabels,
                labels,
                if labels < NEW_LABELS { -2.0 } else { 0.0 },
            )
            .with(Feature::NameRhythm, kept, even)
            .with(
                Feature::NameLength,
                length,
                ((length - 15.0) / 10.0).clamp(-1.0, 3.0),
            )
            .with(
                Feature::NameEntropy,
                entropy,
                step(entropy, (5.0, 1.5), (4.2, 1.0)),
            )
            .with(Feature::RareTypes, rare, step(rare, (0.5, 2.5), (0.2, 1.5)))
            .with(
                Feature::AnswerBytes,
                answer,
                step(answer, (80.0, 1.0), (f64::MAX, 0.0)),
            )
            .with(
                Feature::ListLookups,
                listed,
                if listed > 0.5 { -5.0 } else { 0.0 },
            )
    }
}

/// How many intervals between new names keep to one period, and how many do not.
fn rhythm(news: &Ring<Timestamp, 24>) -> (u32, u32) {
    let (fewest, shortest, tolerance) = RHYTHM;
    if news.len() <= fewest {
        return (0, 0);
    }
    let times: Vec<Timestamp> = news.iter().copied().collect();
    let intervals: Vec<f64> = times
        .windows(2)
        .map(|pair| seconds_between(pair[0], pair[1]))
        .collect();
    let period = median(&mut intervals.clone());
    if period < shortest {
        return (0, 0);
    }
    let (mut kept, mut missed) = (0, 0);
    for interval in intervals {
        if (interval / period - 1.0).abs() <= tolerance {
            kept += 1;
        } else {
            missed += 1;
        }
    }
    (kept, missed)
}

/// Whether one of the labels names an attribute of the domain above it (RFC 8552), as keys and policies of mail do.
fn has_attribute(below: &[u8]) -> bool {
    let mut labels = below.split(|byte| *byte == b'.');
    labels.any(|label| label.first() == Some(&b'_'))
}

/// Whether a name begins with the four numbers of an IPv4 address, or the digits of an IPv6 one, as block lists are asked.
fn is_reversed_address(below: &[u8]) -> bool {
    let labels = || below.split(|byte| *byte == b'.');
    let numbers =
        labels().take_while(|label| (1..=3).contains(&label.len()) && label.iter().all(u8::is_ascii_digit));
    let digits = labels().take_while(|label| label.len() == 1 && label[0].is_ascii_hexdigit());
    numbers.count() == 4 || digits.count() >= 32
}

/// Shannon entropy of the characters, in bits.
fn entropy(counts: &[u32]) -> f64 {
    let total: f64 = counts.iter().map(|count| f64::from(*count)).sum();
    let bits = counts.iter().filter(|count| **count > 0).map(|count| {
        let share = f64::from(*count) / total;
        -share * share.log2()
    });
    bits.sum()
}

fn character(byte: u8) -> usize {
    usize::from(match byte {
        b'a'..=b'z' => byte - b'a',
        b'0'..=b'9' => byte - b'0' + 26,
        b'-' => 36,
        0x80.. => 37 + byte % 64,
        _ => 101,
    })
}

/// A name as bytes: labels joined by dots, escapes resolved.
struct Name {
    bytes: Vec<u8>,
    /// Where each label starts.
    starts: Vec<usize>,
}

impl Name {
    /// Reads the presentation format of RFC 1035, section 5.1.
    fn parse(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len());
        let mut starts = vec![0];
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'.' => {
                    bytes.push(b'.');
                    starts.push(bytes.len());
                }
                b'\\' => match rest.next() {
                    Some(high @ b'0'..=b'9') => {
                        let digit = |byte: Option<u8>| u32::from(byte.unwrap_or(b'0').wrapping_sub(b'0'));
                        let value = 100 * digit(Some(high)) + 10 * digit(rest.next()) + digit(rest.next());
                        bytes.push(u8::try_from(value & 0xff).unwrap_or(0));
                    }
                    Some(literal) => bytes.push(literal),
                    None => {}
                },
                other => bytes.push(other),
            }
        }
        Self { bytes, starts }
    }

    /// The part below the domain, and the domain; `None` for reverse lookups and names without a domain.
    fn split(&self) -> Option<(&[u8], &[u8])> {
        let label = |from_end: usize| {
            let at = self.starts.len().checked_sub(from_end)?;
            let end = self.starts.get(at + 1).map_or(self.bytes.len(), |next| next - 1);
            self.bytes.get(self.starts[at]..end)
        };
        let top = label(1)?;
        if top.is_empty() || top.eq_ignore_ascii_case(b"arpa") || top.eq_ignore_ascii_case(b"local") {
            return None;
        }
        let second = label(2)?;
        let registry: [&[u8]; 11] = [
            b"co", b"com", b"net", b"org", b"gov", b"gob", b"edu", b"ac", b"or", b"ne", b"go",
        ];
        let depth = if top.len() == 2 && registry.iter().any(|r| second.eq_ignore_ascii_case(r)) {
            3
        } else {
            2
        };
        let at = *self.starts.get(self.starts.len().checked_sub(depth)?)?;
        Some((self.bytes.get(..at.saturating_sub(1))?, self.bytes.get(at..)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_the_domain() {
        let parts = |text: &str| {
            let name = Name::parse(text);
            name.split()
                .map(|(below, domain)| (below.to_vec(), domain.to_vec()))
        };
        let pair = |a: &[u8], b: &[u8]| Some((a.to_vec(), b.to_vec()));
        assert_eq!(parts("a.b.example.com"), pair(b"a.b", b"example.com"));
        assert_eq!(parts("example.com"), pair(b"", b"example.com"));
        assert_eq!(parts("x.example.co.uk"), pair(b"x", b"example.co.uk"));
        assert_eq!(parts(r"q\.\255\046z.t.example"), pair(b"q.\xff.z", b"t.example"));
        assert!(is_reversed_address(b"4.3.2.1.zen") && is_reversed_address(&b"f.".repeat(32)));
        assert!(!is_reversed_address(b"4.3.x.1") && !is_reversed_address(b"a1"));
        assert_eq!(parts("1.0.0.10.in-addr.arpa"), None);
        assert_eq!(parts("printer.local"), None);
        assert_eq!(parts("localhost"), None);
        assert_eq!(parts(""), None);
        assert_eq!(parts(r"\"), None);
    }
}
