use std::sync::{Arc, Mutex, PoisonError};

use amoskys_core::event::Gap;
use amoskys_core::{Class, Name, Open, Opened, Position, SealError, Seq, StreamId, wire};
use bytes::Bytes;

use super::compress::expand;
use super::hand_over::HandOver;
use super::header::{RawHeader, RecordKind, damaged, sha256, signed_message};
use super::keyring::Keyring;
use super::sealer::DEFAULT_MAX_PAYLOAD;
use crate::key::{PublicKey, SharedTrust, TrustMap};

/// How much an [`Opener`] checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// Form only: for records out of one's own log, which has checked them against damage.
    Form,
    /// Form, payload digest and signature, with the keys of the trust map. About 45 µs a record for the
    /// signature, and the SHA-256 of the payload.
    Signature,
}

/// Opens sealed records.
///
/// One that [verifies](Self::verifying) follows a key that was handed over to another: from the record of the hand-over on,
/// the new key is believed as long as the old one is in the trust map. Records must be opened in the order of the log for
/// that. Keys that are retired are believed, too: whether a record came in time is decided by who took it into the log.
#[derive(Debug)]
pub struct Opener {
    check: Check,
    trust: SharedTrust,
    /// Keys that are trusted besides.
    own: TrustMap,
    keyring: Arc<Keyring>,
    max_payload: usize,
    /// Records of a stream come in runs.
    last_stream: Mutex<Option<Arc<StreamId>>>,
}

impl Opener {
    /// An opener that believes only the signatures of these keys. A [`SharedTrust`] can be replaced while it is used.
    #[must_use]
    pub fn verifying(trust: impl Into<SharedTrust>) -> Self {
        Self::new(Check::Signature, trust.into())
    }

    /// An opener that checks the form only.
    #[must_use]
    pub fn unchecked() -> Self {
        Self::new(Check::Form, SharedTrust::default())
    }

    fn new(check: Check, trust: SharedTrust) -> Self {
        Self {
            check,
            trust,
            own: TrustMap::new(),
            keyring: Arc::default(),
            max_payload: DEFAULT_MAX_PAYLOAD,
            last_stream: Mutex::new(None),
        }
    }

    /// Most bytes a payload may have once it is expanded. Default 17 MiB.
    #[must_use]
    pub fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Believes these keys too, whatever becomes of the others.
    #[cfg(feature = "sled")]
    pub(crate) fn own(mut self, own: TrustMap) -> Self {
        self.own = own;
        self
    }

    /// Follows hand-overs together with others, and from where they have come to.
    #[cfg(feature = "sled")]
    pub(crate) fn keyring(mut self, keyring: Arc<Keyring>) -> Self {
        self.keyring = keyring;
        self
    }

    fn signature(&self, header: &RawHeader<'_>) -> Signed {
        let agent = Name::from(header.agent);
        let trust = self.trust.snapshot();
        let find = |id| {
            let key = |trust| self.keyring.key(trust, &agent, id);
            key(&trust).or_else(|| key(&self.own))
        };
        let found = find(header.key()).or_else(|| {
            self.keyring.learn_lineage(header, |id| find(id).is_some());
            find(header.key())
        });
        check_key(header, found.as_ref())
    }

    fn stream(&self, header: &RawHeader<'_>, class: Class) -> Arc<StreamId> {
        let epoch = header.epoch();
        let mut last = self.last_stream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = &*last
            && stream.class == class
            && stream.epoch == epoch
            && stream.agent.as_str() == header.agent
        {
            return stream.clone();
        }
        let stream = Arc::new(StreamId {
            agent: Name::from(header.agent),
            epoch,
            class,
        });
        *last = Some(stream.clone());
        stream
    }
}

/// Whether a record's signature is good, by these keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    /// It is.
    Good,
    /// The key is not trusted for this agent.
    UnknownKey,
    /// The key is trusted, and did not sign this.
    Bad,
}

#[cfg(feature = "sled")]
pub(crate) fn check_signature(header: &RawHeader<'_>, trust: &TrustMap, keyring: &Keyring) -> Signed {
    let key = keyring.key(trust, &Name::from(header.agent), header.key());
    check_key(header, key.as_ref())
}

pub(crate) fn check_key(header: &RawHeader<'_>, key: Option<&PublicKey>) -> Signed {
    let Some(key) = key else { return Signed::UnknownKey };
    match key.verify(&signed_message(&header.digest()), header.signature) {
        true => Signed::Good,
        false => Signed::Bad,
    }
}

impl Open for Opener {
    fn open(&self, record: &Bytes) -> Result<Opened, SealError> {
        let header = RawHeader::parse(record)?;
        let stored = &record[header.payload_range(record.len())?];
        if self.check == Check::Signature {
            match self.signature(&header) {
                Signed::Good => {}
                Signed::UnknownKey => {
                    let (agent, key) = (header.agent, header.key());
                    return Err(damaged(&format!(
                        "it is signed by key {key}, which is not trusted for {agent}"
                    )));
                }
                Signed::Bad => return Err(damaged("its signature is wrong")),
            }
            if sha256(stored) != header.payload_digest() {
                return Err(damaged("its payload is not the one that was signed"));
            }
        }
        header.check_features()?;
        let stream = self.stream(&header, header.class()?);
        let (first, count) = (header.first(), header.count());
        if count == 0 {
            return Err(damaged("it is about no events"));
        }
        let last = Seq(first.0 + count - 1);
        let mut opened = Opened::new(stream, first, last, Name::from(header.source));
        // Copied, because a position is kept much longer than the record.
        opened.position = header
            .position
            .map(|position| Position(Bytes::copy_from_slice(position)));
        if let Some(ledger) = header.ledger {
            let ledger = wire::decode_ledger(ledger);
            opened.ledger = Some(ledger.map_err(|error| damaged(&format!("its ledger: {error}")))?);
        }
        match (header.kind(), header.gap()) {
            (RecordKind::Gap, Some((end, reason))) => {
                let stream = (*opened.stream).clone();
                opened.gap = Some(Gap {
                    stream,
                    first,
                    last,
                    before: header.previous(),
                    end,
                    reason,
                });
            }
            (RecordKind::Batch | RecordKind::HandOver, None) => {
                if let Some(hand_over) = HandOver::of(&header)?
                    && self.check == Check::Signature
                {
                    let _ = self.keyring.learn(hand_over);
                }
                let payload = expand(&header, stored, self.max_payload)?;
                let events = wire::decode_events(&payload);
                opened.events = events.map_err(|error| damaged(&format!("its events: {}", chain(&error))))?;
                if opened.events.len() as u64 != count {
                    return Err(damaged("it has another number of events than its header says"));
                }
            }
            _ => return Err(damaged("it is half a gap")),
        }
        Ok(opened)
    }

    fn class(&self, record: &Bytes) -> Option<Class> {
        RawHeader::parse(record).ok()?.class().ok()
    }

    fn events(&self, record: &Bytes) -> Option<u64> {
        let header = RawHeader::parse(record).ok()?;
        match header.kind() {
            RecordKind::Batch | RecordKind::HandOver => Some(header.count()),
            RecordKind::Gap => Some(0),
            RecordKind::Unknown(_) => None,
        }
    }

    fn place(&self, record: &Bytes) -> Option<(StreamId, Seq, u64)> {
        let header = RawHeader::parse(record).ok()?;
        let stream = self.stream(&header, header.class().ok()?);
        Some((StreamId::clone(&stream), header.first(), header.count()))
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
