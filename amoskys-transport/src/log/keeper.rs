use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use amoskys_core::{BoxError, Epoch, Name, Timestamp};
use bytes::Bytes;

use super::anchor::Anchor;
use super::heads::Heads;
use crate::key::Signer;
use crate::seal::Keyring;
use crate::seal::header::{MAX_HEADER, SIGNATURE};
use crate::wal::observer::Observer;
use crate::wal::segment::{Segment, lock};
use crate::wal::walk::{Depth, Step, Walk};

/// Keeps the anchor of a log up to date.
pub(crate) struct Keeper {
    pub(crate) dir: PathBuf,
    /// Signs the anchor.
    pub(crate) signer: Arc<dyn Signer>,
    /// Signs gaps.
    pub(crate) sealing: Arc<CurrentSigner>,
    pub(crate) agent: Name,
    pub(crate) epoch: Epoch,
    pub(crate) generation: u64,
    pub(crate) floor: u64,
    pub(crate) base: Heads,
    pub(crate) heads: Heads,
    /// Which keys the agents of the log have handed over to.
    pub(crate) keyring: Arc<Keyring>,
    /// First offset that the heads do not account for.
    pub(crate) end: u64,
}

impl Keeper {
    /// Writes the anchor. Everything below `durable` is durable.
    pub(crate) fn write(&mut self, durable: u64) -> Result<(), BoxError> {
        self.generation += 1;
        let anchor = Anchor {
            agent: self.agent.clone(),
            epoch: self.epoch,
            generation: self.generation,
            written: Timestamp::now(),
            floor: self.floor,
            end: durable,
            base: self.base.clone(),
            heads: self.heads.clone(),
            hand_overs: self.keyring.all().iter().map(|link| link.proof.clone()).collect(),
        };
        anchor.write(&self.dir, &*self.signer)
    }

    fn write_or_warn(&mut self, durable: u64) {
        if let Err(error) = self.write(durable) {
            tracing::warn!(dir = %self.dir.display(), %error, "the anchor of the log could not be written");
        }
    }
}

/// The key that signs for a log's agent at the moment, for those who sign now and then: take it anew each time.
pub(crate) struct CurrentSigner(Mutex<Arc<dyn Signer>>);

impl CurrentSigner {
    pub(crate) fn new(signer: Arc<dyn Signer>) -> Self {
        Self(Mutex::new(signer))
    }

    pub(crate) fn get(&self) -> Arc<dyn Signer> {
        lock(&self.0).clone()
    }

    pub(crate) fn set(&self, signer: Arc<dyn Signer>) {
        *lock(&self.0) = signer;
    }
}

/// The log's thread and the one that opens the log share a keeper: the thread has to wait until it is filled in.
#[derive(Clone)]
pub(crate) struct SharedKeeper(pub(crate) Arc<Mutex<Keeper>>);

impl std::fmt::Debug for SharedKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedKeeper")
    }
}

impl Observer for SharedKeeper {
    fn committed(&mut self, first: u64, records: &mut dyn Iterator<Item = &Bytes>) {
        let mut keeper = lock(&self.0);
        keeper.end = first;
        for record in records {
            keeper.heads.observe(record);
            keeper.keyring.observe(record);
            keeper.end += 1;
        }
    }

    fn settle(&mut self, durable: u64) {
        lock(&self.0).write_or_warn(durable);
    }

    fn deleting(&mut self, segments: &[Arc<Segment>], first: u64, durable: u64) {
        let mut keeper = lock(&self.0);
        let floor = keeper.floor;
        for segment in segments.iter().filter(|segment| segment.first >= floor) {
            if let Err(error) = advance(&mut keeper.base, segment) {
                tracing::warn!(segment = %segment.path().display(), %error, "a segment cannot be read before it is deleted");
            }
        }
        // Never back, and `base` with it: a crash may have brought back segments that were deleted before.
        keeper.floor = floor.max(first);
        // With the disk full this fails, and what is deleted next makes room for the one after.
        keeper.write_or_warn(durable);
    }
}

/// Moves heads on by the records of a segment.
fn advance(heads: &mut Heads, segment: &Segment) -> io::Result<()> {
    let file = segment.readable()?;
    let start = (segment.first, segment.layout.start);
    let walk = Walk::new(&*file, Depth::Headers, segment.mark, start, u64::MAX)?;
    let mut walk = walk.laid_out(&segment.layout);
    loop {
        match walk.step()? {
            Step::Record(_) => {
                // The length of the sealed header stands at its beginning.
                let start = walk.payload(12)?;
                let len = start
                    .get(8..12)
                    .map_or(0, |len| u32::from_le_bytes([len[0], len[1], len[2], len[3]]));
                let header = (len as usize).min(MAX_HEADER) + SIGNATURE;
                heads.observe(walk.payload(header)?);
            }
            Step::Damage(_) => {}
            Step::End(_) => return Ok(()),
        }
    }
}
