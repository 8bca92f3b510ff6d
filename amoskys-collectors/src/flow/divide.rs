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
use crate::capture::{CaptureError, CaptureReader, FileHeader, Head, TakeHead};

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
    /// The thread that reads into it.
    pub(super) reader: usize,
    /// What was read.
    pub(super) bytes: Vec<u8>,
    pub(super) lists: Vec<List>,
    /// Of the pcap file it is from.
    pub(super) file: Option<FileHeader>,
    /// The clock at the end.
    pub(super) now: i64,
}

/// The packets of a meter.
#[derive(Default)]
pub(super) struct List {
    /// Of a block of a pcap file in which nothing is out of the ordinary: each packet's time is its own, and the clock's. Where
    /// the bytes of each begin; what is known of it is read from those before, so that what one core writes and another reads
    /// is little.
    pub(super) places: Vec<u32>,
    /// The same of other files.
    pub(super) heads: Vec<Head>,
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
    /// The packets of a block that is out of the ordinary; kept for its memory.
    odd: Vec<Head>,
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
            odd: Vec::new(),
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
                list.heads.clear();
                list.places.clear();
                list.stamped.clear();
            }
            block.file = self.capture.file_header();
            let read = self.read(&mut block);
            self.ended = !matches!(read, Ok(true));
            if !self.odd.is_empty() || self.held.is_some() {
                self.divide(block);
            } else if !block.is_empty() {
                block.now = self.clock.now();
                self.ready.push_back(block);
            }
            // What was read before is good.
            read?;
        }
        Ok(self.ready.pop_front())
    }

    /// How many times were corrected, and how often the capture's clock was set back.
    pub(super) fn corrections(&self) -> (u64, u64) {
        (self.clock.corrected, self.clock.set_back)
    }

    /// Reads a block, and divides it. Where something in it is out of the ordinary, that is left to do, and its packets are the
    /// odd ones.
    fn read(&mut self, block: &mut Divided) -> Result<bool, CaptureError> {
        let Divided {
            bytes, lists, file, ..
        } = block;
        self.odd.clear();
        let plainly = self.sorter.is_plain && self.held.is_none();
        let mut taker = Taker {
            now: self.clock.plain().filter(|_| plainly).unwrap_or(i64::MAX),
            shares: self.sorter.shares,
            by_place: file.is_some(),
            lists,
            odd: &mut self.odd,
        };
        let read = self.capture.next_heads(bytes, &mut taker);
        let Taker { now, lists, odd, .. } = taker;
        if now < i64::MAX {
            self.clock.follow(now);
        } else {
            let heads = |list: &mut List| {
                odd.append(&mut list.heads);
                if let Some(file) = file {
                    odd.extend(
                        list.places
                            .drain(..)
                            .filter_map(|start| file.head_before(bytes, start)),
                    );
                }
            };
            lists.iter_mut().for_each(heads);
            // Some lists one after another, each in order.
            odd.sort_by_key(Head::start);
        }
        read
    }

    /// Divides the odd packets.
    fn divide(&mut self, mut block: Divided) {
        let Divided { bytes, lists, .. } = &mut block;
        for head in &self.odd {
            if let Some(held) = self.held.take() {
                let time = settle(&mut self.clock, held, head.time.nanos());
                let now = self.clock.now();
                match self.waiting.take() {
                    Some(mut before) => {
                        let Divided { bytes, lists, .. } = &mut before;
                        self.sorter.put(bytes, lists, held, time, now);
                        before.now = now;
                        self.ready.push_back(before);
                    }
                    None => self.sorter.put(bytes, lists, held, time, now),
                }
            }
            match self.clock.observe(head.time.nanos()) {
                Observed::At(time) => {
                    self.sorter.put(bytes, lists, *head, time, self.clock.now());
                }
                Observed::FarAhead => self.held = Some(*head),
            }
        }
        if self.ended
            && let Some(held) = self.held.take()
        {
            let time = settle(&mut self.clock, held, i64::MAX);
            let before = self.waiting.as_mut().unwrap_or(&mut block);
            let Divided { bytes, lists, .. } = before;
            self.sorter.put(bytes, lists, held, time, self.clock.now());
        }
        let now = self.clock.now();
        self.ready
            .extend(self.waiting.take().map(|before| Divided { now, ..before }));
        block.now = now;
        if self.held.is_some() {
            self.waiting = Some(block);
        } else if !block.is_empty() {
            self.ready.push_back(block);
        }
    }
}

impl Divided {
    /// For a thread that will read into it.
    pub(super) fn by(reader: usize) -> Self {
        Self {
            reader,
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        let is_empty =
            |list: &List| list.heads.is_empty() && list.places.is_empty() && list.stamped.is_empty();
        self.lists.iter().all(is_empty)
    }
}

/// Puts packets on the lists of their meters as they are found, as long as nothing is out of the ordinary.
struct Taker<'a> {
    /// The clock; from the first packet on that is out of the ordinary, the end of time.
    now: i64,
    shares: Shares,
    by_place: bool,
    lists: &'a mut [List],
    odd: &'a mut Vec<Head>,
}

impl TakeHead for Taker<'_> {
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured; see the trait")]
    fn take(&mut self, head: Head, packet: &[u8]) {
        let own = head.time.nanos();
        if Clock::is_next(self.now, own) {
            self.now = own;
            let list = &mut self.lists[self.shares.of(head, packet)];
            if self.by_place {
                list.places.push(head.start());
            } else {
                list.heads.push(head);
            }
        } else {
            self.now = i64::MAX;
            self.odd.push(head);
        }
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
