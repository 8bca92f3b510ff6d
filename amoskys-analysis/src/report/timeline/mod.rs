//! What happened when, in bins of event time: bounded however long the input and however absurd its times.

use std::collections::BTreeMap;

use amoskys_core::Timestamp;
use amoskys_core::event::{FlowRecord, Verdict};

/// Bins of one width, of which only those are kept where something happened.
///
/// The width starts at a millisecond and doubles whenever there are too many bins. Because empty bins cost
/// nothing, a single packet with a time decades away does not blur the rest.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    width_ns: i64,
    bins: BTreeMap<i64, Bin>,
}

/// What happened in one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bin {
    /// Flows that began.
    pub(super) flows: u64,
    /// Bytes, those of a flow spread evenly over its duration.
    pub(super) bytes: u64,
    /// The highest score, if there was one.
    pub(super) score: Option<f64>,
}

/// Adjacent bins of equal width, empty ones included: what a chart draws.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    /// Start of the first column.
    pub(super) start: Timestamp,
    /// Width of a column in nanoseconds.
    pub(super) width_ns: i64,
    /// The columns.
    pub(super) bins: Vec<Bin>,
    /// Flows that began outside the columns, because their time is far from all others.
    pub(super) flows_outside: u64,
}

/// A part of something that lasts, in one bin.
struct Step {
    time: Timestamp,
    /// It begins when so much of the whole has passed.
    from: u128,
    /// It ends when so much has.
    to: u128,
    /// The whole.
    of: u128,
}

const FIRST_WIDTH_NS: i64 = 1_000_000;
const MOST_BINS: usize = 2048;
/// What lasts is noted in at most so many bins: as many as a chart has columns.
const MOST_STEPS: i128 = 256;
/// What lasts longer than a day is noted at so many times, evenly apart: it may be one damaged time.
const FEW_STEPS: i128 = 64;
const LONGEST_NS: i64 = 86_400 * 1_000_000_000;

impl Timeline {
    pub(super) fn new() -> Self {
        Self {
            width_ns: FIRST_WIDTH_NS,
            bins: BTreeMap::new(),
        }
    }

    /// Adds a flow that has ended.
    pub(super) fn flow(&mut self, flow: &FlowRecord) {
        self.change(flow.first, |bin| bin.flows += 1);
        let total = u128::from(flow.bytes());
        let given = |part: u128, parts: u128| u64::try_from(total * part / parts).unwrap_or(u64::MAX);
        for step in self.steps(flow.first, flow.last) {
            let bytes = given(step.to, step.of) - given(step.from, step.of);
            if bytes > 0 {
                self.change(step.time, |bin| bin.bytes = bin.bytes.saturating_add(bytes));
            }
        }
    }

    /// Notes the score of a verdict from the time it was drawn or updated. Until then, the score it had `before`
    /// stood.
    pub(super) fn score(&mut self, before: Option<(Timestamp, f64)>, verdict: &Verdict) {
        if let Some((since, score)) = before.filter(|(_, score)| score.is_finite()) {
            for step in self.steps(since, verdict.updated) {
                self.change(step.time, |bin| bin.raise(score));
            }
        }
        if verdict.score.is_finite() {
            self.change(verdict.updated, |bin| bin.raise(verdict.score));
        }
    }

    /// At most `most` columns that cover everything, but for the few flows whose times are far off.
    pub(super) fn columns(&self, most: usize) -> Columns {
        let Some((first, last, flows_outside)) = self.span() else {
            return Columns::default();
        };
        let mut shift = 0;
        while (last >> shift) - (first >> shift) >= i64::try_from(most.max(1)).unwrap_or(i64::MAX) {
            shift += 1;
        }
        let (first_column, last_column) = (first >> shift, last >> shift);
        let length = usize::try_from(last_column - first_column + 1).unwrap_or(0);
        let mut columns = vec![Bin::default(); length];
        for (at, bin) in self.bins.range(first..=last) {
            let column = usize::try_from((at >> shift) - first_column).unwrap_or(0);
            if let Some(column) = columns.get_mut(column) {
                column.merge(bin);
            }
        }
        let width_ns = self.width_ns.saturating_mul(1_i64 << shift.min(62));
        let start = Timestamp::from_nanos(first_column.saturating_mul(width_ns));
        Columns {
            start,
            width_ns,
            bins: columns,
            flows_outside,
        }
    }

    /// First and last bin to draw, and the flows outside.
    ///
    /// The middle is where 98 % of flows and bytes are, and all scores. Bins farther from it than it is wide are
    /// left out, if that makes the rest much clearer: a quiet start is part of the story, a packet from 1970 is
    /// not.
    fn span(&self) -> Option<(i64, i64, u64)> {
        let (first, last) = (*self.bins.keys().next()?, *self.bins.keys().next_back()?);
        let all = self.bins.values().fold(Bin::default(), |mut all, bin| {
            all.merge(bin);
            all
        });
        let (from, to) = (edge(self.bins.iter(), &all)?, edge(self.bins.iter().rev(), &all)?);
        let margin = to.saturating_sub(from).max(1);
        let (near, far) = (from.saturating_sub(margin), to.saturating_add(margin));
        let near = *self.bins.range(near..).next()?.0;
        let far = *self.bins.range(..=far).next_back()?.0;
        let clearer = i128::from(far) - i128::from(near) < (i128::from(last) - i128::from(first)) / 8;
        if far < near || !clearer {
            return Some((first, last, 0));
        }
        let inside: u64 = self.bins.range(near..=far).map(|(_, bin)| bin.flows).sum();
        Some((near, far, all.flows - inside))
    }

    /// The time from `first` to `last`, in milliseconds begun, cut where bins end. Bins are made wide enough for that first, so
    /// that nothing depends on the order in which things are added: what lies in a wide bin is what would lie in its halves.
    fn steps(&mut self, first: Timestamp, last: Timestamp) -> impl Iterator<Item = Step> + use<> {
        let moment = |time: Timestamp| i128::from(time.nanos().div_euclid(FIRST_WIDTH_NS));
        let (first, end) = (moment(first), moment(last.max(first)) + 1);
        let length = end - first;
        let is_absurd = length > i128::from(LONGEST_NS / FIRST_WIDTH_NS);
        let width = |width_ns: i64| i128::from(width_ns / FIRST_WIDTH_NS);
        let bins = |width: i128| (end - 1).div_euclid(width) - first.div_euclid(width) + 1;
        while !is_absurd && bins(width(self.width_ns)) > MOST_STEPS {
            self.widen();
        }
        let width = width(self.width_ns);
        let steps = if is_absurd { FEW_STEPS } else { bins(width) };
        let cut = move |step: i128| {
            let at = if is_absurd {
                first + length * step / steps
            } else {
                (first.div_euclid(width) + step) * width
            };
            at.clamp(first, end)
        };
        (0..steps).map(move |step| {
            let (from, to) = (cut(step), cut(step + 1));
            let nanos = (from * i128::from(FIRST_WIDTH_NS)).max(i128::from(i64::MIN));
            Step {
                time: Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)),
                from: (from - first).unsigned_abs(),
                to: (to - first).unsigned_abs(),
                of: length.unsigned_abs(),
            }
        })
    }

    fn change(&mut self, time: Timestamp, change: impl FnOnce(&mut Bin)) {
        change(
            self.bins
                .entry(time.nanos().div_euclid(self.width_ns))
                .or_default(),
        );
        while self.bins.len() > MOST_BINS {
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.width_ns = self.width_ns.saturating_mul(2);
        let mut wider: BTreeMap<i64, Bin> = BTreeMap::new();
        for (at, bin) in std::mem::take(&mut self.bins) {
            wider.entry(at >> 1).or_default().merge(&bin);
        }
        self.bins = wider;
    }
}

impl Bin {
    fn merge(&mut self, other: &Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.bytes = self.bytes.saturating_add(other.bytes);
        if let Some(score) = other.score {
            self.raise(score);
        }
    }

    fn raise(&mut self, score: f64) {
        self.score = Some(self.score.map_or(score, |highest| highest.max(score)));
    }
}

/// The bin at which more than a hundredth of all flows or bytes has been passed, or a score.
fn edge<'a>(bins: impl Iterator<Item = (&'a i64, &'a Bin)>, all: &Bin) -> Option<i64> {
    let mut passed = Bin::default();
    for (at, bin) in bins {
        passed.merge(bin);
        if passed.score.is_some() || passed.flows > all.flows / 100 || passed.bytes > all.bytes / 100 {
            return Some(*at);
        }
    }
    None
}

#[cfg(test)]
mod tests;
