use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use amoskys_core::event::Gap;
use amoskys_core::wire::{self, MAX_EVENTS};
use amoskys_core::{Class, Digest, Epoch, Name, Seal, SealError, Sealed, Seq, StreamId, Timestamp, Unsealed};
use bytes::Bytes;

use super::compress::{Compression, compress};
use super::hand_over;
use super::header::{HeaderFields, SIGNATURE, finish, sha256, signed_message};
use super::keyring::Keyring;
use crate::key::{KeyId, Signer};

/// The end of a stream: what its next record goes on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of the next event.
    pub next: Seq,
    /// Digest of the last record; zeros at the start.
    pub digest: Digest,
}

/// Seals events of one agent: encodes, chains and signs them.
///
/// A [`Log`](crate::Log) gives one that goes on where the log has come to.
pub struct Sealer {
    agent: Name,
    epoch: Epoch,
    signer: Arc<dyn Signer>,
    key: KeyId,
    heads: BTreeMap<Class, Head>,
    compression: Compression,
    max_payload: usize,
    /// Size of the last record, to reserve memory once.
    last_len: usize,
    /// Where another key may be waiting to take over.
    rotation: Option<Arc<dyn Rotation>>,
}

/// Where a sealer that was given away hears of a new key.
pub(crate) trait Rotation: Send + Sync {
    /// The key that is to take over, if there is one.
    fn pending(&self) -> Option<Arc<dyn Signer>>;

    /// Puts the record of the hand-over into the log.
    fn put(&self, sealed: Result<Sealed, SealError>) -> bool;
}

impl Sealer {
    /// A sealer at the beginning of all streams of an epoch.
    #[must_use]
    pub fn new(agent: impl Into<Name>, epoch: Epoch, signer: Arc<dyn Signer>) -> Self {
        let key = signer.public_key().id();
        let (heads, agent) = (BTreeMap::new(), agent.into());
        let compression = Compression::default();
        Self {
            agent,
            epoch,
            signer,
            key,
            heads,
            compression,
            max_payload: DEFAULT_MAX_PAYLOAD,
            last_len: 4096,
            rotation: None,
        }
    }

    /// Listens for a new key.
    #[cfg(feature = "sled")]
    pub(crate) fn rotation(mut self, rotation: Arc<dyn Rotation>) -> Self {
        self.rotation = Some(rotation);
        self
    }

    /// Hands over to a new signing key: seals the record that says so, which the old key and the new one sign, in the
    /// audit stream. What is sealed next is signed by the new key. The record must go into the log as any other.
    ///
    /// Who trusts the old key then believes the new one. [`Log::rotate_key`](crate::Log::rotate_key) does all that is to
    /// be done in a log.
    ///
    /// # Errors
    ///
    /// If it is the key that signs already, or one of the keys cannot sign. Nothing has changed then.
    pub fn hand_over(&mut self, new: Arc<dyn Signer>) -> Result<Sealed, SealError> {
        let (sealed, digest) = self.seal_hand_over(&*new)?;
        self.handed_over(&sealed, digest, new);
        Ok(sealed)
    }

    fn handed_over(&mut self, sealed: &Sealed, digest: Digest, new: Arc<dyn Signer>) {
        let next = Seq(sealed.last.0.saturating_add(1));
        self.heads.insert(Class::Audit, Head { next, digest });
        self.key = new.public_key().id();
        self.signer = new;
    }

    /// Hands over if another key is waiting, and its record gets into the log.
    pub(crate) fn rotate(&mut self) {
        let waiting = self.rotation.clone().and_then(|rotation| {
            let new = rotation.pending()?;
            Some((rotation, new))
        });
        let Some((rotation, new)) = waiting else { return };
        match self.seal_hand_over(&*new) {
            Ok((sealed, digest)) => {
                if rotation.put(Ok(sealed.clone())) {
                    self.handed_over(&sealed, digest, new);
                }
            }
            Err(error) => {
                rotation.put(Err(error));
            }
        }
    }

    fn seal_hand_over(&self, new: &dyn Signer) -> Result<(Sealed, Digest), SealError> {
        let head = self.head(Class::Audit);
        let stream = StreamId {
            agent: self.agent.clone(),
            epoch: self.epoch,
            class: Class::Audit,
        };
        let old = self.signer.public_key();
        if old == new.public_key() {
            return Err(SealError::Batch {
                reason: "the new key is the one that signs already".to_owned(),
            });
        }
        let extension = hand_over::extension(&stream, head.next, &head.digest, &old, new)?;
        let event = hand_over::event(&self.agent, self.key, &new.public_key());
        let fields = HeaderFields {
            kind: 2,
            stream: &stream,
            first: head.next.0,
            count: 1,
            earliest: event.time,
            latest: event.time,
            previous: head.digest,
            key: self.key,
            source: event.source.as_str(),
            position: None,
            ledger: None,
            gap: None,
            hand_over: Some(&extension),
            lineage: &[],
        };
        let header_len = fields.len();
        let mut record = Vec::with_capacity(header_len + SIGNATURE + 256);
        fields.write(&mut record)?;
        record.resize(header_len + SIGNATURE, 0);
        wire::encode_events(std::slice::from_ref(&event), &mut record);
        let raw_len = record.len() - header_len - SIGNATURE;
        let digest = sign_record(&*self.signer, &mut record, header_len, raw_len, 0)?;
        let sealed = Sealed {
            stream,
            first: head.next,
            last: head.next,
            record: Bytes::from(record),
        };
        Ok((sealed, digest))
    }

    /// Compresses payloads. Default [`Compression::None`].
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Goes on from this end in the stream of a class.
    #[must_use]
    pub fn resume(mut self, class: Class, head: Head) -> Self {
        self.heads.insert(class, head);
        self
    }

    /// The end of the stream of a class.
    #[must_use]
    pub fn head(&self, class: Class) -> Head {
        self.heads.get(&class).copied().unwrap_or_default()
    }

    /// Puts the end of the stream of a class back, after a record that was sealed did not get into the log.
    #[cfg(feature = "bus")]
    pub(crate) fn set_head(&mut self, class: Class, head: Head) {
        self.heads.insert(class, head);
    }

    /// Seals the statement that events are missing, to stand in the log in their place. It is no link of the chain,
    /// so the streams go on as if it were not there.
    ///
    /// # Errors
    ///
    /// If the gap ends before it begins, or cannot be signed.
    pub fn gap(&self, gap: &Gap) -> Result<Sealed, SealError> {
        seal_gap(gap, &*self.signer, &Keyring::default())
    }

    /// The agent whose events it seals.
    #[must_use]
    pub fn agent(&self) -> &Name {
        &self.agent
    }

    /// The epoch of the streams.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn seal_batch(&mut self, batch: &Unsealed<'_>) -> Result<(Sealed, Digest), SealError> {
        let refuse = |reason: String| Err(SealError::Batch { reason });
        let (count, head) = (batch.events.len(), self.head(batch.class));
        if count == 0 || count > MAX_EVENTS {
            return refuse(format!("it has {count} events, and may have 1 to {MAX_EVENTS}"));
        }
        let (mut earliest, mut latest) = (Timestamp::MAX, Timestamp::MIN);
        for event in batch.events {
            if event.class != batch.class {
                return refuse(format!(
                    "an event of class {} is in a batch of class {}",
                    event.class, batch.class
                ));
            }
            (earliest, latest) = (earliest.min(event.time), latest.max(event.time));
        }
        let stream = StreamId {
            agent: self.agent.clone(),
            epoch: self.epoch,
            class: batch.class,
        };
        let ledger = batch.ledger.map(wire::encode_ledger);
        let fields = HeaderFields {
            kind: 0,
            stream: &stream,
            first: head.next.0,
            count: count as u64,
            earliest,
            latest,
            previous: head.digest,
            key: self.key,
            source: batch.source.as_str(),
            position: batch.position.map(|position| &position.0[..]),
            ledger: ledger.as_deref(),
            gap: None,
            hand_over: None,
            lineage: &[],
        };
        let header_len = fields.len();
        let start = header_len + SIGNATURE;
        // Some slack, because batches differ.
        let mut record = Vec::with_capacity(start.max(self.last_len + self.last_len / 8));
        fields.write(&mut record)?;
        record.resize(start, 0);
        wire::encode_events(batch.events, &mut record);
        let raw_len = record.len() - start;
        if raw_len > self.max_payload {
            return refuse(format!(
                "its events take {raw_len} bytes, over the limit of {}",
                self.max_payload
            ));
        }
        let last = Seq(head.next.0.saturating_add(count as u64 - 1));
        let compression = compress(self.compression, &mut record, start)?;
        let digest = sign_record(&*self.signer, &mut record, header_len, raw_len, compression)?;
        self.last_len = record.len();
        Ok((
            Sealed {
                stream,
                first: head.next,
                last,
                record: Bytes::from(record),
            },
            digest,
        ))
    }
}

/// Most bytes of events before compression: the largest batch that configuration allows, and some.
pub(crate) const DEFAULT_MAX_PAYLOAD: usize = 17 << 20;

impl Seal for Sealer {
    fn seal(&mut self, batch: Unsealed<'_>) -> Result<Sealed, SealError> {
        self.rotate();
        let (sealed, digest) = self.seal_batch(&batch)?;
        self.heads.insert(
            batch.class,
            Head {
                next: Seq(sealed.last.0.saturating_add(1)),
                digest,
            },
        );
        Ok(sealed)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Sealer");
        out.field("agent", &self.agent)
            .field("epoch", &self.epoch)
            .field("key", &self.key);
        out.field("heads", &self.heads).finish_non_exhaustive()
    }
}

/// Seals the statement that events of a stream are missing. It takes the place of the missing records, and is no
/// link of the chain itself, so it may stand anywhere in the log and be made by whoever holds a trusted key.
///
/// It may stand before the hand-over to the key that signs it, or in its place; so it shows how that came to sign.
///
/// # Errors
///
/// If the gap is empty or cannot be signed.
pub(crate) fn seal_gap(gap: &Gap, signer: &dyn Signer, keyring: &Keyring) -> Result<Sealed, SealError> {
    if gap.last < gap.first {
        return Err(SealError::Batch {
            reason: "a gap ends before it begins".to_owned(),
        });
    }
    let key = signer.public_key().id();
    let lineage = keyring.lineage(&gap.stream.agent, key);
    let fields = HeaderFields {
        kind: 1,
        stream: &gap.stream,
        first: gap.first.0,
        count: (gap.last.0 - gap.first.0).saturating_add(1),
        earliest: Timestamp::default(),
        latest: Timestamp::default(),
        previous: gap.before,
        key,
        source: "",
        position: None,
        ledger: None,
        gap: Some((gap.end, gap.reason)),
        hand_over: None,
        lineage: &lineage,
    };
    let header_len = fields.len();
    let mut record = Vec::with_capacity(header_len + SIGNATURE);
    fields.write(&mut record)?;
    record.resize(header_len + SIGNATURE, 0);
    sign_record(signer, &mut record, header_len, 0, 0)?;
    Ok(Sealed {
        stream: gap.stream.clone(),
        first: gap.first,
        last: gap.last,
        record: Bytes::from(record),
    })
}

/// Fills in the header, and signs it. Returns the record's digest.
fn sign_record(
    signer: &dyn Signer,
    record: &mut [u8],
    header_len: usize,
    raw_len: usize,
    compression: u8,
) -> Result<Digest, SealError> {
    let (signed, payload) = record.split_at_mut(header_len + SIGNATURE);
    finish(signed, payload, raw_len, compression)?;
    let (header, signature) = signed.split_at_mut(header_len);
    let digest = sha256(header);
    let made = signer
        .sign(&signed_message(&digest))
        .map_err(|source| SealError::Sign { source })?;
    signature.copy_from_slice(&made);
    Ok(digest)
}
