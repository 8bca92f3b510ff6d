//! Panes that have closed and not gone, of all entities, by the time they are of.

use std::collections::VecDeque;

use amoskys_core::Seq;
use amoskys_core::fetch::fetch_from;

use super::running::Span;

/// Of a pane: its entity's slot and number, its first event and how much later its last one is, where the pane before it
/// is of the same entity, and how many bytes follow.
const HEAD: usize = 4 + 8 + 8 + 4 + 2 + 8 + 2;
/// So far ahead slices are asked for: other memory comes between one pane and the next, so the processor does not notice that
/// they are read and written in order.
const AHEAD: usize = 1024;
/// So many bytes.
const FETCHED: usize = 256;
/// So many buffers are kept for slices to come.
const SPARE: usize = 2;

/// Packed panes, those of one time side by side and in the order of their entities' keys.
///
/// A window that slides needs a pane twice: when it closes, and when it goes. Both happen to the panes of one time together, in the
/// order of keys. So that is how they lie: they are written one after the other and read one after the other, which no
/// processor has to wait for, and their memory is given back at once. Kept with their entities they would lie all over the
/// memory, and each entity would ask for more of it at its own time.
#[derive(Default)]
pub(super) struct Slices {
    /// In the order of time, none empty.
    slices: VecDeque<Slice>,
    /// The one whose panes are leaving.
    leaving: Slice,
    /// Where the next one begins that leaves.
    at: usize,
    /// Whether the entity of that one is known to be there still.
    there: bool,
    /// The one whose panes are closing.
    closing: Slice,
    spare: Vec<Vec<u8>>,
    /// How many entities there were.
    entities: u64,
}

#[derive(Default)]
struct Slice {
    index: i64,
    bytes: Vec<u8>,
}

/// Says which entity a pane is of, also where another has taken its slot since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) slot: u32,
    pub(super) number: u64,
}

/// Where a pane is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    index: i64,
    at: u64,
}

impl Link {
    /// Nowhere.
    pub(super) const NONE: Self = Self { index: 0, at: 0 };
}

/// A pane that has closed.
#[derive(Clone, Copy)]
pub(super) struct Past<'a> {
    pub(super) index: i64,
    pub(super) span: Span,
    pub(super) aggregate: &'a [u8],
    owner: Owner,
    before: Option<Link>,
    end: usize,
}

impl Slices {
    /// A number that no entity had before.
    pub(super) const fn number(&mut self) -> u64 {
        self.entities += 1;
        self.entities
    }

    /// Panes of this time close, and those before `oldest` leave.
    pub(super) fn begin(&mut self, index: i64, oldest: i64) {
        while self.slices.front().is_some_and(|slice| slice.index < oldest)
            && let Some(slice) = self.slices.pop_front()
        {
            let gone = std::mem::replace(&mut self.leaving, slice);
            self.reuse(gone);
        }
        (self.at, self.there) = (0, false);
        let bytes = self.spare.pop().unwrap_or_default();
        self.closing = Slice { index, bytes };
    }

    /// All panes of this time have closed, and others left.
    pub(super) fn end(&mut self) {
        let leaving = std::mem::take(&mut self.leaving);
        self.reuse(leaving);
        let closing = std::mem::take(&mut self.closing);
        if closing.bytes.is_empty() {
            self.reuse(closing);
        } else {
            self.slices.push_back(closing);
        }
        if self.slices.is_empty() {
            // Nothing happened for a whole window.
            self.spare.clear();
        }
    }

    /// Whether a pane of the entity in this slot leaves. Entities are asked for in the order of their keys; `there` says
    /// whether one is still in its slot.
    pub(super) fn leaves(&mut self, slot: u32, there: impl Fn(Owner) -> bool) -> bool {
        let ahead = self.leaving.bytes.as_ptr().wrapping_add(self.at + AHEAD);
        fetch_from(ahead, FETCHED);
        while let Some(next) = self.leaving.pane(self.at) {
            self.there = self.there || there(next.owner);
            if self.there {
                return next.owner.slot == slot;
            }
            self.at = next.end;
        }
        false
    }

    /// The pane that leaves.
    pub(super) fn leaving(&self) -> Option<Past<'_>> {
        self.leaving.pane(self.at)
    }

    /// It has left.
    pub(super) fn left(&mut self) {
        if let Some(left) = self.leaving() {
            (self.at, self.there) = (left.end, false);
        }
    }

    /// Takes a pane that closes. Says where it is.
    pub(super) fn close(
        &mut self,
        owner: Owner,
        before: Option<Link>,
        span: Span,
        aggregate: &[u8],
    ) -> Option<Link> {
        let Slice { index, bytes } = &mut self.closing;
        if bytes.capacity() == 0 {
            // As much as the one before, or nearly: to grow on the way would be to copy all there is.
            let before = self.slices.back().map_or(0, |slice| slice.bytes.len());
            bytes.reserve_exact(before + before / 8);
        }
        fetch_from(bytes.as_ptr().wrapping_add(bytes.len() + AHEAD), FETCHED);
        append(*index, bytes, owner, before, span, aggregate)
    }

    /// Takes a pane that closed before, later than all that are there.
    pub(super) fn restore(
        &mut self,
        index: i64,
        owner: Owner,
        before: Option<Link>,
        span: Span,
        aggregate: &[u8],
    ) -> Option<Link> {
        if self.slices.back().is_none_or(|slice| slice.index != index) {
            let bytes = self.spare.pop().unwrap_or_default();
            self.slices.push_back(Slice { index, bytes });
        }
        let slice = self.slices.back_mut()?;
        append(index, &mut slice.bytes, owner, before, span, aggregate)
    }

    /// The panes of an entity, from the newest on, which is here, back to the oldest.
    pub(super) fn back_from(&self, newest: Link) -> impl Iterator<Item = Past<'_>> {
        let mut next = Some(newest);
        std::iter::from_fn(move || {
            let link = next?;
            let pane = self.slice(link.index)?.pane(usize::try_from(link.at).ok()?)?;
            next = pane.before;
            Some(pane)
        })
    }

    /// Forgets all panes.
    pub(super) fn clear(&mut self) {
        self.slices.clear();
        self.spare.clear();
    }

    fn slice(&self, index: i64) -> Option<&Slice> {
        let at = self.slices.partition_point(|slice| slice.index < index);
        let kept = self.slices.get(at).into_iter();
        kept.chain([&self.leaving, &self.closing])
            .find(|slice| slice.index == index && !slice.bytes.is_empty())
    }

    /// Keeps the memory for a slice to come, unless that would be far more than is needed now.
    fn reuse(&mut self, slice: Slice) {
        let Slice { mut bytes, .. } = slice;
        if bytes.capacity() > 0 && bytes.len() >= bytes.capacity() / 4 && self.spare.len() < SPARE {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

fn append(
    index: i64,
    bytes: &mut Vec<u8>,
    owner: Owner,
    before: Option<Link>,
    span: Span,
    aggregate: &[u8],
) -> Option<Link> {
    let Span(first, last) = span;
    let later = u32::try_from(last.0.checked_sub(first.0)?).ok()?;
    let length = u16::try_from(aggregate.len()).ok()?;
    // No pane before is one in the same slice.
    let (apart, before_at) = match before {
        Some(link) => (u16::try_from(index.checked_sub(link.index)?).ok()?, link.at),
        None => (0, 0),
    };
    let at = bytes.len() as u64;
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&owner.slot.to_le_bytes());
    head[4..12].copy_from_slice(&owner.number.to_le_bytes());
    head[12..20].copy_from_slice(&first.0.to_le_bytes());
    head[20..24].copy_from_slice(&later.to_le_bytes());
    head[24..26].copy_from_slice(&apart.to_le_bytes());
    head[26..34].copy_from_slice(&before_at.to_le_bytes());
    head[34..36].copy_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(aggregate);
    Some(Link { index, at })
}

impl Slice {
    /// The pane that begins here.
    fn pane(&self, at: usize) -> Option<Past<'_>> {
        let (head, rest) = self.bytes.get(at..)?.split_first_chunk::<HEAD>()?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let half = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let (first, apart, length) = (word(12), short(24), usize::from(short(34)));
        Some(Past {
            index: self.index,
            span: Span(Seq(first), Seq(first.saturating_add(u64::from(half(20))))),
            aggregate: rest.get(..length)?,
            owner: Owner {
                slot: half(0),
                number: word(4),
            },
            before: (apart > 0).then(|| Link {
                index: self.index.saturating_sub(i64::from(apart)),
                at: word(26),
            }),
            end: at + HEAD + length,
        })
    }
}
