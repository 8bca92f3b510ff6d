//! Gives up records of old segments to make room, and puts what says so in their place.
//!
//! A segment is rewritten without them: what stays keeps its offset, and for each run of records of a stream that are
//! given up one record, which a [`Sieve`] makes, stands at the offset of the last of them. So a reader meets it where
//! they were, and the last offset of a segment is never missing. A segment of which little is left is joined to the
//! one before it.
//!
//! # Why a crash at any moment is safe
//!
//! 1. `compact` is written and synced. A crash leaves a file that is removed when the log is opened.
//! 2. It is renamed over the segment. After a crash the name stands for the old file or the new one, each whole: either
//!    the records or what took their place is there, never neither and never both.
//! 3. The directory is synced; only then is it said that there is more room.
//! 4. If it took in the segment behind it, that one's file is removed last. A crash before leaves both; the header of
//!    the first says up to where it reaches, so the other is known to be left over, and is removed when the log is
//!    opened.
//!
//! Only segments that are durable as a whole are rewritten, and never the newest.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use amoskys_core::{BoxError, Offset, Timestamp, WalError};
use bytes::Bytes;

use super::crypt::Lock;
use super::format::{ALIGN, RECORD_ENCRYPTED, RecordHeader, SegmentHeader};
use super::segment::{COMPACT_FILE, Segment, Weights, beginning, lock_with, sync_dir};
use super::shared::{Failure, Shared, new_mark};
use super::walk::{Content, Depth, Layout, Step, Walk};

/// What is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GiveUp {
    /// For want of room: records of the first classes that may be shed, this many of them.
    Shed { classes: usize },
    /// Whatever the age.
    Expired,
}

/// What a record is to who gives up records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Stays, whatever happens.
    Kept,
    /// May go.
    Loose {
        /// Among the classes that may be shed: which one goes when.
        shed: Option<usize>,
        /// When it was sealed, in nanoseconds since 1970.
        sealed: i64,
    },
}

/// Knows which records may be given up, and what is to stand in their place.
pub(crate) trait Sieve: Send + Sync {
    /// What a record is.
    fn nature(&self, record: &[u8]) -> Nature;

    /// Begins to sift consecutive records. All readers have dealt with those below `trimmed`.
    fn begin(&self, what: GiveUp, trimmed: Offset) -> Box<dyn Sifting + '_>;
}

/// Sifts the records of a segment, or of two that follow each other, in order.
pub(crate) trait Sifting {
    /// Whether a record stays.
    ///
    /// # Errors
    ///
    /// If what is to stand in the place of others cannot be made.
    fn stays(&mut self, offset: u64, record: &[u8]) -> Result<bool, BoxError>;

    /// What is to stand in the place of those that do not, in order of the offsets.
    fn finish(self: Box<Self>) -> Result<Vec<(u64, Bytes)>, BoxError>;
}

/// A segment is rewritten if this part of it goes at least: less is not worth the writing.
const WORTH: u64 = 8;

impl Shared {
    /// Sheds of the oldest segment that holds something to be shed. `false` if none does.
    pub(crate) fn shed(&self, sieve: &dyn Sieve) -> Result<bool, WalError> {
        for classes in 1..=2 {
            for at in 0.. {
                let Some((before, segment)) = self.settled(at) else {
                    break;
                };
                let weights = weights(&segment, sieve);
                let goes: u64 = weights.sheddable[..classes].iter().sum();
                if !segment.is_fit() || goes == 0 || goes * WORTH < segment.bytes().unwrap_or(0) {
                    continue;
                }
                if self.rewrite(before, segment, sieve, GiveUp::Shed { classes })? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Gives up all segments whose records were sealed before this time, whatever their class.
    pub(crate) fn expire(&self, sieve: &dyn Sieve, before: Timestamp) -> Result<(), WalError> {
        let mut at = 0;
        while let Some((previous, segment)) = self.settled(at) {
            let weights = weights(&segment, sieve);
            if weights.expirable > 0 && weights.newest >= before.nanos() {
                // Those behind it are newer.
                break;
            }
            let joins = previous.is_some();
            let goes = segment.is_fit() && weights.expirable > 0;
            if !(goes && self.rewrite(previous, segment, sieve, GiveUp::Expired)? && joins) {
                at += 1;
            }
        }
        Ok(())
    }

    /// The segment at this place, if it is durable as a whole and is not the last, and the one before it if that was
    /// rewritten already and is small.
    fn settled(&self, at: usize) -> Option<(Option<Arc<Segment>>, Arc<Segment>)> {
        let state = self.lock();
        let (segment, next) = (state.segments.get(at)?, state.segments.get(at + 1)?);
        if next.first > self.durable() || state.failure.is_some() {
            return None;
        }
        let before = at.checked_sub(1).and_then(|before| state.segments.get(before));
        let is_small = |before: &&Arc<Segment>| {
            before.layout.sparse
                && before
                    .bytes()
                    .is_some_and(|bytes| bytes <= before.layout.start + self.segment_bytes / 4)
                && before.is_fit()
        };
        Some((before.filter(is_small).cloned(), segment.clone()))
    }

    /// Rewrites a segment, joined to the one before it if there is one to join it to. `false` if that was not worth it or
    /// could not be done.
    fn rewrite(
        &self,
        before: Option<Arc<Segment>>,
        segment: Arc<Segment>,
        sieve: &dyn Sieve,
        what: GiveUp,
    ) -> Result<bool, WalError> {
        let path = self.dir.join(COMPACT_FILE);
        let old: Vec<_> = before.into_iter().chain([segment]).collect();
        let written = self.write_compacted(&path, &old, sieve, what);
        let swapped = match written {
            Ok(Some(new)) => self.swap(&path, &old, new),
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        if !matches!(swapped, Ok(true)) {
            let _ = std::fs::remove_file(&path);
        }
        match swapped {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                Err(Failure::new("gave up old records", error).to_error())
            }
            // Without room for even the little that stays, nothing can be done.
            swapped => Ok(swapped.unwrap_or(false)),
        }
    }

    fn write_compacted(
        &self,
        path: &std::path::Path,
        old: &[Arc<Segment>],
        sieve: &dyn Sieve,
        what: GiveUp,
    ) -> io::Result<Option<Segment>> {
        let Some(first) = old.first() else { return Ok(None) };
        let trimmed = Offset(self.lock().floor);
        let Some(plan) = plan(old, sieve.begin(what, trimmed))? else {
            old.iter().for_each(|segment| segment.leave_alone());
            return Ok(None);
        };
        let Some(end) = plan.end() else { return Ok(None) };
        let mark = new_mark().map_err(io::Error::other)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        let key = self.keys.as_ref().map(|keys| keys.current()).transpose();
        let key = key.map_err(io::Error::other)?;
        let locked = key.map(|key| lock_with(&key, self.log, mark)).transpose()?;
        let (slot, layout) = locked.unzip();
        let layout = Layout {
            sparse: true,
            ..layout.unwrap_or_default()
        };
        let header = SegmentHeader {
            log: self.log,
            first: first.first,
            mark,
            created: Timestamp::now().nanos(),
            sparse: Some(end),
            encrypted: slot.is_some(),
        };
        let mut out = Writer {
            out: BufWriter::with_capacity(256 << 10, &file),
            mark,
            lock: layout.lock.clone(),
            bytes: layout.start,
        };
        out.out.write_all(&beginning(&header, slot.as_ref()))?;
        let mut made = plan.made.into_iter().peekable();
        for segment in old {
            let mut stays = plan
                .stays
                .iter()
                .copied()
                .skip_while(|offset| *offset < segment.first)
                .peekable();
            let source = segment.readable()?;
            let start = (segment.first, segment.layout.start);
            let mut walk =
                Walk::new(&*source, Depth::Records, segment.mark, start, u64::MAX)?.laid_out(&segment.layout);
            while stays.peek().is_some() {
                match walk.step()? {
                    Step::Record(found) if stays.peek() == Some(&found.header.offset) => {
                        stays.next();
                        while let Some((offset, record)) = made.next_if(|(at, _)| *at < found.header.offset) {
                            out.put(offset, &record)?;
                        }
                        match walk.content(usize::MAX)? {
                            Content::Plain(record) if found.intact => out.put(found.header.offset, record)?,
                            _ => return Ok(None),
                        }
                    }
                    Step::Record(_) => {}
                    Step::Damage(_) => return Ok(None),
                    // Those that stay in the segment behind this one.
                    Step::End(_) => break,
                }
            }
        }
        for (offset, record) in made {
            out.put(offset, &record)?;
        }
        let bytes = out.bytes;
        out.out.flush()?;
        drop(out);
        file.sync_all()?;
        let new = Segment::existing(first.path().to_owned(), first.first, mark, layout);
        new.set_bytes(bytes);
        Ok(Some(new))
    }

    /// Puts a new segment in the place of old ones.
    fn swap(&self, path: &std::path::Path, old: &[Arc<Segment>], new: Segment) -> io::Result<bool> {
        let sum = |segments: &[Arc<Segment>]| segments.iter().filter_map(|s| s.bytes()).sum::<u64>();
        let (before, after) = (sum(old), new.bytes().unwrap_or(0));
        {
            let mut state = self.lock();
            // Trimmed meanwhile: their files may be gone, and must not come back.
            if !old.iter().all(|segment| state.holds(segment)) {
                return Ok(false);
            }
            let at = state
                .segments
                .partition_point(|segment| segment.first < new.first);
            // Under the lock, so that the log's thread does not delete it at the same moment.
            std::fs::rename(path, new.path())?;
            state.segments[at] = Arc::new(new);
            for _ in &old[1..] {
                state.segments.remove(at + 1);
            }
            // Space is counted as free only once it is, so that a failure below errs on the safe side.
        }
        sync_dir(&self.dir)?;
        for covered in &old[1..] {
            if let Err(error) = std::fs::remove_file(covered.path()) {
                tracing::warn!(segment = %covered.path().display(), %error, "a segment that lies in another now could not be removed; opening the log tries again");
            }
        }
        let mut state = self.lock();
        state.used_bytes = (state.used_bytes + after).saturating_sub(before);
        drop(state);
        #[cfg(feature = "bus")]
        metrics::counter!("amoskys_log_rewritten_segments_total").increment(1);
        Ok(true)
    }
}

/// What a rewritten segment will hold.
struct Plan {
    /// The offsets of the records that stay.
    stays: Vec<u64>,
    /// What stands in the place of the others.
    made: Vec<(u64, Bytes)>,
}

impl Plan {
    /// The offset behind the last.
    fn end(&self) -> Option<u64> {
        let made = self.made.last().map(|(offset, _)| *offset);
        self.stays.last().copied().max(made).map(|last| last + 1)
    }
}

/// Sifts the records of segments. `None` if something in them is damaged: that stays as it is, as evidence.
fn plan(old: &[Arc<Segment>], mut sifting: Box<dyn Sifting + '_>) -> io::Result<Option<Plan>> {
    let mut stays = Vec::new();
    for segment in old {
        let file = segment.readable()?;
        let start = (segment.first, segment.layout.start);
        let walk = Walk::new(&*file, Depth::Records, segment.mark, start, u64::MAX)?;
        let mut walk = walk.laid_out(&segment.layout);
        let usual = match &segment.layout.lock {
            Lock::Open => 0,
            _ => RECORD_ENCRYPTED,
        };
        loop {
            match walk.step()? {
                Step::Record(found) if found.intact && found.header.flags == usual => {
                    let Content::Plain(record) = walk.content(usize::MAX)? else {
                        return Ok(None);
                    };
                    let stayed = sifting.stays(found.header.offset, record);
                    if stayed.map_err(io::Error::other)? {
                        stays.push(found.header.offset);
                    }
                }
                Step::Record(_) | Step::Damage(_) => return Ok(None),
                Step::End(_) => break,
            }
        }
    }
    let made = sifting.finish().map_err(io::Error::other)?;
    Ok(Some(Plan { stays, made }))
}

/// What could be given up of a segment. Looks once.
fn weights(segment: &Segment, sieve: &dyn Sieve) -> Weights {
    *segment.weights.get_or_init(|| {
        weigh(segment, sieve).unwrap_or_else(|error| {
            tracing::warn!(segment = %segment.path().display(), %error, "a segment cannot be read; nothing of it is given up");
            segment.leave_alone();
            Weights::default()
        })
    })
}

fn weigh(segment: &Segment, sieve: &dyn Sieve) -> io::Result<Weights> {
    /// Enough for any header that our own sealer makes; with a longer one, a record counts as one that stays.
    const HEADER: usize = 16 << 10;
    let file = segment.readable()?;
    let start = (segment.first, segment.layout.start);
    let walk = Walk::new(&*file, Depth::Headers, segment.mark, start, u64::MAX)?;
    let mut walk = walk.laid_out(&segment.layout);
    let mut weights = Weights {
        newest: i64::MIN,
        ..Weights::default()
    };
    loop {
        match walk.step()? {
            Step::Record(found) => {
                let bytes = found.header.stored_len();
                if let Nature::Loose { shed, sealed } = sieve.nature(walk.payload(HEADER)?) {
                    if let Some(weight) = shed.and_then(|class| weights.sheddable.get_mut(class)) {
                        *weight += bytes;
                    }
                    weights.expirable += bytes;
                    weights.newest = weights.newest.max(sealed);
                }
            }
            Step::Damage(_) => {
                segment.leave_alone();
                return Ok(weights);
            }
            Step::End(_) => return Ok(weights),
        }
    }
}

/// Writes records one after the other.
struct Writer<'a> {
    out: BufWriter<&'a File>,
    mark: u32,
    lock: Lock,
    bytes: u64,
}

impl Writer<'_> {
    fn put(&mut self, offset: u64, record: &[u8]) -> io::Result<()> {
        let mut encrypted = Vec::new();
        let (record, flags) = match &self.lock {
            Lock::Cipher(cipher) => {
                cipher
                    .encrypt(offset, record, &mut encrypted)
                    .map_err(io::Error::other)?;
                (&encrypted[..], RECORD_ENCRYPTED)
            }
            _ => (record, 0),
        };
        let header = RecordHeader {
            len: u32::try_from(record.len()).map_err(io::Error::other)?,
            offset,
            // All before it is durable.
            group: 0,
            crc: crc32fast::hash(record),
            flags,
        };
        self.out.write_all(&header.encode(self.mark))?;
        self.out.write_all(record)?;
        let stored = header.stored_len();
        let padding = stored - super::format::RECORD_HEADER as u64 - record.len() as u64;
        self.out
            .write_all(&[0; ALIGN as usize][..usize::try_from(padding).map_err(io::Error::other)?])?;
        self.bytes += stored;
        Ok(())
    }
}
