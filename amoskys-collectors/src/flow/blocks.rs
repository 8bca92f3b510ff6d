//! Meters the packets of a block: all of them, or those that were put on a list for one of several meters.

use super::divide::Stamped;
use super::meter::{FlowHandler, FlowMeter};
use super::prepared::{AHEAD, Prepared};
use crate::capture::{Head, PacketBlock};

/// The bytes of a packet are asked for when so many others come before it.
const BYTES_AHEAD: usize = 8;

impl FlowMeter {
    /// Meters the packets of a block: the same as [`push`](Self::push) for each of them, in less time, because the memory
    /// of their flows is asked for before it is needed.
    pub fn push_block(&mut self, block: &PacketBlock, handler: &mut impl FlowHandler) {
        self.push_packets(block.iter(), handler);
    }

    /// Meters packets of a block with these bytes. Another clock has observed their times, and each is the latest.
    pub(super) fn push_listed(&mut self, heads: &[Head], bytes: &[u8], handler: &mut impl FlowHandler) {
        // They may have been read by another core.
        let ask = |n: usize| {
            if let Some(head) = heads.get(n + BYTES_AHEAD) {
                head.fetch(bytes);
            }
        };
        if !self.table.is_large() {
            for (n, head) in heads.iter().enumerate() {
                ask(n);
                let packet = head.of(bytes, 0);
                let time = packet.time.nanos();
                self.stats.packets += 1;
                self.clock.follow(time);
                self.meter(&packet, time, handler);
            }
            return;
        }
        let mut batch = [Prepared::NONE; AHEAD];
        for (round, heads) in heads.chunks(AHEAD).enumerate() {
            for (n, (prepared, head)) in batch.iter_mut().zip(heads).enumerate() {
                ask(round * AHEAD + n);
                prepared.prepare(head.of(bytes, 0), &self.table);
            }
            let batch = &mut batch[..heads.len()];
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
    pub(super) fn push_stamped(&mut self, items: &[Stamped], bytes: &[u8], handler: &mut impl FlowHandler) {
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
