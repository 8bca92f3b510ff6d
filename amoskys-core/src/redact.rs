//! Redaction: what must not leave the sensor is taken out before events are sealed.

use std::collections::BTreeMap;

use crate::event::{Event, Payload, Value};
use crate::id::Digest;
use crate::transform::{Outcome, Transform, TransformError};

/// Takes facts out of events before they are signed, so that no later reader can have them.
///
/// ```
/// use amoskys_core::redact::{Redact, Redaction};
///
/// let redact = Redact::new()
///     .attribute("user", Redaction::Pseudonym { key: b"site key".to_vec() })
///     .attribute("password", Redaction::Remove)
///     .process_arguments();
/// # let _ = redact;
/// ```
#[derive(Clone, Default)]
pub struct Redact {
    attributes: BTreeMap<String, Redaction>,
    process_arguments: bool,
    log_messages: bool,
}

/// What to do with an attribute.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redaction {
    /// Take it out.
    Remove,
    /// Replace it by a name that is the same for the same value and key: 16 hexadecimal digits of a SHA-256
    /// over key and value. Events can still be joined on it; who has the key can test guesses.
    Pseudonym {
        /// A secret, the same on all sensors whose events are to be joined.
        key: Vec<u8>,
    },
}

impl std::fmt::Debug for Redaction {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Remove => "Remove",
            Self::Pseudonym { .. } => "Pseudonym",
        })
    }
}

impl Redact {
    /// Redacts nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Redacts the attribute of this name.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, redaction: Redaction) -> Self {
        self.attributes.insert(name.into(), redaction);
        self
    }

    /// Takes out the arguments of processes, except the program's name.
    #[must_use]
    pub fn process_arguments(mut self) -> Self {
        self.process_arguments = true;
        self
    }

    /// Takes out the text of log lines.
    #[must_use]
    pub fn log_messages(mut self) -> Self {
        self.log_messages = true;
        self
    }
}

impl std::fmt::Debug for Redact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redact")
            .field("attributes", &self.attributes)
            .field("process_arguments", &self.process_arguments)
            .field("log_messages", &self.log_messages)
            .finish()
    }
}

impl Transform for Redact {
    fn transform(&mut self, event: &mut Event) -> Result<Outcome, TransformError> {
        for (name, redaction) in &self.attributes {
            match redaction {
                Redaction::Remove => drop(event.attributes.remove(name)),
                Redaction::Pseudonym { key } => {
                    if let Some(value) = event.attributes.get_mut(name) {
                        *value = Value::Text(pseudonym(key, value));
                    }
                }
            }
        }
        match &mut event.payload {
            Payload::Process(process) if self.process_arguments => process.arguments.truncate(1),
            Payload::Log(log) if self.log_messages => log.message.clear(),
            _ => {}
        }
        Ok(Outcome::Keep)
    }
}

fn pseudonym(key: &[u8], value: &Value) -> String {
    let text;
    let bytes = match value {
        Value::Text(text) => text.as_bytes(),
        Value::Bytes(bytes) => bytes,
        other => {
            text = format!("{other:?}");
            text.as_bytes()
        }
    };
    let mut name = Digest::of_parts([key, bytes]).to_string();
    name.truncate(16);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{LogRecord, ProcessEvent};

    fn redacted(redact: &Redact, mut event: Event) -> Event {
        assert_eq!(
            redact.clone().transform(&mut event).expect("redact"),
            Outcome::Keep
        );
        event
    }

    fn with_user(user: &str) -> Event {
        Event {
            attributes: [("user".to_owned(), Value::Text(user.to_owned()))].into(),
            ..Event::default()
        }
    }

    #[test]
    fn removes_attributes_and_texts() {
        let redact = Redact::new()
            .attribute("user", Redaction::Remove)
            .process_arguments()
            .log_messages();
        assert!(redacted(&redact, with_user("alice")).attributes.is_empty());
        let arguments = ["mysql", "-psecret"].map(str::to_owned).to_vec();
        let process = ProcessEvent {
            arguments,
            ..ProcessEvent::default()
        };
        let event = Event {
            payload: Payload::Process(Box::new(process)),
            ..Event::default()
        };
        assert!(!format!("{:?}", redacted(&redact, event)).contains("secret"));
        let log = LogRecord {
            message: "secret".to_owned(),
            ..LogRecord::default()
        };
        let event = Event {
            payload: Payload::Log(Box::new(log)),
            ..Event::default()
        };
        assert!(!format!("{:?}", redacted(&redact, event)).contains("secret"));
    }

    #[test]
    fn a_pseudonym_joins_events_but_depends_on_the_key() {
        let with_key =
            |key: &[u8]| Redact::new().attribute("user", Redaction::Pseudonym { key: key.to_vec() });
        let name =
            |key: &[u8], user: &str| redacted(&with_key(key), with_user(user)).attributes["user"].clone();
        assert_eq!(name(b"k1", "alice"), name(b"k1", "alice"));
        assert_ne!(name(b"k1", "alice"), name(b"k1", "bob"));
        assert_ne!(name(b"k1", "alice"), name(b"k2", "alice"));
        assert!(!format!("{:?}", with_key(b"top secret")).contains("top secret"));
    }
}
