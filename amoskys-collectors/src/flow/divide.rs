//! Reads a capture for several meters: what needs the packets in order is done once, here. The times of all packets are
//! observed, fragments are given the ports of their packets, and each packet is put on the list of its meter. The packets
//! themselves stay in the buffer that was read into.

use std::collections::VecDeque;
use std::io::Read;

use amoskys_core::Timestamp;

use super::clock::{Clock, Observed};
use super::fragments::Fragments;
use super::share::{Shares, Whole};
use super::{FlowConfig, TunnelMode};
use crate::capture::{CaptureError, CaptureReader, Head, PacketBlock};

/// A packet on the list of a meter.
pub(super) struct Stamped {
    /// The packet. Its time is the one the clock gave it.
    pub(super) head: Head,
    /// The clock after it.
    pub(super) now: i64,
    /// Ports known from another fragment.
    pub(super) ports: Option<[u16; 2]>,
    /// Meter the innermost packet that it carries.
    pub(super) inner: bool,
    /// It is counted here, and not where another part of it is metered.
    pub(super) counts: bool,
}

/// Packets with a list for each meter.
#[derive(Default)]
pub(super) struct Divided {
    pub(super) packets: PacketBlock,
    pub(super) lists: Vec<List>,
    /// The clock at the end.
    pub(super) now: i64,
}

/// The packets of a meter.
#[derive(Default)]
pub(super) struct List {
    /// Of a block in which nothing is out of the ordinary: their places in it. Each packet's time is its own, and the clock's.
    pub(super) plain: Vec<u32>,
    /// Of all other blocks.
    pub(super) stamped: Vec<Stamped>,
}

/// Divides the packets of a capture.
pub(super) struct Divider<'a, R> {
    capture: &'a mut CaptureReader<R>,
    clock: Clock,
    sorter: Sorter,
    /// A packet whose time was far ahead, the latest that was read. It waits for the next one.
    held: Option<Head>,
    /// The block that ends with it, if that is not the one being divided.
    waiting: Option<Divided>,
    ended: bool,
    /// Blocks that are whole.
    ready: VecDeque<Divided>,
}

/// Knows the meter of each packet.
struct Sorter {
    shares: Shares,
    /// Each packet has one meter, which needs to know nothing more of it.
    is_plain: bool,
    fragments: Option<Fragments>,
}

impl<'a, R: Read> Divider<'a, R> {
    pub(super) fn new(capture: &'a mut CaptureReader<R>, count: usize, config: &FlowConfig) -> Self {
        Self {
            capture,
            clock: Clock::default(),
            sorter: Sorter {
                shares: Shares::new(count, config),
                is_plain: config.tunnels == TunnelMode::Outer && !config.follow_fragments,
                fragments: config.follow_fragments.then(Fragments::default),
            },
            held: None,
            waiting: None,
            ended: false,
            ready: VecDeque::new(),
        }
    }

    /// The next packets; `None` at the end. `spare` gives memory for them.
    pub(super) fn next(
        &mut self,
        mut spare: impl FnMut() -> Divided,
    ) -> Result<Option<Divided>, CaptureError> {
        while self.ready.is_empty() && !self.ended {
            let mut block = spare();
            block.lists.resize_with(self.sorter.shares.count(), List::default);
            for list in &mut block.lists {
                list.plain.clear();
                list.stamped.clear();
            }
            let read = self.capture.next_block(&mut block.packets);
            self.ended = !matches!(read, Ok(true));
            self.divide(block);
            // What was read before is good.
            read?;
        }
        Ok(self.ready.pop_front())
    }

    /// How many times were corrected, and how often the capture's clock was set back.
    pub(super) fn corrections(&self) -> (u64, u64) {
        (self.clock.corrected, self.clock.set_back)
    }

    fn divide(&mut self, mut block: Divided) {
        if self.divide_plainly(&mut block) {
            block.now = self.clock.now();
            self.ready.push_back(block);
            return;
        }
        let Divided { packets, lists, .. } = &mut block;
        lists.iter_mut().for_each(|list| list.plain.clear());
        for head in packets.heads() {
            if let Some(held) = self.held.take() {
                let time = settle(&mut self.clock, held, head.time.nanos());
                let now = self.clock.now();
                match self.waiting.take() {
                    Some(mut before) => {
                        let Divided { packets, lists, .. } = &mut before;
                        self.sorter.put(packets.bytes(), lists, held, time, now);
                        before.now = now;
                        self.ready.push_back(before);
                    }
                    None => self.sorter.put(packets.bytes(), lists, held, time, now),
                }
            }
            match self.clock.observe(head.time.nanos()) {
                Observed::At(time) => {
                    self.sorter
                        .put(packets.bytes(), lists, *head, time, self.clock.now());
                }
                Observed::FarAhead => self.held = Some(*head),
            }
        }
        if self.ended
            && let Some(held) = self.held.take()
        {
            let time = settle(&mut self.clock, held, i64::MAX);
            let before = self.waiting.as_mut().unwrap_or(&mut block);
            let Divided { packets, lists, .. } = before;
            self.sorter
                .put(packets.bytes(), lists, held, time, self.clock.now());
        }
        let now = self.clock.now();
        self.ready
            .extend(self.waiting.take().map(|before| Divided { now, ..before }));
        block.now = now;
        if self.held.is_some() {
            self.waiting = Some(block);
        } else if !block.packets.is_empty() {
            self.ready.push_back(block);
        }
    }
}

impl<R> Divider<'_, R> {
    /// Divides a block in which nothing is out of the ordinary. False, with the clock as it was, if there is something.
    fn divide_plainly(&mut self, block: &mut Divided) -> bool {
        let Some(mut now) = self.clock.plain() else {
            return false;
        };
        if self.held.is_some() || self.ended || !self.sorter.is_plain {
            return false;
        }
        let Divided { packets, lists, .. } = block;
        let bytes = packets.bytes();
        for (n, head) in (0..).zip(packets.heads()) {
            let own = head.time.nanos();
            if !Clock::is_next(now, own) {
                return false;
            }
            now = own;
            let share = match self.sorter.shares.plain(head.link, head.data(bytes)) {
                Some(share) => share,
                None => self.sorter.shares.outer(&head.of(bytes, 0)),
            };
            lists[share].plain.push(n);
        }
        self.clock.follow(now);
        true
    }
}

/// The time of a packet that was held, now that the time of the next one is known.
#[cold]
fn settle(clock: &mut Clock, held: Head, next: i64) -> i64 {
    let own = held.time.nanos();
    if Clock::confirms(own, next) {
        clock.jump(own)
    } else {
        clock.correct()
    }
}

impl Sorter {
    /// Puts a packet that came at `time` on its list.
    #[inline]
    fn put(&mut self, bytes: &[u8], lists: &mut [List], head: Head, time: i64, now: i64) {
        let packet = head.of(bytes, 0);
        let item = Stamped {
            head: head.at(Timestamp::from_nanos(time)),
            now,
            ports: None,
            inner: false,
            counts: true,
        };
        match self.shares.plain(packet.link, packet.data) {
            Some(share) => lists[share].stamped.push(item),
            None => self.put_slowly(lists, item, Whole::of(&packet)),
        }
    }

    fn put_slowly(&mut self, lists: &mut [List], mut item: Stamped, mut whole: Whole<'_>) {
        let time = item.head.time.nanos();
        let (outer, inner) = self.shares.parts(&mut whole, |ip| {
            let fragments = self.fragments.as_mut().filter(|_| ip.fragment)?;
            let before = ip.ports;
            fragments.follow(ip, time);
            (ip.ports != before).then_some(ip.ports)
        });
        if let Some((share, ports)) = outer {
            let outer = Stamped {
                head: item.head,
                now: item.now,
                ports,
                inner: false,
                counts: true,
            };
            lists[share].stamped.push(outer);
            item.counts = false;
        }
        if let Some((share, ports)) = inner {
            lists[share].stamped.push(Stamped {
                ports,
                inner: true,
                ..item
            });
        }
    }
}
