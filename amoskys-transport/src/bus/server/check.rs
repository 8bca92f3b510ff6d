//! What the bus checks of a record before it looks at its place: who sealed it, and that it is as it was sealed.

use std::sync::{Arc, Mutex};

use amoskys_core::{Name, Seq};

use super::streams::Place;
use crate::bus::refuse::RefuseReason;
use crate::key::{KeyId, PublicKey, SharedTrust};
use crate::seal::header::{RawHeader, RecordKind, sha256, signed_message};
use crate::wal::segment::lock;

/// Checks the records of one connection.
pub(crate) struct Checker {
    agent: Name,
    trust: SharedTrust,
    /// The number of the trust map that had the key.
    number: u64,
    /// The key of the last record; it is almost always that of the next, too.
    key: Option<(KeyId, PublicKey)>,
    /// Its name, for who watches over the connection.
    noted: Arc<Mutex<Option<KeyId>>>,
}

/// A record that is genuine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked {
    pub(crate) place: Place,
    /// Events in it: none in a gap.
    pub(crate) events: u64,
    /// Of a gap: whether it says that a log was lost or has expired, rather than that something was left out.
    pub(crate) is_resume: bool,
}

impl Checker {
    pub(crate) fn new(agent: Name, trust: SharedTrust, noted: Arc<Mutex<Option<KeyId>>>) -> Self {
        Self {
            agent,
            number: trust.number(),
            trust,
            key: None,
            noted,
        }
    }

    /// Checks a record. About 45 µs for the signature, and the SHA-256 of the payload.
    pub(crate) fn check(&mut self, record: &[u8]) -> Result<Checked, (RefuseReason, String)> {
        let malformed = |reason: String| (RefuseReason::Malformed, reason);
        let header = RawHeader::parse(record).map_err(|error| malformed(error.to_string()))?;
        if header.agent != self.agent.as_str() {
            let text = format!("the record is of agent {}, not of {}", header.agent, self.agent);
            return Err((RefuseReason::AgentMismatch, text));
        }
        let key = self.key(header.key())?;
        let digest = header.digest();
        if !key.verify(&signed_message(&digest), header.signature) {
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
        let place = Place {
            stream: (header.epoch(), class),
            first: header.first(),
            next,
            previous: header.previous(),
            end: gap.map_or(digest, |(end, _)| end),
            is_gap,
        };
        use amoskys_core::event::GapReason::{Expired, LogLost};
        Ok(Checked {
            place,
            events: if is_gap { 0 } else { header.count() },
            is_resume: gap.is_some_and(|(_, reason)| matches!(reason, Expired | LogLost)),
        })
    }

    fn key(&mut self, id: KeyId) -> Result<PublicKey, (RefuseReason, String)> {
        let number = self.trust.number();
        if let Some((known, key)) = &self.key
            && *known == id
            && self.number == number
        {
            return Ok(*key);
        }
        let trust = self.trust.snapshot();
        let Some(key) = trust.key(&self.agent, id).copied() else {
            let reason = match &self.key {
                _ if !trust.knows(&self.agent) => RefuseReason::UnknownAgent,
                Some((known, _)) if *known == id => RefuseReason::KeyRetired,
                _ => RefuseReason::UnknownKey,
            };
            return Err((
                reason,
                format!("key {id} is not trusted for agent {}", self.agent),
            ));
        };
        self.number = number;
        self.key = Some((id, key));
        *lock(&self.noted) = Some(id);
        Ok(key)
    }
}
