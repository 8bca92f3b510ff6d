//! From event time to places in a drawing, and the round times that are marked there.

use amoskys_core::Timestamp;
use amoskys_core::event::Verdict;

use crate::report::format::time_as;
use crate::report::timeline::{Bin, Columns};

/// From event time to place.
pub(super) struct Axis {
    start: Timestamp,
    width_ns: f64,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) column: f64,
}

impl Axis {
    #[expect(clippy::cast_precision_loss, reason = "a pixel is coarser")]
    pub(super) fn over(columns: &Columns, from: f64, to: f64) -> Self {
        let column = (to - from) / columns.bins.len() as f64;
        Self {
            start: columns.start,
            width_ns: columns.width_ns.max(1) as f64,
            from,
            to,
            column,
        }
    }

    pub(super) fn x(&self, time: Timestamp) -> f64 {
        let nanos = (i128::from(time.nanos()) - i128::from(self.start.nanos())) as f64;
        (self.from + nanos / self.width_ns * self.column).clamp(self.from, self.to)
    }

    pub(super) fn time(&self, x: f64) -> Timestamp {
        let nanos = (x - self.from) / self.column * self.width_ns;
        // A float's cast saturates.
        #[expect(clippy::cast_possible_truncation, reason = "saturating is what is wanted")]
        Timestamp::from_nanos(self.start.nanos().saturating_add(nanos.round() as i64))
    }

    /// From the first to the latest event of a verdict: wide enough to be seen.
    pub(super) fn span(&self, verdict: &Verdict) -> (f64, f64) {
        let from = self.x(verdict.time);
        let to = self.x(verdict.updated).max(from + 5.0).min(self.to);
        (from.min(to - 5.0), to)
    }

    /// Width of a bar: a little less than a column, where there is room for a gap.
    pub(super) fn bar(&self) -> f64 {
        if self.column > 3.0 {
            self.column - 1.0
        } else {
            self.column
        }
    }

    /// Place, width and score of adjacent columns with one score. Drawn apart, they would show seams.
    pub(super) fn scores(&self, columns: &Columns) -> Vec<(f64, f64, f64)> {
        let mut runs: Vec<(f64, f64, f64)> = Vec::new();
        let mut last = None;
        for (x, bin) in self.bins(columns) {
            match (bin.score, runs.last_mut()) {
                (Some(score), Some((_, width, _))) if last == Some(score) => *width += self.column,
                (Some(score), _) => runs.push((x, self.column, score)),
                (None, _) => {}
            }
            last = bin.score;
        }
        runs
    }

    pub(super) fn bins<'a>(&self, columns: &'a Columns) -> impl Iterator<Item = (f64, &'a Bin)> {
        let (mut x, column) = (self.from, self.column);
        columns.bins.iter().map(move |bin| {
            let here = x;
            x += column;
            (here, bin)
        })
    }
}

pub(super) struct Tick {
    pub(super) x: f64,
    pub(super) label: String,
}

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Distances between ticks that people count in.
const STEPS: [i64; 38] = [
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    50 * MS,
    100 * MS,
    200 * MS,
    500 * MS,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    5 * DAY,
    10 * DAY,
    30 * DAY,
    60 * DAY,
    180 * DAY,
    360 * DAY,
    720 * DAY,
    1800 * DAY,
    3600 * DAY,
    18_000 * DAY,
];

/// Ticks at round times, at least `apart` from each other.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser")]
pub(super) fn ticks(axis: &Axis, apart: f64) -> Vec<Tick> {
    let ns_per_px = axis.width_ns / axis.column;
    let step = STEPS
        .iter()
        .copied()
        .find(|step| *step as f64 / ns_per_px >= apart)
        .unwrap_or(36_000 * DAY);
    let pattern = match step {
        ..SECOND => "%H:%M:%S%.3f",
        SECOND..MINUTE => "%H:%M:%S",
        MINUTE..DAY => "%H:%M",
        _ => "%Y-%m-%d",
    };
    let mut ticks = Vec::new();
    let mut at = axis
        .start
        .nanos()
        .div_euclid(step)
        .saturating_add(1)
        .saturating_mul(step);
    loop {
        let x = axis.x(Timestamp::from_nanos(at));
        if x >= axis.to || ticks.len() > 64 {
            return ticks;
        }
        ticks.push(Tick {
            x,
            label: time_as(Timestamp::from_nanos(at), pattern),
        });
        let Some(next) = at.checked_add(step) else {
            return ticks;
        };
        at = next;
    }
}
