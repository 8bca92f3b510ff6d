//! The hand-over from one signing key to the next, as a record in the audit stream of an agent.

use amoskys_core::event::{AuditEntry, AuditOutcome};
use amoskys_core::{
    Class, Digest, Epoch, Event, EventId, Name, Payload, SealError, Seq, StreamId, Timestamp,
};
use bytes::Bytes;

use super::header::{HAND_OVER_LEN, RawHeader, RecordKind, damaged, sha256, signed_message};
use crate::key::{KeyId, PublicKey, Signer};

/// Put before the digest that the new key signs, so that the signature is good for nothing else.
const SIGNED_AS: &[u8] = b"amoskys key hand-over\n";
/// Most bytes of the header of a hand-over: it is kept for as long as the log, and there is not much to say.
pub(crate) const MAX_HAND_OVER: usize = 4 << 10;

/// A hand-over that both keys have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HandOver {
    pub(crate) agent: Name,
    pub(crate) epoch: Epoch,
    /// Number behind its event: what is sealed from there on in any stream is signed by the new key.
    pub(crate) next: Seq,
    pub(crate) old: PublicKey,
    pub(crate) new: PublicKey,
    /// The header and its signature, which prove all this.
    pub(crate) proof: Bytes,
}

impl HandOver {
    /// Reads the hand-over in a record, of which header and signature are enough. `None` if it is another record.
    ///
    /// # Errors
    ///
    /// If one of the keys did not sign it.
    pub(crate) fn read(record: &[u8]) -> Result<Option<Self>, SealError> {
        Self::of(&RawHeader::parse(record)?)
    }

    /// As [`read`](Self::read).
    pub(crate) fn of(header: &RawHeader<'_>) -> Result<Option<Self>, SealError> {
        let value = match (header.kind(), header.hand_over()) {
            (RecordKind::HandOver, Some(value)) => value,
            (RecordKind::HandOver, None) | (_, Some(_)) => return Err(damaged("it is half a hand-over")),
            (_, None) => return Ok(None),
        };
        if header.signed.len() > MAX_HAND_OVER {
            return Err(damaged("the header of the hand-over is too long"));
        }
        if header.class()? != Class::Audit || header.count() != 1 {
            return Err(damaged("a hand-over is one entry of the audit stream"));
        }
        let key = |at: usize| {
            let mut bytes = [0; 32];
            bytes.copy_from_slice(&value[at..at + 32]);
            PublicKey::from_bytes(bytes)
        };
        let (old, new) = (key(0), key(32));
        let mut signature = [0; 64];
        signature.copy_from_slice(&value[64..]);
        if old == new || old.id() != header.key() {
            return Err(damaged(
                "the hand-over is not from the key that signed it to another",
            ));
        }
        let message = message(
            header.agent,
            header.epoch(),
            header.first(),
            &header.previous(),
            (&old, &new),
        );
        if !new.verify(&message, &signature) {
            return Err(damaged("the new key did not sign the hand-over"));
        }
        if !old.verify(&signed_message(&header.digest()), header.signature) {
            return Err(damaged("the old key did not sign the hand-over"));
        }
        let next = header.first().0.checked_add(1);
        let next = next.ok_or_else(|| damaged("its numbers are out of range"))?;
        let proof = [header.signed, &header.signature[..]].concat();
        Ok(Some(Self {
            agent: Name::from(header.agent),
            epoch: header.epoch(),
            next: Seq(next),
            old,
            new,
            proof: proof.into(),
        }))
    }
}

/// The critical extension of a hand-over that goes on from `previous`.
pub(crate) fn extension(
    stream: &StreamId,
    first: Seq,
    previous: &Digest,
    old: &PublicKey,
    signer: &dyn Signer,
) -> Result<[u8; HAND_OVER_LEN], SealError> {
    let new = signer.public_key();
    let message = message(stream.agent.as_str(), stream.epoch, first, previous, (old, &new));
    let signature = signer
        .sign(&message)
        .map_err(|source| SealError::Sign { source })?;
    let mut value = [0; HAND_OVER_LEN];
    value[..32].copy_from_slice(old.as_bytes());
    value[32..64].copy_from_slice(new.as_bytes());
    value[64..].copy_from_slice(&signature);
    Ok(value)
}

/// The event in the record.
pub(crate) fn event(agent: &Name, old: KeyId, new: &PublicKey) -> Event {
    let entry = AuditEntry {
        actor: agent.to_string(),
        action: "key.handed_over".to_owned(),
        object: old.to_string(),
        outcome: AuditOutcome::Success,
        reason: format!("key {} signs from here on", new.id()),
    };
    let mut origin = [0; 8];
    origin.copy_from_slice(&sha256(&[&old.0[..], new.as_bytes()].concat()).0[..8]);
    Event {
        id: EventId {
            origin: u64::from_le_bytes(origin),
            ordinal: 0,
        },
        time: Timestamp::now(),
        device: agent.clone(),
        source: "log".into(),
        class: Class::Audit,
        payload: Payload::Audit(Box::new(entry)),
        ..Event::default()
    }
}

fn message(
    agent: &str,
    epoch: Epoch,
    first: Seq,
    previous: &Digest,
    (old, new): (&PublicKey, &PublicKey),
) -> [u8; SIGNED_AS.len() + 32] {
    let mut text = Vec::with_capacity(256 + 128);
    text.extend_from_slice(&(agent.len() as u64).to_le_bytes());
    text.extend_from_slice(agent.as_bytes());
    text.extend_from_slice(&epoch.random.to_le_bytes());
    text.extend_from_slice(&epoch.counter.to_le_bytes());
    text.extend_from_slice(&first.0.to_le_bytes());
    text.extend_from_slice(&previous.0);
    text.extend_from_slice(old.as_bytes());
    text.extend_from_slice(new.as_bytes());
    let mut message = [0; SIGNED_AS.len() + 32];
    message[..SIGNED_AS.len()].copy_from_slice(SIGNED_AS);
    message[SIGNED_AS.len()..].copy_from_slice(&sha256(&text).0);
    message
}
