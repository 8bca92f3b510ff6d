//! Reading records back.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use amoskys_core::{Offset, WalError};
use bytes::Bytes;

use super::crypt::Lock;
use super::format::{ALIGN, RECORD_ENCRYPTED, RECORD_HEADER, RecordHeader};
use super::segment::{Segment, lock};
use super::shared::Shared;
use super::walk::{Depth, Step, Walk};

/// Most that is read at once, whatever the caller asks for.
const MAX_READ: usize = 8 << 20;

/// Where recent readers have come to, so that each goes on without searching.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Mutex<VecDeque<Cursor>>);

#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// First offset and mark of the segment. Another mark is another file.
    segment: (u64, u32),
    offset: u64,
    pos: u64,
}

impl Cursors {
    const KEPT: usize = 32;

    fn find(&self, segment: &Segment, offset: u64) -> Option<u64> {
        let kept = lock(&self.0);
        let here = kept
            .iter()
            .rev()
            .find(|cursor| cursor.offset == offset && cursor.segment == (segment.first, segment.mark));
        here.map(|cursor| cursor.pos)
    }

    fn put(&self, segment: &Segment, offset: u64, pos: u64) {
        let mut kept = lock(&self.0);
        if kept.len() >= Self::KEPT {
            kept.pop_front();
        }
        kept.push_back(Cursor {
            segment: (segment.first, segment.mark),
            offset,
            pos,
        });
    }
}

/// Why nothing could be read.
enum Fault {
    Io(io::Error),
    /// Records up to and including `last` cannot be read.
    Damaged {
        last: u64,
        reason: String,
    },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(crate) fn read(
    shared: &Shared,
    cursors: &Cursors,
    from: Offset,
    max_bytes: usize,
) -> Result<Vec<(Offset, Bytes)>, WalError> {
    let from = from.0;
    loop {
        let (segment, limit) = {
            let state = shared.lock();
            let from = from.max(state.segments.front().map_or(state.next, |first| first.first));
            let durable = shared.durable();
            if from >= durable {
                return Ok(Vec::new());
            }
            let behind = state.segments.partition_point(|segment| segment.first <= from);
            // Below the first segment there is nothing, because `from` is not below it.
            let Some(segment) = behind.checked_sub(1).and_then(|at| state.segments.get(at)) else {
                return Ok(Vec::new());
            };
            let end = state.segments.get(behind).map_or(u64::MAX, |next| next.first);
            (segment.clone(), end.min(durable))
        };
        let from = from.max(segment.first);
        let read = read_segment(&segment, cursors, from, limit, max_bytes);
        if read.is_err() && !shared.lock().holds(&segment) {
            // Trimmed, or rewritten with less in it, while it was being read.
            continue;
        }
        return match read {
            Ok(records) => Ok(records),
            Err(Fault::Io(error)) if error.kind() == io::ErrorKind::NotFound => Err(damaged(
                limit - 1,
                format!("{} is missing", segment.path().display()),
            )),
            Err(Fault::Io(error)) => Err(damaged(
                from,
                format!("{} cannot be read: {error}", segment.path().display()),
            )),
            Err(Fault::Damaged { last, reason }) => {
                Err(damaged(last, format!("{reason} in {}", segment.path().display())))
            }
        };
    }
}

pub(crate) fn first_readable(state: &super::shared::State) -> u64 {
    state
        .floor
        .max(state.segments.front().map_or(state.next, |segment| segment.first))
}

fn damaged(offset: u64, reason: String) -> WalError {
    WalError::Damaged {
        offset: Offset(offset),
        reason,
    }
}

fn read_segment(
    segment: &Arc<Segment>,
    cursors: &Cursors,
    from: u64,
    limit: u64,
    max_bytes: usize,
) -> Result<Vec<(Offset, Bytes)>, Fault> {
    let file = segment.readable()?;
    let mut pos = match cursors.find(segment, from) {
        Some(pos) => pos,
        None => seek(segment, &file, from, limit)?,
    };
    let max_bytes = max_bytes.min(MAX_READ);
    let mut chunk = read_chunk(&file, pos, max_bytes.max(4 << 10))?;
    let mut at = 0;
    let mut taken = 0;
    let mut offset = from;
    let mut records: Vec<(Offset, Range<usize>)> = Vec::new();
    while offset < limit {
        let header = chunk
            .get(at..)
            .and_then(|rest| RecordHeader::decode(rest, segment.mark));
        let is_next = |header: &RecordHeader| {
            header.offset == offset || segment.layout.sparse && (offset..limit).contains(&header.offset)
        };
        let Some(header) = header.filter(is_next) else {
            // The end of what was read, or something that the next call finds out about.
            if !records.is_empty() {
                break;
            }
            pos = find_again(segment, &file, cursors, (offset, pos), limit)?;
            (chunk, at) = (read_chunk(&file, pos, max_bytes.max(4 << 10))?, 0);
            continue;
        };
        let here = header.offset;
        let len = header.len as usize;
        let end = at + RECORD_HEADER + len;
        if end > chunk.len() {
            if !records.is_empty() {
                break;
            }
            // The first record is always given, however large.
            (chunk, at) = (read_chunk(&file, pos, RECORD_HEADER + len)?, 0);
            if chunk.len() < RECORD_HEADER + len {
                let reason = format!("the record at byte {pos} is cut off");
                return Err(Fault::Damaged {
                    last: limit - 1,
                    reason,
                });
            }
            continue;
        }
        if !records.is_empty() && taken + len > max_bytes {
            break;
        }
        let stored = &mut chunk[at + RECORD_HEADER..end];
        let record = match open(stored, &header, &segment.layout.lock) {
            Ok(range) => at + RECORD_HEADER + range.start..at + RECORD_HEADER + range.end,
            Err(_) if !records.is_empty() => break,
            Err(reason) => {
                cursors.put(segment, here + 1, pos + header.stored_len());
                return Err(Fault::Damaged {
                    last: here,
                    reason: format!("{reason} at byte {pos}"),
                });
            }
        };
        records.push((Offset(here), record));
        taken += len;
        pos += header.stored_len();
        at = end.next_multiple_of(ALIGN as usize);
        offset = here + 1;
    }
    cursors.put(segment, offset, pos);
    let chunk = Bytes::from(chunk);
    let records = records.into_iter();
    Ok(records
        .map(|(offset, range)| (offset, chunk.slice(range)))
        .collect())
}

/// Checks a stored record, and decrypts it in its place. Says where in it the record is.
fn open(stored: &mut [u8], header: &RecordHeader, lock: &Lock) -> Result<Range<usize>, &'static str> {
    if crc32fast::hash(stored) != header.crc {
        return Err("the checksum does not match");
    }
    match (header.flags, lock) {
        (0, _) => Ok(0..stored.len()),
        (RECORD_ENCRYPTED, Lock::Cipher(cipher)) => cipher
            .decrypt(header.offset, stored)
            .ok_or("the record does not decrypt, so it was altered,"),
        (RECORD_ENCRYPTED, _) => Err("what the record was encrypted with is lost"),
        _ => Err("the record was written by a newer version"),
    }
}

/// The place of record `from`.
fn seek(segment: &Segment, file: &std::fs::File, from: u64, limit: u64) -> Result<u64, Fault> {
    let start = segment.place_before(from);
    let mut walk = Walk::new(file, Depth::Headers, segment.mark, start, limit)?.laid_out(&segment.layout);
    let mut at = start;
    while at.0 < from {
        at = match walk.step()? {
            // Where `from` was given up, what comes next takes its place.
            Step::Record(found) if found.header.offset >= from => return Ok(found.pos),
            Step::Record(found) => {
                segment.remember(found.header.offset, found.pos);
                (found.header.offset + 1, found.pos + found.header.stored_len())
            }
            Step::Damage(damage) if damage.next > from => {
                let reason = format!(
                    "no record can be read from byte {} to byte {}",
                    damage.pos, damage.end
                );
                return Err(Fault::Damaged {
                    last: damage.next - 1,
                    reason,
                });
            }
            Step::Damage(damage) => (damage.next, damage.end),
            Step::End(end) => {
                let reason = format!("the records end at byte {}", end.pos);
                return Err(Fault::Damaged {
                    last: limit - 1,
                    reason,
                });
            }
        };
    }
    Ok(at.1)
}

/// Where record `place.0` is, if it is not at `place.1`; always further on.
fn find_again(
    segment: &Segment,
    file: &std::fs::File,
    cursors: &Cursors,
    place: (u64, u64),
    limit: u64,
) -> Result<u64, Fault> {
    let mut walk = Walk::new(file, Depth::Headers, segment.mark, place, limit)?.laid_out(&segment.layout);
    match walk.step()? {
        // Stray bytes stood before it; nothing is lost.
        Step::Damage(damage) if damage.next == place.0 => Ok(damage.end),
        Step::Damage(damage) => {
            cursors.put(segment, damage.next, damage.end);
            let reason = format!(
                "no record can be read from byte {} to byte {}",
                damage.pos, damage.end
            );
            Err(Fault::Damaged {
                last: damage.next - 1,
                reason,
            })
        }
        Step::Record(found) if found.pos > place.1 => Ok(found.pos),
        // Readable now and not a moment ago: the storage is not to be trusted with it.
        Step::Record(found) => {
            let reason = format!("the record at byte {} reads differently each time", found.pos);
            Err(Fault::Damaged {
                last: place.0,
                reason,
            })
        }
        Step::End(end) => Err(Fault::Damaged {
            last: limit - 1,
            reason: format!("the records end at byte {}", end.pos),
        }),
    }
}

/// Reads into memory that was not filled before.
fn read_chunk(file: &File, pos: u64, len: usize) -> io::Result<Vec<u8>> {
    use rustix::buffer::spare_capacity;
    let left = usize::try_from(file.metadata()?.len().saturating_sub(pos)).unwrap_or(usize::MAX);
    let len = len.min(left);
    let mut buf = Vec::with_capacity(len);
    while buf.len() < len {
        let at = pos + buf.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut buf), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // There may be room for more than was asked for.
    buf.truncate(len);
    Ok(buf)
}
