//! Finds bulk transfers: data packets in a row, all in one direction.

use amoskys_core::event::BulkStats;

use super::entry::elapsed;

/// So many data packets in a row are a bulk transfer.
const BULK_PACKETS: u32 = 4;
/// A pause longer than this ends it.
const BULK_PAUSE_NS: u64 = 1_000_000_000;

/// The row of data packets that goes on, in whichever direction it goes.
pub(super) struct BulkRun {
    /// Times of its first and its latest packet.
    first: i64,
    last: i64,
    bytes: u64,
    packets: u32,
    /// Direction it goes.
    from: u8,
}

/// The bulk transfers of one direction, the current one included.
pub(super) struct BulkTotals {
    bytes: u64,
    nanos: u64,
    packets: u32,
    count: u32,
}

impl BulkRun {
    pub(super) const NONE: Self = Self {
        first: 0,
        last: 0,
        bytes: 0,
        packets: 0,
        from: 0,
    };

    /// A data packet of direction `from` came.
    #[inline]
    pub(super) fn add(&mut self, totals: &mut BulkTotals, from: u8, payload: u32, time: i64) {
        let pause = elapsed(self.last, time);
        let payload = u64::from(payload);
        if self.from != from || self.packets == 0 || pause > BULK_PAUSE_NS {
            *self = Self {
                first: time,
                last: time,
                bytes: payload,
                packets: 1,
                from,
            };
            return;
        }
        self.last = self.last.max(time);
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(payload);
        if self.packets > BULK_PACKETS {
            totals.packets += 1;
            totals.bytes = totals.bytes.saturating_add(payload);
            totals.nanos = totals.nanos.saturating_add(pause);
        } else if self.packets == BULK_PACKETS {
            totals.count += 1;
            totals.packets += BULK_PACKETS;
            totals.bytes = totals.bytes.saturating_add(self.bytes);
            totals.nanos = totals.nanos.saturating_add(elapsed(self.first, self.last));
        }
    }
}

impl BulkTotals {
    pub(super) const NONE: Self = Self {
        bytes: 0,
        nanos: 0,
        packets: 0,
        count: 0,
    };

    pub(super) fn public(&self) -> BulkStats {
        BulkStats {
            count: u64::from(self.count),
            packets: u64::from(self.packets),
            bytes: self.bytes,
            duration_ns: self.nanos,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Direction, time in milliseconds and payload of each data packet; the bulks of both directions.
    fn bulks(packets: &[(u8, i64, u32)]) -> [BulkStats; 2] {
        let mut run = BulkRun::NONE;
        let mut totals = [BulkTotals::NONE, BulkTotals::NONE];
        for (from, millis, payload) in packets {
            run.add(
                &mut totals[usize::from(*from)],
                *from,
                *payload,
                millis * 1_000_000,
            );
        }
        totals.map(|totals| totals.public())
    }

    #[test]
    fn four_in_a_row_are_a_bulk_and_all_that_follow_belong_to_it() {
        let three = [(0, 0, 100), (0, 10, 100), (0, 20, 100)];
        assert_eq!(bulks(&three), [BulkStats::default(); 2]);
        let mut five = three.to_vec();
        five.extend([(0, 30, 100), (0, 530, 7)]);
        let expected = BulkStats {
            count: 1,
            packets: 5,
            bytes: 407,
            duration_ns: 530_000_000,
        };
        assert_eq!(bulks(&five), [expected, BulkStats::default()]);
    }

    #[test]
    fn an_answer_or_a_pause_ends_a_row() {
        let answered = [(0, 0, 1), (0, 1, 1), (1, 2, 1), (0, 3, 1), (0, 4, 1)];
        assert_eq!(bulks(&answered)[0].count, 0);
        let paused = [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 1003, 1), (0, 1004, 1)];
        assert_eq!(bulks(&paused)[0].count, 0);
        // A pause of exactly a second does not.
        let slow = [(1, 0, 1), (1, 1000, 1), (1, 2000, 1), (1, 3000, 1)];
        assert_eq!(
            (bulks(&slow)[1].count, bulks(&slow)[1].duration_ns),
            (1, 3_000_000_000)
        );
    }
}
