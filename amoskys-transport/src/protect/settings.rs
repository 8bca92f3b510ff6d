use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use amoskys_core::config::ProtectSettings;

use super::{
    FileSubjectKeys, Protect, ProtectError, Reveal, Rule, SubjectKeys, by_address, by_attribute, by_device,
    by_uid,
};

/// What the section `protect` of a [`Config`](amoskys_core::config::Config) says: whose data is encrypted before it is
/// sealed, and the file with the keys.
///
/// ```
/// use amoskys_core::config::Config;
/// use amoskys_transport::protect::Protection;
///
/// # let dir = tempfile::tempdir()?;
/// let mut config = Config::default();
/// config.protect.rules = Some("attribute:patient, address:10.0.0.0/8".to_owned());
/// config.protect.key_file = Some(dir.path().join("subjects.keys"));
/// let protection = Protection::of_settings(&config.protect)?.expect("there are rules");
/// let transform = protection.transform(); // for the pipeline
/// # drop(transform);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Protection {
    keys: Arc<FileSubjectKeys>,
    rules: Vec<RuleSetting>,
    clear: Vec<String>,
}

/// A rule, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RuleSetting {
    Attribute(String),
    Uid(u32),
    Device,
    Address(IpAddr, u8),
}

impl Protection {
    /// Opens the file of the keys, or begins one. `None` if nothing is to be protected.
    ///
    /// # Errors
    ///
    /// If the rules cannot be read, there are rules and no file or a file and no rules, or the file cannot be used.
    pub fn of_settings(settings: &ProtectSettings) -> Result<Option<Self>, ProtectError> {
        let rules = settings
            .rules
            .as_deref()
            .map(parse)
            .transpose()?
            .unwrap_or_default();
        let file = match (&settings.key_file, rules.is_empty()) {
            (None, true) => return Ok(None),
            (Some(file), false) => file,
            (None, false) => {
                return Err(wrong(
                    "protect.key_file",
                    "protect.rules needs it; say where the keys are to be",
                ));
            }
            (Some(_), true) => {
                return Err(wrong(
                    "protect.rules",
                    "there is a protect.key_file and no rule; say whose data events are, or remove it",
                ));
            }
        };
        Ok(Some(Self {
            keys: Arc::new(FileSubjectKeys::open_or_create(file)?),
            rules,
            clear: entries(settings.keep_clear.as_deref().unwrap_or_default())
                .map(str::to_owned)
                .collect(),
        }))
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> Arc<dyn SubjectKeys> {
        self.keys.clone()
    }

    /// The transform for a pipeline; it goes behind all others.
    #[must_use]
    pub fn transform(&self) -> Protect {
        let rules: Vec<Rule> = self.rules.iter().map(RuleSetting::to_rule).collect();
        let protect = Protect::new(self.keys(), move |event| {
            rules.iter().find_map(|rule| rule(event))
        });
        self.clear.iter().cloned().fold(protect, Protect::keep_clear)
    }

    /// The way back.
    #[must_use]
    pub fn reveal(&self) -> Reveal {
        Reveal::new(self.keys())
    }
}

impl RuleSetting {
    fn to_rule(&self) -> Rule {
        match self.clone() {
            Self::Attribute(name) => Box::new(by_attribute(name)),
            Self::Uid(least) => Box::new(by_uid(least)),
            Self::Device => Box::new(by_device()),
            Self::Address(network, prefix) => Box::new(by_address(network, prefix)),
        }
    }
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn parse(text: &str) -> Result<Vec<RuleSetting>, ProtectError> {
    entries(text)
        .map(|entry| {
            parse_one(entry).ok_or_else(|| {
                let reason = format!(
                    "{} is none of attribute:NAME, uid:LEAST, device, address:NETWORK/BITS; correct it",
                    entry.escape_debug()
                );
                wrong("protect.rules", &reason)
            })
        })
        .collect()
}

fn parse_one(entry: &str) -> Option<RuleSetting> {
    let (kind, value) = match entry.split_once(':') {
        Some((kind, value)) => (kind.trim(), value.trim()),
        None => (entry, ""),
    };
    match kind {
        "attribute" if !value.is_empty() => Some(RuleSetting::Attribute(value.to_owned())),
        "uid" => value.parse().ok().map(RuleSetting::Uid),
        "device" if value.is_empty() => Some(RuleSetting::Device),
        "address" => {
            let (network, prefix) = value.split_once('/')?;
            let (network, prefix) = (network.parse::<IpAddr>().ok()?, prefix.parse().ok()?);
            let width = if network.is_ipv4() { 32 } else { 128 };
            (prefix <= width).then_some(RuleSetting::Address(network, prefix))
        }
        _ => None,
    }
}

fn wrong(setting: &'static str, reason: &str) -> ProtectError {
    ProtectError::Settings {
        setting,
        reason: reason.to_owned(),
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection")
            .field("rules", &self.rules)
            .field("clear", &self.clear)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use amoskys_core::event::{FlowRecord, Value};
    use amoskys_core::{Event, Payload, Transform as _};

    use super::*;

    fn settings(rules: &str, file: &std::path::Path) -> ProtectSettings {
        let mut settings = ProtectSettings::default();
        settings.rules = Some(rules.to_owned());
        settings.key_file = Some(file.to_owned());
        settings
    }

    fn flow(source: &str, destination: &str) -> Event {
        let mut flow = FlowRecord::default();
        flow.key.source = source.parse().unwrap();
        flow.key.destination = destination.parse().unwrap();
        Event {
            payload: Payload::Flow(Box::new(flow)),
            attributes: [
                ("ward".to_owned(), Value::Text("3".to_owned())),
                ("name".to_owned(), Value::Text("x".to_owned())),
            ]
            .into(),
            ..Event::default()
        }
    }

    #[test]
    fn the_first_rule_that_knows_decides_and_what_was_protected_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let mut settings = settings(
            "attribute:patient, address:10.1.0.0/16 ,address:2001:db8::/32",
            &file,
        );
        settings.keep_clear = Some("ward".to_owned());
        let protection = Protection::of_settings(&settings).unwrap().unwrap();
        let mut protect = protection.transform();
        let mut subjects = std::collections::BTreeSet::new();
        for (event, is_protected) in [
            (flow("10.1.2.3", "192.0.2.1"), true),
            (flow("192.0.2.1", "10.1.2.3"), true),
            (flow("10.2.2.3", "192.0.2.1"), false),
            (flow("2001:db8::7", "2001:db9::7"), true),
            (flow("10.1.2.3", "10.1.2.4"), true),
        ] {
            let mut seen = event.clone();
            protect.transform(&mut seen).unwrap();
            match &seen.payload {
                Payload::Protected(protected) => {
                    assert!(is_protected);
                    subjects.insert(protected.key);
                    assert_eq!(seen.attributes.keys().collect::<Vec<_>>(), ["ward"]);
                    assert!(protection.reveal().reveal(&mut seen));
                }
                _ => assert!(!is_protected),
            }
            assert_eq!(seen, event);
        }
        assert_eq!(
            subjects.len(),
            2,
            "the same address is the same subject, whichever end it is"
        );
        let mut log = Event {
            payload: Payload::Log(Box::default()),
            attributes: [("patient".to_owned(), Value::Uint(4711))].into(),
            ..Event::default()
        };
        protect.transform(&mut log).unwrap();
        assert!(matches!(log.payload, Payload::Protected(_)));
        let erased = protection
            .keys()
            .forget(&super::super::Subject::new("4711"))
            .unwrap();
        assert_eq!(erased.keys.len(), 1);
        assert!(!protection.reveal().reveal(&mut log));
    }

    #[test]
    fn networks_of_any_size_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        for (n, (rule, is_protected)) in [
            ("address:0.0.0.0/0", true),
            ("address:10.1.2.3/32", true),
            ("address:10.1.2.2/32", false),
            ("address:::/0", false),
            ("address:10.1.2.2/31", true),
        ]
        .into_iter()
        .enumerate()
        {
            let file = dir.path().join(n.to_string());
            let mut protect = Protection::of_settings(&settings(rule, &file))
                .unwrap()
                .unwrap()
                .transform();
            let mut event = flow("10.1.2.3", "10.200.0.1");
            protect.transform(&mut event).unwrap();
            assert_eq!(
                matches!(event.payload, Payload::Protected(_)),
                is_protected,
                "{rule}"
            );
        }
    }

    #[test]
    fn half_settings_and_rules_that_are_none_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        assert!(
            Protection::of_settings(&ProtectSettings::default())
                .unwrap()
                .is_none()
        );
        let mut half = settings("device", &file);
        half.key_file = None;
        let error = Protection::of_settings(&half).unwrap_err();
        assert!(matches!(
            error,
            ProtectError::Settings {
                setting: "protect.key_file",
                ..
            }
        ));
        for wrong in [
            "",
            "attribute:",
            "uid",
            "uid:-1",
            "device:x",
            "address:10.0.0.0",
            "address:10.0.0.0/33",
            "address:x/8",
            "patient",
        ] {
            let error = Protection::of_settings(&settings(wrong, &file))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("protect.rules: ") && error.contains(wrong),
                "{error}"
            );
        }
        assert!(!file.exists(), "nothing is made before all is right");
    }
}
