//! Ends of lines as others write them.

use std::io::{BufRead, Read, Result};

/// Reads `\r\n` as `\n`, so that a reader of CSV counts lines right: it ends a record at the `\r`, and takes the `\n` for the first
/// character of the line after it.
#[derive(Debug)]
pub struct LineEnds<R> {
    inner: R,
    /// The last character read was `\r`, and what it is depends on the next.
    held: bool,
}

impl<R: BufRead> LineEnds<R> {
    /// Reads from another reader.
    pub const fn new(inner: R) -> Self {
        Self { inner, held: false }
    }
}

impl<R: BufRead> Read for LineEnds<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let known = self.inner.fill_buf()?;
            if std::mem::take(&mut self.held) && known.first() != Some(&b'\n') {
                into[0] = b'\r';
                return Ok(1);
            }
            if known.is_empty() {
                return Ok(0);
            }
            let known = &known[..known.len().min(into.len())];
            let (end, length) = (known.iter().position(|byte| *byte == b'\r'), known.len());
            let copied = end.unwrap_or(length);
            into[..copied].copy_from_slice(&known[..copied]);
            self.held = end.is_some();
            self.inner.consume(copied + usize::from(self.held));
            if copied > 0 {
                return Ok(copied);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_returns_before_a_line_feed_go_whatever_the_buffers() {
        let text = b"a,b\r\n\r\nc\rd\r\r\ne\r";
        for (inner, outer) in [(1, 1), (1, 7), (2, 3), (5, 1), (64, 64)] {
            let mut reader = LineEnds::new(std::io::BufReader::with_capacity(inner, &text[..]));
            let (mut read, mut piece) = (Vec::new(), vec![0; outer]);
            loop {
                match reader.read(&mut piece).unwrap() {
                    0 => break,
                    length => read.extend_from_slice(&piece[..length]),
                }
            }
            assert_eq!(read, b"a,b\n\nc\rd\r\ne\r", "{inner} {outer}");
        }
    }
}
