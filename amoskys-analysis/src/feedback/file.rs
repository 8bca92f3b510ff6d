use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use amoskys_core::event::{AuditEntry, AuditOutcome};
use amoskys_core::{BoxError, Digest};
use serde::{Deserialize, Serialize};

use super::list::{Suppression, Suppressions};

/// Suppressions a list may have: each verdict is compared with all of them.
const MOST: usize = 10_000;
/// Bytes a list may have.
const MAX_BYTES: u64 = 16 << 20;

/// A list of suppressions in a file: JSON, `{"suppressions": [...]}` with the fields of [`Suppression`].
///
/// A file that is not there is an empty list. One that cannot be read or used changes nothing: the list that was in effect stays.
///
/// ```no_run
/// use amoskys_analysis::feedback::SuppressionFile;
///
/// # fn main() -> Result<(), amoskys_analysis::feedback::FeedbackError> {
/// let (mut file, _entries) = SuppressionFile::open("normal.json", "sentinel")?;
/// let suppressions = file.suppressions();
/// // Now and then, while events flow:
/// for entry in file.reload() {
///     println!("{}: {} {}", entry.actor, entry.action, entry.object);
/// }
/// # let _ = suppressions;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SuppressionFile {
    path: PathBuf,
    /// Who reads it, for the audit.
    reader: String,
    suppressions: Suppressions,
    /// What the file held when it was last looked at, used or not.
    seen: Option<Digest>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    suppressions: Vec<Suppression>,
}

impl SuppressionFile {
    /// Reads the list. `reader` is who reads it, for the audit. Gives an entry for each suppression that is in effect from now on.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read or used.
    pub fn open(path: impl Into<PathBuf>, reader: &str) -> Result<(Self, Vec<AuditEntry>), FeedbackError> {
        let path = path.into();
        let (seen, list) = read(&path)?;
        let file = Self {
            reader: reader.to_owned(),
            suppressions: Suppressions::new(list.clone()),
            seen,
            path,
        };
        let entries = list
            .iter()
            .map(|one| file.entry("suppression.load", one))
            .collect();
        Ok((file, entries))
    }

    /// The list in effect, to be given to a [`Correlation`](crate::Correlation).
    #[must_use]
    pub fn suppressions(&self) -> Suppressions {
        self.suppressions.clone()
    }

    /// Looks whether the file has changed, and if so puts its list into effect. Gives an entry for each change, or for the failure to
    /// use the file, once.
    pub fn reload(&mut self) -> Vec<AuditEntry> {
        let bytes = match content(&self.path) {
            Ok(bytes) => bytes,
            Err(error) => return self.refuse(None, &error),
        };
        let seen = bytes.as_deref().map(Digest::of);
        if seen == self.seen {
            return Vec::new();
        }
        let list = match parse(&self.path, bytes.as_deref()) {
            Ok(list) => list,
            Err(error) => return self.refuse(seen, &error),
        };
        self.seen = seen;
        let before = self.suppressions.list();
        let by_id = |list: &[Suppression]| -> BTreeMap<String, Suppression> {
            list.iter().map(|one| (one.id.clone(), one.clone())).collect()
        };
        let (old, new) = (by_id(&before), by_id(&list));
        self.suppressions.set(list);
        let removed = old.iter().filter(|(id, _)| !new.contains_key(*id));
        let mut entries: Vec<AuditEntry> = removed
            .map(|(_, one)| self.entry("suppression.remove", one))
            .collect();
        for (id, one) in &new {
            match old.get(id) {
                None => entries.push(self.entry("suppression.add", one)),
                Some(before) if before != one => entries.push(self.entry("suppression.change", one)),
                Some(_) => {}
            }
        }
        entries
    }

    fn refuse(&mut self, seen: Option<Digest>, error: &FeedbackError) -> Vec<AuditEntry> {
        // The same failure is told once.
        let mark = Some(seen.unwrap_or_else(|| Digest::of(error.to_string().as_bytes())));
        if self.seen == mark {
            return Vec::new();
        }
        self.seen = mark;
        let reason = amoskys_core::error::Chain(error).to_string();
        tracing::warn!(path = %self.path.display(), reason, "the list of what is normal cannot be used; the one before stays");
        vec![AuditEntry {
            actor: self.reader.clone(),
            action: "suppressions.reload".to_owned(),
            object: self.path.display().to_string(),
            outcome: AuditOutcome::Failure,
            reason,
        }]
    }

    fn entry(&self, action: &str, one: &Suppression) -> AuditEntry {
        AuditEntry {
            // Who removes something is not written in what is no longer there.
            actor: if action == "suppression.remove" {
                self.reader.clone()
            } else {
                one.by.clone()
            },
            action: action.to_owned(),
            object: serde_json::to_string(one).unwrap_or_default(),
            outcome: AuditOutcome::Success,
            reason: one.reason.clone(),
        }
    }

    /// Writes a suppression into a list, in place of the one of the same id if there is one. The new list takes the place of the old in
    /// one step, so that a reader sees the one or the other.
    ///
    /// # Errors
    ///
    /// If it or the list cannot be used, or the list cannot be written.
    pub fn add(path: &Path, suppression: Suppression) -> Result<(), FeedbackError> {
        let (_, mut list) = read(path)?;
        list.retain(|one| one.id != suppression.id);
        list.push(suppression);
        check(path, &list)?;
        write(path, list)
    }

    /// Takes a suppression out of a list; says whether it was there.
    ///
    /// # Errors
    ///
    /// If the list cannot be used or written.
    pub fn remove(path: &Path, id: &str) -> Result<bool, FeedbackError> {
        let (_, mut list) = read(path)?;
        let before = list.len();
        list.retain(|one| one.id != id);
        let found = list.len() < before;
        if found {
            write(path, list)?;
        }
        Ok(found)
    }
}

fn read(path: &Path) -> Result<(Option<Digest>, Vec<Suppression>), FeedbackError> {
    let bytes = content(path)?;
    let list = parse(path, bytes.as_deref())?;
    Ok((bytes.as_deref().map(Digest::of), list))
}

/// What the file holds; `None` if it is not there.
fn content(path: &Path) -> Result<Option<Vec<u8>>, FeedbackError> {
    let fail = |source| FeedbackError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(path, format!("it is larger than {MAX_BYTES} bytes"), None));
    }
    Ok(Some(bytes))
}

fn parse(path: &Path, bytes: Option<&[u8]>) -> Result<Vec<Suppression>, FeedbackError> {
    let Some(bytes) = bytes else {
        return Ok(Vec::new());
    };
    let content: Content = serde_json::from_slice(bytes).map_err(|error| {
        wrong(
            path,
            "it is no list of suppressions".to_owned(),
            Some(error.into()),
        )
    })?;
    check(path, &content.suppressions)?;
    Ok(content.suppressions)
}

fn check(path: &Path, list: &[Suppression]) -> Result<(), FeedbackError> {
    if list.len() > MOST {
        return Err(wrong(path, format!("it has more than {MOST} entries"), None));
    }
    let mut known = BTreeMap::new();
    for (number, one) in (1..).zip(list) {
        if let Some(problem) = one.problem() {
            return Err(wrong(path, format!("entry {number}: {problem}"), None));
        }
        if let Some(first) = known.insert(&one.id, number) {
            let reason = format!("entries {first} and {number} have the same id");
            return Err(wrong(path, reason, None));
        }
    }
    Ok(())
}

fn write(path: &Path, suppressions: Vec<Suppression>) -> Result<(), FeedbackError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let store = || -> io::Result<()> {
        let text = serde_json::to_string_pretty(&Content { suppressions })?;
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    store().map_err(|source| FeedbackError::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

fn wrong(path: &Path, reason: String, source: Option<BoxError>) -> FeedbackError {
    FeedbackError::Content {
        path: path.to_owned(),
        reason,
        source,
    }
}

/// Why a list of suppressions could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedbackError {
    /// The file system refused.
    #[error("cannot {doing} the list of what is normal, {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file holds something that cannot be used.
    #[error("the list of what is normal, {}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// The cause, if another error is behind it.
        source: Option<BoxError>,
    },
}
