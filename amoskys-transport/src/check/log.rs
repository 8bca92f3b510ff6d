//! Whether the log can be opened, and has room.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use amoskys_core::config::Config;
use amoskys_core::error::Chain;
use rustix::fs::{Access, access, statvfs};

use super::problem::{Problem, name_setting};
use crate::identity::Identity;
use crate::log::LOG_DIR;
use crate::log::anchor::{ANCHOR_FILE, AnchorFault, StoredAnchor};
use crate::wal::format::HeaderFault;
use crate::wal::lock::DirLock;
use crate::wal::segment::{list_segments, read_beginning};
use crate::{FileLogKeys, PublicKey};

pub(super) fn check(
    config: &Config,
    identity: &Identity,
    key: Option<&PublicKey>,
    running: bool,
) -> Vec<Problem> {
    let dir = &config.log.path;
    let log_dir = dir.join(LOG_DIR);
    let mut problems = Vec::new();
    let Some(present) = nearest(&log_dir) else {
        let what_to_do = "set log.path to a directory that can be made";
        return vec![Problem::error(dir.display(), "it cannot be reached", what_to_do)];
    };
    if !present.is_dir() {
        let why = format!("{} is not a directory", present.display());
        return vec![Problem::error(dir.display(), why, "set log.path to a directory")];
    }
    if let Err(error) = access(present, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        let why = format!("nothing can be written: {error}");
        let what_to_do = "give the directory to the user that runs the program, or set another log.path";
        problems.push(Problem::error(present.display(), why, what_to_do));
    }
    if present == log_dir {
        if !running && DirLock::is_taken(&log_dir) {
            let why = "it is in use by another process";
            problems.push(Problem::error(
                log_dir.display(),
                why,
                "stop that first, or set another log.path",
            ));
        }
        problems.extend(anchor(&log_dir, identity, key));
        problems.extend(segments(&log_dir));
    }
    if let Some(file) = &config.log.key_file
        && let Err(error) = FileLogKeys::open(file)
    {
        let why = Chain(&error).to_string();
        let what_to_do = "put the keys of the log there, mode 0600, or correct log.key_file";
        problems.push(Problem::error(file.display(), why, what_to_do));
    }
    problems.extend(space(config, present, &log_dir));
    problems
}

/// The path, or what there is of it.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors()
        .map(|path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        })
        .find(|path| path.symlink_metadata().is_ok())
}

/// Whether it is the log of this agent, in a version we know.
fn anchor(log_dir: &Path, identity: &Identity, key: Option<&PublicKey>) -> Option<Problem> {
    let path = log_dir.join(ANCHOR_FILE);
    let agent = &identity.name;
    let what = path.display();
    match StoredAnchor::read(log_dir) {
        Ok(stored) if stored.anchor.agent != *agent => Some(Problem::error(
            log_dir.display(),
            format!("it is the log of {}, but this is {agent}", stored.anchor.agent),
            format!("correct {}, or set another log.path", name_setting(identity.role)),
        )),
        Ok(stored) => key.filter(|key| key.id() != stored.key).map(|key| {
            let why = format!("it was signed with the key {}, not with {}", stored.key, key.id());
            let what_to_do = "if the key was not changed on purpose, put the former one back";
            Problem::warning(what, why, what_to_do)
        }),
        Err(AnchorFault::Missing) => None,
        Err(AnchorFault::Version(found)) => Some(newer(&path, u16::from(found))),
        Err(AnchorFault::Io(error)) => Some(Problem::error(
            what,
            format!("it cannot be read: {error}"),
            "check its owner and mode",
        )),
        Err(AnchorFault::Damaged(reason)) => Some(Problem::warning(
            what,
            format!("it is damaged: {reason}"),
            "look at the log with the verifier; the program will read all of it instead",
        )),
    }
}

fn segments(log_dir: &Path) -> Vec<Problem> {
    let unreadable = |path: &Path, error: std::io::Error| {
        let why = format!("it cannot be read: {error}");
        Problem::error(path.display(), why, "check its owner and mode")
    };
    let segments = match list_segments(log_dir) {
        Ok(segments) => segments,
        Err(error) => return vec![unreadable(log_dir, error)],
    };
    let mut problems = Vec::new();
    for segment in segments {
        match File::open(&segment.path).and_then(|file| read_beginning(&&file)) {
            Err(error) => problems.push(unreadable(&segment.path, error)),
            Ok(beginning) => {
                if let Err(HeaderFault::Version(found)) = beginning.header {
                    problems.push(newer(&segment.path, found));
                }
            }
        }
    }
    problems
}

fn newer(path: &Path, version: u16) -> Problem {
    Problem::error(
        path.display(),
        format!("it was written by a newer version, in format {version}"),
        "use that version, or set another log.path",
    )
}

/// Whether the log can grow to its budget.
fn space(config: &Config, present: &Path, log_dir: &Path) -> Option<Problem> {
    let stat = match statvfs(present) {
        Ok(stat) => stat,
        Err(error) => {
            let why = format!("the free space is not known: {error}");
            return Some(Problem::warning(present.display(), why, "look at it by hand"));
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let entries = std::fs::read_dir(log_dir).into_iter().flatten().flatten();
    let used: u64 = entries
        .filter_map(|entry| Some(entry.metadata().ok()?.blocks().saturating_mul(512)))
        .sum();
    // While one segment is being filled, the next is prepared.
    let budget = config.log.budget_bytes;
    let segment = config.log.segment_bytes.min(budget / 8);
    let wanted = budget.saturating_add(segment).saturating_sub(used);
    (free < wanted).then(|| {
        let mib = |bytes: u64| bytes >> 20;
        let why = format!(
            "{} MiB are free, but the log may grow by {} MiB",
            mib(free),
            mib(wanted)
        );
        let what_to_do = "free some space, or set a lower log.budget_bytes";
        Problem::warning(present.display(), why, what_to_do)
    })
}
