//! Panes of one entity that are few and small, packed side by side.

use amoskys_core::Seq;
use amoskys_core::fetch::{fetch, fetch_all, fetch_from};

use super::many::{Change, Many, Pane, PanesState, SLIDING, Update, most_panes};
use super::running::{Running, Span};
use super::slices::{Link, Owner, Slices};
use crate::aggregate::{Aggregate, Sliding};

/// A pane that takes more than this, packed, is not small.
const MOST_PANE: usize = 1 << 10;
/// All panes of an entity that lie with it.
const MOST_PANES: usize = 16 << 10;
/// So many bytes are left free at least when panes need more memory.
const FREE: usize = 96;
/// A pane of one or two events takes no more.
const SMALL_PANE: usize = 256;
/// Of a pane that is packed: its number, its first event, how much later its last one is, and how many bytes follow.
const HEAD: usize = 8 + 8 + 4 + 2;

/// Panes in order, none empty, packed into bytes that lie side by side.
///
/// Where entities are many, an event and a window cost what their memory is away from the processor: how many places
/// it lies in, and how large they are. An aggregate of few events is mostly room for more. Packed, a pane of one event
/// takes two or three lines of the cache instead of ten. One aggregate for all entities
/// is unpacked into, changed, and packed again ([`Shop`]). What slides is in another place, and is as it is: to unpack and pack
/// it each time costs more than its memory does. Panes enter and leave it as they are packed.
///
/// Where windows slide, panes lie here until they close, and then in [`Slices`], together with those of other entities.
pub(super) struct Few<A: Aggregate> {
    /// The panes that lie here, and before `head` those that have gone.
    bytes: Vec<u8>,
    head: u32,
    /// Where the last pane begins.
    tail: u32,
    count: u32,
    /// How many panes lie in slices.
    past: u32,
    /// The newest of those.
    newest: Link,
    /// Marks the panes of this entity in slices.
    number: u64,
    /// Panes have gone that the window handed out last held.
    pub(super) lost: bool,
    /// If windows slide and a pane has closed.
    running: Option<Box<Running<A>>>,
    split: i64,
    summed: i64,
}

/// Where what is packed is unpacked and worked on, one entity at a time.
pub(super) struct Shop<A: Aggregate> {
    pane: Pane<A>,
    /// Where the parts of a window are joined.
    pub(super) room: A,
    bytes: Vec<u8>,
}

/// A pane as it is packed.
#[derive(Clone, Copy)]
struct Packed<'a> {
    index: i64,
    span: Span,
    aggregate: &'a [u8],
    /// Where the next one begins.
    end: usize,
}

/// Panes that an update made too large, and what became of the update.
pub(super) struct Outgrown<A> {
    pub(super) state: PanesState<A>,
    pub(super) update: Update,
}

/// Where a pane is.
enum Place<'a> {
    At(Packed<'a>, usize),
    /// It would be before the pane that begins here.
    Before(usize),
    /// It would be the last.
    End,
}

/// It cannot be done with panes that are few and small.
#[derive(Debug)]
pub(super) struct TooLarge;

impl<A: Aggregate> Default for Shop<A> {
    fn default() -> Self {
        Self {
            pane: Pane::default(),
            room: A::default(),
            bytes: Vec::new(),
        }
    }
}

impl<A: Aggregate> Few<A> {
    /// No panes, of an entity with a number of its own.
    pub(super) const fn new(number: u64) -> Self {
        Self {
            bytes: Vec::new(),
            head: 0,
            tail: 0,
            count: 0,
            past: 0,
            newest: Link::NONE,
            number,
            lost: false,
            running: None,
            split: i64::MIN,
            summed: i64::MIN,
        }
    }

    /// Whether panes of such aggregates can be packed, and windows of so many be made of them.
    pub(super) const fn can_hold(all: i64) -> bool {
        A::PACKS && (all < SLIDING || A::Sliding::SLIDES)
    }

    /// Panes as they were stored, if they are few and small and their windows slide; those before `open` have closed. Those
    /// [are to be put](Self::settle) into slices next, of all entities by their time.
    pub(super) fn restored(
        state: &PanesState<A>,
        all: i64,
        open: i64,
        number: u64,
        lost: bool,
    ) -> Option<Self> {
        if state.summing {
            return None;
        }
        let mut few = Self {
            split: state.split,
            summed: state.summed,
            lost,
            ..Self::new(number)
        };
        let too_many = state.panes.len().saturating_sub(most_panes(all));
        let panes = &state.panes[too_many..];
        for pane in panes {
            few.tail = place(few.bytes.len());
            few.count += 1;
            pack_pane(&mut few.bytes, pane).ok()?;
        }
        let closed = &panes[..panes.partition_point(|pane| pane.index < open)];
        if all >= SLIDING && !closed.is_empty() {
            let mut running = Box::<Running<A>>::default();
            let (older, newer) = closed.split_at(closed.partition_point(|pane| pane.index < state.split));
            older.iter().all(|pane| running.enter(pane)).then_some(())?;
            running.turn();
            newer.iter().all(|pane| running.enter(pane)).then_some(())?;
            few.running = Some(running);
        }
        Some(few)
    }

    /// Puts the pane of this number, the first of all that lie here, into slices.
    pub(super) fn settle(&mut self, index: i64, slot: u32, slices: &mut Slices) {
        let before = self.before();
        let owner = self.owner(slot);
        let Some(pane) = self.front().filter(|pane| pane.index == index) else {
            return;
        };
        let (end, link) = (
            pane.end,
            slices.restore(index, owner, before, pane.span, pane.aggregate),
        );
        self.head = place(end);
        self.count -= 1;
        if let Some(link) = link {
            (self.newest, self.past) = (link, self.past + 1);
        }
    }

    /// Gives back what was only needed for [`settle`](Self::settle).
    pub(super) fn settled(&mut self) {
        self.bytes.drain(..self.head as usize);
        self.tail = self.tail.saturating_sub(self.head);
        self.head = 0;
        self.bytes.shrink_to_fit();
    }

    /// Whether it is the entity that a pane in slices is of.
    pub(super) const fn is(&self, owner: Owner) -> bool {
        self.number == owner.number
    }

    /// The same panes, each with an aggregate of its own.
    pub(super) fn many(&self, all: i64, slices: &Slices) -> Many<A> {
        Many::restored(self.state(slices), all, self.lost)
    }

    /// Applies a change to the aggregate of a pane, of windows with so many panes. If the pane is too large then, it
    /// is still as it was here, and as it should be in what is returned.
    pub(super) fn update(
        &mut self,
        index: i64,
        seq: Seq,
        all: i64,
        shop: &mut Shop<A>,
        slices: &Slices,
        change: impl FnOnce(&mut A),
    ) -> Result<Update, Box<Outgrown<A>>> {
        // All of a large pane at once: what is unpacked is read bit by bit, and would be waited for line by line.
        if self.bytes.len() > self.tail as usize + SMALL_PANE {
            self.prefetch();
        }
        let place = self.place(index);
        let Shop { pane, bytes, .. } = shop;
        let known = match place {
            Place::At(packed, _) => {
                pane.unpack(&packed);
                pane.span.merge(&Span(seq, seq));
                true
            }
            Place::End | Place::Before(_) => {
                if self.len() >= most_panes(all) {
                    return Ok(Update::Refused);
                }
                pane.aggregate.reset();
                (pane.index, pane.span) = (index, Span(seq, seq));
                false
            }
        };
        change(&mut pane.aggregate);
        let place = match place {
            Place::At(packed, start) => Some((start, packed.end)),
            Place::Before(start) => Some((start, start)),
            Place::End => None,
        };
        if self.len() == 0 {
            self.summed = i64::MIN;
        }
        bytes.clear();
        let packed = pack_pane(bytes, pane).and_then(|()| match place {
            Some((start, end)) => self.replace(start, end, bytes),
            None => self.append(bytes),
        });
        let update = if known { Update::Accepted } else { Update::NewPane };
        if packed.is_err() {
            let mut state: PanesState<A> = self.state(slices);
            let at = state.panes.partition_point(|other| other.index < index);
            if known {
                state.panes[at] = pane.clone();
            } else {
                state.panes.insert(at, pane.clone());
            }
            return Err(Box::new(Outgrown { state, update }));
        }
        Ok(update)
    }

    pub(super) fn len(&self) -> usize {
        (self.count + self.past) as usize
    }

    /// The number of a pane, none of those that have not closed is earlier.
    pub(super) fn first(&self) -> Option<i64> {
        if self.past > 0 {
            return Some(self.summed);
        }
        self.front().map(|pane| pane.index)
    }

    pub(super) fn last(&self) -> Option<i64> {
        let last = self.at(self.tail as usize).map(|pane| pane.index);
        last.or_else(|| (self.past > 0).then_some(self.summed))
    }

    /// The number of the pane with whose closing the last one went, if there are none.
    pub(super) const fn empty_since(&self) -> i64 {
        self.summed
    }

    /// The numbers of the panes that lie here.
    pub(super) fn indices(&self) -> impl Iterator<Item = i64> {
        self.packed().map(|pane| pane.index)
    }

    /// Asks for the memory that the next update will need.
    pub(super) fn prefetch(&self) {
        let tail = self.bytes.as_ptr().wrapping_add(self.tail as usize);
        // As much as a small one takes, if there is none: it will be written there.
        let length = self.bytes.len().saturating_sub(self.tail as usize);
        fetch_from(tail, length.max(SMALL_PANE).min(self.bytes.capacity()));
    }

    /// Asks for what leads to the memory that closing a pane will need.
    pub(super) fn prefetch_ends(&self) {
        fetch_all(self.bytes.get(self.head as usize..).unwrap_or_default());
        if let Some(running) = self.running.as_deref() {
            fetch(running);
        }
    }

    /// Asks for the memory that closing a pane will need.
    pub(super) fn prefetch_window(&self) {
        if let Some(running) = self.running.as_deref() {
            running.prefetch();
        }
    }

    /// Takes the pane of this number into the windows, if there is one, and lets those go that a window ending with
    /// it no longer holds: the one that leaves the slices, if windows slide and `leaves` says that it is of this entity. If it
    /// cannot, the panes are as before, and to be [many](Self::many).
    pub(super) fn close(
        &mut self,
        index: i64,
        all: i64,
        slot: u32,
        leaves: bool,
        slices: &mut Slices,
        shop: &mut Shop<A>,
    ) -> Result<Change, TooLarge> {
        if all >= SLIDING {
            return self.slide(index, slot, leaves, slices, shop);
        }
        let went = self.let_go(index.saturating_sub(all - 1), index);
        let came = matches!(self.place(index), Place::At(..));
        if came {
            self.summed = index;
        }
        Ok(Change { came, went })
    }

    /// Lets the panes go that the window ending with this one will not hold, before it is its turn.
    pub(super) fn prepare(&mut self, index: i64, all: i64) {
        if self.let_go(index.saturating_sub(all - 1), index) {
            self.lost = true;
        }
    }

    /// Takes the pane out of the window that leaves the slices, and the one that closes in.
    fn slide(
        &mut self,
        index: i64,
        slot: u32,
        leaves: bool,
        slices: &mut Slices,
        shop: &mut Shop<A>,
    ) -> Result<Change, TooLarge> {
        // There are panes before it only where a damaged state was restored.
        self.let_go(index, index);
        let leaving = if leaves { slices.leaving() } else { None };
        let mut taken = self.running.take();
        let coming = self.front().filter(|pane| pane.index == index);
        let change = Change {
            came: coming.is_some(),
            went: leaving.is_some(),
        };
        if !(change.came || change.went) {
            self.running = taken;
            return Ok(change);
        }
        // If something fails it is of no use any more.
        let running = taken.get_or_insert_default();
        let room = &mut shop.room;
        let mut past = self.past;
        let (mut split, end) = (self.split, coming.map_or(0, |pane| pane.end));
        if let Some(leaving) = leaving {
            past = past.saturating_sub(1);
            if !running.leave_packed(leaving.aggregate, room) {
                return Err(TooLarge);
            }
            if past == 0 && self.count == 0 {
                running.reset();
                split = i64::MIN;
            } else if leaving.index >= split {
                running.turn();
                split = index;
            }
        }
        let mut newest = None;
        if let Some(coming) = coming {
            if !running.enter_packed(coming.span, coming.aggregate, room) {
                return Err(TooLarge);
            }
            let before = (past > 0).then_some(self.newest);
            newest = Some(
                slices
                    .close(self.owner(slot), before, coming.span, coming.aggregate)
                    .ok_or(TooLarge)?,
            );
        }
        (self.running, self.past, self.split) = (taken, past, split);
        if let Some(newest) = newest {
            (self.newest, self.past, self.summed) = (newest, past + 1, index);
            self.drop_first(end);
        } else if self.len() == 0 {
            self.summed = index;
        }
        Ok(change)
    }

    /// The window that ends with this pane, which has closed.
    pub(super) fn window<'a>(&'a self, index: i64, all: i64, shop: &'a mut Shop<A>) -> Option<(&'a A, Span)> {
        if all >= SLIDING {
            let span = self.running.as_deref()?.window(&mut shop.room)?;
            return Some((&shop.room, span));
        }
        let mut closed = self.packed().take_while(|pane| pane.index <= index);
        let oldest = closed.next()?;
        let mut span = oldest.span;
        shop.room.unpack(&mut &*oldest.aggregate);
        for packed in closed {
            shop.room.merge_packed(&mut &*packed.aggregate);
            span.merge(&packed.span);
        }
        Some((&shop.room, span))
    }

    pub(super) fn state(&self, slices: &Slices) -> PanesState<A> {
        let unpacked = |index: i64, span: Span, mut aggregate: &[u8]| {
            let mut pane = Pane {
                index,
                span,
                aggregate: A::default(),
            };
            pane.aggregate.unpack(&mut aggregate);
            pane
        };
        let past = self
            .before()
            .map(|newest| slices.back_from(newest).take(self.past as usize));
        let past = past.into_iter().flatten();
        let mut panes: Vec<Pane<A>> = past
            .map(|pane| unpacked(pane.index, pane.span, pane.aggregate))
            .collect();
        panes.reverse();
        panes.extend(
            self.packed()
                .map(|pane| unpacked(pane.index, pane.span, pane.aggregate)),
        );
        PanesState {
            panes,
            split: self.split,
            summed: self.summed,
            summing: false,
        }
    }

    const fn owner(&self, slot: u32) -> Owner {
        Owner {
            slot,
            number: self.number,
        }
    }

    /// The newest pane in slices.
    fn before(&self) -> Option<Link> {
        (self.past > 0).then_some(self.newest)
    }

    /// Lets the panes go that lie here and are before this one; others close now. Says whether there were any.
    fn let_go(&mut self, oldest: i64, index: i64) -> bool {
        let mut went = false;
        while let Some(end) = self
            .front()
            .filter(|pane| pane.index < oldest)
            .map(|pane| pane.end)
        {
            self.drop_first(end);
            went = true;
        }
        if went && self.len() == 0 {
            // As at first, but for the memory, and for how long it has been so.
            (self.split, self.summed) = (i64::MIN, index);
        }
        went
    }

    /// Lets the first pane go, which ends here.
    fn drop_first(&mut self, end: usize) {
        self.count -= 1;
        self.head = place(end);
        if self.count == 0 {
            self.bytes.clear();
            (self.head, self.tail) = (0, 0);
        }
    }

    /// Where a pane is, or would be. Nearly always at the end.
    fn place(&self, index: i64) -> Place<'_> {
        match self.at(self.tail as usize) {
            None => Place::End,
            Some(last) if last.index < index => Place::End,
            Some(last) if last.index == index => Place::At(last, self.tail as usize),
            Some(_) => {
                let mut start = self.head as usize;
                for packed in self.packed() {
                    if packed.index == index {
                        return Place::At(packed, start);
                    }
                    if packed.index > index {
                        break;
                    }
                    start = packed.end;
                }
                Place::Before(start)
            }
        }
    }

    /// The first pane that lies here.
    fn front(&self) -> Option<Packed<'_>> {
        self.at(self.head as usize)
    }

    /// All panes that lie here.
    fn packed(&self) -> impl Iterator<Item = Packed<'_>> {
        let mut start = self.head as usize;
        std::iter::from_fn(move || {
            let packed = self.at(start)?;
            start = packed.end;
            Some(packed)
        })
    }

    /// The pane that begins here.
    fn at(&self, start: usize) -> Option<Packed<'_>> {
        let (head, rest) = self.bytes.get(start..)?.split_first_chunk::<HEAD>()?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&head[at..at + 8]);
            word
        };
        let first = u64::from_le_bytes(word(8));
        let later = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
        let length = usize::from(u16::from_le_bytes([head[20], head[21]]));
        Some(Packed {
            index: i64::from_le_bytes(word(0)),
            span: Span(Seq(first), Seq(first.saturating_add(u64::from(later)))),
            aggregate: rest.get(..length)?,
            end: start + HEAD + length,
        })
    }

    /// Puts a pane behind the others.
    fn append(&mut self, packed: &[u8]) -> Result<(), TooLarge> {
        self.make_room(packed.len())?;
        self.tail = place(self.bytes.len());
        self.bytes.extend_from_slice(packed);
        self.count += 1;
        Ok(())
    }

    /// Puts a pane in the place of another, or of none.
    fn replace(&mut self, start: usize, end: usize, packed: &[u8]) -> Result<(), TooLarge> {
        let moved = self.make_room(packed.len().saturating_sub(end - start))?;
        let (start, end) = (start - moved, end - moved);
        if end == self.bytes.len() {
            self.bytes.truncate(start);
            self.bytes.extend_from_slice(packed);
            return Ok(());
        }
        self.bytes.splice(start..end, packed.iter().copied());
        self.tail = place(self.tail as usize + packed.len() - (end - start));
        self.count += u32::from(start == end);
        Ok(())
    }

    /// Makes room for so many bytes more, if there may be so many. Says by how much all panes moved to the front.
    fn make_room(&mut self, more: usize) -> Result<usize, TooLarge> {
        let head = self.head as usize;
        if self.bytes.len() - head + more > MOST_PANES {
            return Err(TooLarge);
        }
        let (length, capacity) = (self.bytes.len() + more, self.bytes.capacity());
        if length <= capacity {
            return Ok(0);
        }
        self.bytes.drain(..head);
        (self.head, self.tail) = (0, self.tail - self.head);
        // Panes move seldom if a part of the memory is free when they have.
        let needed = length - head;
        let with_free = needed + (needed / 4).max(FREE);
        if with_free > capacity {
            self.bytes.reserve_exact(with_free - self.bytes.len());
        }
        Ok(head)
    }
}

impl<A: Aggregate> Pane<A> {
    fn unpack(&mut self, packed: &Packed<'_>) {
        (self.index, self.span) = (packed.index, packed.span);
        self.aggregate.unpack(&mut &*packed.aggregate);
    }
}

fn pack_pane<A: Aggregate>(bytes: &mut Vec<u8>, pane: &Pane<A>) -> Result<(), TooLarge> {
    bytes.extend_from_slice(&pane.index.to_le_bytes());
    bytes.extend_from_slice(&pane.span.0.0.to_le_bytes());
    bytes.extend_from_slice(&apart(pane.span.0, pane.span.1)?.to_le_bytes());
    let length = bytes.len();
    bytes.extend_from_slice(&[0; 2]);
    if !pane.aggregate.pack(bytes) || bytes.len() - length - 2 > MOST_PANE {
        return Err(TooLarge);
    }
    let packed = u16::try_from(bytes.len() - length - 2).map_err(|_| TooLarge)?;
    bytes[length..length + 2].copy_from_slice(&packed.to_le_bytes());
    Ok(())
}

/// How much later an event is, if it is not too much to be packed.
fn apart(earlier: Seq, later: Seq) -> Result<u32, TooLarge> {
    let apart = later.0.checked_sub(earlier.0).ok_or(TooLarge)?;
    u32::try_from(apart).map_err(|_| TooLarge)
}

/// A place within [`MOST_PANES`] and what has gone before.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
