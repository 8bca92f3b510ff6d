use std::fmt;
use std::sync::Arc;

use amoskys_core::event::{AuditEntry, AuditOutcome};
use ring::{digest, hmac};

use super::ProtectError;

/// Whose data it is: a patient's number, a user's name, a device. It is never written into events.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

impl Subject {
    /// A subject by the name that the site knows it by. The same name is the same subject.
    #[must_use]
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Subject {
    /// Without the name, which is personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject")
    }
}

/// A subject's key.
#[derive(Clone)]
pub struct SubjectKey {
    id: u128,
    secret: Arc<hmac::Key>,
}

impl SubjectKey {
    /// A key with its number. Both must be drawn at random, independent of the subject and of each other.
    #[must_use]
    pub fn new(id: u128, secret: &[u8; 32]) -> Self {
        Self {
            id,
            secret: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)),
        }
    }

    /// Its number, which stands in the clear in events.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.id
    }

    /// The key of one event. Random numbers of 28 bytes in all make a repetition as good as impossible, however many
    /// events a subject has; 12 bytes alone would not.
    pub(super) fn derive(&self, salt: &[u8; 16]) -> [u8; digest::SHA256_OUTPUT_LEN] {
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        key.copy_from_slice(hmac::sign(&self.secret, salt).as_ref());
        key
    }
}

impl fmt::Debug for SubjectKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubjectKey({:032x})", self.id)
    }
}

/// Keeps the keys of subjects.
///
/// The connection between a subject and the number of its key must be known here only: the number is random and is not
/// derived from the subject.
pub trait SubjectKeys: Send + Sync {
    /// The key for new data of a subject; drawn if there is none. It is durable when this returns, so that nothing is
    /// sealed under a key that a crash can take away.
    ///
    /// # Errors
    ///
    /// If no key can be drawn or kept. The event is dropped then and counted, because it must not pass unprotected.
    fn key_of(&self, subject: &Subject) -> Result<SubjectKey, ProtectError>;

    /// The key of this number; `None` if it was forgotten, or never was here.
    ///
    /// # Errors
    ///
    /// If the keys cannot be reached. The event stays protected for now.
    fn key(&self, id: u128) -> Result<Option<SubjectKey>, ProtectError>;

    /// Erases the keys of a subject. They are gone for good when this returns; what is protected by them cannot be read
    /// any more. Data that comes later is of a new key.
    ///
    /// This decision has to be accountable: put [`Erased::audit_entry`] into the log as an event of the class `Audit`.
    ///
    /// # Errors
    ///
    /// If they cannot be erased. They may still be there.
    fn forget(&self, subject: &Subject) -> Result<Erased, ProtectError>;
}

/// Keys that were erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Erased {
    /// The numbers of the keys; none if nothing of the subject was ever protected.
    pub keys: Vec<u128>,
}

impl Erased {
    /// What was erased.
    #[must_use]
    pub fn new(keys: Vec<u128>) -> Self {
        Self { keys }
    }

    /// The entry for the audit log: who erased which keys, and why. It names the keys and not the subject, because the
    /// entry is kept.
    #[must_use]
    pub fn audit_entry(&self, actor: impl Into<String>, reason: impl Into<String>) -> AuditEntry {
        let keys: Vec<_> = self.keys.iter().map(|key| format!("{key:032x}")).collect();
        AuditEntry {
            actor: actor.into(),
            action: "subject.forget".to_owned(),
            object: keys.join(" "),
            outcome: AuditOutcome::Success,
            reason: reason.into(),
        }
    }
}
