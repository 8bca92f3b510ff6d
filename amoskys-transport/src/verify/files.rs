//! The files beside the segments: keys, epoch, spare, and what was set aside.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::report::{Finding, FindingKind, Place};
use crate::key::{FileSigner, KeyError, PublicKey, is_canonical_secret};
use crate::log::{EPOCH_ENDING, KEY_FILE, epoch};
use crate::wal::segment::SPARE_FILE;

/// The public key beside a log.
pub(super) fn public_key(keys: &Path) -> Option<PublicKey> {
    let content = std::fs::read(FileSigner::public_path(&keys.join(KEY_FILE))).ok()?;
    PublicKey::parse(&content).ok()
}

/// Checks the key files beside a log; absent ones are no finding.
pub(super) fn check_keys(keys: &Path, epoch_of_log: Option<amoskys_core::Epoch>, found: &mut Vec<Finding>) {
    let secret = keys.join(KEY_FILE);
    let public = FileSigner::public_path(&secret);
    match std::fs::read(&public) {
        Ok(content) => match PublicKey::parse(&content) {
            Ok(key) if key.to_pem().as_bytes() == content || content.len() == 32 => {}
            Ok(_) => found.push(finding(
                FindingKind::Altered,
                &public,
                "it is not as it is written".to_owned(),
            )),
            Err(error) => found.push(finding(FindingKind::Altered, &public, error.to_string())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => found.push(finding(
            FindingKind::Key,
            &public,
            format!("it cannot be read: {error}"),
        )),
    }
    match std::fs::read(&secret) {
        Ok(content) => {
            let opened = FileSigner::check(&secret);
            match opened {
                Ok(()) if is_canonical_secret(&content) => {}
                Ok(()) => found.push(finding(
                    FindingKind::Altered,
                    &secret,
                    "it is not as it is written".to_owned(),
                )),
                Err(error @ KeyError::Format { .. }) => {
                    found.push(finding(FindingKind::Altered, &secret, error.to_string()));
                }
                Err(error) => found.push(finding(FindingKind::Key, &secret, error.to_string())),
            }
        }
        // A verifier that may not see the secret, as is right, or has a copy without it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) => {}
        Err(error) => found.push(finding(
            FindingKind::Key,
            &secret,
            format!("it cannot be read: {error}"),
        )),
    }
    let path = secret.with_extension(EPOCH_ENDING);
    match (epoch::read(&path), epoch_of_log) {
        (Err(error), _) => found.push(finding(FindingKind::Altered, &path, error.to_string())),
        (Ok(Some(noted)), Some(of_log)) if noted != of_log => {
            let detail = format!("the agent has begun epoch {noted}, and this log is of epoch {of_log}");
            found.push(finding(FindingKind::Foreign, &path, detail));
        }
        _ => {}
    }
}

/// Checks what else is in the log's directory.
pub(super) fn check_rest(log: &Path, found: &mut Vec<Finding>) -> io::Result<()> {
    let spare = log.join(SPARE_FILE);
    match first_set_byte(&spare) {
        Ok(Some(at)) => {
            let mut altered = finding(
                FindingKind::Altered,
                &spare,
                "it should hold zeros only".to_owned(),
            );
            altered.place.byte = at;
            found.push(altered);
        }
        Ok(None) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for entry in std::fs::read_dir(log)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".seg.damaged") {
            let detail = "a segment that could not be read was set aside".to_owned();
            found.push(finding(FindingKind::Altered, &path, detail));
        }
    }
    Ok(())
}

fn finding(kind: FindingKind, path: &Path, detail: String) -> Finding {
    let place = Place {
        file: path.to_string_lossy().into_owned(),
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

fn first_set_byte(path: &Path) -> io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    let mut buf = vec![0; 64 << 10];
    let mut at = 0;
    loop {
        let n = file.read(&mut buf)?;
        if n == 0 {
            return Ok(None);
        }
        if let Some(set) = buf[..n].iter().position(|byte| *byte != 0) {
            return Ok(Some(at + set as u64));
        }
        at += n as u64;
    }
}
