//! Whether the signing key can be used, and others will believe it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use amoskys_core::error::Chain;
use rustix::fs::{Access, access};

use super::problem::{Problem, name_setting};
use crate::identity::{Credentials, Identity, Role};
use crate::log::LOG_DIR;
use crate::log::anchor::StoredAnchor;
use crate::seal::Keyring;
use crate::{FileSigner, KeyError, PublicKey, TrustError, TrustMap};

/// The public key of the signing key, if it can be used.
pub(super) fn check(
    files: &Credentials,
    identity: &Identity,
    log: &Path,
    problems: &mut Vec<Problem>,
) -> Option<PublicKey> {
    let key = FileSigner::inspect(&files.signing_key)
        .map_err(|error| problems.push(unusable(&files.signing_key, &error, identity.role)))
        .ok();
    // The log counts the agent's epochs in a file beside the key.
    let dir = match files.signing_key.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if key.is_some()
        && let Err(error) = access(dir, Access::WRITE_OK | Access::EXEC_OK)
    {
        let why = format!("the number of the log's epoch cannot be noted beside the signing key: {error}");
        let what_to_do = "give the directory to the user that runs the program, and let it be written";
        problems.push(Problem::error(dir.display(), why, what_to_do));
    }
    let what = files.trust.display();
    let trust = match TrustMap::load(&files.trust) {
        Ok(trust) => trust,
        // An agent shows its key, but judges nobody else's.
        Err(TrustError::Io { source, .. })
            if identity.role == Role::Agent && source.kind() == io::ErrorKind::NotFound =>
        {
            return key;
        }
        Err(TrustError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let why = "it does not exist, so that nobody's records would be believed";
            problems.push(Problem::error(what, why, "copy the trust map of the site there"));
            return key;
        }
        Err(TrustError::Line { line, reason, .. }) => {
            problems.push(Problem::error(
                format!("{what}:{line}"),
                reason,
                "correct the line",
            ));
            return key;
        }
        Err(error) => {
            let why = Chain(&error).to_string();
            problems.push(Problem::error(what, why, "copy the trust map of the site there"));
            return key;
        }
    };
    if let Some(mode) = mode_of(&files.trust).filter(|mode| mode & 0o002 != 0) {
        let why = format!("its mode is {mode:04o}, so that anyone may add keys to it");
        problems.push(Problem::error(what, why, "make it 0644, and look at its lines"));
    }
    if let Some(key) = &key
        && trust.key(&identity.name, key.id()) != Some(key)
        && !is_handed_over(log, &trust, identity, key)
    {
        problems.push(Problem::error(
            files.trust.display(),
            format!(
                "the signing key {} is not trusted for {}",
                files.signing_key.display(),
                identity.name
            ),
            format!(
                "add the line of {} to it, at the bus and at all who read records",
                identity.name
            ),
        ));
    }
    key
}

pub(super) fn mode_of(path: &Path) -> Option<u32> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(metadata.permissions().mode() & 0o7777)
}

fn unusable(path: &Path, error: &KeyError, role: Role) -> Problem {
    match error {
        KeyError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Problem::error(
            path.display(),
            "it does not exist",
            format!(
                "put the signing key there, or correct bus.cert_dir or {}",
                name_setting(role)
            ),
        ),
        KeyError::LooseMode { path, mode } => Problem::error(
            path.display(),
            format!("its mode is {mode:04o}, so that others can read the secret key"),
            "make it 0600, and consider the key known to others",
        ),
        KeyError::Mismatch { secret, public } => Problem::error(
            secret.display(),
            format!("{} is not its public key", public.display()),
            format!(
                "restore the one that was altered, or remove {} if the secret key is right",
                public.display()
            ),
        ),
        KeyError::Format { reason, .. } => Problem::error(
            path.display(),
            format!("it is not an Ed25519 key: {reason}"),
            "put the right file there",
        ),
        _ => Problem::error(
            path.display(),
            Chain(error).to_string(),
            "check its owner and mode, and those of the directories above",
        ),
    }
}

/// Whether the log says that a key in the trust map handed over to this one: then it is believed, too.
fn is_handed_over(log: &Path, trust: &TrustMap, identity: &Identity, key: &PublicKey) -> bool {
    let Ok(stored) = StoredAnchor::read(&log.join(LOG_DIR)) else {
        return false;
    };
    let keyring = Keyring::default();
    let known = stored.anchor.hand_overs.iter();
    known.for_each(|proof| keyring.observe(proof));
    keyring.key(trust, &identity.name, key.id()) == Some(*key)
}
