//! Finds the mark of a segment whose header and first record are both destroyed, as one lost sector can do.

use std::io;

use super::format::{ALIGN, RECORD_HEADER, RecordHeader, SEGMENT_HEADER};
use super::walk::{Depth, ReadAt, Step, Walk};

const CHUNK: usize = 1 << 20;
/// Marks that are compared. A whole segment has one; bytes an outsider chose may look like more.
const MAX_MARKS: usize = 16;
/// Records whose places are compared.
const MAX_PLACES: usize = 1 << 16;

/// The mark of the good records of a segment. What was made to look like records lies within real ones, which tells
/// them apart.
pub(super) fn find_mark<R: ReadAt>(source: &R) -> io::Result<Option<u32>> {
    let mut best: Option<(u32, Spans)> = None;
    for mark in marks(source)? {
        let spans = good_records(source, mark)?;
        let better = best.as_ref().is_none_or(|(_, other)| {
            spans.contains_any(other) || !other.contains_any(&spans) && spans.bytes > other.bytes
        });
        if better && spans.bytes > 0 {
            best = Some((mark, spans));
        }
    }
    Ok(best.map(|(mark, _)| mark))
}

/// Where the good records with one mark are.
#[derive(Default)]
struct Spans {
    /// The first of them: begin and end, in order.
    places: Vec<(u64, u64)>,
    /// Bytes of all.
    bytes: u64,
}

impl Spans {
    /// Whether one of the others lies within one of these.
    fn contains_any(&self, others: &Self) -> bool {
        others.places.iter().any(|(begin, end)| {
            let behind = self.places.partition_point(|(at, _)| at < begin);
            let around = behind.checked_sub(1).and_then(|at| self.places.get(at));
            around.is_some_and(|(_, end_around)| end <= end_around)
        })
    }
}

/// All marks of what looks like a record header.
fn marks(source: &impl ReadAt) -> io::Result<Vec<u32>> {
    let size = source.size()?;
    let mut marks = Vec::new();
    let mut buf = vec![0; CHUNK + RECORD_HEADER];
    let mut pos = SEGMENT_HEADER as u64;
    while pos < size && marks.len() < MAX_MARKS {
        let n = source.read_at(&mut buf, pos)?;
        for bytes in buf[..n].windows(RECORD_HEADER).step_by(ALIGN as usize) {
            let mark = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if mark != 0 && RecordHeader::decode(bytes, mark).is_some() && !marks.contains(&mark) {
                marks.push(mark);
            }
        }
        pos += CHUNK as u64;
    }
    marks.truncate(MAX_MARKS);
    Ok(marks)
}

fn good_records<R: ReadAt>(source: &R, mark: u32) -> io::Result<Spans> {
    let mut walk = Walk::new(source, Depth::Records, mark, (0, SEGMENT_HEADER as u64), u64::MAX)?;
    let mut spans = Spans::default();
    loop {
        match walk.step()? {
            Step::Record(found) if found.intact => {
                let len = found.header.stored_len();
                spans.bytes += len;
                if spans.places.len() < MAX_PLACES {
                    spans.places.push((found.pos, found.pos + len));
                }
            }
            Step::Record(_) | Step::Damage(_) => {}
            Step::End(_) => return Ok(spans),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(out: &mut Vec<u8>, mark: u32, offset: u64, record: &[u8]) {
        let header = RecordHeader {
            len: u32::try_from(record.len()).unwrap(),
            offset,
            group: 0,
            crc: crc32fast::hash(record),
            flags: 0,
        };
        out.extend(header.encode(mark));
        out.extend(record);
        out.resize(out.len().next_multiple_of(8), 0);
    }

    #[test]
    fn the_mark_of_the_records_and_not_of_what_is_in_them() {
        let mut segment = vec![0; SEGMENT_HEADER];
        let mut places = Vec::new();
        for offset in 0..50 {
            let mut inner = vec![b'x'; 8];
            for n in 0..20 {
                put(&mut inner, 0x0bad_0bad, 1000 + offset * 20 + n, &[7; 100]);
            }
            places.push(segment.len());
            put(&mut segment, 0x600d_600d, offset, &inner);
        }
        assert_eq!(find_mark(&&segment[..]).unwrap(), Some(0x600d_600d));
        // Also without the first record's header, which leaves what was in it.
        segment[places[0]..places[0] + 32].fill(0);
        assert_eq!(find_mark(&&segment[..]).unwrap(), Some(0x600d_600d));
        for len in [0, 10, 64, 80] {
            assert_eq!(find_mark(&&segment[..len]).unwrap(), None);
        }
        segment.fill(0);
        assert_eq!(find_mark(&&segment[..]).unwrap(), None);
    }
}
