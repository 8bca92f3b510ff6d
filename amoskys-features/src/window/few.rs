//! Panes of one entity that are few and small, packed side by side.

use amoskys_core::Seq;

use super::many::{Change, Many, Pane, PanesState, SLIDING, Update, most_panes};
use super::running::Span;
use crate::aggregate::{Aggregate, Sliding};

/// A pane that takes more than this, packed, is not small.
const MOST_PANE: usize = 1 << 10;
/// All panes of an entity.
const MOST_PANES: usize = 16 << 10;
/// So many bytes are left free at least when panes need more memory.
const FREE: usize = 96;
/// Of a pane that is packed: its number, its first event, how much later its last one is, how far the panes of the older
/// part from this one on reach beyond both, and how many bytes follow.
const HEAD: usize = 8 + 8 + 4 + REACH + 2;
/// How much earlier the first event is, and how much later the last.
const REACH: usize = 4 + 4;
/// Where that is.
const REACH_AT: usize = 8 + 8 + 4;

/// Panes in order, none empty, packed into bytes that lie side by side.
///
/// Where entities are many, an event and a window cost what their memory is away from the processor: how many places
/// it lies in, and how large they are. An aggregate of few events is mostly room for more. Packed, a pane of one event
/// takes two or three lines of the cache instead of ten, and all panes lie side by side. One aggregate for all entities
/// is unpacked into, changed, and packed again ([`Shop`]). What slides is in a third place, and is as it is: to unpack and pack
/// it each time costs more than its memory does. Panes enter and leave it as they are packed.
pub(super) struct Few<A: Aggregate> {
    /// The panes, and before `head` those that have gone.
    bytes: Vec<u8>,
    head: u32,
    /// Where the last pane begins.
    tail: u32,
    count: u32,
    /// Panes have gone that the window handed out last held.
    pub(super) lost: bool,
    /// If windows slide and a pane has closed.
    running: Option<Box<Running<A>>>,
    split: i64,
    summed: i64,
}

/// The window of the panes that have closed and not gone.
struct Running<A: Aggregate> {
    /// The first and last event of the newer part.
    newer: Span,
    window: A::Sliding,
}

/// Where what is packed is unpacked and worked on, one entity at a time.
pub(super) struct Shop<A: Aggregate> {
    pane: Pane<A>,
    /// Where the parts of a window are joined.
    pub(super) room: A,
    bytes: Vec<u8>,
    /// Where panes begin.
    starts: Vec<usize>,
}

/// A pane as it is packed.
#[derive(Clone, Copy)]
struct Packed<'a> {
    index: i64,
    span: Span,
    /// See [`to_split`](Self::to_split).
    reach: u64,
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

/// Panes that a window no longer holds.
#[derive(Clone, Copy)]
struct Gone {
    panes: usize,
    /// Where they end.
    end: usize,
    /// Some were of the newer part: see [`Stacked`](crate::aggregate::Stacked).
    newer: bool,
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
            starts: Vec::new(),
        }
    }
}

impl<A: Aggregate> Default for Running<A> {
    fn default() -> Self {
        Self {
            newer: Span::default(),
            window: A::Sliding::default(),
        }
    }
}

impl<A: Aggregate> Default for Few<A> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            head: 0,
            tail: 0,
            count: 0,
            lost: false,
            running: None,
            split: i64::MIN,
            summed: i64::MIN,
        }
    }
}

impl<A: Aggregate> Few<A> {
    /// Whether panes of such aggregates can be packed, and windows of so many be made of them.
    pub(super) const fn can_hold(all: i64) -> bool {
        A::PACKS && (all < SLIDING || A::Sliding::SLIDES)
    }

    /// Panes as they were stored, if they are few and small and their windows slide.
    pub(super) fn restored(state: &PanesState<A>, all: i64, lost: bool) -> Option<Self> {
        if state.summing {
            return None;
        }
        let slides = all >= SLIDING;
        let too_many = state.panes.len().saturating_sub(most_panes(all));
        let mut few = Self {
            split: state.split,
            summed: state.summed,
            lost,
            ..Self::default()
        };
        let mut bytes = Vec::new();
        for pane in state.panes.iter().skip(too_many) {
            bytes.clear();
            pack_pane(&mut bytes, pane).ok()?;
            few.append(&bytes).ok()?;
        }
        if slides {
            let mut running = Box::<Running<A>>::default();
            let closed = state.panes.iter().skip(too_many);
            let mut closed = closed
                .take_while(|pane| pane.index < state.split || pane.index <= state.summed)
                .peekable();
            while let Some(pane) = closed.next_if(|pane| pane.index < state.split) {
                running.window.enter(&pane.aggregate).then_some(())?;
            }
            running.window.turn();
            few.sum_spans(state.split, 0, &mut Vec::new()).ok()?;
            for pane in closed {
                running.window.enter(&pane.aggregate).then_some(())?;
                running.newer.merge(&pane.span);
            }
            few.running = Some(running);
        }
        Some(few)
    }

    /// The same panes, each with an aggregate of its own.
    pub(super) fn many(&self, all: i64) -> Many<A> {
        Many::restored(self.state(), all, self.lost)
    }

    /// Applies a change to the aggregate of a pane, of windows with so many panes. If the pane is too large then, it
    /// is still as it was here, and as it should be in what is returned.
    pub(super) fn update(
        &mut self,
        index: i64,
        seq: Seq,
        all: i64,
        shop: &mut Shop<A>,
        change: impl FnOnce(&mut A),
    ) -> Result<Update, Box<Outgrown<A>>> {
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
        if self.count == 0 {
            self.summed = i64::MIN;
        }
        bytes.clear();
        let packed = pack_pane(bytes, pane).and_then(|()| match place {
            Some((start, end)) => self.replace(start, end, bytes),
            None => self.append(bytes),
        });
        let update = if known { Update::Accepted } else { Update::NewPane };
        if packed.is_err() {
            let mut state: PanesState<A> = self.state();
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
        self.count as usize
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.packed().next().map(|pane| pane.index)
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.at(self.tail as usize).map(|pane| pane.index)
    }

    /// The number of the pane with whose closing the last one went, if there are none.
    pub(super) const fn empty_since(&self) -> i64 {
        self.summed
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = i64> {
        self.packed().map(|pane| pane.index)
    }

    /// Reads a little of the memory that the next update will need.
    pub(super) fn touch(&self) -> u64 {
        lines(self.bytes.get(self.tail as usize..).unwrap_or_default())
    }

    /// Reads a little of the memory that closing a pane will need.
    pub(super) fn touch_window(&self) -> u64 {
        let head = self.head as usize;
        let first = self.bytes.get(head..(head + 192).min(self.bytes.len()));
        let running = self.running.as_deref().map_or(0, |running| running.newer.0.0);
        lines(first.unwrap_or_default()) ^ self.touch() ^ running
    }

    /// Reads a little of the memory that the window will need.
    pub(super) fn touch_parts(&self) -> u64 {
        self.running
            .as_deref()
            .map_or(0, |running| running.window.touch())
    }

    /// Takes the pane of this number into the windows, if there is one, and lets those go that a window ending with
    /// it no longer holds. If it cannot, the panes are as before, and to be [many](Self::many).
    pub(super) fn close(&mut self, index: i64, all: i64, shop: &mut Shop<A>) -> Result<Change, TooLarge> {
        let oldest = index.saturating_sub(all - 1);
        let change = Change {
            came: matches!(self.place(index), Place::At(..)),
            went: self.first().is_some_and(|first| first < oldest),
        };
        if change.came || change.went {
            self.move_on(index, all, change.came, shop)?;
        }
        if change.came {
            self.summed = index;
        }
        Ok(change)
    }

    /// Lets the panes go that the window ending with this one will not hold, before it is its turn. If it cannot,
    /// the panes are as before, and to be [many](Self::many).
    pub(super) fn prepare(&mut self, index: i64, all: i64, shop: &mut Shop<A>) -> Result<(), TooLarge> {
        let oldest = index.saturating_sub(all - 1);
        if self.first().is_some_and(|first| first < oldest) {
            self.move_on(index, all, false, shop)?;
            self.lost = true;
        }
        Ok(())
    }

    fn move_on(&mut self, index: i64, all: i64, came: bool, shop: &mut Shop<A>) -> Result<(), TooLarge> {
        let oldest = index.saturating_sub(all - 1);
        let slides = all >= SLIDING;
        let gone = if slides {
            self.slide(index, all, came, shop)?
        } else {
            self.older_than(oldest)
        };
        self.let_go(gone, index, slides);
        Ok(())
    }

    /// The window that ends with this pane, which has closed.
    pub(super) fn window<'a>(&'a self, index: i64, all: i64, shop: &'a mut Shop<A>) -> Option<(&'a A, Span)> {
        if all >= SLIDING {
            let running = self.running.as_deref()?;
            let oldest = self.packed().next().filter(|oldest| oldest.index <= index)?;
            running.window.window(&mut shop.room);
            let mut span = running.newer;
            if oldest.index < self.split {
                span.merge(&oldest.to_split());
            }
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

    pub(super) fn state(&self) -> PanesState<A> {
        let unpacked = |packed: Packed<'_>| {
            let mut pane = Pane::default();
            pane.unpack(&packed);
            pane
        };
        PanesState {
            panes: self.packed().map(unpacked).collect(),
            split: self.split,
            summed: self.summed,
            summing: false,
        }
    }

    /// Takes the panes out of the window that the one ending with this pane does not hold, and that pane in, if it came.
    /// Says what has gone, but leaves it where it is.
    fn slide(&mut self, index: i64, all: i64, came: bool, shop: &mut Shop<A>) -> Result<Gone, TooLarge> {
        let oldest = index.saturating_sub(all - 1);
        let room = &mut shop.room;
        let mut running = self.running.take().unwrap_or_default();
        let gone = self.older_than(oldest);
        for packed in self.packed().take(gone.panes) {
            if !running.window.leave_packed(&mut &*packed.aggregate, room) {
                return Err(TooLarge);
            }
        }
        if gone.panes == self.len() {
            running.window.reset();
            running.newer = Span::default();
        } else if gone.newer {
            running.window.turn();
            running.newer = Span::default();
            self.sum_spans(index, gone.end, &mut shop.starts)?;
        }
        if came && let Place::At(coming, _) = self.place(index) {
            if !running.window.enter_packed(&mut &*coming.aggregate, room) {
                return Err(TooLarge);
            }
            running.newer.merge(&coming.span);
        }
        self.running = Some(running);
        Ok(gone)
    }

    /// Writes behind each pane before `split`, from `start` on, how far the first and last event are of it and the later ones.
    fn sum_spans(&mut self, split: i64, start: usize, starts: &mut Vec<usize>) -> Result<(), TooLarge> {
        starts.clear();
        let mut at = start;
        while let Some(packed) = self.at(at).filter(|packed| packed.index < split) {
            starts.push(at);
            at = packed.end;
        }
        let mut sum = Span::default();
        for &start in starts.iter().rev() {
            let Packed { span, .. } = self.at(start).ok_or(TooLarge)?;
            sum.merge(&span);
            let (earlier, later) = (apart(sum.0, span.0)?, apart(span.1, sum.1)?);
            let reach = self
                .bytes
                .get_mut(start + REACH_AT..)
                .and_then(<[u8]>::first_chunk_mut);
            *reach.ok_or(TooLarge)? = (u64::from(later) << 32 | u64::from(earlier)).to_le_bytes();
        }
        Ok(())
    }

    /// The panes before this one.
    fn older_than(&self, oldest: i64) -> Gone {
        let mut gone = Gone {
            panes: 0,
            end: self.head as usize,
            newer: false,
        };
        for packed in self.packed().take_while(|packed| packed.index < oldest) {
            gone.panes += 1;
            gone.end = packed.end;
            gone.newer |= packed.index >= self.split;
        }
        gone
    }

    /// Lets them go, before the window that ends with this pane.
    fn let_go(&mut self, gone: Gone, index: i64, slides: bool) {
        if gone.panes == 0 {
            return;
        }
        self.count -= place(gone.panes);
        self.head = place(gone.end);
        if self.count == 0 {
            // As at first, but for the memory, and for how long it has been so.
            self.bytes.clear();
            (self.head, self.tail) = (0, 0);
            (self.split, self.summed) = (i64::MIN, index);
        } else if gone.newer && slides {
            self.split = index;
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

    /// All panes.
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
        let length = usize::from(u16::from_le_bytes([head[28], head[29]]));
        Some(Packed {
            index: i64::from_le_bytes(word(0)),
            span: Span(Seq(first), Seq(first.saturating_add(u64::from(later)))),
            reach: u64::from_le_bytes(word(REACH_AT)),
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

impl Packed<'_> {
    /// Its first and last event and those of all later panes of the older part, of which it is.
    fn to_split(self) -> Span {
        let (earlier, later) = (self.reach & u64::from(u32::MAX), self.reach >> 32);
        let Span(first, last) = self.span;
        Span(
            Seq(first.0.saturating_sub(earlier)),
            Seq(last.0.saturating_add(later)),
        )
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
    bytes.extend_from_slice(&[0; REACH]);
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

/// Reads a byte of each line of the cache.
fn lines(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .step_by(64)
        .fold(0, |read, &byte| read ^ u64::from(byte))
}

/// A place within [`MOST_PANES`] and what has gone before.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
