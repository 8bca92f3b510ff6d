//! Meters the packets of a block: all of them, or those that were put on a list for one of several meters.

use amoskys_core::fetch::fetch_lines;

use super::divide::{Divided, Stamped};
use super::meter::{FlowHandler, FlowMeter};
use super::prepared::{AHEAD, Prepared};
use crate::capture::{FileHeader, Head, Packet, PacketBlock};

/// The bytes of a packet are asked for when so many others come before it.
const BYTES_AHEAD: usize = 16;
/// Lines of memory asked for of a packet: its headers, and what of its payload is looked at in most.
const FETCHED_LINES: usize = 3;

/// Packets of a block, for one of several meters.
trait Listed<'a> {
    /// How many there are.
    fn len(&self) -> usize;

    /// Asks for the memory of a packet's beginning, if there is such a packet.
    fn fetch(&self, n: usize);

    /// A packet.
    fn packet(&self, n: usize) -> Packet<'a>;
}

/// A list of what is known of each packet.
struct Heads<'a> {
    heads: &'a [Head],
    bytes: &'a [u8],
}

/// A list of where the bytes of each packet begin. What is known of it stands before them.
struct Places<'a> {
    file: FileHeader,
    places: &'a [u32],
    bytes: &'a [u8],
}

impl<'a> Listed<'a> for Heads<'a> {
    #[inline]
    fn len(&self) -> usize {
        self.heads.len()
    }

    #[inline]
    fn fetch(&self, n: usize) {
        if let Some(head) = self.heads.get(n) {
            fetch_packet(self.bytes, head.start());
        }
    }

    #[inline]
    fn packet(&self, n: usize) -> Packet<'a> {
        self.heads[n].of(self.bytes, 0)
    }
}

impl<'a> Listed<'a> for Places<'a> {
    #[inline]
    fn len(&self) -> usize {
        self.places.len()
    }

    #[inline]
    fn fetch(&self, n: usize) {
        if let Some(start) = self.places.get(n) {
            fetch_packet(self.bytes, *start);
        }
    }

    #[inline]
    fn packet(&self, n: usize) -> Packet<'a> {
        self.file
            .packet_at(self.bytes, self.places[n])
            .unwrap_or(Packet::NONE)
    }
}

/// Asks for the memory of a packet's beginning.
#[inline]
fn fetch_packet(bytes: &[u8], start: u32) {
    if let Some(first) = bytes.get(start as usize) {
        fetch_lines(first, FETCHED_LINES);
    }
}

impl FlowMeter {
    /// Meters the packets of a block: the same as [`push`](Self::push) for each of them, in less time, because the memory
    /// of their flows is asked for before it is needed.
    pub fn push_block(&mut self, block: &PacketBlock, handler: &mut impl FlowHandler) {
        self.push_packets(block.iter(), handler);
    }

    /// Meters the packets of one list of a block.
    pub(super) fn push_divided(&mut self, block: &Divided, number: usize, handler: &mut impl FlowHandler) {
        let (list, bytes) = (&block.lists[number], &block.bytes);
        if let Some(file) = block.file {
            let places = &list.places;
            self.push_listed(&Places { file, places, bytes }, handler);
        }
        let heads = &list.heads;
        self.push_listed(&Heads { heads, bytes }, handler);
        self.push_stamped(&list.stamped, bytes, handler);
        // Others' packets let the time pass here too.
        self.follow(block.now, handler);
    }

    /// Meters the packets of a list. Another clock has observed their times, and each is the latest.
    fn push_listed<'a>(&mut self, list: &impl Listed<'a>, handler: &mut impl FlowHandler) {
        if !self.table.is_large() {
            for n in 0..list.len() {
                // They may have been read by another core.
                list.fetch(n + BYTES_AHEAD);
                let packet = list.packet(n);
                let time = packet.time.nanos();
                self.stats.packets += 1;
                self.clock.follow(time);
                self.meter(&packet, time, handler);
            }
            return;
        }
        let mut batch = [Prepared::NONE; AHEAD];
        for from in (0..list.len()).step_by(AHEAD) {
            let count = AHEAD.min(list.len() - from);
            let batch = &mut batch[..count];
            for (n, prepared) in (from..).zip(batch.iter_mut()) {
                list.fetch(n + BYTES_AHEAD);
                prepared.prepare(list.packet(n), &self.table);
            }
            batch.iter().for_each(|prepared| prepared.fetch(&self.table));
            for prepared in batch {
                let time = prepared.packet.time.nanos();
                self.stats.packets += 1;
                self.clock.follow(time);
                self.take_prepared(prepared, time, handler);
            }
        }
    }

    /// Counts a packet that came at `time`.
    #[inline]
    pub(super) fn take_prepared(
        &mut self,
        prepared: &mut Prepared<'_>,
        time: i64,
        handler: &mut impl FlowHandler,
    ) {
        self.follow_clock(handler);
        let Prepared {
            packet,
            ip,
            sought,
            decoded,
            ..
        } = prepared;
        if *decoded == Ok(None) {
            self.take(packet, ip, sought, time, handler);
        } else {
            self.take_other(*decoded, time, handler);
        }
    }

    /// Meters packets whose times another clock has observed, of a block with these bytes.
    fn push_stamped(&mut self, items: &[Stamped], bytes: &[u8], handler: &mut impl FlowHandler) {
        let mut prepared = Prepared::NONE;
        for item in items {
            prepared.prepare_part(item.head.of(bytes, 0), item, &self.table);
            self.take_part(&prepared, item, handler);
        }
    }

    /// Counts a packet, or what it carries.
    #[inline]
    fn take_part(&mut self, prepared: &Prepared<'_>, item: &Stamped, handler: &mut impl FlowHandler) {
        let Prepared {
            packet,
            ip,
            sought,
            decoded,
            tunnel,
        } = prepared;
        let time = item.head.time.nanos();
        self.follow(item.now, handler);
        self.stats.packets += u64::from(item.counts);
        if *decoded == Ok(None) {
            self.stats.metered += u64::from(item.counts);
            self.count(packet, ip, sought, tunnel.as_ref(), time, handler);
        } else {
            self.take_other(*decoded, time, handler);
        }
    }
}
