use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use amoskys_core::event::{Payload, UnknownFields};
use amoskys_core::{Event, Outcome, Transform, TransformError};

use super::{Rule, Subject, SubjectKeys, cipher};

/// Encrypts what events say about subjects, before they are sealed. Put it behind all other transforms of the pipeline.
///
/// The first event of a subject waits until its new key is on the disk; all others take a few microseconds. Where a rule
/// takes the subject from what outsiders write, they decide how many keys are drawn, up to the
/// [limit](super::FileSubjectKeys::max_subjects).
pub struct Protect {
    keys: Arc<dyn SubjectKeys>,
    rule: Rule,
    clear: BTreeSet<String>,
}

impl Protect {
    /// Protects the events for which the rule names a subject.
    pub fn new(
        keys: Arc<dyn SubjectKeys>,
        rule: impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static,
    ) -> Self {
        Self {
            keys,
            rule: Box::new(rule),
            clear: BTreeSet::new(),
        }
    }

    /// Leaves the attribute of this name in the clear, for example a ward that events are routed by. Default: none.
    #[must_use]
    pub fn keep_clear(mut self, attribute: impl Into<String>) -> Self {
        self.clear.insert(attribute.into());
        self
    }
}

impl Transform for Protect {
    fn transform(&mut self, event: &mut Event) -> Result<Outcome, TransformError> {
        if matches!(event.payload, Payload::Protected(_)) {
            return Ok(Outcome::Keep);
        }
        let Some(subject) = (self.rule)(event) else {
            return Ok(Outcome::Keep);
        };
        let failed = |error: super::ProtectError| TransformError {
            transform: "protect".to_owned(),
            reason: "it must not pass unprotected".to_owned(),
            source: Some(error.into()),
        };
        let key = self.keys.key_of(&subject).map_err(failed)?;
        let (clear, hidden): (BTreeMap<_, _>, _) = std::mem::take(&mut event.attributes)
            .into_iter()
            .partition(|(name, _)| self.clear.contains(name));
        let inner = Event {
            id: event.id,
            payload: std::mem::take(&mut event.payload),
            attributes: hidden,
            unknown: std::mem::take(&mut event.unknown),
            ..Event::default()
        };
        event.attributes = clear;
        event.unknown = UnknownFields::default();
        let protected = cipher::seal(&key, event.id, &inner).map_err(failed)?;
        event.payload = Payload::Protected(Box::new(protected));
        Ok(Outcome::Keep)
    }
}

impl fmt::Debug for Protect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protect")
            .field("clear", &self.clear)
            .finish_non_exhaustive()
    }
}
