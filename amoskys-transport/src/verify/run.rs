use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{check_keys, check_rest, public_key};
use super::inspector::{Inspector, Keys};
use super::report::{AnchorReport, Finding, FindingKind, Place, Report};
use super::witness::SeenHeads;
use crate::key::{PublicKey, TrustMap};
use crate::log::anchor::{ANCHOR_FILE, Anchor, AnchorFault, StoredAnchor};
use crate::log::trail::{Item, walk_log};
use crate::log::{KEYS_DIR, LOG_DIR};
use crate::seal::Keyring;
use crate::wal::LogKeys;
use crate::wal::lock::DirLock;
use crate::wal::segment::list_segments;
use crate::wal::walk::Depth;

/// Form of the serialized report.
const SCHEMA: &str = "amoskys.verify/1";

/// Checks one log. It only reads.
#[derive(Clone, Debug)]
pub struct Verifier {
    dir: PathBuf,
    trust: TrustMap,
    keys: Vec<PublicKey>,
    seen: Option<SeenHeads>,
    log_keys: Option<Given>,
}

/// Keys that were given, not to be shown.
#[derive(Clone)]
pub(super) struct Given(pub(super) Arc<dyn LogKeys>);

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given")
    }
}

/// Why a log could not be checked. What is wrong with a log is not an error but a [`Finding`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A file cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// There is no log in the directory.
    #[error("{dir} holds no log", dir = dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// What is looked for is encrypted with a key that is not known.
    #[error("of {records} records in {dir} none could be opened; give the key of that log", dir = dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// How many records are shut, or damaged.
        records: u64,
    },
    /// No public key was given, and none is beside the log.
    #[error("there is no public key beside the log in {dir}; name the one that signs it", dir = dir.display())]
    NoKey {
        /// The directory.
        dir: PathBuf,
    },
}

impl Verifier {
    /// A verifier of the log in a data directory, or of a log directory by itself.
    ///
    /// Without further keys it believes the public key beside the log. That finds damage; against someone who can
    /// write the directory, give it a [key](Self::key) from elsewhere.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            trust: TrustMap::new(),
            keys: Vec::new(),
            seen: None,
            log_keys: None,
        }
    }

    /// Compares the log with what a bus has seen of its streams.
    #[must_use]
    pub fn anchors(mut self, seen: SeenHeads) -> Self {
        self.seen = Some(seen);
        self
    }

    /// Believes this key, whatever agent it signs for, and not the key beside the log.
    #[must_use]
    pub fn key(mut self, key: PublicKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Believes these keys for their agents, and not the key beside the log.
    #[must_use]
    pub fn trust(mut self, trust: TrustMap) -> Self {
        self.trust = trust;
        self
    }

    /// Opens what is encrypted with these keys. Without them, only what can be seen from outside is checked of it:
    /// checksums, offsets, the anchor.
    #[must_use]
    pub fn log_keys(mut self, keys: Arc<dyn LogKeys>) -> Self {
        self.log_keys = Some(Given(keys));
        self
    }

    /// Checks the log.
    ///
    /// # Errors
    ///
    /// If there is no log or no key, or a directory cannot be read.
    pub fn run(&self) -> Result<Report, VerifyError> {
        // A log in use may be trimmed while it is read. Then the anchor has changed at the end, and what looked
        // missing may have been deleted on purpose.
        const TRIES: usize = 5;
        for _ in 1..TRIES {
            let (report, moved) = self.try_run()?;
            if report.is_clean() || !report.in_use || !moved {
                return Ok(report);
            }
        }
        Ok(self.try_run()?.0)
    }

    /// The report, and whether the log's beginning moved meanwhile.
    fn try_run(&self) -> Result<(Report, bool), VerifyError> {
        let (log, keys_dir) = self.find_log()?;
        let any = self.believed(&keys_dir)?;
        let in_use = DirLock::is_taken(&log);
        let log_keys = self.log_keys.as_ref().map(|given| &*given.0);
        let mut found = Vec::new();
        let stored = match StoredAnchor::read(&log) {
            Ok(stored) => Some(stored),
            Err(fault) => {
                found.push(anchor_finding(&fault));
                None
            }
        };
        let keyring = Keyring::default();
        let keys = Keys {
            trust: &self.trust,
            any: &any,
            keyring: &keyring,
        };
        if let Some(stored) = &stored {
            stored
                .anchor
                .hand_overs
                .iter()
                .for_each(|proof| keyring.observe(proof));
        }
        if stored.as_ref().is_none_or(|stored| !is_signed(stored, &keys)) {
            // Perhaps the log was handed over to another key than the one that is believed.
            let walked = walk_log(&log, Depth::Records, u64::MAX, log_keys, &mut |_, item| {
                if let Item::Record { record, .. } = item {
                    keyring.observe(record);
                }
            });
            walked.map_err(|source| VerifyError::Io {
                path: log.clone(),
                source,
            })?;
        }
        if let Some(stored) = &stored
            && !is_signed(stored, &keys)
        {
            let detail = format!("it is not signed by a trusted key, but by {}", stored.key);
            found.push(beside(FindingKind::Forged, detail));
        }
        let anchor = stored
            .as_ref()
            .filter(|stored| is_signed(stored, &keys))
            .map(|stored| &stored.anchor);
        if keys_dir.is_dir() {
            check_keys(&keys_dir, anchor.map(|anchor| anchor.epoch), &mut found);
        }
        check_rest(&log, &mut found).map_err(|source| VerifyError::Io {
            path: log.clone(),
            source,
        })?;
        let mut ids: Vec<_> = any
            .iter()
            .chain(self.trust.iter().flat_map(|(_, keys)| keys))
            .map(PublicKey::id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let report = Report {
            schema: SCHEMA,
            dir: self.dir.clone(),
            agent: stored.as_ref().map(|stored| stored.anchor.agent.to_string()),
            keys: ids.iter().map(ToString::to_string).collect(),
            in_use,
            anchor: anchor.map(|anchor| AnchorReport {
                written: anchor.written,
                floor: anchor.floor,
                end: anchor.end,
            }),
            ..Report::default()
        };
        let mut inspector = Inspector::new(keys, anchor, report, self.seen.as_ref());
        for mut finding in found {
            finding.place.file = self.relative(&finding.place.file);
            inspector.add(finding);
        }
        // What is behind the anchor of a log in use is being written at this moment.
        let limit = anchor.filter(|_| in_use).map_or(u64::MAX, |anchor| anchor.end);
        let walked = walk_log(&log, Depth::Records, limit, log_keys, &mut |file, item| {
            inspector.visit(file, item)
        });
        walked.map_err(|source| VerifyError::Io {
            path: log.clone(),
            source,
        })?;
        let mut report = inspector.finish();
        if log != self.dir {
            for place in places(&mut report) {
                if place.file.ends_with(".seg") && !place.file.contains('/') {
                    place.file = format!("{LOG_DIR}/{}", place.file);
                }
            }
        }
        let floor = |anchor: Option<&Anchor>| anchor.map(|anchor| anchor.floor);
        let now = StoredAnchor::read(&log).ok();
        let moved = floor(now.as_ref().map(|now| &now.anchor)) != floor(anchor);
        Ok((report, moved))
    }

    /// The log's directory, and that of its keys.
    fn find_log(&self) -> Result<(PathBuf, PathBuf), VerifyError> {
        let below = self.dir.join(LOG_DIR);
        let (log, keys) = if below.is_dir() {
            (below, self.dir.join(KEYS_DIR))
        } else {
            (
                self.dir.clone(),
                self.dir.parent().unwrap_or(Path::new(".")).join(KEYS_DIR),
            )
        };
        let segments = list_segments(&log).map_err(|source| VerifyError::Io {
            path: log.clone(),
            source,
        })?;
        if segments.is_empty() && !log.join(ANCHOR_FILE).exists() {
            return Err(VerifyError::NoLog {
                dir: self.dir.clone(),
            });
        }
        Ok((log, keys))
    }

    fn believed(&self, keys_dir: &Path) -> Result<Vec<PublicKey>, VerifyError> {
        if !self.keys.is_empty() || !self.trust.is_empty() {
            return Ok(self.keys.clone());
        }
        let beside = public_key(keys_dir).ok_or_else(|| VerifyError::NoKey {
            dir: self.dir.clone(),
        })?;
        Ok(vec![beside])
    }

    fn relative(&self, file: &str) -> String {
        let path = Path::new(file);
        path.strip_prefix(&self.dir).unwrap_or(path).display().to_string()
    }
}

fn is_signed(stored: &StoredAnchor, keys: &Keys<'_>) -> bool {
    let agent = &stored.anchor.agent;
    let key = keys.key(agent, stored.key);
    key.is_some_and(|key| stored.is_signed(&TrustMap::new().allow(agent.clone(), key)))
}

fn places(report: &mut Report) -> impl Iterator<Item = &mut Place> {
    let gaps = report.gaps.iter_mut().map(|gap| &mut gap.place);
    report
        .findings
        .iter_mut()
        .map(|finding| &mut finding.place)
        .chain(gaps)
}

fn anchor_finding(fault: &AnchorFault) -> Finding {
    match fault {
        AnchorFault::Missing => beside(FindingKind::Missing, "the log has no anchor".to_owned()),
        AnchorFault::Io(error) => beside(FindingKind::Missing, format!("it cannot be read: {error}")),
        AnchorFault::Damaged(reason) => beside(FindingKind::Altered, (*reason).to_owned()),
        AnchorFault::Version(found) => {
            beside(FindingKind::Unsupported, format!("it has format version {found}"))
        }
    }
}

fn beside(kind: FindingKind, detail: String) -> Finding {
    let place = Place {
        file: ANCHOR_FILE.to_owned(),
        byte: 0,
        offset: None,
    };
    Finding {
        kind,
        place,
        stream: None,
        events: None,
        detail,
    }
}
