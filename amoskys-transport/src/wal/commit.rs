//! The log's thread: writes what is queued, makes it durable, says so; deletes what was trimmed.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crypt::{Cipher, Lock};
use super::format::{ALIGN, RECORD_ENCRYPTED, RECORD_HEADER, RecordHeader, stored_len};
use super::observer::Observer;
use super::segment::{Segment, sync_dir};
use super::shared::{Failure, Queued, Shared};
use super::state::StateStore;

/// The store's name for the first offset that was not trimmed.
pub(crate) const FLOOR: &str = "log/floor";

/// Records written in one system call; each takes three slices, and the kernel takes 1024.
const RECORDS_PER_WRITE: usize = 340;

pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) store: Arc<StateStore>,
    pub(crate) observer: Option<Box<dyn Observer>>,
    pub(crate) interval: Duration,
    /// The segment written to last.
    pub(crate) current: Option<Arc<Segment>>,
    /// Segments whose deletion failed, to be tried again with the next.
    pub(crate) postponed: Vec<Arc<Segment>>,
}

/// What there is to do.
struct Work {
    queue: Vec<Queued>,
    dead: Vec<Arc<Segment>>,
    /// The segment behind the dead ones.
    oldest: Option<Arc<Segment>>,
    closing: bool,
    settle: bool,
}

impl Committer {
    /// Works until the log is closed.
    pub(crate) fn run(mut self) {
        let watch = Watch(self.shared.clone());
        let mut headers = Vec::new();
        let mut spent = Vec::new();
        // When something was last settled, and whether there is something new to settle.
        let (mut settled, mut unsettled) = (Instant::now(), false);
        loop {
            let mut work = self.wait(&mut spent, settled, unsettled);
            if !work.queue.is_empty() {
                unsettled = true;
                if let Err(failure) = self.commit(&work.queue, &mut headers) {
                    self.shared.give_up(failure);
                }
                work.queue.clear();
            }
            spent = std::mem::take(&mut work.queue);
            if work.settle || work.closing || !work.dead.is_empty() {
                self.settle(&work, unsettled);
                (settled, unsettled) = (Instant::now(), false);
            }
            if work.closing {
                break;
            }
        }
        self.finish();
        drop(watch);
    }

    /// Waits for work. `spent` is an emptied queue to be used again.
    fn wait(&self, spent: &mut Vec<Queued>, settled: Instant, unsettled: bool) -> Work {
        let mut state = self.shared.lock();
        loop {
            let due = self.interval.saturating_sub(settled.elapsed());
            let unsaved = state.unsaved || unsettled;
            let settle = unsaved && due.is_zero();
            if !state.queue.is_empty() || !state.dead.is_empty() || state.closing || settle {
                return Work {
                    queue: std::mem::replace(&mut state.queue, std::mem::take(spent)),
                    dead: std::mem::take(&mut state.dead),
                    oldest: state.segments.front().cloned(),
                    closing: state.closing,
                    settle,
                };
            }
            let work = &self.shared.work;
            state = if unsaved {
                work.wait_timeout(state, due)
                    .map_or_else(|poison| poison.into_inner().0, |(state, _)| state)
            } else {
                work.wait(state)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
            };
        }
    }

    /// Writes records and makes them durable, segment by segment: a segment is written to only once all before
    /// it is durable, which recovery relies on.
    fn commit(&mut self, queue: &[Queued], headers: &mut Vec<u8>) -> Result<(), Failure> {
        for group in queue.chunk_by(|a, b| Arc::ptr_eq(&a.segment, &b.segment)) {
            let [first, .., last] = group else {
                let [only] = group else { continue };
                self.commit_group(group, only, only, headers)?;
                continue;
            };
            self.commit_group(group, first, last, headers)?;
        }
        Ok(())
    }

    fn commit_group(
        &mut self,
        group: &[Queued],
        first: &Queued,
        last: &Queued,
        headers: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if self.shared.lock().failure.is_some() {
            // Already told.
            return Ok(());
        }
        let segment = &first.segment;
        let is_current = |current: &Arc<Segment>| Arc::ptr_eq(current, segment);
        if !self.current.as_ref().is_some_and(is_current)
            && let Some(filled) = self.current.replace(segment.clone())
        {
            retire(&filled);
        }
        let file = segment
            .writable()
            .map_err(|error| Failure::new("opened a segment", error))?;
        let written = match &segment.layout.lock {
            Lock::Cipher(cipher) => write_encrypted(&file, group, cipher, headers),
            _ => write_group(&file, group, headers),
        };
        written.map_err(|error| Failure::new("wrote records", error))?;
        let end = last.pos + last.stored;
        file.sync_data()
            .map_err(|error| Failure::new("made records durable", error))?;
        segment
            .name_durably(&self.shared.dir)
            .map_err(|error| Failure::new("made a segment durable", error))?;
        // Sealed records are looked into before anyone is told, so that the anchor is never behind a trim.
        if let Some(observer) = &mut self.observer {
            observer.committed(first.offset, &mut group.iter().map(|queued| &queued.record));
        }
        self.shared.publish(last.offset + 1, end - first.pos);
        Ok(())
    }

    fn settle(&mut self, work: &Work, unsettled: bool) {
        let unsaved = {
            let mut state = self.shared.lock();
            // As it is now: it may have moved on since the work was taken, and is not told of again.
            std::mem::take(&mut state.unsaved).then_some(state.floor)
        };
        if let Some(floor) = unsaved
            && let Err(error) = self.store.store(FLOOR, &floor.to_le_bytes())
        {
            tracing::warn!(%error, "how far the log was trimmed could not be kept");
        }
        // First the positions of those who read the log, then what they have read.
        self.store.sync();
        if !work.dead.is_empty() {
            self.delete(&work.dead, work.oldest.as_ref());
        } else if unsettled && let Some(observer) = &mut self.observer {
            observer.settle(self.shared.durable());
        }
    }

    fn delete(&mut self, dead: &[Arc<Segment>], oldest: Option<&Arc<Segment>>) {
        let mut dead: Vec<_> = self.postponed.drain(..).chain(dead.iter().cloned()).collect();
        // The segment behind them keeps the count of offsets.
        let Some(next) = oldest else { return };
        if let Err(error) = next.name_durably(&self.shared.dir) {
            tracing::warn!(%error, "trimmed segments stay until the directory can be made durable");
            self.postponed = dead;
            return;
        }
        if let Some(observer) = &mut self.observer {
            observer.deleting(&dead, next.first, self.shared.durable());
        }
        dead.retain(|segment| match std::fs::remove_file(segment.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(segment = %segment.path().display(), %error, "a trimmed segment could not be deleted");
                true
            }
            _ => false,
        });
        self.postponed = dead;
        if let Err(error) = sync_dir(&self.shared.dir) {
            tracing::warn!(%error, "the deletion of trimmed segments could not be made durable");
        }
    }

    /// Leaves the directory as small as it can be.
    fn finish(&self) {
        self.shared.spare.discard();
        let state = self.shared.lock();
        let Some(active) = state.active.as_ref().filter(|_| state.failure.is_none()) else {
            return;
        };
        let cut = active.segment.writable().and_then(|file| {
            file.set_len(active.pos)?;
            file.sync_all()
        });
        if let Err(error) = cut.and_then(|()| active.segment.name_durably(&self.shared.dir)) {
            tracing::warn!(%error, "the last segment could not be cut to its size");
        }
    }
}

/// Gives back what was reserved for a segment and not used. Everything in it is durable already.
fn retire(segment: &Segment) {
    if let (Some(bytes), Ok(file)) = (segment.bytes(), segment.writable())
        && let Err(error) = file.set_len(bytes)
    {
        tracing::debug!(%error, "a filled segment could not be cut to its size");
    }
    segment.retire();
}

fn write_group(file: &File, group: &[Queued], headers: &mut Vec<u8>) -> io::Result<()> {
    const PADDING: [u8; ALIGN as usize] = [0; ALIGN as usize];
    let mut before = 0;
    for part in group.chunks(RECORDS_PER_WRITE) {
        headers.clear();
        for queued in part {
            let header = RecordHeader {
                len: u32::try_from(queued.record.len()).map_err(io::Error::other)?,
                offset: queued.offset,
                group: before,
                crc: queued.crc,
                flags: 0,
            };
            headers.extend_from_slice(&header.encode(queued.segment.mark));
            before += 1;
        }
        let mut slices = Vec::with_capacity(part.len() * 3);
        for (queued, header) in part.iter().zip(headers.chunks_exact(RECORD_HEADER)) {
            let len = queued.record.len() as u64;
            let padding = stored_len(len) - len - RECORD_HEADER as u64;
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(&queued.record));
            slices.push(IoSlice::new(
                &PADDING[..usize::try_from(padding).map_err(io::Error::other)?],
            ));
        }
        write_all_at(file, part[0].pos, &mut slices)?;
    }
    Ok(())
}

/// The same for a segment that is encrypted. `buf` is used again.
fn write_encrypted(file: &File, group: &[Queued], cipher: &Cipher, buf: &mut Vec<u8>) -> io::Result<()> {
    /// Written in one system call, if no record is larger.
    const CHUNK: usize = 1 << 20;
    let mut from = group.first().map_or(0, |queued| queued.pos);
    buf.clear();
    for (queued, before) in group.iter().zip(0_u32..) {
        let start = buf.len();
        buf.resize(start + RECORD_HEADER, 0);
        cipher
            .encrypt(queued.offset, &queued.record, buf)
            .map_err(io::Error::other)?;
        let stored = &buf[start + RECORD_HEADER..];
        let header = RecordHeader {
            len: u32::try_from(stored.len()).map_err(io::Error::other)?,
            offset: queued.offset,
            group: before,
            crc: crc32fast::hash(stored),
            flags: RECORD_ENCRYPTED,
        };
        buf[start..start + RECORD_HEADER].copy_from_slice(&header.encode(queued.segment.mark));
        buf.resize(
            start + usize::try_from(queued.stored).map_err(io::Error::other)?,
            0,
        );
        if buf.len() >= CHUNK {
            write_all_at(file, from, &mut [IoSlice::new(buf)])?;
            from += buf.len() as u64;
            buf.clear();
        }
    }
    if !buf.is_empty() {
        write_all_at(file, from, &mut [IoSlice::new(buf)])?;
    }
    // A record of an unusual size need not be kept room for.
    buf.shrink_to(2 * CHUNK);
    Ok(())
}

fn write_all_at(file: &File, mut pos: u64, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Empty slices would otherwise be left over at the end.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match rustix::io::pwritev(file.as_fd(), slices, pos) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                pos += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Tells everybody if the thread ends by a panic, so that nobody waits for ever.
struct Watch(Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.give_up(Failure::new("ran", "the log's thread panicked"));
        }
    }
}
