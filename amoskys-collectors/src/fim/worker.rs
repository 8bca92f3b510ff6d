//! What the thread of the collector does: watch, look, compare, report.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use amoskys_core::event::{ActivityAction, ActivityEvent, ActivityVia, Payload, Value};
use amoskys_core::{Shutdown, Timestamp};

use super::facts::text;
use super::scan::{Files, count, is_watched, scan};
use super::watch::{Notice, Watched, Watches};
use super::{Baseline, FileFacts, FileKind, FimConfig, FimError, ScanCounts};
use crate::live::LiveBatcher;

/// How soon a stop is noticed.
const LOOK: Duration = Duration::from_millis(100);
/// Notices taken at once.
const MOST_NOTICES: usize = 4096;
/// Files that may wait to be looked at.
const MOST_DUE: usize = 1 << 16;
/// The clock is stated so often.
const PUNCTUATION: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) config: FimConfig,
    pub(super) watches: Watches,
    pub(super) baseline: Option<Baseline>,
}

struct Watching<'a> {
    config: FimConfig,
    watches: Watches,
    known: Files,
    /// When to look at what the kernel named.
    due: BTreeMap<PathBuf, Instant>,
    batcher: LiveBatcher<FimError>,
    stop: &'a Shutdown,
}

impl Worker {
    pub(super) fn run(self, batcher: LiveBatcher<FimError>, stop: &Shutdown) {
        let mut watching = Watching {
            config: self.config,
            watches: self.watches,
            known: Files::new(),
            due: BTreeMap::new(),
            batcher,
            stop,
        };
        if let Err(error) = watching.run(self.baseline) {
            watching.batcher.fail(FimError::Watch(error));
            return;
        }
        watching.batcher.punctuate(Timestamp::now(), true);
    }
}

impl Watching<'_> {
    fn run(&mut self, baseline: Option<Baseline>) -> io::Result<()> {
        for path in &self.config.paths {
            if path
                .symlink_metadata()
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            {
                // It may come later, and it may be a mistake.
                tracing::warn!(path = %path.display(), "there is nothing to watch here before a rescan finds it");
            }
        }
        let has_baseline = baseline.is_some();
        self.known = baseline.map(|baseline| baseline.files).unwrap_or_default();
        self.scan_all(has_baseline, has_baseline);
        self.batcher.punctuate(Timestamp::now(), false);
        let (mut scanned, mut stated) = (Instant::now(), Instant::now());
        while !self.stop.is_triggered() && self.batcher.is_wanted() {
            if self.watches.wait(LOOK)? {
                self.take_notices()?;
            }
            self.look();
            if scanned.elapsed() >= self.config.rescan {
                self.scan_all(true, false);
                scanned = Instant::now();
            }
            if stated.elapsed() >= PUNCTUATION {
                self.batcher.punctuate(Timestamp::now(), false);
                stated = Instant::now();
            }
        }
        Ok(())
    }

    fn take_notices(&mut self) -> io::Result<()> {
        for notice in self.watches.read(MOST_NOTICES)? {
            let now = Instant::now();
            match notice {
                Notice::Changed(path) => {
                    if is_watched(&path, &self.config) {
                        self.due.insert(path, now);
                    }
                }
                Notice::Writing(path) => {
                    if is_watched(&path, &self.config) {
                        self.due.entry(path).or_insert(now + self.config.settle);
                    }
                }
                Notice::Overflow => self.start_over("kernel"),
            }
            if self.due.len() >= MOST_DUE {
                self.start_over("full");
            }
        }
        Ok(())
    }

    /// Changes are not known one by one any more: how many is not known either, but what they did is found by looking.
    fn start_over(&mut self, reason: &'static str) {
        tracing::warn!(
            reason,
            "more changes of files than there is room for: all are looked at"
        );
        self.batcher
            .lost(Timestamp::now(), reason, 1, "overflows", "inotify");
        self.due.clear();
        self.scan_all(true, false);
    }

    /// Looks at what is due.
    fn look(&mut self) {
        let now = Instant::now();
        let due: Vec<PathBuf> = self
            .due
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(path, _)| path.clone())
            .collect();
        for path in due {
            if self.stop.is_triggered() {
                return;
            }
            self.due.remove(&path);
            self.look_at(&path);
        }
    }

    fn look_at(&mut self, path: &Path) {
        let mut counts = ScanCounts::default();
        let mut found = Files::new();
        match FileFacts::until_stopped(path, self.config.max_hash_bytes, self.stop) {
            Ok(facts) if facts.kind == FileKind::Directory => {
                let is_same = self.watch(path) == Watched::Already && self.known.contains_key(path);
                if is_same {
                    // What is in it is watched itself.
                    self.compare(path, Some(facts), false);
                    self.count(counts);
                    return;
                }
                found = self.scan(path, &mut counts);
            }
            Ok(facts) => {
                counts.files += 1;
                found.insert(path.to_owned(), facts);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                counts.vanished += u64::from(!self.known.contains_key(path));
                self.watches.remove(path);
            }
            Err(error) => {
                count(&error, &mut counts);
                self.count(counts);
                return;
            }
        }
        // What was read when a stop was given may be incomplete.
        if !self.stop.is_triggered() {
            self.replace(Some(path), found, true, false);
        }
        self.count(counts);
    }

    /// Looks at everything.
    fn scan_all(&mut self, report: bool, since_baseline: bool) {
        let mut counts = ScanCounts::default();
        let mut found = Files::new();
        for path in self.config.paths.clone() {
            // A file is replaced, and a directory removed, by a change of what it is in.
            if let Some(parent) = path.parent() {
                self.watch(parent);
            }
            found.append(&mut self.scan(&path, &mut counts));
        }
        if !self.stop.is_triggered() {
            self.replace(None, found, report, since_baseline);
        }
        self.count(counts);
    }

    fn scan(&mut self, path: &Path, counts: &mut ScanCounts) -> Files {
        let mut found = Files::new();
        let mut refused = 0;
        let watches = &mut self.watches;
        scan(path, &self.config, self.stop, &mut found, counts, |directory| {
            refused += u64::from(watches.add(directory) == Watched::Refused);
        });
        self.batcher.dropped("unwatched", refused);
        found
    }

    fn watch(&mut self, directory: &Path) -> Watched {
        let watched = self.watches.add(directory);
        self.batcher
            .dropped("unwatched", u64::from(watched == Watched::Refused));
        watched
    }

    /// What was found takes the place of what was known, of a path and all below it, or of everything.
    fn replace(&mut self, path: Option<&Path>, found: Files, report: bool, since_baseline: bool) {
        let gone: Vec<PathBuf> = match path {
            Some(path) => {
                let below = self.known.range(path.to_owned()..).map(|(known, _)| known);
                let below = below.take_while(|known| known.starts_with(path));
                below
                    .filter(|known| !found.contains_key(*known))
                    .cloned()
                    .collect()
            }
            None => {
                let all = self.known.keys();
                all.filter(|known| !found.contains_key(*known)).cloned().collect()
            }
        };
        // What is in a directory goes before it.
        for path in gone.iter().rev() {
            self.change(path, None, report, since_baseline);
        }
        for (path, facts) in found {
            self.change(&path, Some(facts), report, since_baseline);
        }
    }

    fn compare(&mut self, path: &Path, facts: Option<FileFacts>, since_baseline: bool) {
        self.change(path, facts, true, since_baseline);
    }

    fn change(&mut self, path: &Path, facts: Option<FileFacts>, report: bool, since_baseline: bool) {
        let before = match facts {
            Some(facts) => {
                if self.known.len() >= self.config.max_files && !self.known.contains_key(path) {
                    self.batcher.dropped("full", 1);
                    return;
                }
                self.known.insert(path.to_owned(), facts)
            }
            None => self.known.remove(path),
        };
        if !report {
            return;
        }
        let now = Timestamp::now();
        for action in actions(before.as_ref(), facts.as_ref()) {
            let event = describe(action, path, facts.or(before).unwrap_or_default());
            let attributes = attributes(before.as_ref(), facts.as_ref(), since_baseline);
            self.batcher
                .add_with(now, Payload::Activity(Box::new(event)), attributes);
        }
    }

    fn count(&mut self, counts: ScanCounts) {
        self.batcher.used(counts.files);
        self.batcher.dropped("refused", counts.refused);
        self.batcher.dropped("vanished", counts.vanished);
        self.batcher.dropped("full", counts.full);
    }
}

/// What was done to a file that was like this and is like that.
fn actions(before: Option<&FileFacts>, after: Option<&FileFacts>) -> Vec<ActivityAction> {
    let (before, after) = match (before, after) {
        (None, None) => return Vec::new(),
        (None, Some(_)) => return vec![ActivityAction::FileCreate],
        (Some(_), None) => return vec![ActivityAction::FileUnlink],
        (Some(before), Some(after)) => (before, after),
    };
    let found = [
        (ActivityAction::FileModify, before.differs_in_contents(after)),
        (ActivityAction::FileMode, before.mode != after.mode),
        (
            ActivityAction::FileOwner,
            (before.uid, before.gid) != (after.uid, after.gid),
        ),
    ];
    let found = found.into_iter().filter(|(_, is_so)| *is_so);
    found.map(|(action, _)| action).collect()
}

fn describe(action: ActivityAction, path: &Path, facts: FileFacts) -> ActivityEvent {
    ActivityEvent {
        action,
        via: ActivityVia::Comparison,
        path: text(path.as_os_str()),
        number: facts.mode.into(),
        amount: match action {
            ActivityAction::FileOwner => u64::from(facts.uid) << 32 | u64::from(facts.gid),
            _ => facts.size,
        },
        ..ActivityEvent::default()
    }
}

/// What is known of the file, and what was if it was other.
fn attributes(
    before: Option<&FileFacts>,
    after: Option<&FileFacts>,
    since_baseline: bool,
) -> BTreeMap<String, Value> {
    let mut attributes = BTreeMap::new();
    let values = |facts: &FileFacts| {
        [
            ("kind", Value::Text(facts.kind.as_str().to_owned())),
            ("mode", Value::Uint(facts.mode.into())),
            ("uid", Value::Uint(facts.uid.into())),
            ("gid", Value::Uint(facts.gid.into())),
            ("size", Value::Uint(facts.size)),
            (
                "sha256",
                Value::Text(facts.sha256.map(|digest| digest.to_string()).unwrap_or_default()),
            ),
        ]
    };
    let now = after.map(values);
    for (name, value) in now.iter().flatten() {
        attributes.insert((*name).to_owned(), value.clone());
    }
    for (name, value) in before.map(values).into_iter().flatten() {
        if attributes.get(name) != Some(&value) {
            attributes.insert(format!("{name}_before"), value);
        }
    }
    if since_baseline {
        attributes.insert("since_baseline".to_owned(), Value::Bool(true));
    }
    attributes
}
