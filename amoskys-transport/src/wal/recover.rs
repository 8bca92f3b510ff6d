//! Finds out what a log directory holds, and cuts off what was never durable.
//!
//! A record says how many before it belong to the same commit; a commit is written only after the one before it
//! is durable. So whatever lies before the newest commit that left a good record is known to have been durable:
//! a bad record there is damage, and is kept and stepped over. A bad record behind that is what a crash left of
//! a commit nobody was told about, and the log ends before it. A segment is begun only after the one before it
//! is durable, so that only the last ones need to be read.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use amoskys_core::WalError;

use super::crypt::Lock;
use super::format::{HeaderFault, SEGMENT_HEADER, VERSION};
use super::lock::cannot;
use super::log_key::LogKeys;
use super::segment::{
    COMPACT_FILE, SPARE_FILE, Segment, SegmentFile, list_segments, read_beginning, sync_dir,
};
use super::walk::{Depth, Layout, Step, Walk};

/// What a directory holds.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Readable and unreadable segments, in order; the last is appended to if `tail` says so.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Offset of the next record.
    pub(crate) next: u64,
    /// Where in the last segment it goes; `None` if a new segment is to be begun.
    pub(crate) tail: Option<u64>,
    /// The log's identity, out of a segment header.
    pub(crate) log: Option<u128>,
    /// Whether anything durable was found damaged or missing.
    pub(crate) damaged: bool,
    /// Bytes cut off that were never durable.
    pub(crate) cut_bytes: u64,
}

/// A segment file with what is known of it.
struct Candidate {
    file: SegmentFile,
    /// `None` if no record in it can be told from noise.
    mark: Option<u32>,
    header_intact: bool,
    layout: Layout,
    /// See [`SegmentHeader::sparse`](super::format::SegmentHeader).
    sparse: Option<u64>,
    bytes: u64,
}

/// Recovers a log. `durable` is an offset known from elsewhere to have been reached.
///
/// What was encrypted needs its key; without it nothing is changed. `goes_on` says whether a segment with this lock can be
/// appended to.
pub(crate) fn recover(
    dir: &Path,
    durable: u64,
    keys: Option<&dyn LogKeys>,
    goes_on: &dyn Fn(&Lock) -> bool,
) -> Result<Recovered, WalError> {
    let failed = |error| cannot(format!("{} cannot be read", dir.display()), error);
    let files = list_segments(dir).map_err(failed)?;
    let mut candidates = Vec::with_capacity(files.len());
    let mut recovered = Recovered::default();
    // Before anything is changed: a newer version may mean something by what looks damaged from here.
    for file in files {
        candidates.push(inspect(file, keys, &mut recovered)?);
    }
    for unfinished in [SPARE_FILE, COMPACT_FILE] {
        match std::fs::remove_file(dir.join(unfinished)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot(format!("{} cannot be written", dir.display()), error));
            }
            _ => {}
        }
    }
    remove_covered(dir, &mut candidates).map_err(failed)?;

    // The newest segment with a good record, and what was begun behind it.
    let mut tail_from = candidates.len();
    let mut durable = durable;
    while tail_from > 0 {
        tail_from -= 1;
        let (records, proven) = survey(&candidates[tail_from]).map_err(failed)?;
        let candidate = &mut candidates[tail_from];
        if proven.max(durable) <= candidate.file.first && is_headless(&candidate.file.path).map_err(failed)? {
            // Its first commit, without what was written before it. Nobody was told that it is durable.
            candidate.mark = None;
            continue;
        }
        durable = durable.max(proven);
        if records > 0 {
            break;
        }
    }

    let mut next = candidates.first().map_or(0, |first| first.file.first);
    let mut cut = None;
    for (at, candidate) in candidates.iter().enumerate() {
        let first = candidate.file.first;
        if at < tail_from {
            // Durable as a whole. Whether it is complete shows when it is read.
            next = candidates[at + 1].file.first;
            recovered.segments.push(candidate.segment());
            continue;
        }
        if first > next && next >= durable {
            cut = Some(at);
            break;
        }
        recovered.damaged |= first != next;
        let segment = candidate.segment();
        let end = find_end(candidate, &segment, durable, &mut recovered.damaged).map_err(failed)?;
        next = end.next;
        // A segment behind it that begins later was never durable, and what a crash left of the records between them need
        // not look like records.
        let ends_here = |next: &Candidate| next.file.first > end.next && end.next >= durable;
        if end.cut || candidates.get(at + 1).is_none_or(ends_here) {
            let keep = close_tail(candidate, &end, durable, goes_on, &mut recovered)?;
            if keep {
                recovered.segments.push(segment);
            }
            cut = Some(at + 1);
            break;
        }
        recovered.segments.push(segment);
    }
    for never_durable in candidates.iter().skip(cut.unwrap_or(candidates.len())) {
        recovered.cut_bytes += never_durable.bytes;
        set_aside(never_durable).map_err(failed)?;
    }
    recovered.next = next.max(durable);
    if recovered.next > next {
        recovered.damaged = true;
        recovered.tail = None;
    }
    sync_dir(dir).map_err(failed)?;
    Ok(recovered)
}

/// Removes segments whose records, or what took their place, lie in the one before them: a crash came before they were.
fn remove_covered(dir: &Path, candidates: &mut Vec<Candidate>) -> std::io::Result<()> {
    let mut covered_to = 0;
    let mut covered = Vec::new();
    candidates.retain(|candidate| {
        if candidate.file.first < covered_to {
            covered.push(candidate.file.path.clone());
            return false;
        }
        if candidate.header_intact {
            covered_to = candidate.sparse.unwrap_or(0);
        }
        true
    });
    if covered.is_empty() {
        return Ok(());
    }
    // The name of what covers them may not be durable yet.
    sync_dir(dir)?;
    covered.iter().try_for_each(std::fs::remove_file)
}

fn inspect(
    file: SegmentFile,
    keys: Option<&dyn LogKeys>,
    recovered: &mut Recovered,
) -> Result<Candidate, WalError> {
    let failed = |error| cannot(format!("{} cannot be read", file.path.display()), error);
    let open = File::open(&file.path).map_err(failed)?;
    let beginning = read_beginning(&&open).map_err(failed)?;
    let (header_intact, sparse) = match beginning.header {
        Ok(header) => {
            recovered.log.get_or_insert(header.log);
            (header.first == file.first, header.sparse)
        }
        Err(HeaderFault::Damaged) => (false, None),
        Err(HeaderFault::Version(found)) => {
            let reason = format!(
                "{} has format version {found}, this version reads up to {VERSION}; use the newer version, or another directory",
                file.path.display()
            );
            return Err(WalError::Open { reason, source: None });
        }
    };
    let bytes = open.metadata().map_err(failed)?.len();
    let layout = beginning.unlock(keys).map_err(|(key, source)| {
        let reason = format!(
            "{} is encrypted with the log key {key}, which is not among those given; give it, or use another directory",
            file.path.display()
        );
        WalError::Open { reason, source }
    })?;
    Ok(Candidate {
        file,
        mark: beginning.mark,
        header_intact,
        layout,
        sparse,
        bytes,
    })
}

impl Candidate {
    fn walk<'a>(&self, file: &'a File) -> std::io::Result<Walk<&'a File>> {
        let start = (self.file.first, self.layout.start);
        // A mark of zero finds nothing.
        let walk = Walk::new(file, Depth::Records, self.mark.unwrap_or(0), start, u64::MAX)?;
        Ok(walk.laid_out(&self.layout))
    }

    fn segment(&self) -> Arc<Segment> {
        // Without a mark nothing in it is found, and reading says so.
        let (path, mark) = (self.file.path.clone(), self.mark.unwrap_or(0));
        let segment = Segment::existing(path, self.file.first, mark, self.layout.clone());
        segment.set_bytes(self.bytes);
        Arc::new(segment)
    }
}

/// Counts the good records of a segment, and the offset before which all are known to have been durable.
fn survey(candidate: &Candidate) -> std::io::Result<(u64, u64)> {
    let file = File::open(&candidate.file.path)?;
    let mut walk = candidate.walk(&file)?;
    // Nothing is given up before it, and all behind it in its segment, is durable.
    let (mut records, mut proven) = (0, candidate.sparse.unwrap_or(0));
    loop {
        match walk.step()? {
            Step::Record(found) if found.intact => {
                records += 1;
                proven = proven.max(found.header.offset.saturating_sub(u64::from(found.header.group)));
            }
            Step::Record(_) | Step::Damage(_) => {}
            Step::End(_) => return Ok((records, proven)),
        }
    }
}

/// Where the records of a segment end.
struct TailEnd {
    pos: u64,
    next: u64,
    /// Whether something that was never durable begins here.
    cut: bool,
}

fn find_end(
    candidate: &Candidate,
    segment: &Segment,
    durable: u64,
    damaged: &mut bool,
) -> std::io::Result<TailEnd> {
    let file = File::open(&candidate.file.path)?;
    let mut walk = candidate.walk(&file)?;
    loop {
        match walk.step()? {
            Step::Record(found) if !found.intact && found.header.offset >= durable => {
                return Ok(TailEnd {
                    pos: found.pos,
                    next: found.header.offset,
                    cut: true,
                });
            }
            Step::Record(found) => {
                *damaged |= !found.intact;
                segment.remember(found.header.offset, found.pos);
            }
            Step::Damage(damage) if damage.first >= durable => {
                return Ok(TailEnd {
                    pos: damage.pos,
                    next: damage.first,
                    cut: true,
                });
            }
            Step::Damage(_) => *damaged = true,
            Step::End(end) => {
                return Ok(TailEnd {
                    pos: end.pos,
                    next: end.next,
                    cut: false,
                });
            }
        }
    }
}

/// Prepares the last segment to be appended to, if it can be. `false` if there is nothing in it to keep.
fn close_tail(
    candidate: &Candidate,
    end: &TailEnd,
    durable: u64,
    goes_on: &dyn Fn(&Lock) -> bool,
    recovered: &mut Recovered,
) -> Result<bool, WalError> {
    let failed = |error| {
        cannot(
            format!("{} cannot be written", candidate.file.path.display()),
            error,
        )
    };
    let empty = end.next == candidate.file.first;
    if empty && !candidate.header_intact && end.next >= durable {
        // Begun when the crash came. It is begun again under the same name; until then its name says where
        // the log has come to.
        if !is_zero(&candidate.file.path).map_err(failed)? {
            set_aside(candidate).map_err(failed)?;
        }
        return Ok(false);
    }
    let goes_on = goes_on(&candidate.layout.lock);
    if empty && !goes_on && end.next >= durable {
        // Another takes its place and its name.
        return Ok(false);
    }
    if end.next < durable {
        // Durable records were here and are not. Their place is left as it is, as evidence.
        return Ok(!(empty && durable == candidate.file.first));
    }
    let file = OpenOptions::new()
        .write(true)
        .open(&candidate.file.path)
        .map_err(failed)?;
    if candidate.bytes != end.pos {
        // Also where only zeros follow: the next reservation begins with fresh ones, whatever the disk holds.
        file.set_len(end.pos)
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        if end.cut {
            recovered.cut_bytes += candidate.bytes - end.pos;
        }
    }
    if candidate.header_intact && candidate.sparse.is_none() && goes_on {
        recovered.tail = Some(end.pos);
    }
    Ok(true)
}

/// Removes a segment that was never durable; keeps it under another name if a crash does not explain what is in it.
fn set_aside(candidate: &Candidate) -> std::io::Result<()> {
    let path = &candidate.file.path;
    if candidate.mark.is_some() || candidate.bytes <= candidate.layout.start || is_headless(path)? {
        return std::fs::remove_file(path);
    }
    std::fs::rename(path, path.with_extension("seg.damaged"))
}

/// Whether there are zeros where its header should be. The header is written before the first records, and lies in one
/// sector: a power cut that took it leaves nothing of it, and perhaps some of the sectors behind it.
fn is_headless(path: &Path) -> std::io::Result<bool> {
    let mut header = [0; SEGMENT_HEADER];
    let n = super::walk::ReadAt::read_at(&File::open(path)?, &mut header, 0)?;
    Ok(header[..n].iter().all(|byte| *byte == 0))
}

fn is_zero(path: &Path) -> std::io::Result<bool> {
    use std::io::Read;
    let mut file = File::open(path)?;
    let mut buf = vec![0; 64 << 10];
    loop {
        match file.read(&mut buf)? {
            0 => return Ok(true),
            n if buf[..n].iter().any(|b| *b != 0) => return Ok(false),
            _ => {}
        }
    }
}
