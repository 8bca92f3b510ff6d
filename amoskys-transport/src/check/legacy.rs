//! Whether the keys of the predecessor's agents can be read.

use std::io;
use std::path::Path;

use amoskys_core::config::Config;
use amoskys_core::error::Chain;

use super::problem::Problem;
use super::signing::mode_of;
use crate::legacy::{LegacyTrust, LegacyTrustError};

pub(super) fn check(config: &Config) -> Vec<Problem> {
    let Some(path) = &config.legacy.trust_map else {
        return Vec::new();
    };
    let mut problems = match LegacyTrust::load(path) {
        Ok(trust) if trust.is_empty() => {
            let why = "it names nobody, so that no agent of the predecessor is served";
            vec![Problem::warning(
                path.display(),
                why,
                "add the agents and their keys",
            )]
        }
        Ok(_) => Vec::new(),
        Err(LegacyTrustError::Content { problems, .. }) => {
            problems.iter().map(|problem| wrong(path, problem)).collect()
        }
        Err(LegacyTrustError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let what_to_do = "put the predecessor's trust map there, or correct legacy.trust_map";
            vec![Problem::error(path.display(), "it does not exist", what_to_do)]
        }
        Err(LegacyTrustError::Read { source, .. }) => {
            let why = format!("it cannot be read: {}", Chain(&source));
            let what_to_do = "check its owner and mode, and those of the directories above";
            vec![Problem::error(path.display(), why, what_to_do)]
        }
    };
    if let Some(mode) = mode_of(path).filter(|mode| mode & 0o002 != 0) {
        let why = format!("its mode is {mode:04o}, so that anyone may add keys to it");
        problems.push(Problem::error(
            path.display(),
            why,
            "make it 0644, and look at its lines",
        ));
    }
    problems
}

/// What is wrong with a line: `line NUMBER: WHY; WHAT TO DO`.
fn wrong(path: &Path, problem: &str) -> Problem {
    let (line, text) = problem
        .strip_prefix("line ")
        .and_then(|rest| rest.split_once(": "))
        .unwrap_or_default();
    let what = match line {
        "" => path.display().to_string(),
        line => format!("{}:{line}", path.display()),
    };
    let text = if line.is_empty() { problem } else { text };
    let (why, what_to_do) = text.rsplit_once("; ").unwrap_or((text, "correct the line"));
    Problem::error(what, why, what_to_do)
}
