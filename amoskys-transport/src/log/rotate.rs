//! Replaces the signing key of a log that is in use.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
#[cfg(feature = "bus")]
use std::time::Duration;

use amoskys_core::{BoxError, Offset, SealError, Sealed, Wal as _, WalError};

use super::error::LogError;
use super::keeper::SharedKeeper;
use crate::key::{FileSigner, KeyError, Signer};
use crate::seal::Rotation;
use crate::wal::SledWal;
use crate::wal::segment::lock;

/// Replaces the signing key of a log whose sealer is in use elsewhere, for example in a pipeline. Copies of this handle
/// belong to the same log.
///
/// The old key signs a record that hands over to the new one; it goes into the log before the next batch. What survives
/// a crash at any moment:
///
/// 1. the new key is put beside the old one, in the file [`.next`](FileSigner::next_path);
/// 2. the record of the hand-over becomes durable: from here on the log belongs to the new key;
/// 3. the anchor of the log is signed by the new key;
/// 4. the new key's file takes the place of the old one, which is gone then, and its public key is written.
///
/// A log that is opened after a crash goes on with what was not done: with 2 if there is no record, with 3 and 4 if there
/// is one. If the file of the new key was lost between 2 and 4, the log cannot be opened
/// ([`LogError::HandedOver`]): the old key may sign nothing more.
#[derive(Clone)]
pub struct KeyRotation(Arc<Inner>);

struct Inner {
    /// The log may be closed while somebody still holds this.
    wal: Weak<SledWal>,
    keeper: SharedKeeper,
    /// Of the log's key, if that is in a file.
    key_file: Option<PathBuf>,
    state: Mutex<State>,
}

enum State {
    Idle,
    /// A key waits for the sealer.
    Pending(Arc<dyn Signer>),
    /// The record of the hand-over is in the log, and may not be durable yet.
    Written(Arc<dyn Signer>, Offset),
    Failed(LogError),
}

impl KeyRotation {
    pub(super) fn new(wal: &Arc<SledWal>, keeper: SharedKeeper, key_file: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            wal: Arc::downgrade(wal),
            keeper,
            key_file,
            state: Mutex::new(State::Idle),
        }))
    }

    pub(super) fn listener(&self) -> Arc<dyn Rotation> {
        self.0.clone()
    }

    /// Asks the sealer to hand over to this key before it seals the next batch. One that waited before is forgotten. A key
    /// that signed for this log before is not taken again; [`finish`](Self::finish) says so.
    pub fn begin(&self, new: Arc<dyn Signer>) {
        let key = new.public_key();
        let is_used = {
            let keeper = lock(&self.0.keeper.0);
            let known = keeper.keyring.of(&keeper.agent);
            known.iter().any(|link| link.old == key || link.new == key)
        };
        *lock(&self.0.state) = match is_used {
            true => State::Failed(LogError::HandOver(
                format!("key {} signed for this log before; draw a new one", key.id()).into(),
            )),
            false => State::Pending(new),
        };
    }

    /// Finishes a hand-over whose record is in the log: waits until it is durable, and switches the key's files. `None`
    /// if there is nothing to finish, because nothing was begun or nothing was sealed since. May block for as long as the
    /// log needs to become durable.
    pub fn finish(&self) -> Option<Result<(), LogError>> {
        let (new, offset) = {
            let mut state = lock(&self.0.state);
            match std::mem::replace(&mut *state, State::Idle) {
                State::Written(new, offset) => (new, offset),
                State::Failed(error) => return Some(Err(error)),
                other => {
                    *state = other;
                    return None;
                }
            }
        };
        Some(self.complete(new, offset))
    }

    fn complete(&self, new: Arc<dyn Signer>, offset: Offset) -> Result<(), LogError> {
        let wal = self.0.wal.upgrade();
        let wal = wal.ok_or_else(|| LogError::HandOver("the log was closed".into()))?;
        wal.wait_durable(offset)?;
        let key = new.public_key();
        {
            let mut keeper = lock(&self.0.keeper.0);
            keeper.signer = new;
            // The last one was signed by the old key, and names the new one no later than the next.
            if let Err(error) = keeper.write(wal.durable().0) {
                tracing::warn!(dir = %keeper.dir.display(), %error, "the anchor of the log could not be written");
            }
            tracing::info!(agent = %keeper.agent, key = %key.id(), "the log was handed over to another signing key");
        }
        if let Some(path) = &self.0.key_file
            && FileSigner::next(path)?.is_some_and(|next| next.public_key() == key)
        {
            FileSigner::switch(path)?;
        }
        Ok(())
    }

    /// The key that was put beside the log's own.
    pub(super) fn next_key(&self) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        let Some(path) = &self.0.key_file else {
            return Ok(None);
        };
        Ok(FileSigner::next(path)?.map(|next| Arc::new(next) as Arc<dyn Signer>))
    }

    /// Looks each `interval` whether another key was put beside the log's own, and hands over to it; until `shutdown` is
    /// triggered. The result is logged, and counted in `amoskys_signing_key_rotations_total` by `result` (`ok`, `failed`).
    /// Must be called within a tokio runtime with time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it. What was begun is finished when the log is opened next.
    #[cfg(feature = "bus")]
    #[cfg_attr(docsrs, doc(cfg(feature = "bus")))]
    pub async fn watch(&self, interval: Duration, shutdown: amoskys_core::Shutdown) {
        let mut tick = tokio::time::interval(interval.max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = shutdown.triggered() => return,
            }
            let this = self.clone();
            let looking = tokio::task::spawn_blocking(move || this.look());
            let result = match looking.await {
                Ok(None) => continue,
                Ok(Some(result)) => result,
                Err(error) => Err(LogError::HandOver(error.into())),
            };
            let label = if result.is_ok() { "ok" } else { "failed" };
            let wrong = result
                .err()
                .map(|error| amoskys_core::error::Chain(&error).to_string());
            if wrong.is_none() || wrong != said {
                metrics::counter!("amoskys_signing_key_rotations_total", "result" => label).increment(1);
            }
            if let Some(error) = wrong.as_ref().filter(|_| wrong != said) {
                tracing::error!(%error, "the new signing key is not used");
            }
            said = wrong;
        }
    }

    /// Goes on with what was begun, or begins.
    #[cfg(feature = "bus")]
    fn look(&self) -> Option<Result<(), LogError>> {
        if let Some(result) = self.finish() {
            return Some(result);
        }
        if !matches!(*lock(&self.0.state), State::Idle) {
            return None;
        }
        match self.next_key() {
            Ok(Some(next)) => {
                self.begin(next);
                None
            }
            Ok(None) => None,
            Err(error) => Some(Err(error.into())),
        }
    }
}

impl Rotation for Inner {
    fn pending(&self) -> Option<Arc<dyn Signer>> {
        match &*lock(&self.state) {
            State::Pending(new) => Some(new.clone()),
            _ => None,
        }
    }

    fn put(&self, sealed: Result<Sealed, SealError>) -> bool {
        let mut state = lock(&self.state);
        let State::Pending(new) = &*state else {
            return false;
        };
        let new = new.clone();
        let put = sealed.map_err(BoxError::from).and_then(|sealed| {
            let wal = self.wal.upgrade().ok_or("the log was closed")?;
            match wal.append_beyond_budget(sealed.record) {
                Ok(offset) => Ok(Some(offset)),
                // It is tried again with the next batch.
                Err(WalError::Full { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
        match put {
            Ok(Some(offset)) => {
                lock(&self.keeper.0).sealing.set(new.clone());
                *state = State::Written(new, offset);
                true
            }
            Ok(None) => false,
            Err(error) => {
                *state = State::Failed(LogError::HandOver(error));
                false
            }
        }
    }
}

impl fmt::Debug for KeyRotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRotation")
    }
}
