//! Makes a large capture of a small one, by repeating it with other addresses at later times.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

/// A pcap file in memory, its packets found.
pub(crate) struct Source {
    bytes: Vec<u8>,
    big_endian: bool,
    /// Units of the second half of a time stamp in a second: a million or a thousand million.
    fractions: u64,
    packets: Vec<Packet>,
}

#[derive(Clone, Copy)]
struct Packet {
    /// Where its record header begins in the file.
    at: usize,
    captured: usize,
    /// Since the first packet of the file, in units of the file.
    time: u64,
}

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const ETHERNET: u32 = 1;

impl Source {
    /// Reads a pcap file of Ethernet frames. A record cut off at the end is left out.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let bytes = std::fs::read(path)?;
        let (big_endian, fractions) = match bytes.get(..4) {
            Some([0xd4, 0xc3, 0xb2, 0xa1]) => (false, 1_000_000),
            Some([0xa1, 0xb2, 0xc3, 0xd4]) => (true, 1_000_000),
            Some([0x4d, 0x3c, 0xb2, 0xa1]) => (false, 1_000_000_000),
            Some([0xa1, 0xb2, 0x3c, 0x4d]) => (true, 1_000_000_000),
            _ => return Err(invalid("not a pcap file")),
        };
        let mut source = Self {
            bytes,
            big_endian,
            fractions,
            packets: Vec::new(),
        };
        if source.word(20) != Some(ETHERNET) {
            return Err(invalid("not a capture of Ethernet frames"));
        }
        let (mut at, mut first) = (FILE_HEADER, None);
        while let (Some(secs), Some(fraction), Some(captured)) =
            (source.word(at), source.word(at + 4), source.word(at + 8))
        {
            let captured = usize::try_from(captured).unwrap_or(usize::MAX);
            let end = (at + RECORD_HEADER).saturating_add(captured);
            if end > source.bytes.len() {
                break;
            }
            let time = u64::from(secs) * fractions + u64::from(fraction);
            let first = *first.get_or_insert(time);
            source.packets.push(Packet {
                at,
                captured,
                time: time.saturating_sub(first),
            });
            at = end;
        }
        if source.packets.is_empty() {
            Err(invalid("a capture without packets"))
        } else {
            Ok(source)
        }
    }

    /// Writes at least `packets` packets: whole repetitions, one after the other, each with addresses of its own.
    /// Gives the number written.
    pub(crate) fn repeat(&self, packets: u64, path: &Path) -> io::Result<u64> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        out.write_all(&self.bytes[..FILE_HEADER])?;
        let span = self.packets.iter().map(|packet| packet.time).max().unwrap_or(0) + self.fractions;
        // 2024-01-01, so that the times of all repetitions fit.
        let mut start = 1_704_067_200 * self.fractions;
        let (mut written, mut copy) = (0, 0_u16);
        let mut frame = Vec::new();
        while written < packets {
            for packet in &self.packets {
                let time = start + packet.time;
                let header = &self.bytes[packet.at..packet.at + RECORD_HEADER];
                out.write_all(&self.word_bytes(time / self.fractions))?;
                out.write_all(&self.word_bytes(time % self.fractions))?;
                out.write_all(&header[8..])?;
                frame.clear();
                let from = packet.at + RECORD_HEADER;
                frame.extend_from_slice(&self.bytes[from..from + packet.captured]);
                move_addresses(&mut frame, copy);
                out.write_all(&frame)?;
            }
            written += u64::try_from(self.packets.len()).unwrap_or(u64::MAX);
            start += span;
            copy = copy.wrapping_add(1);
        }
        out.flush()?;
        Ok(written)
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes: [u8; 4] = self.bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn word_bytes(&self, word: u64) -> [u8; 4] {
        let word = u32::try_from(word).unwrap_or(u32::MAX);
        if self.big_endian {
            word.to_be_bytes()
        } else {
            word.to_le_bytes()
        }
    }
}

/// Adds the number of the repetition to both addresses, so that each repetition has flows of its own. Checksums are
/// left as they are: no meter checks them.
fn move_addresses(frame: &mut [u8], copy: u16) {
    let starts: [usize; 2] = match frame.get(12..14) {
        Some([0x08, 0x00]) => [14 + 12, 14 + 16],
        Some([0x86, 0xdd]) => [14 + 8, 14 + 24],
        Some([0x08, 0x06]) => [14 + 14, 14 + 24],
        _ => return,
    };
    for start in starts {
        if let Some([high, low]) = frame.get_mut(start + 1..start + 3) {
            let moved = u16::from_be_bytes([*high, *low]).wrapping_add(copy).to_be_bytes();
            [*high, *low] = moved;
        }
    }
}
