//! Before Linux 5.11 the memory of maps and programs counts as locked memory (`RLIMIT_MEMLOCK`), of which a process may have
//! 64 KiB unless told otherwise. The limit is raised while they are made, and put back: it is the process's, not ours.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::EbpfError;

/// All maps but the rings, and the programs, with room to spare.
const OTHERS: u64 = 64 << 20;

/// The limit belongs to the process, so only one may change it at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Puts the limit back when dropped.
pub(super) struct Raised {
    before: Option<Rlimit>,
    _turn: MutexGuard<'static, ()>,
}

/// Raises the limit, on kernels that have it, as far as is allowed.
///
/// # Errors
///
/// If that is not enough for rings of so many bytes: the capability is named that lifts the limit.
pub(super) fn raise(ring_bytes: u64) -> Result<Raised, EbpfError> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let release = rustix::system::uname();
    let before = if is_counted(&release.release().to_string_lossy()) {
        lift(ring_bytes.saturating_add(OTHERS))?
    } else {
        None
    };
    Ok(Raised { before, _turn: turn })
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(before) = self.before.take()
            && let Err(error) = setrlimit(Resource::Memlock, before)
        {
            tracing::warn!(%error, "the limit of locked memory could not be put back");
        }
    }
}

/// What it was, if it had to be changed.
fn lift(needed: u64) -> Result<Option<Rlimit>, EbpfError> {
    let before = getrlimit(Resource::Memlock);
    if before.current.is_none() {
        return Ok(None);
    }
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if setrlimit(Resource::Memlock, unlimited).is_ok() {
        return Ok(Some(before));
    }
    let most = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if before.maximum.is_some_and(|maximum| maximum < needed) || setrlimit(Resource::Memlock, most).is_err() {
        return Err(EbpfError::Privileges {
            missing: vec!["CAP_SYS_RESOURCE"],
        });
    }
    Ok(Some(before))
}

/// Whether a kernel of this release counts it so. One that cannot be read is taken for a new one.
fn is_counted(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(u32::MAX));
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < (5, 11),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_known_by_their_release() {
        for (release, counted) in [
            ("5.10.0-46-cloud-amd64", true),
            ("4.18.0-553.el8", true),
            ("5.11.0", false),
            ("5.4.1", true),
            ("6.1.0-56-amd64", false),
            ("10.2", false),
            ("unknown", false),
            ("", false),
        ] {
            assert_eq!(is_counted(release), counted, "{release:?}");
        }
    }
}
