//! Sigma rules: patterns in single events, as the community writes them (<https://sigmahq.io>).

use std::path::{Path, PathBuf};

use amoskys_core::event::{
    ActivityAction, Entity, Evidence, Layer, ModelRef, Payload, ProcessAction, Technique, Verdict, VerdictId,
};
use amoskys_core::{Analyzer, AnalyzerError, Digest, Name, Observation, Recorded};

use super::model::sequence_schema;
use crate::finding::{Span, Streams};
use crate::snapshot;

/// A file larger than this is no rule.
const MAX_BYTES: u64 = 256 << 10;
/// Lists and maps in brackets. The library takes a time that grows with the square of how many are open.
const MAX_BRACKETS: usize = 4096;
/// Words and brackets of a condition. Each may be a call deeper, both when it is parsed and for each event.
const MAX_CONDITION: usize = 512;
/// Folders within folders that are read.
const MAX_DEPTH: usize = 8;
/// Rules that are read; more of them take longer for each event than is sensible.
const MAX_RULES: usize = 10_000;

/// Applies Sigma rules to events of processes, and gives a verdict for each match.
///
/// Rules of the categories `process_creation`, `network_connection`, `file_event` and `dns_query` are used, for the product `linux` or
/// for none. Fields are those of Sigma's taxonomy: `Image`, `CommandLine`, `ParentImage`, `CurrentDirectory`, `User` (a number),
/// `ProcessId`, `DestinationIp`, `DestinationPort`, `SourceIp`, `SourcePort`, `Initiated`, `TargetFilename`, `QueryName`. The
/// score is 0.95 for a rule of level critical, 0.8 for high, 0.5 for medium, 0.2 for low and 0.1 for informational ones.
///
/// # When it fails
///
/// Rules find what their authors thought of. A rule that asks for a field we do not have never matches; correlations are not
/// applied. Each event is compared with every rule of its category.
#[derive(Debug)]
pub struct SigmaAnalyzer {
    rules: Vec<Rule>,
    refused: Vec<RefusedRule>,
    reference: ModelRef,
    schema: Digest,
    streams: Streams,
}

#[derive(Debug)]
struct Rule {
    category: Category,
    title: String,
    technique: Option<Technique>,
    score: f64,
    rule: sigma_rust::Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Category {
    Process,
    Network,
    File,
    Dns,
}

/// A rule that is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRule {
    /// Its file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Why rules could not be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigmaError {
    /// The folder cannot be read.
    #[error("rules in {}", path.display())]
    Folder {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl SigmaAnalyzer {
    /// Reads all files that end in `.yml` or `.yaml` in a folder and those below it. A rule that cannot be used is
    /// [refused](Self::refused), and the others are applied.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn load(folder: &Path) -> Result<Self, SigmaError> {
        let mut files = Vec::new();
        let mut refused = Vec::new();
        find(folder, 0, &mut files, &mut refused).map_err(|source| SigmaError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        files.sort();
        let (mut rules, mut digests) = (Vec::new(), Vec::new());
        for path in files {
            match read(&path) {
                Ok(_) if rules.len() >= MAX_RULES => refused.push(RefusedRule {
                    path,
                    reason: format!("there are more than {MAX_RULES} rules"),
                }),
                Ok((rule, digest)) => {
                    rules.push(rule);
                    digests.push(digest);
                }
                Err(reason) => refused.push(RefusedRule { path, reason }),
            }
        }
        let version = env!("CARGO_PKG_VERSION");
        let parts = std::iter::once(version.as_bytes()).chain(digests.iter().map(|digest| &digest.0[..]));
        Ok(Self {
            rules,
            refused,
            reference: ModelRef {
                name: Name::from("sigma"),
                version: Name::from(version),
                digest: Digest::of_parts(parts),
            },
            schema: sequence_schema().digest(),
            streams: Streams::default(),
        })
    }

    /// Rules that are applied.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Rules that are not, and why.
    #[must_use]
    pub fn refused(&self) -> &[RefusedRule] {
        &self.refused
    }

    fn event(&mut self, recorded: &Recorded, verdicts: &mut Vec<Verdict>) {
        let Some((category, event, program)) = fields(recorded) else {
            return;
        };
        let mark = self.streams.mark(recorded);
        let Some(events) = self.streams.range(&Span::of(mark)) else {
            return;
        };
        let device = &recorded.event.device;
        for rule in self.rules.iter().filter(|rule| rule.category == category) {
            if !rule.rule.is_match(&event) {
                continue;
            }
            let entity = Entity::Named(Name::from(format!("{device}/{program}").as_str()));
            let digest = Digest::of_parts([&self.reference.digest.0[..], rule.title.as_bytes()]);
            let technique = rule.technique.clone();
            verdicts.push(Verdict {
                id: VerdictId::derive(
                    &digest,
                    &entity,
                    technique.as_ref(),
                    &events.stream,
                    events.first,
                    mark.time,
                ),
                revision: 0,
                time: mark.time,
                updated: mark.time,
                layer: Layer::Rule,
                entity,
                peers: Vec::new(),
                technique,
                title: rule.title.clone(),
                score: rule.score,
                interval: None,
                evidence: vec![Evidence {
                    feature: Name::from("rule"),
                    value: 1.0,
                    contribution: crate::odds::logit(rule.score),
                }],
                model: self.reference.clone(),
                schema: self.schema,
                events: events.clone(),
            });
        }
    }
}

impl Analyzer for SigmaAnalyzer {
    fn model(&self) -> ModelRef {
        self.reference.clone()
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        match observation {
            Observation::Event(recorded) => {
                self.event(recorded, verdicts);
                Ok(())
            }
            Observation::Features(_) => Ok(()),
            _ => Err(AnalyzerError::Observation {
                reason: "of a kind this version does not know".to_owned(),
            }),
        }
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        snapshot::encode(self.reference.digest, &self.streams)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        self.streams = snapshot::decode(self.reference.digest, bytes)?;
        Ok(())
    }
}

/// What Sigma's taxonomy calls the parts of an event, and the program it is about.
fn fields(recorded: &Recorded) -> Option<(Category, sigma_rust::Event, &str)> {
    let mut event = sigma_rust::Event::new();
    // Numbers are signed, as those of rules are read: the library does not compare across the two kinds.
    match &recorded.event.payload {
        Payload::Process(process) if process.action == ProcessAction::Exec => {
            event.insert("Image", process.executable.as_str());
            event.insert("CommandLine", process.arguments.join(" "));
            event.insert("CurrentDirectory", process.working_directory.as_str());
            event.insert("User", i64::from(process.uid));
            event.insert("ProcessId", i64::from(process.pid));
            event.insert("ParentProcessId", i64::from(process.parent_pid));
            if let Some(parent) = process.ancestors.first() {
                event.insert("ParentImage", parent.executable.as_str());
            }
            Some((Category::Process, event, &process.executable))
        }
        Payload::Activity(activity) => {
            event.insert("Image", activity.executable.as_str());
            event.insert("User", i64::from(activity.uid));
            event.insert("ProcessId", i64::from(activity.pid));
            let category = match activity.action {
                ActivityAction::Connect | ActivityAction::Accept => {
                    // The one that began it is the source.
                    let begun = activity.action == ActivityAction::Connect;
                    let own = (activity.local_address, activity.local_port);
                    let peer = (activity.remote_address, activity.remote_port);
                    let (source, destination) = if begun { (own, peer) } else { (peer, own) };
                    event.insert("Initiated", if begun { "true" } else { "false" });
                    for (name, address) in [("SourceIp", source.0), ("DestinationIp", destination.0)] {
                        if let Some(address) = address {
                            event.insert(name, address.to_string());
                        }
                    }
                    event.insert("SourcePort", i64::from(source.1));
                    event.insert("DestinationPort", i64::from(destination.1));
                    Category::Network
                }
                ActivityAction::FileCreate => {
                    event.insert("TargetFilename", activity.path.as_str());
                    Category::File
                }
                ActivityAction::DnsQuery => {
                    event.insert("QueryName", activity.name.as_str());
                    Category::Dns
                }
                _ => return None,
            };
            let program = if activity.executable.is_empty() {
                &activity.command
            } else {
                &activity.executable
            };
            Some((category, event, program))
        }
        _ => None,
    }
}

fn find(
    folder: &Path,
    depth: usize,
    files: &mut Vec<PathBuf>,
    refused: &mut Vec<RefusedRule>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // A link may lead in a circle; it is not followed.
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < MAX_DEPTH {
            if let Err(error) = find(&path, depth + 1, files, refused) {
                refused.push(RefusedRule {
                    path,
                    reason: error.to_string(),
                });
            }
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "yml" || end == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}

/// What would take the library too long, or too deep: its parser of conditions has no bound of its own.
fn check(text: &str) -> Result<(), String> {
    let brackets = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets > MAX_BRACKETS {
        return Err(format!("it has more than {MAX_BRACKETS} brackets"));
    }
    let rule: serde_norway::Value = serde_norway::from_str(text).map_err(|error| error.to_string())?;
    let condition = rule
        .get("detection")
        .and_then(|detection| detection.get("condition"));
    let Some(condition) = condition.and_then(serde_norway::Value::as_str) else {
        return Err("it has no condition, or not one".to_owned());
    };
    let words = condition.split_whitespace().count() + condition.matches('(').count();
    if words > MAX_CONDITION {
        return Err(format!(
            "its condition is longer than {MAX_CONDITION} words and brackets"
        ));
    }
    Ok(())
}

fn read(path: &Path) -> Result<(Rule, Digest), String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    check(&text)?;
    let rule = sigma_rust::rule_from_yaml(&text).map_err(|error| error.to_string())?;
    let source = &rule.logsource;
    if source
        .product
        .as_deref()
        .is_some_and(|product| product != "linux")
    {
        return Err(format!(
            "it is for {}",
            source.product.as_deref().unwrap_or_default()
        ));
    }
    let category = match source.category.as_deref() {
        Some("process_creation") => Category::Process,
        Some("network_connection") => Category::Network,
        Some("file_event") => Category::File,
        Some("dns_query" | "dns") => Category::Dns,
        Some(other) => return Err(format!("there are no events of category {other}")),
        None => return Err("it names no category".to_owned()),
    };
    // The library does not name its levels.
    let level = rule.level.as_ref().map(|level| format!("{level:?}"));
    let score = match level.as_deref() {
        Some("Critical") => 0.95,
        Some("High") => 0.8,
        Some("Low") => 0.2,
        Some("Informational") => 0.1,
        _ => 0.5,
    };
    let tags = rule.tags.iter().flatten();
    let technique = tags.filter_map(|tag| tag.strip_prefix("attack.t")).next();
    let technique = technique.map(|number| Technique::new(&format!("T{number}")));
    if rule.title.is_empty() {
        return Err("it has no title".to_owned());
    }
    Ok((
        Rule {
            category,
            title: rule.title.clone(),
            technique,
            score,
            rule,
        },
        Digest::of(text.as_bytes()),
    ))
}
