//! Timers of flows: a wheel of lists, threaded through an array of their own, which stays near the core when the flows do
//! not.
//!
//! Setting and cancelling a timer costs the same however many there are, and a leap over years of silence costs
//! no more than one turn.

use super::slab::NONE;

/// Length of a tick: 2^26 ns, about 67 ms.
const TICK_BITS: u32 = 26;
/// One turn is about 69 s. A timer further ahead is set at the end of the turn, looked at, and set again.
const SLOTS: usize = 1024;
const WORDS: usize = SLOTS / 64;

/// A period of 2^26 ns, by its number since the earliest representable time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u64);

impl Tick {
    #[inline]
    pub(super) fn of(nanos: i64) -> Self {
        // Flipping the sign bit keeps the order and makes all times positive.
        Self((nanos.cast_unsigned() ^ 1 << 63) >> TICK_BITS)
    }

    /// The last nanosecond of the tick.
    pub(super) fn end(self) -> i64 {
        (((self.0 + 1) << TICK_BITS).wrapping_sub(1) ^ 1 << 63).cast_signed()
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than SLOTS")]
    fn slot(self) -> u16 {
        (self.0 % SLOTS as u64) as u16
    }
}

/// The place of a flow in the wheel.
#[derive(Clone, Copy, Debug)]
struct Timer {
    previous: u32,
    next: u32,
    slot: u16,
}

impl Timer {
    const OFF: Self = Self {
        previous: NONE,
        next: NONE,
        slot: u16::MAX,
    };

    fn is_set(self) -> bool {
        self.slot != u16::MAX
    }
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

pub(super) struct Wheel {
    slots: Box<[List; SLOTS]>,
    occupied: [u64; WORDS],
    /// The earliest tick that has not been fired.
    now: Tick,
    /// By flow.
    timers: Vec<Timer>,
}

impl Wheel {
    pub(super) fn new() -> Self {
        let empty = List {
            head: NONE,
            tail: NONE,
        };
        Self {
            slots: Box::new([empty; SLOTS]),
            occupied: [0; WORDS],
            now: Tick::default(),
            timers: Vec::new(),
        }
    }

    /// Makes room for flows up to `index`.
    #[inline]
    pub(super) fn cover(&mut self, index: u32) {
        if index as usize >= self.timers.len() {
            self.timers.resize(index as usize + 1, Timer::OFF);
        }
    }

    /// Sets the timer of a flow to fire once the tick of `nanos` has passed. One already set is moved.
    pub(super) fn set(&mut self, index: u32, nanos: i64) {
        self.cancel(index);
        let furthest = self.now.0.saturating_add(SLOTS as u64 - 1);
        let slot = Tick(Tick::of(nanos).0.clamp(self.now.0, furthest)).slot();
        let list = &mut self.slots[usize::from(slot)];
        self.timers[index as usize] = Timer {
            previous: list.tail,
            next: NONE,
            slot,
        };
        if list.tail == NONE {
            list.head = index;
            self.occupied[usize::from(slot) / 64] |= 1 << (slot % 64);
        } else {
            self.timers[list.tail as usize].next = index;
        }
        list.tail = index;
    }

    /// Moves the timer of a flow forward to `nanos`, unless it fires earlier anyway.
    pub(super) fn hasten(&mut self, index: u32, nanos: i64) {
        let timer = self.timers[index as usize];
        let ahead = |slot: u16| (u64::from(slot) + SLOTS as u64 - self.now.0 % SLOTS as u64) % SLOTS as u64;
        if !timer.is_set() || ahead(timer.slot) > Tick::of(nanos).0.saturating_sub(self.now.0) {
            self.set(index, nanos);
        }
    }

    /// Cancels the timer of a flow, if it is set.
    pub(super) fn cancel(&mut self, index: u32) {
        let timer = std::mem::replace(&mut self.timers[index as usize], Timer::OFF);
        if !timer.is_set() {
            return;
        }
        let list = &mut self.slots[usize::from(timer.slot)];
        match timer.previous {
            NONE => list.head = timer.next,
            previous => self.timers[previous as usize].next = timer.next,
        }
        match timer.next {
            NONE => list.tail = timer.previous,
            next => self.timers[next as usize].previous = timer.previous,
        }
        if list.head == NONE {
            self.occupied[usize::from(timer.slot) / 64] &= !(1 << (timer.slot % 64));
        }
    }

    /// Takes the flows of the earliest tick that has passed by `clock`, into `due`, in no order that means something; gives
    /// the last nanosecond of that tick. Timers set meanwhile fire too, if they are due.
    pub(super) fn take_due(&mut self, clock: Tick, due: &mut Vec<u32>) -> Option<i64> {
        due.clear();
        let Some(tick) = self.next_occupied(clock) else {
            self.now = self.now.max(clock);
            return None;
        };
        self.now = tick;
        let slot = usize::from(tick.slot());
        let mut index = std::mem::replace(
            &mut self.slots[slot],
            List {
                head: NONE,
                tail: NONE,
            },
        )
        .head;
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        while index != NONE {
            due.push(index);
            index = std::mem::replace(&mut self.timers[index as usize], Timer::OFF).next;
        }
        Some(tick.end())
    }

    /// The earliest tick before `clock` at which a timer is set.
    fn next_occupied(&self, clock: Tick) -> Option<Tick> {
        let limit = clock.0.saturating_sub(self.now.0).min(SLOTS as u64);
        let mut ahead = 0;
        while ahead < limit {
            let slot = Tick(self.now.0 + ahead).slot();
            let word = self.occupied[usize::from(slot) / 64] >> (slot % 64);
            if word != 0 {
                ahead += u64::from(word.trailing_zeros());
                return (ahead < limit).then_some(Tick(self.now.0 + ahead));
            }
            ahead += u64::from(64 - slot % 64);
        }
        None
    }
}
