//! The block format (draft-ietf-opsawg-pcapng): sections, interfaces, packets.
//!
//! ```text
//! | type 4 | total length 4 | body, padded to 4 | total length 4 |
//! ```

use amoskys_core::Timestamp;

use super::{LinkType, Packet};

pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub(super) const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
pub(super) const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Length of the smallest block: type and two lengths.
pub(super) const MIN_BLOCK_BYTES: u32 = 12;
/// Interfaces of one section that are kept; packets of further ones count as damage. A file may not choose how
/// much memory we use.
const MAX_INTERFACES: usize = 4096;

/// What earlier blocks of the section say about later ones.
#[derive(Debug, Default)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    snap_len: u32,
    resolution: Resolution,
    offset_secs: i64,
    dropped: u64,
}

/// How many nanoseconds one unit of an interface's time stamps is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// A whole number of nanoseconds.
    Nanos(u64),
    /// Units per second, where they do not divide a nanosecond grid.
    PerSecond(u128),
}

/// The head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHead {
    pub(super) kind: u32,
    pub(super) total: u32,
}

/// What a block holds, of the kinds that matter here.
pub(super) enum Block<'a> {
    Packet {
        packet: Packet<'a>,
        /// The packet claims more bytes than the block holds.
        cut: bool,
    },
    /// A packet of an interface that was not described.
    UnknownInterface,
    /// Packets lost by the capture, newly reported by interface statistics.
    Dropped(u64),
    /// An interface or statistics, taken note of, or something of no concern.
    Other,
    /// The block is too short for its kind.
    Bad,
}

/// Where in a block of this kind the packet's bytes begin.
pub(super) fn packet_start(kind: u32) -> usize {
    if kind == SIMPLE_PACKET { 12 } else { 28 }
}

impl Section {
    /// Begins a section. `magic` is the byte-order magic of its header; `None` if it is neither order.
    pub(super) fn begin(magic: [u8; 4]) -> Option<Self> {
        let big_endian = match u32::from_be_bytes(magic) {
            0x1a2b_3c4d => true,
            0x4d3c_2b1a => false,
            _ => return None,
        };
        Some(Self {
            big_endian,
            interfaces: Vec::new(),
        })
    }

    #[inline]
    pub(super) fn head(&self, bytes: &[u8]) -> Option<BlockHead> {
        Some(BlockHead {
            kind: self.u32(bytes, 0)?,
            total: self.u32(bytes, 4)?,
        })
    }

    /// Whether a block of this kind has to be read whole; all others are skipped unread.
    #[inline]
    pub(super) fn wants(kind: u32) -> bool {
        matches!(
            kind,
            INTERFACE | OBSOLETE_PACKET | SIMPLE_PACKET | INTERFACE_STATISTICS | ENHANCED_PACKET
        )
    }

    /// The length a block repeats at its end.
    #[inline]
    pub(super) fn trailer(&self, block: &[u8]) -> Option<u32> {
        self.u32(block, block.len().checked_sub(4)?)
    }

    /// Reads the body of a block: what is between its two lengths.
    #[inline]
    pub(super) fn read<'a>(&mut self, kind: u32, body: &'a [u8]) -> Block<'a> {
        let block = match kind {
            ENHANCED_PACKET => self.enhanced_packet(body),
            SIMPLE_PACKET => self.simple_packet(body),
            OBSOLETE_PACKET => self.obsolete_packet(body),
            INTERFACE => self.interface(body),
            INTERFACE_STATISTICS => self.statistics(body),
            _ => Some(Block::Other),
        };
        block.unwrap_or(Block::Bad)
    }

    #[inline]
    fn enhanced_packet<'a>(&self, body: &'a [u8]) -> Option<Block<'a>> {
        let units = u64::from(self.u32(body, 4)?) << 32 | u64::from(self.u32(body, 8)?);
        let (captured, wire_len) = (self.u32(body, 12)?, self.u32(body, 16)?);
        Some(self.packet(self.u32(body, 0)?, units, captured, wire_len, body.get(20..)?))
    }

    fn obsolete_packet<'a>(&self, body: &'a [u8]) -> Option<Block<'a>> {
        let units = u64::from(self.u32(body, 4)?) << 32 | u64::from(self.u32(body, 8)?);
        let (captured, wire_len) = (self.u32(body, 12)?, self.u32(body, 16)?);
        let interface = u32::from(self.u16(body, 0)?);
        Some(self.packet(interface, units, captured, wire_len, body.get(20..)?))
    }

    fn simple_packet<'a>(&self, body: &'a [u8]) -> Option<Block<'a>> {
        let wire_len = self.u32(body, 0)?;
        let data = body.get(4..)?;
        let snap_len = self.interfaces.first().map_or(0, |interface| interface.snap_len);
        let snapped = if snap_len == 0 {
            wire_len
        } else {
            wire_len.min(snap_len)
        };
        // Simple packets carry no time; the reader gives them that of the packet before.
        Some(self.packet(0, 0, snapped, wire_len, data))
    }

    #[inline]
    fn packet<'a>(
        &self,
        interface: u32,
        units: u64,
        captured: u32,
        wire_len: u32,
        rest: &'a [u8],
    ) -> Block<'a> {
        let Some(from) = self.interfaces.get(interface as usize) else {
            return Block::UnknownInterface;
        };
        let whole = rest.get(..captured as usize);
        let packet = Packet {
            time: from.time(units),
            interface,
            link: from.link,
            stripped_vlan: None,
            wire_len,
            data: whole.unwrap_or(rest),
        };
        Block::Packet {
            packet,
            cut: whole.is_none(),
        }
    }

    fn interface<'a>(&mut self, body: &[u8]) -> Option<Block<'a>> {
        let mut interface = Interface {
            link: LinkType(self.u16(body, 0)?),
            snap_len: self.u32(body, 4)?,
            resolution: Resolution::Nanos(1000),
            offset_secs: 0,
            dropped: 0,
        };
        self.options(body.get(8..)?, |code, value| match (code, value) {
            (9, [unit, ..]) => interface.resolution = Resolution::of(*unit),
            (14, value) => {
                if let Some(secs) = self.u64(value) {
                    interface.offset_secs = secs.cast_signed();
                }
            }
            _ => {}
        });
        if self.interfaces.len() < MAX_INTERFACES {
            self.interfaces.push(interface);
        }
        Some(Block::Other)
    }

    /// `isb_ifdrop` and `isb_osdrop` say what the interface and the system lost; both are running totals.
    fn statistics<'a>(&mut self, body: &[u8]) -> Option<Block<'a>> {
        let interface = self.u32(body, 0)? as usize;
        let mut dropped = 0_u64;
        self.options(body.get(12..)?, |code, value| {
            if let (5 | 7, Some(count)) = (code, self.u64(value)) {
                dropped = dropped.saturating_add(count);
            }
        });
        let Some(interface) = self.interfaces.get_mut(interface) else {
            return Some(Block::UnknownInterface);
        };
        let new = dropped.saturating_sub(interface.dropped);
        interface.dropped = interface.dropped.max(dropped);
        Some(if new > 0 {
            Block::Dropped(new)
        } else {
            Block::Other
        })
    }

    fn options(&self, mut bytes: &[u8], mut each: impl FnMut(u16, &[u8])) {
        while let (Some(code), Some(len)) = (self.u16(bytes, 0), self.u16(bytes, 2)) {
            let Some(value) = bytes.get(4..4 + usize::from(len)) else {
                return;
            };
            if code == 0 {
                return;
            }
            each(code, value);
            bytes = bytes
                .get(4 + usize::from(len).next_multiple_of(4)..)
                .unwrap_or_default();
        }
    }

    #[inline]
    fn u16(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let raw: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(if self.big_endian {
            u16::from_be_bytes(raw)
        } else {
            u16::from_le_bytes(raw)
        })
    }

    #[inline]
    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let raw: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self.big_endian {
            u32::from_be_bytes(raw)
        } else {
            u32::from_le_bytes(raw)
        })
    }

    fn u64(&self, bytes: &[u8]) -> Option<u64> {
        let raw: [u8; 8] = bytes.try_into().ok()?;
        Some(if self.big_endian {
            u64::from_be_bytes(raw)
        } else {
            u64::from_le_bytes(raw)
        })
    }
}

impl Interface {
    #[inline]
    fn time(&self, units: u64) -> Timestamp {
        let nanos = match self.resolution {
            Resolution::Nanos(each) => u128::from(units) * u128::from(each),
            Resolution::PerSecond(per_second) => u128::from(units) * 1_000_000_000 / per_second,
        };
        let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
        Timestamp::from_nanos(nanos.saturating_add(self.offset_secs.saturating_mul(1_000_000_000)))
    }
}

impl Resolution {
    /// From `if_tsresol`: a negative power of 10, or of 2 if the top bit is set.
    fn of(code: u8) -> Self {
        let exponent = u32::from(code & 0x7f);
        if code & 0x80 != 0 {
            // More than 64 binary digits of a second leave nothing of a 64-bit count of units.
            return Self::PerSecond(1 << exponent.min(64));
        }
        match 10_u64.checked_pow(exponent) {
            Some(per_second) if per_second <= 1_000_000_000 => Self::Nanos(1_000_000_000 / per_second),
            Some(per_second) => Self::PerSecond(u128::from(per_second)),
            None => Self::PerSecond(u128::from(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(resolution: u8) -> Interface {
        Interface {
            link: LinkType::ETHERNET,
            snap_len: 0,
            resolution: Resolution::of(resolution),
            offset_secs: 0,
            dropped: 0,
        }
    }

    #[test]
    fn time_stamps_of_any_resolution() {
        assert_eq!(interface(6).time(1_500_000).nanos(), 1_500_000_000);
        assert_eq!(interface(9).time(1_500_000).nanos(), 1_500_000);
        assert_eq!(interface(0).time(3).nanos(), 3_000_000_000);
        assert_eq!(interface(12).time(1_500_000).nanos(), 1_500);
        assert_eq!(interface(0x80 | 10).time(1536).nanos(), 1_500_000_000);
        assert_eq!(interface(0xff).time(u64::MAX).nanos(), 999_999_999);
        assert_eq!(interface(0).time(u64::MAX).nanos(), i64::MAX);
    }

    #[test]
    fn drops_are_running_totals() {
        let mut section = Section::begin([0x1a, 0x2b, 0x3c, 0x4d]).unwrap();
        section.read(INTERFACE, &[0, 1, 0, 0, 0, 0, 0, 0]);
        let statistics = |total: u8| {
            let mut body = vec![0; 12];
            body.extend([0, 5, 0, 8, 0, 0, 0, 0, 0, 0, 0, total, 0, 0, 0, 0]);
            body
        };
        let mut drops = |total| match section.read(INTERFACE_STATISTICS, &statistics(total)) {
            Block::Dropped(count) => count,
            _ => 0,
        };
        assert_eq!([drops(3), drops(3), drops(10)], [3, 0, 7]);
    }
}
