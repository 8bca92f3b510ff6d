//! Meters packets that are there all at once, where they lie: in a block of a file, or in a ring shared with the kernel. Where
//! the flows are too many to stay near the core, packets are decoded ahead of being counted, so that the memory of their
//! flows has time to come.

use super::clock::Observed;
use super::meter::{FlowHandler, FlowMeter};
use super::prepared::{AHEAD, Prepared};
use crate::capture::Packet;

impl FlowMeter {
    /// Meters packets that are there all at once, such as those of
    /// [`LiveCapture::next_packets`](crate::capture::LiveCapture::next_packets): the same as [`push`](Self::push) for each
    /// of them, in less time where flows are many, because the memory of their flows is asked for before it is needed.
    pub fn push_packets<'a>(
        &mut self,
        packets: impl IntoIterator<Item = Packet<'a>>,
        handler: &mut impl FlowHandler,
    ) {
        self.push_packets_with(packets.into_iter(), handler, |_, _| {});
    }

    /// The same; `after` is called after each packet.
    pub(super) fn push_packets_with<'a, H: FlowHandler>(
        &mut self,
        packets: impl Iterator<Item = Packet<'a>>,
        handler: &mut H,
        mut after: impl FnMut(&Self, &mut H),
    ) {
        let mut packets = packets;
        if !self.table.is_large() {
            for packet in packets {
                self.push(&packet, handler);
                after(self, handler);
            }
            return;
        }
        let mut batch = [Prepared::NONE; AHEAD];
        loop {
            let mut count = 0;
            for (prepared, packet) in batch.iter_mut().zip(packets.by_ref()) {
                prepared.prepare(packet, &self.table);
                count += 1;
            }
            let batch = &mut batch[..count];
            batch.iter().for_each(|prepared| prepared.fetch(&self.table));
            for prepared in batch {
                self.push_prepared(prepared, handler);
                after(self, handler);
            }
            if count < AHEAD {
                return;
            }
        }
    }

    /// Meters a packet that was decoded ahead.
    #[inline]
    fn push_prepared(&mut self, prepared: &mut Prepared<'_>, handler: &mut impl FlowHandler) {
        self.stats.packets += 1;
        let nanos = prepared.packet.time.nanos();
        if self.held.is_some() {
            self.settle_held(nanos, handler);
        }
        match self.clock.observe(nanos) {
            Observed::At(time) => self.take_prepared(prepared, time, handler),
            Observed::FarAhead => self.held.put(&prepared.packet),
        }
    }
}
