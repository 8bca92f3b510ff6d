use std::io::{self, Read};

/// A large read buffer over a stream that may end anywhere.
///
/// Reading ahead in big steps is as quick as mapping the file, and a file that shrinks while it is read is an
/// ordinary end instead of a signal that kills the process.
pub(super) struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Place of `start` in the stream.
    offset: u64,
    ended: bool,
    /// What is read next goes here, and the buffer stays as it is.
    spare: Option<Vec<u8>>,
    /// The buffer that was in use before.
    full: Option<Vec<u8>>,
}

/// Bytes asked for at a time. They are still in the core's own cache when they are looked at.
const READ_BYTES: usize = 128 << 10;
/// Buffers are so many bytes long, or a multiple: what is read at a time, with the beginning of a record before it. They
/// grow where a record is larger.
const STEP_BYTES: usize = 16 << 10;

impl<R: Read> Input<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            offset: 0,
            ended: false,
            spare: None,
            full: None,
        }
    }

    /// Gives a buffer, of any length, to read into next. Until then the bytes at hand, and those before, stay where they
    /// are; when the buffer is taken into use, the one of before can be [taken](Self::take_full).
    pub(super) fn keep_bytes(&mut self, spare: Vec<u8>) {
        self.spare.get_or_insert(spare);
    }

    /// The buffer that was in use before the one given last.
    #[inline]
    pub(super) fn take_full(&mut self) -> Option<Vec<u8>> {
        self.full.take()
    }

    /// The buffer in use, when the stream has ended. Nothing is at hand afterwards.
    pub(super) fn take_last(&mut self) -> Vec<u8> {
        (self.start, self.end) = (0, 0);
        std::mem::take(&mut self.buffer)
    }

    /// The buffer in use.
    #[inline]
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// The buffer in use, up to the last byte at hand.
    #[inline]
    pub(super) fn at_hand_in_place(&self) -> &[u8] {
        &self.buffer[..self.end]
    }

    /// Place in the buffer of the first byte not consumed.
    #[inline]
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Place in the stream of the first byte not consumed.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes at hand.
    #[inline]
    pub(super) fn available(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until at least `bytes` are at hand or the stream ends; returns how many are at hand.
    #[inline]
    pub(super) fn fill(&mut self, bytes: usize) -> io::Result<usize> {
        if self.end - self.start < bytes && !self.ended {
            self.read_more(bytes)?;
        }
        Ok(self.end - self.start)
    }

    /// Forgets bytes at hand.
    #[inline]
    pub(super) fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.end - self.start);
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// Forgets up to `bytes`, at least one unless the stream has ended; returns how many.
    pub(super) fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let at_hand = self.fill(1)?;
        let step = usize::try_from(bytes).unwrap_or(usize::MAX).min(at_hand);
        self.consume(step);
        Ok(step as u64)
    }

    #[cold]
    fn read_more(&mut self, bytes: usize) -> io::Result<()> {
        let at_hand = self.end - self.start;
        let room = (at_hand + READ_BYTES).max(bytes).next_multiple_of(STEP_BYTES);
        match self.spare.take() {
            Some(mut next) => {
                enlarge(&mut next, room);
                next[..at_hand].copy_from_slice(&self.buffer[self.start..self.end]);
                self.full = Some(std::mem::replace(&mut self.buffer, next));
            }
            None => {
                self.buffer.copy_within(self.start..self.end, 0);
                enlarge(&mut self.buffer, room);
            }
        }
        (self.start, self.end) = (0, at_hand);
        while self.end < bytes && !self.ended {
            let most = self.buffer.len().min(self.end + READ_BYTES);
            match self.reader.read(&mut self.buffer[self.end..most]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Makes a buffer at least so long. It is filled once, and never again: what it is given anew is zero already.
fn enlarge(buffer: &mut Vec<u8>, bytes: usize) {
    if buffer.is_empty() {
        *buffer = vec![0; bytes];
    } else if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, as a slow pipe may.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn short_reads_are_joined_and_the_end_is_seen() {
        let mut input = Input::new(Drip(b"abcdefgh"));
        assert_eq!(input.fill(3).unwrap(), 3);
        assert_eq!(input.available(), b"abc");
        input.consume(2);
        assert_eq!(input.fill(4).unwrap(), 4);
        assert_eq!(input.available(), b"cdef");
        assert_eq!(input.offset(), 2);
        assert_eq!(input.skip(3).unwrap(), 3);
        assert_eq!(input.skip(100).unwrap(), 1);
        assert_eq!(input.available(), b"");
        assert_eq!(input.skip(100).unwrap(), 1);
        assert_eq!(input.offset(), 7);
        input.consume(1);
        assert_eq!(input.offset(), 7, "only what is at hand can be consumed");
        assert_eq!(input.fill(1).unwrap(), 1);
        input.consume(1);
        assert_eq!(input.fill(1).unwrap(), 0);
    }
}
