//! Walks over every record of a log directory, without opening the log.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::wal::LogKeys;
use crate::wal::crypt::Lock;
use crate::wal::format::{HeaderFault, RECORD_ENCRYPTED, SegmentHeader};
use crate::wal::segment::{SegmentFile, list_segments, read_beginning};
use crate::wal::walk::{Content, Damage, Depth, End, Found, Step, Walk};

/// Something on the way.
pub(crate) enum Item<'a> {
    /// A segment begins.
    Segment {
        header: Result<SegmentHeader, HeaderFault>,
        /// Offset behind the segment before it.
        expected: Option<u64>,
        bytes: u64,
    },
    /// A record.
    Record { found: Found, record: &'a [u8] },
    /// A record that is encrypted with a key that is not known.
    Locked(Found),
    /// No record where one should be.
    Damage(Damage),
    /// A segment ends. `last` says whether it is the newest.
    End { end: End, last: bool },
    /// A segment cannot be read.
    Unreadable(io::Error),
}

/// Visits everything in the log below offset `limit`, in order.
pub(crate) fn walk_log(
    dir: &Path,
    depth: Depth,
    limit: u64,
    keys: Option<&dyn LogKeys>,
    visit: &mut dyn FnMut(&SegmentFile, Item<'_>),
) -> io::Result<()> {
    let mut files = list_segments(dir)?;
    files.retain(|file| file.first < limit);
    let mut expected = None;
    for (at, file) in files.iter().enumerate() {
        let last = at + 1 == files.len();
        match walk_segment(file, depth, limit, keys, (expected, last), visit) {
            Ok(next) => expected = Some(next),
            Err(error) => {
                // Trimmed since it was listed; the caller sees by the offsets whether it may be.
                visit(file, Item::Unreadable(error));
                expected = None;
            }
        }
    }
    Ok(())
}

fn walk_segment(
    file: &SegmentFile,
    depth: Depth,
    limit: u64,
    keys: Option<&dyn LogKeys>,
    (expected, last): (Option<u64>, bool),
    visit: &mut dyn FnMut(&SegmentFile, Item<'_>),
) -> io::Result<u64> {
    let open = File::open(&file.path)?;
    let beginning = read_beginning(&&open)?;
    let bytes = open.metadata()?.len();
    visit(
        file,
        Item::Segment {
            header: beginning.header,
            expected,
            bytes,
        },
    );
    let start = (file.first, beginning.layout.start);
    let walk = Walk::new(&open, depth, beginning.mark.unwrap_or(0), start, limit)?;
    // Without its key, the records stay shut.
    let layout = beginning.unlock(keys).unwrap_or(beginning.layout);
    let mut walk = walk.laid_out(&layout);
    loop {
        match walk.step()? {
            Step::Record(mut found) => match walk.content(usize::MAX)? {
                Content::Plain(record) => {
                    if matches!(layout.lock, Lock::Cipher(_)) {
                        found.header.flags &= !RECORD_ENCRYPTED;
                    }
                    visit(file, Item::Record { found, record });
                }
                Content::Locked if found.intact && keys.is_none() => visit(file, Item::Locked(found)),
                Content::Locked | Content::Altered => {
                    found.header.flags &= !RECORD_ENCRYPTED;
                    found.intact = false;
                    visit(file, Item::Record { found, record: &[] });
                }
            },
            Step::Damage(damage) => visit(file, Item::Damage(damage)),
            Step::End(end) => {
                visit(file, Item::End { end, last });
                return Ok(end.next);
            }
        }
    }
}
