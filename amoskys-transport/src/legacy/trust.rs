//! Which keys agents of the predecessor sign with.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{Name, Remedy, Shutdown};
use saphyr_parser::{Event, Parser};

use crate::key::PublicKey;
use crate::spelling;
use crate::swap::Swap;

/// Why the predecessor's trust map cannot be used. It says all that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LegacyTrustError {
    /// The file cannot be read.
    #[error("the trust map {path} cannot be read; put it there, or correct its path, owner or mode", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something in it cannot be used. Half a trust map is not used.
    #[error("the trust map {path} cannot be used: {}", problems.join("; "), path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong, each with its line and what to do.
        problems: Vec<String>,
    },
}

impl LegacyTrustError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Fatal
    }
}

/// Room for a hundred thousand agents.
const MAX_FILE: u64 = 16 << 20;
/// A public key in PEM has 113 bytes.
const MAX_KEY_FILE: u64 = 16 << 10;
/// Problems that are told; more are only counted.
const MAX_PROBLEMS: usize = 50;

/// Which key each agent of the predecessor signs with: by the common name in its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyTrust {
    keys: BTreeMap<Name, PublicKey>,
    /// The files the keys came from.
    files: Vec<PathBuf>,
}

impl LegacyTrust {
    /// Trusts nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts this key of this agent, instead of one that was trusted before.
    #[must_use]
    pub fn allow(mut self, agent: impl Into<Name>, key: PublicKey) -> Self {
        self.keys.insert(agent.into(), key);
        self
    }

    /// Reads the predecessor's file:
    ///
    /// ```text
    /// agents:
    ///   flowagent-1: keys/flowagent-1.pub
    /// ```
    ///
    /// Each path leads to a public key, PEM SubjectPublicKeyInfo; it is relative to the directory of the file.
    ///
    /// # Errors
    ///
    /// If the file or one of the keys cannot be used. Everything that is wrong is said at once.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LegacyTrustError> {
        let path = path.as_ref();
        let content = read(path, MAX_FILE).map_err(|source| LegacyTrustError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut reading = Reading {
            dir: path.parent().unwrap_or(Path::new("")),
            trust: Self::default(),
            lines: BTreeMap::new(),
            problems: Vec::new(),
            untold: 0,
        };
        match std::str::from_utf8(&content) {
            Ok(text) => reading.read(text),
            Err(_) => reading.wrong(1, "it is not UTF-8 text; write it anew"),
        }
        if reading.untold > 0 {
            let more = format!("and {} more", reading.untold);
            reading.problems.push(more);
        }
        match reading.problems {
            problems if problems.is_empty() => Ok(reading.trust),
            problems => Err(LegacyTrustError::Content {
                path: path.to_owned(),
                problems,
            }),
        }
    }

    /// The key of an agent.
    #[must_use]
    pub fn key(&self, agent: &Name) -> Option<&PublicKey> {
        self.keys.get(agent)
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All agents and their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &PublicKey)> {
        self.keys.iter()
    }
}

/// The predecessor's trust map, which can be replaced while a bus uses it. Copies of this handle share it.
///
/// The next envelope of an agent is judged by the map that is there then.
#[derive(Clone, Debug)]
pub struct SharedLegacyTrust {
    map: Arc<Swap<LegacyTrust>>,
}

impl SharedLegacyTrust {
    /// Begins with this map.
    #[must_use]
    pub fn new(trust: LegacyTrust) -> Self {
        Self {
            map: Arc::new(Swap::new(trust)),
        }
    }

    /// The map as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<LegacyTrust> {
        self.map.snapshot()
    }

    /// Puts another map in its place. Returns the one that was there.
    pub fn replace(&self, trust: LegacyTrust) -> Arc<LegacyTrust> {
        self.map.replace(trust)
    }
}

impl SharedLegacyTrust {
    /// Looks at the file and the keys it names each `interval`, and takes them into use once one of them has changed and
    /// then stayed as it is for an interval; until `shutdown` is triggered. What cannot be used, or would leave nobody, is
    /// complained about once and changes nothing. Counted in `amoskys_credentials_reloads_total` by `result`, as with
    /// [`Reloader::watch`](crate::identity::Reloader::watch).
    ///
    /// Must be called within a tokio runtime with time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it.
    pub async fn watch(&self, path: impl Into<PathBuf>, interval: Duration, shutdown: Shutdown) {
        let path = path.into();
        let mut tick = tokio::time::interval(interval.max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // They may have changed since they were opened; so they are read once more.
        let (mut seen, mut read) = (Vec::new(), None);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = shutdown.triggered() => return,
            }
            let stamps = self.stamps(&path);
            let is_settled = stamps == seen;
            seen = stamps;
            if !is_settled || read.as_ref() == Some(&seen) {
                continue;
            }
            read = Some(seen.clone());
            let this = self.clone();
            let from = path.clone();
            let result = match tokio::task::spawn_blocking(move || this.reload(&from)).await {
                Ok(Ok(false)) => continue,
                Ok(Ok(true)) => {
                    tracing::info!(trust_map = %path.display(), "a new trust map of the predecessor is in use");
                    "ok"
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "the new trust map of the predecessor cannot be used; the one that was in use stays in use");
                    "failed"
                }
                Err(error) => {
                    tracing::error!(%error, "reading the trust map of the predecessor ended by a panic");
                    "failed"
                }
            };
            metrics::counter!("amoskys_credentials_reloads_total", "result" => result).increment(1);
        }
    }

    /// Reads the file, and takes it into use if it is another and can be used. Returns whether it was.
    ///
    /// # Errors
    ///
    /// If the file or one of the keys cannot be used, or nobody is left. What was in use stays in use.
    pub fn reload(&self, path: impl AsRef<Path>) -> Result<bool, LegacyTrustError> {
        let path = path.as_ref();
        let (new, old) = (LegacyTrust::load(path)?, self.snapshot());
        if new.is_empty() && !old.is_empty() {
            return Err(LegacyTrustError::Content {
                path: path.to_owned(),
                problems: vec![
                    "it names nobody any more, so that every agent would be cut off; put the agents back"
                        .to_owned(),
                ],
            });
        }
        let is_new = new != *old;
        if is_new {
            self.replace(new);
        }
        Ok(is_new)
    }

    fn stamps(&self, path: &Path) -> Vec<Option<[i64; 6]>> {
        let map = self.snapshot();
        let files = std::iter::once(path).chain(map.files.iter().map(PathBuf::as_path));
        let stamp = |file: &Path| {
            let found = std::fs::metadata(file).ok()?;
            let (device, inode, size) = (found.dev(), found.ino(), found.size());
            Some([
                device.cast_signed(),
                inode.cast_signed(),
                size.cast_signed(),
                found.mtime_nsec(),
                found.ctime(),
                found.ctime_nsec(),
            ])
        };
        files.map(stamp).collect()
    }
}

impl From<LegacyTrust> for SharedLegacyTrust {
    fn from(trust: LegacyTrust) -> Self {
        Self::new(trust)
    }
}

struct Reading<'a> {
    dir: &'a Path,
    trust: LegacyTrust,
    /// Where each agent stands.
    lines: BTreeMap<Name, usize>,
    problems: Vec<String>,
    untold: usize,
}

/// Where in the file the reader is.
enum Place {
    Start,
    /// Expects a key of the outer mapping.
    Sections,
    /// Expects the mapping of agents.
    Agents,
    /// Expects the name of an agent.
    Name,
    /// Expects the path of its key.
    Path(Option<Name>),
    /// Expects a value that is passed over.
    Passed,
    End,
}

const FORM: &str = "write `agents:` and below it lines of the form `  NAME: PATH`";

impl Reading<'_> {
    fn read(&mut self, text: &str) {
        let mut place = Place::Start;
        // How deep the reader is in something that has been refused.
        let mut refused = 0_usize;
        let mut has_agents = false;
        for event in Parser::new_from_str(text) {
            let (event, line) = match event {
                Ok((event, span)) => (event, span.start.line()),
                Err(error) => {
                    let reason = format!("this is not YAML: {}", error.info());
                    return self.wrong(error.marker().line(), &reason);
                }
            };
            match event {
                Event::MappingStart(..) | Event::SequenceStart(..) if refused > 0 => refused += 1,
                Event::MappingEnd | Event::SequenceEnd if refused > 0 => refused -= 1,
                _ if refused > 0 => {}
                Event::Alias(_) => return self.wrong(line, "aliases are not supported; write the value out"),
                Event::MappingStart(..) => match place {
                    Place::Start => place = Place::Sections,
                    Place::Agents => place = Place::Name,
                    other => (place, refused) = (self.misplaced(other, line), 1),
                },
                Event::SequenceStart(..) => (place, refused) = (self.misplaced(place, line), 1),
                Event::MappingEnd => {
                    place = match place {
                        Place::Name => Place::Sections,
                        _ => Place::End,
                    };
                }
                Event::Scalar(text, ..) => {
                    place = match place {
                        Place::Sections if text == "agents" && !has_agents => {
                            has_agents = true;
                            Place::Agents
                        }
                        Place::Sections => {
                            let text = text.escape_debug().take(60).collect::<String>();
                            self.wrong(line, &format!("\"{text}\" is not expected here; {FORM}"));
                            Place::Passed
                        }
                        // `agents:` with nothing behind it: nobody.
                        Place::Agents if matches!(&*text, "" | "~" | "null") => Place::Sections,
                        Place::Name => Place::Path(self.name(&text, line)),
                        Place::Path(name) => {
                            if let Some(name) = name {
                                self.key(name, &text, line);
                            }
                            Place::Name
                        }
                        other => self.misplaced(other, line),
                    };
                }
                Event::DocumentStart(_) if matches!(place, Place::End) => {
                    return self.wrong(line, "a second document is not expected; remove it");
                }
                _ => {}
            }
        }
        if !has_agents && self.problems.is_empty() {
            self.wrong(1, &format!("it has no section `agents`; {FORM}"));
        }
    }

    /// Something stands where something else is expected. The place behind it.
    fn misplaced(&mut self, place: Place, line: usize) -> Place {
        if !matches!(place, Place::Passed) {
            self.wrong(line, &format!("this is not expected here; {FORM}"));
        }
        match place {
            Place::Start | Place::End => Place::End,
            Place::Sections => Place::Passed,
            Place::Agents | Place::Passed => Place::Sections,
            Place::Name => Place::Path(None),
            Place::Path(_) => Place::Name,
        }
    }

    fn name(&mut self, text: &str, line: usize) -> Option<Name> {
        if let Err(reason) = spelling::check(text) {
            self.wrong(line, &format!("{reason}; correct it"));
            return None;
        }
        let name = Name::from(text);
        if let Some(first) = self.lines.get(&name) {
            let reason = format!("{name} is there twice, first in line {first}; remove one of them");
            self.wrong(line, &reason);
            return None;
        }
        self.lines.insert(name.clone(), line);
        Some(name)
    }

    fn key(&mut self, agent: Name, text: &str, line: usize) {
        let path = self.dir.join(text);
        let key = match read(&path, MAX_KEY_FILE) {
            Ok(content) => PublicKey::parse(&content).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match key {
            Ok(key) => {
                self.trust.keys.insert(agent, key);
                self.trust.files.push(path);
            }
            Err(reason) => {
                let reason = format!(
                    "the key of {agent}, {}, cannot be used: {reason}; put the agent's public key there \
                     (PEM, SubjectPublicKeyInfo), or remove the line",
                    path.display()
                );
                self.wrong(line, &reason);
            }
        }
    }

    fn wrong(&mut self, line: usize, reason: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(format!("line {line}: {reason}"));
        } else {
            self.untold += 1;
        }
    }
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        let reason = format!("it is larger than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(dir: &Path, text: &str) -> Result<LegacyTrust, LegacyTrustError> {
        let path = dir.join("trust_map.yaml");
        std::fs::write(&path, text).unwrap();
        LegacyTrust::load(path)
    }

    #[test]
    fn reads_what_the_predecessor_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let key = PublicKey::from_bytes([7; 32]);
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(dir.path().join("keys/a.pub"), key.to_pem()).unwrap();
        let absolute = dir.path().join("keys/a.pub");
        let text = format!(
            "# who signs\nagents:\n  a: keys/a.pub\n  \"b c\": '{}'\n",
            absolute.display()
        );
        let trust = load(dir.path(), &text).unwrap();
        let names: Vec<_> = trust.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b c"]);
        assert_eq!(trust.key(&"b c".into()), Some(&key));
        assert!(load(dir.path(), "agents:\n").unwrap().is_empty());
        assert!(load(dir.path(), "agents: {}\n").unwrap().is_empty());
    }

    #[test]
    fn says_all_that_is_wrong_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let key = PublicKey::from_bytes([7; 32]);
        std::fs::write(dir.path().join("a.pub"), key.to_pem()).unwrap();
        std::fs::write(dir.path().join("b.pub"), "-----BEGIN").unwrap();
        let text = "agents:\n  a: a.pub\n  a: a.pub\n  b: b.pub\n  c: c.pub\n  d: [1, {x: y}]\n  \"\": a.pub\nextra: 1\n";
        let error = load(dir.path(), text).unwrap_err().to_string();
        for part in [
            "line 3: a is there twice, first in line 2",
            "line 4: the key of b,",
            "line 5: the key of c,",
            "line 6: this is not expected",
            "line 7: the name",
            "line 8: \"extra\"",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn no_text_does_harm() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "",
            "[]",
            "a",
            "agents: 3",
            "agents: [a]",
            "agents:\n  a:\n    b: c\n",
            "&x agents: *x",
            "{",
            "---\n---\n",
            "? {a: b}\n: c\n",
            "agents: {a: }",
            "agents: {}\nagents: {}",
        ] {
            assert!(load(dir.path(), text).is_err(), "{text:?}");
        }
        std::fs::write(dir.path().join("trust_map.yaml"), [0xff, 0xfe]).unwrap();
        assert!(LegacyTrust::load(dir.path().join("trust_map.yaml")).is_err());
    }
}
