//! Walks over the records of one segment, past damage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::crypt::{ENCRYPTED_START, Lock};
use super::format::{ALIGN, RECORD_ENCRYPTED, RECORD_HEADER, RecordHeader, SEGMENT_HEADER};

/// Something with bytes at positions: a file, or memory.
pub(crate) trait ReadAt {
    /// Fills `buf` from `pos` on; fewer bytes only at the end.
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize>;
    /// Bytes there are.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match FileExt::read_at(self, &mut buf[done..], pos + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        (**self).read_at(buf, pos)
    }

    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let from = usize::try_from(pos).unwrap_or(usize::MAX).min(self.len());
        let n = buf.len().min(self.len() - from);
        buf[..n].copy_from_slice(&self[from..from + n]);
        Ok(n)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// How the records of a segment lie in its file.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Where the first one begins.
    pub(crate) start: u64,
    /// Offsets may be missing: records were given up, and what says so takes their place.
    pub(crate) sparse: bool,
    pub(crate) lock: Lock,
}

impl Layout {
    /// Of an encrypted segment.
    pub(crate) fn locked(lock: Lock) -> Self {
        Self {
            start: ENCRYPTED_START,
            sparse: false,
            lock,
        }
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            start: SEGMENT_HEADER as u64,
            sparse: false,
            lock: Lock::Open,
        }
    }
}

/// How much a walk reads of each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only the headers; records are taken to be intact. Reads a few kilobytes a record.
    Headers,
    /// Everything, with checksums.
    Records,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record.
    Record(Found),
    /// No record where one should be. The walk goes on behind it.
    Damage(Damage),
    /// No further record in this segment.
    End(End),
}

/// A record in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where its header begins.
    pub(crate) pos: u64,
    pub(crate) header: RecordHeader,
    /// Whether the record's own checksum is right; always true at [`Depth::Headers`].
    pub(crate) intact: bool,
    /// Whether it is padded with zeros, as it should be; always true at [`Depth::Headers`].
    pub(crate) padded: bool,
}

/// A stretch that holds no readable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where it begins.
    pub(crate) pos: u64,
    /// Where the next good record begins; `pos` if records are missing without a trace.
    pub(crate) end: u64,
    /// Offset of the first record lost in it.
    pub(crate) first: u64,
    /// Offset of the record behind it; equal to `first` if none is lost.
    pub(crate) next: u64,
}

/// The end of the records of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Where the next record would begin.
    pub(crate) pos: u64,
    /// The offset it would have.
    pub(crate) next: u64,
    /// First byte from there on that is not zero, if the walk had to look.
    pub(crate) stray: Option<u64>,
}

/// A walk over a segment. Stops at `limit`, the first offset that is not of interest.
pub(crate) struct Walk<R> {
    window: Window<R>,
    depth: Depth,
    mark: u32,
    pos: u64,
    next: u64,
    limit: u64,
    sparse: bool,
    lock: Lock,
    /// The current record, decrypted.
    plain: Vec<u8>,
    current: Option<Found>,
}

/// What is in a record.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// The record, or its beginning.
    Plain(&'a [u8]),
    /// It is encrypted, and the key is not known.
    Locked,
    /// It does not decrypt, though its checksum may be right.
    Altered,
}

impl<R: ReadAt> Walk<R> {
    /// A walk from `pos`, where the record with offset `next` should be.
    pub(crate) fn new(
        source: R,
        depth: Depth,
        mark: u32,
        (next, pos): (u64, u64),
        limit: u64,
    ) -> io::Result<Self> {
        let window = Window::new(source, if depth == Depth::Headers { 4 << 10 } else { 1 << 20 })?;
        Ok(Self {
            window,
            depth,
            mark,
            pos,
            next,
            limit,
            sparse: false,
            lock: Lock::Open,
            plain: Vec::new(),
            current: None,
        })
    }

    /// The same, of a segment whose records lie like this.
    pub(crate) fn laid_out(mut self, layout: &Layout) -> Self {
        self.sparse = layout.sparse;
        self.lock = layout.lock.clone();
        self
    }

    /// What comes next.
    ///
    /// # Errors
    ///
    /// If the file cannot be read. Anything wrong with what is read is not an error but a [`Step`].
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        self.current = None;
        // A mark of zero stands for a segment whose mark is lost: nothing can be found in it.
        if self.next >= self.limit || self.mark == 0 {
            return Ok(Step::End(End {
                pos: self.pos,
                next: self.next,
                stray: None,
            }));
        }
        let Some(header) = self.header_at(self.pos)? else {
            return self.resume();
        };
        if header.offset < self.next {
            return self.resume();
        }
        if self.sparse && header.offset >= self.limit {
            return Ok(Step::End(End {
                pos: self.pos,
                next: self.next,
                stray: None,
            }));
        }
        if header.offset > self.next && !self.sparse {
            let damage = Damage {
                pos: self.pos,
                end: self.pos,
                first: self.next,
                next: header.offset,
            };
            self.next = header.offset;
            return Ok(Step::Damage(damage));
        }
        let mut found = Found {
            pos: self.pos,
            header,
            intact: true,
            padded: true,
        };
        if self.depth == Depth::Records {
            let stored = usize::try_from(header.stored_len()).unwrap_or(usize::MAX);
            let bytes = self.window.bytes(self.pos, stored)?;
            let end = RECORD_HEADER + header.len as usize;
            found.intact = bytes
                .get(RECORD_HEADER..end)
                .is_some_and(|b| crc32fast::hash(b) == header.crc);
            found.padded = bytes.get(end..).is_some_and(|b| b.iter().all(|b| *b == 0));
        }
        self.pos += header.stored_len();
        self.next = header.offset.saturating_add(1);
        self.current = Some(found);
        Ok(Step::Record(found))
    }

    /// Up to `limit` bytes of the record that [`step`](Self::step) found last; nothing of one that cannot be decrypted.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub(crate) fn payload(&mut self, limit: usize) -> io::Result<&[u8]> {
        Ok(match self.content(limit)? {
            Content::Plain(record) => record,
            Content::Locked | Content::Altered => &[],
        })
    }

    /// What is in the record that [`step`](Self::step) found last: up to `limit` bytes of it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub(crate) fn content(&mut self, limit: usize) -> io::Result<Content<'_>> {
        let Some(found) = self.current else {
            return Ok(Content::Plain(&[]));
        };
        let (at, len) = (found.pos + RECORD_HEADER as u64, found.header.len as usize);
        // In a segment that is not, a record that says it is encrypted is not told from one of a newer version.
        if found.header.flags & RECORD_ENCRYPTED == 0 || matches!(self.lock, Lock::Open) {
            return Ok(Content::Plain(self.window.bytes(at, limit.min(len))?));
        }
        let Lock::Cipher(cipher) = &self.lock else {
            return Ok(Content::Locked);
        };
        self.plain.clear();
        self.plain.extend_from_slice(self.window.bytes(at, len)?);
        Ok(match cipher.decrypt(found.header.offset, &mut self.plain) {
            Some(range) => {
                Content::Plain(&self.plain[range.start..range.end.min(range.start.saturating_add(limit))])
            }
            None => Content::Altered,
        })
    }

    /// A record header at `pos`, whose record fits into the file.
    fn header_at(&mut self, pos: u64) -> io::Result<Option<RecordHeader>> {
        let header = RecordHeader::decode(self.window.bytes(pos, RECORD_HEADER)?, self.mark);
        Ok(header.filter(|h| pos + RECORD_HEADER as u64 + u64::from(h.len) <= self.window.size))
    }

    /// Looks for the next good record behind a place that has none.
    fn resume(&mut self) -> io::Result<Step> {
        let from = self.pos;
        let mut stray = None;
        let mut at = from;
        while at < self.window.size {
            let chunk = self.window.bytes(at, SEARCH_CHUNK)?;
            let chunk_len = chunk.len() as u64;
            if chunk.is_empty() {
                break;
            }
            if stray.is_none() {
                stray = chunk.iter().position(|b| *b != 0).map(|i| at + i as u64);
            }
            let marks = chunk.chunks_exact(ALIGN as usize).enumerate();
            let mark = self.mark.to_le_bytes();
            let hits: Vec<u64> = marks
                .filter(|(_, word)| word[..4] == mark)
                .map(|(i, _)| at + i as u64 * ALIGN)
                .filter(|pos| *pos > from)
                .collect();
            for pos in hits {
                let Some(header) = self.header_at(pos)?.filter(|h| h.offset >= self.next) else {
                    continue;
                };
                let damage = Damage {
                    pos: from,
                    end: pos,
                    first: self.next,
                    next: header.offset,
                };
                (self.pos, self.next) = (pos, header.offset);
                return Ok(Step::Damage(damage));
            }
            at += chunk_len;
        }
        Ok(Step::End(End {
            pos: from,
            next: self.next,
            stray,
        }))
    }
}

/// How much is looked through at a time, a multiple of [`ALIGN`].
const SEARCH_CHUNK: usize = 64 << 10;

/// A buffer that holds one stretch of the source.
struct Window<R> {
    source: R,
    size: u64,
    chunk: usize,
    start: u64,
    buf: Vec<u8>,
}

impl<R: ReadAt> Window<R> {
    fn new(source: R, chunk: usize) -> io::Result<Self> {
        let size = source.size()?;
        Ok(Self {
            source,
            size,
            chunk,
            start: 0,
            buf: Vec::new(),
        })
    }

    /// `len` bytes at `pos`, fewer only at the end of the source.
    fn bytes(&mut self, pos: u64, len: usize) -> io::Result<&[u8]> {
        // Cut to the source first: a length out of a damaged header must not reserve memory.
        let left = usize::try_from(self.size.saturating_sub(pos)).unwrap_or(usize::MAX);
        let len = len.min(left);
        let held = pos
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok());
        let held = held.filter(|skip| skip.checked_add(len).is_some_and(|end| end <= self.buf.len()));
        let skip = match held {
            Some(skip) => skip,
            None => {
                self.buf.resize(len.max(self.chunk).min(left), 0);
                let n = self.source.read_at(&mut self.buf, pos)?;
                self.buf.truncate(n);
                self.start = pos;
                0
            }
        };
        let end = (skip + len).min(self.buf.len());
        Ok(&self.buf[skip.min(end)..end])
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::stored_len;
    use super::*;

    const MARK: u32 = 0x1234_5678;

    /// A segment without its header: records of these sizes from offset `first` on.
    fn segment(first: u64, sizes: &[usize], tail: usize) -> Vec<u8> {
        let mut out = vec![0; SEGMENT_HEADER];
        for (i, size) in sizes.iter().enumerate() {
            let record = vec![u8::try_from(i + 1).unwrap(); *size];
            let header = RecordHeader {
                len: u32::try_from(*size).unwrap(),
                offset: first + i as u64,
                group: 0,
                crc: crc32fast::hash(&record),
                flags: 0,
            };
            out.extend(header.encode(MARK));
            out.extend(&record);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        out.resize(out.len() + tail, 0);
        out
    }

    fn walk(bytes: &[u8], first: u64) -> Vec<Step> {
        let mut walk = Walk::new(
            bytes,
            Depth::Records,
            MARK,
            (first, SEGMENT_HEADER as u64),
            u64::MAX,
        )
        .unwrap();
        let mut steps = Vec::new();
        loop {
            steps.push(walk.step().unwrap());
            if matches!(steps.last(), Some(Step::End(_))) {
                return steps;
            }
        }
    }

    fn offsets(steps: &[Step]) -> Vec<u64> {
        let record = |step: &Step| match step {
            Step::Record(found) if found.intact => Some(found.header.offset),
            _ => None,
        };
        steps.iter().filter_map(record).collect()
    }

    #[test]
    fn finds_every_record_and_the_end() {
        let bytes = segment(7, &[0, 1, 8, 300, 70_000], 4096);
        let steps = walk(&bytes, 7);
        assert_eq!(offsets(&steps), [7, 8, 9, 10, 11]);
        let pos = bytes.len() as u64 - 4096;
        assert_eq!(
            steps.last(),
            Some(&Step::End(End {
                pos,
                next: 12,
                stray: None
            }))
        );
    }

    #[test]
    fn goes_on_behind_a_destroyed_header() {
        let mut bytes = segment(0, &[100, 100, 100], 64);
        let second = SEGMENT_HEADER + usize::try_from(stored_len(100)).unwrap();
        for at in second..second + RECORD_HEADER {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            let steps = walk(&bytes, 0);
            assert_eq!(offsets(&steps), [0, 2], "byte {at}");
            assert!(
                matches!(
                    steps[1],
                    Step::Damage(Damage {
                        first: 1,
                        next: 2,
                        ..
                    })
                ),
                "{steps:?}"
            );
        }
        bytes[second + RECORD_HEADER + 5] ^= 1;
        assert!(matches!(
            walk(&bytes, 0)[1],
            Step::Record(Found { intact: false, .. })
        ));
    }

    #[test]
    fn sees_stray_bytes_behind_the_end() {
        let mut bytes = segment(0, &[10], 200_000);
        let at = bytes.len() - 3;
        bytes[at] = 1;
        assert!(matches!(walk(&bytes, 0)[1], Step::End(End { stray: Some(pos), .. }) if pos == at as u64));
    }

    #[test]
    fn a_huge_length_in_a_header_does_not_reserve_memory() {
        let mut bytes = segment(0, &[10], 0);
        let header = RecordHeader {
            len: u32::MAX,
            offset: 1,
            group: 0,
            crc: 0,
            flags: 0,
        };
        bytes.extend(header.encode(MARK));
        assert_eq!(offsets(&walk(&bytes, 0)), [0]);
    }

    #[test]
    fn records_missing_without_a_trace_are_noticed_unless_they_were_given_up() {
        let mut bytes = segment(0, &[16, 16], 0);
        bytes.extend(&segment(5, &[16], 0)[SEGMENT_HEADER..]);
        let sparse = Layout {
            sparse: true,
            ..Layout::default()
        };
        let start = (0, SEGMENT_HEADER as u64);
        let mut given_up = Walk::new(&bytes[..], Depth::Records, MARK, start, u64::MAX)
            .unwrap()
            .laid_out(&sparse);
        let steps: Vec<_> = (0..4).map(|_| given_up.step().unwrap()).collect();
        assert_eq!(offsets(&steps), [0, 1, 5]);
        assert!(matches!(steps[3], Step::End(End { next: 6, .. })), "{steps:?}");
        let steps = walk(&bytes, 0);
        assert_eq!(offsets(&steps), [0, 1, 5]);
        assert!(matches!(
            steps[2],
            Step::Damage(Damage {
                first: 2,
                next: 5,
                ..
            })
        ));
    }
}
