//! Follows the hash chains of all streams through a log, and finds where they break.

use std::collections::BTreeMap;

use amoskys_core::event::{Gap, GapReason};
use amoskys_core::{Digest, Name, Seq, StreamId};

use super::heads::Heads;
use crate::seal::Head;
use crate::seal::header::{RawHeader, RecordKind};

/// Where in the log something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    /// First offset of the segment.
    pub(crate) segment: u64,
    /// Byte in it.
    pub(crate) byte: u64,
    /// Offset of the record.
    pub(crate) offset: u64,
}

/// A stretch of a stream that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Break {
    pub(crate) stream: StreamId,
    /// First missing number, and the one behind the last.
    pub(crate) first: u64,
    pub(crate) next: u64,
    /// Digests of the record before it, and of the last missing one.
    pub(crate) before: Digest,
    pub(crate) end: Digest,
    /// The records before and behind it.
    pub(crate) after: Option<Spot>,
    pub(crate) at: Spot,
    /// Parts of it that turned up later, out of order.
    found_later: Vec<(u64, u64)>,
    /// Nothing came behind it: it is known from the anchor.
    pub(crate) tail: bool,
}

impl Break {
    /// The gap record that explains it.
    pub(crate) fn to_gap(&self, reason: GapReason) -> Gap {
        let (first, last) = (Seq(self.first), Seq(self.next.saturating_sub(1)));
        Gap {
            stream: self.stream.clone(),
            first,
            last,
            before: self.before,
            end: self.end,
            reason,
        }
    }

    fn is_found(&self) -> bool {
        let mut at = self.first;
        let mut parts = self.found_later.clone();
        parts.sort_unstable();
        for (first, next) in parts {
            if first == at {
                at = next;
            }
        }
        at == self.next && self.first < self.next
    }
}

/// What is wrong with a record's place in its stream, other than that something before it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misplaced {
    /// It belongs before records that came earlier in the log.
    Reordered,
    /// Its numbers were there already.
    Repeated,
    /// It is not the record the anchor names at this place.
    NotAnchored,
}

#[derive(Debug, Default)]
struct Stream {
    head: Head,
    last: Option<Spot>,
}

/// A gap record, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct GapAt {
    pub(crate) gap: Gap,
    pub(crate) spot: Spot,
}

/// All chains of a log.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    streams: BTreeMap<StreamId, Stream>,
    gaps: Vec<GapAt>,
    breaks: Vec<Break>,
    /// Where the streams should have come to, by the anchor.
    anchored: Heads,
    /// Without a base, the first record of each stream is taken as its beginning.
    base_known: bool,
}

/// The outcome.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// Stretches that are missing without an explanation.
    pub(crate) missing: Vec<Break>,
    /// Stretches that gap records explain, with these.
    pub(crate) explained: Vec<(Break, Vec<GapAt>)>,
    /// Where the streams have come to.
    pub(crate) heads: Heads,
}

impl Chains {
    /// `base` is where the streams were at the beginning of the log, if that is known.
    pub(crate) fn new(base: Option<&Heads>, anchored: &Heads) -> Self {
        let streams = base.map(|base| {
            let stream = |head: &Head| Stream {
                head: *head,
                last: None,
            };
            base.0
                .iter()
                .map(|(id, head)| (id.clone(), stream(head)))
                .collect()
        });
        Self {
            base_known: streams.is_some(),
            streams: streams.unwrap_or_default(),
            anchored: anchored.clone(),
            ..Self::default()
        }
    }

    /// Takes the next record of the log. `lost` says that its payload is gone, though its header is genuine.
    pub(crate) fn take(&mut self, header: &RawHeader<'_>, spot: Spot, lost: bool) -> Option<Misplaced> {
        let class = header.class().ok()?;
        let stream = StreamId {
            agent: Name::from(header.agent),
            epoch: header.epoch(),
            class,
        };
        let first = header.first().0;
        let next = first.checked_add(header.count())?;
        if header.kind() == RecordKind::Gap {
            if let Some((end, reason)) = header.gap().filter(|_| !lost && header.count() > 0) {
                let (first, last) = (Seq(first), Seq(next - 1));
                self.take_gap(
                    Gap {
                        stream,
                        first,
                        last,
                        before: header.previous(),
                        end,
                        reason,
                    },
                    spot,
                );
            }
            return None;
        }
        let previous = header.previous();
        let state = self.streams.entry(stream.clone()).or_insert_with(|| {
            let begin = if self.base_known {
                Head::default()
            } else {
                Head {
                    next: Seq(first),
                    digest: previous,
                }
            };
            Stream {
                head: begin,
                last: None,
            }
        });
        let head = state.head;
        if first < head.next.0 {
            let home = self.breaks.iter_mut().find(|hole| {
                hole.stream == stream && hole.first <= first && next <= hole.next && first < next
            });
            return Some(match home {
                Some(hole) if !hole.found_later.iter().any(|(f, n)| first < *n && *f < next) => {
                    hole.found_later.push((first, next));
                    Misplaced::Reordered
                }
                _ => Misplaced::Repeated,
            });
        }
        let mut hole = |first: u64, next: u64, before: Digest, end: Digest, after: Option<Spot>| {
            let stream = stream.clone();
            self.breaks.push(Break {
                stream,
                first,
                next,
                before,
                end,
                after,
                at: spot,
                found_later: Vec::new(),
                tail: false,
            });
        };
        if first > head.next.0 || previous != head.digest {
            hole(head.next.0, first, head.digest, previous, state.last);
        }
        let digest = header.digest();
        if lost {
            hole(first, next, previous, digest, state.last);
        }
        state.head = Head {
            next: Seq(next),
            digest,
        };
        state.last = Some(spot);
        let anchored = self.anchored.0.get(&stream);
        let contradicts = |anchor: &Head| match anchor.next.0 {
            at if at == next => anchor.digest != digest,
            at => first < at && at < next,
        };
        anchored
            .is_some_and(contradicts)
            .then_some(Misplaced::NotAnchored)
    }

    fn take_gap(&mut self, gap: Gap, spot: Spot) {
        let state = self.streams.entry(gap.stream.clone()).or_insert_with(|| {
            let begin = Head {
                next: gap.first,
                digest: gap.before,
            };
            Stream {
                head: if self.base_known { Head::default() } else { begin },
                last: None,
            }
        });
        if state.head
            == (Head {
                next: gap.first,
                digest: gap.before,
            })
        {
            self.breaks.push(Break {
                stream: gap.stream.clone(),
                first: gap.first.0,
                next: gap.last.0 + 1,
                before: gap.before,
                end: gap.end,
                after: state.last,
                at: spot,
                found_later: Vec::new(),
                tail: false,
            });
            state.head = Head {
                next: Seq(gap.last.0 + 1),
                digest: gap.end,
            };
            state.last = Some(spot);
        }
        self.gaps.push(GapAt { gap, spot });
    }

    /// The end of the log was reached at `end`.
    pub(crate) fn resolve(mut self, end: Spot) -> Resolved {
        for (stream, anchored) in &self.anchored.0 {
            let state = self.streams.entry(stream.clone()).or_default();
            if state.head.next < anchored.next {
                self.breaks.push(Break {
                    stream: stream.clone(),
                    first: state.head.next.0,
                    next: anchored.next.0,
                    before: state.head.digest,
                    end: anchored.digest,
                    after: state.last,
                    at: end,
                    found_later: Vec::new(),
                    tail: true,
                });
                state.head = *anchored;
            }
        }
        let heads = Heads(
            self.streams
                .into_iter()
                .map(|(stream, state)| (stream, state.head))
                .collect(),
        );
        let mut resolved = Resolved {
            heads,
            ..Resolved::default()
        };
        for hole in merge(self.breaks) {
            if hole.is_found() {
                continue;
            }
            match explain(&hole, &self.gaps) {
                Some(by) => resolved.explained.push((hole, by)),
                None => resolved.missing.push(hole),
            }
        }
        resolved
    }
}

/// Joins stretches that follow each other without a record between them.
fn merge(mut breaks: Vec<Break>) -> Vec<Break> {
    breaks.sort_by(|a, b| (&a.stream, a.first, a.next).cmp(&(&b.stream, b.first, b.next)));
    let mut merged: Vec<Break> = Vec::with_capacity(breaks.len());
    for hole in breaks {
        match merged.last_mut() {
            Some(last)
                if last.stream == hole.stream
                    && last.next == hole.first
                    && last.end == hole.before
                    && last.found_later.is_empty()
                    && hole.found_later.is_empty() =>
            {
                last.next = hole.next;
                last.end = hole.end;
                last.at = hole.at;
                last.tail = hole.tail;
            }
            _ => merged.push(hole),
        }
    }
    merged
}

/// The gap records that lead from one end of the stretch to the other.
fn explain(hole: &Break, gaps: &[GapAt]) -> Option<Vec<GapAt>> {
    let (mut at, mut digest) = (hole.first, hole.before);
    let mut by = Vec::new();
    while at < hole.next {
        let fits = |candidate: &&GapAt| {
            let gap = &candidate.gap;
            gap.stream == hole.stream && gap.first.0 == at && gap.before == digest && gap.last.0 < hole.next
        };
        let next = gaps.iter().find(fits)?;
        (at, digest) = (next.gap.last.0 + 1, next.gap.end);
        by.push(next.clone());
    }
    (digest == hole.end && !by.is_empty()).then_some(by)
}
