//! What the bus checks of a record before it looks at its place: who sealed it, and that it is as it was sealed.

use std::sync::{Arc, Mutex};

use amoskys_core::event::GapReason;
use amoskys_core::{Epoch, Name, Seq, Timestamp};

use super::streams::Place;
use super::succession::believed;
use crate::bus::refuse::RefuseReason;
use crate::key::{KeyId, PublicKey, SharedTrust};
use crate::seal::Keyring;
use crate::seal::hand_over::HandOver;
use crate::seal::header::{RawHeader, RecordKind, sha256, signed_message, time_of};
use crate::wal::segment::lock;

/// Checks the records of one connection.
pub(crate) struct Checker {
    agent: Name,
    trust: SharedTrust,
    keyring: Arc<Keyring>,
    /// The numbers of the trust map and of the keyring that had the key.
    numbers: (u64, u64),
    /// The key of the last record; it is almost always that of the next, too.
    key: Option<Known>,
    /// Its name, for who watches over the connection.
    noted: Arc<Mutex<Option<KeyId>>>,
}

/// A key that records of the connection were signed with.
#[derive(Clone, Copy)]
struct Known {
    id: KeyId,
    key: PublicKey,
    is_retired: bool,
    handed_over: Option<(Epoch, Seq)>,
}

/// A record that is genuine.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) place: Place,
    /// The key that signed it signs nothing new, by the trust map.
    pub(crate) is_retired: bool,
    /// … or from here on, because it has handed over there.
    pub(crate) handed_over: Option<(Epoch, Seq)>,
    /// When it was sealed, by the agent's clock.
    pub(crate) sealed: Timestamp,
    /// The hand-over that it is.
    pub(crate) hand_over: Option<Box<HandOver>>,
    /// Events in it: none in a gap.
    pub(crate) events: u64,
    /// Of a gap: why the events are missing.
    pub(crate) gap: Option<GapReason>,
}

impl Checked {
    /// Whether it is a gap that says that a log was lost or has expired, rather than that something was left out.
    pub(crate) fn is_resume(&self) -> bool {
        matches!(self.gap, Some(GapReason::Expired | GapReason::LogLost))
    }
}

impl Checker {
    pub(crate) fn new(agent: Name, trust: SharedTrust, noted: Arc<Mutex<Option<KeyId>>>) -> Self {
        Self {
            agent,
            keyring: Arc::default(),
            numbers: (trust.number(), 0),
            trust,
            key: None,
            noted,
        }
    }

    /// Follows hand-overs from one key to another.
    pub(crate) fn following(mut self, keyring: Arc<Keyring>) -> Self {
        self.keyring = keyring;
        self
    }

    /// Checks a record. About 45 µs for the signature, and the SHA-256 of the payload.
    pub(crate) fn check(&mut self, record: &[u8]) -> Result<Checked, (RefuseReason, String)> {
        let malformed = |reason: String| (RefuseReason::Malformed, reason);
        let header = RawHeader::parse(record).map_err(|error| malformed(error.to_string()))?;
        if header.agent != self.agent.as_str() {
            let text = format!("the record is of agent {}, not of {}", header.agent, self.agent);
            return Err((RefuseReason::WrongStream, text));
        }
        let known = self.key(header.key())?;
        let digest = header.digest();
        if !known.key.verify(&signed_message(&digest), header.signature) {
            return Err((RefuseReason::Signature, "the signature is wrong".to_owned()));
        }
        let payload = header.payload_range(record.len());
        let payload = payload.map_err(|error| (RefuseReason::Payload, error.to_string()))?;
        if sha256(&record[payload]) != header.payload_digest() {
            let text = "the payload is not the one that was signed".to_owned();
            return Err((RefuseReason::Payload, text));
        }
        let class = header.class().map_err(|error| malformed(error.to_string()))?;
        let next = header.first().0.checked_add(header.count());
        let next = next.filter(|_| header.count() > 0).map(Seq);
        let next = next.ok_or_else(|| malformed("its numbers are out of range".to_owned()))?;
        let gap = header.gap();
        let is_gap = header.kind() == RecordKind::Gap;
        if gap.is_some() != is_gap {
            return Err(malformed("it is half a gap".to_owned()));
        }
        let hand_over = HandOver::of(&header).map_err(|error| malformed(error.to_string()))?;
        let place = Place {
            stream: (header.epoch(), class),
            first: header.first(),
            next,
            previous: header.previous(),
            end: gap.map_or(digest, |(end, _)| end),
            is_gap,
        };
        Ok(Checked {
            place,
            is_retired: known.is_retired,
            handed_over: known.handed_over,
            sealed: time_of(&header),
            hand_over: hand_over.map(Box::new),
            events: if is_gap { 0 } else { header.count() },
            gap: gap.map(|(_, reason)| reason),
        })
    }

    fn key(&mut self, id: KeyId) -> Result<Known, (RefuseReason, String)> {
        let numbers = (self.trust.number(), self.keyring.number());
        if let Some(known) = &self.key
            && known.id == id
            && self.numbers == numbers
        {
            return Ok(*known);
        }
        let trust = self.trust.snapshot();
        let Some(found) = believed(&trust, &self.keyring, &self.agent, id) else {
            let reason = match &self.key {
                _ if !trust.knows(&self.agent) => RefuseReason::UnknownAgent,
                Some(known) if known.id == id => RefuseReason::KeyRetired,
                _ => RefuseReason::UnknownKey,
            };
            return Err((
                reason,
                format!("key {id} is not trusted for agent {}", self.agent),
            ));
        };
        let successor = self.keyring.successor(&self.agent, id);
        let known = Known {
            id,
            key: found.key,
            is_retired: found.is_retired,
            handed_over: successor.map(|link| (link.epoch, link.next)),
        };
        self.numbers = numbers;
        self.key = Some(known);
        *lock(&self.noted) = Some(id);
        Ok(known)
    }
}
