//! Walking through directories.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use amoskys_core::Shutdown;

use super::{FileFacts, FileKind, FimConfig};

/// What a scan came across.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanCounts {
    /// Files, directories and links looked at.
    pub files: u64,
    /// Directories that may not be listed, and files that may not be looked at.
    pub refused: u64,
    /// Files that were gone when they were to be looked at.
    pub vanished: u64,
    /// Files for which there was no room: see [`FimConfig::max_files`].
    pub full: u64,
}

/// Files by path: directories come directly before what is in them.
pub(super) type Files = BTreeMap<PathBuf, FileFacts>;

/// Looks at a path, and at all below it, and adds what it finds. `enter` is called with each directory before it is
/// listed, so that what changes after is reported.
pub(super) fn scan(
    start: &Path,
    config: &FimConfig,
    stop: &Shutdown,
    files: &mut Files,
    counts: &mut ScanCounts,
    mut enter: impl FnMut(&Path),
) {
    let mut waiting = vec![start.to_owned()];
    while let Some(path) = waiting.pop() {
        if stop.is_triggered() {
            return;
        }
        if is_excluded(&path, config) {
            continue;
        }
        let facts = match FileFacts::until_stopped(&path, config.max_hash_bytes, stop) {
            Ok(facts) => facts,
            Err(error) => {
                count(&error, counts);
                continue;
            }
        };
        if files.len() >= config.max_files && !files.contains_key(&path) {
            counts.full += 1;
            continue;
        }
        counts.files += 1;
        if facts.kind == FileKind::Directory {
            enter(&path);
            match path.read_dir() {
                Ok(entries) => {
                    for entry in entries {
                        match entry {
                            Ok(entry) => waiting.push(entry.path()),
                            Err(error) => count(&error, counts),
                        }
                    }
                }
                Err(error) => count(&error, counts),
            }
        }
        files.insert(path, facts);
    }
}

pub(super) fn is_excluded(path: &Path, config: &FimConfig) -> bool {
    config.exclude.iter().any(|excluded| path.starts_with(excluded))
}

/// Whether a path is one of those watched, or below one.
pub(super) fn is_watched(path: &Path, config: &FimConfig) -> bool {
    config.paths.iter().any(|watched| path.starts_with(watched)) && !is_excluded(path, config)
}

pub(super) fn count(error: &io::Error, counts: &mut ScanCounts) {
    if error.kind() == io::ErrorKind::NotFound {
        counts.vanished += 1;
    } else {
        counts.refused += 1;
    }
}
