//! How far named subscribers have come, kept beside the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use amoskys_core::{Offset, Wal as _, WalError};

use crate::wal::SledWal;
use crate::wal::segment::lock;

/// The names, one in a line.
const NAMES: &str = "bus/subscribers";
/// Names that are kept.
const MAX_NAMES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Positions {
    wal: Arc<SledWal>,
    known: Mutex<BTreeMap<String, Offset>>,
}

impl Positions {
    pub(crate) fn load(wal: &Arc<SledWal>) -> Self {
        let names = wal.load(NAMES).ok().flatten().unwrap_or_default();
        let names = String::from_utf8_lossy(&names).into_owned();
        let known = names.lines().filter_map(|name| {
            let kept = wal.load(&key(name)).ok().flatten()?;
            let at = kept[..].try_into().ok().map(u64::from_le_bytes)?;
            Some((name.to_owned(), Offset(at)))
        });
        Self {
            known: Mutex::new(known.collect()),
            wal: wal.clone(),
        }
    }

    pub(crate) fn position(&self, name: &str) -> Option<Offset> {
        lock(&self.known).get(name).copied()
    }

    /// `name` reads from `at` on. It may have come further without saying that it is done with it.
    pub(crate) fn begin(&self, name: &str, at: Offset) -> Result<(), WalError> {
        match self.position(name) {
            Some(known) if known <= at => Ok(()),
            _ => self.set(name, at),
        }
    }

    /// Notes that `name` is done with everything below `to`.
    pub(crate) fn commit(&self, name: &str, to: Offset) -> Result<(), WalError> {
        match self.position(name) {
            Some(known) if known >= to => Ok(()),
            _ => self.set(name, to),
        }
    }

    /// Puts a position anywhere.
    pub(crate) fn set(&self, name: &str, to: Offset) -> Result<(), WalError> {
        let mut known = lock(&self.known);
        match known.get_mut(name) {
            Some(at) => *at = to,
            None => {
                if known.len() >= MAX_NAMES {
                    return Err(WalError::TooLarge {
                        bytes: known.len() as u64,
                        limit_bytes: MAX_NAMES as u64,
                    });
                }
                known.insert(name.to_owned(), to);
                let names: Vec<_> = known.keys().map(String::as_str).collect();
                self.wal.store(NAMES, names.join("\n").as_bytes())?;
            }
        }
        self.wal.store(&key(name), &to.0.to_le_bytes())
    }

    /// Those who have not read everything below `to`, and how far they are.
    pub(crate) fn behind(&self, to: Offset) -> Vec<(String, Offset)> {
        let known = lock(&self.known);
        let behind = known.iter().filter(|(_, at)| **at < to);
        behind.map(|(name, at)| (name.clone(), *at)).collect()
    }

    /// The lowest position.
    pub(crate) fn lowest(&self) -> Option<Offset> {
        lock(&self.known).values().min().copied()
    }
}

/// Names are of limited length where they are stored.
fn key(name: &str) -> String {
    format!("subscriber/{}", amoskys_core::Digest::of(name.as_bytes()))
}
