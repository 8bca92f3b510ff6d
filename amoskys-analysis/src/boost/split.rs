//! The best way to part the rows of a node in two.

use super::bins::Binned;
use super::histogram::{Scale, Sums};

/// A leaf's second derivatives add up to this at least.
const LEAST_HESSIAN: f64 = 1e-3;

/// What a split must satisfy.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) scale: Scale,
    pub(super) least_rows: usize,
    pub(super) regularisation: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Split {
    /// By how much it lowers the loss, twice; above 0.
    pub(super) gain: f64,
    pub(super) column: u32,
    /// The last bin that goes left.
    pub(super) bin: u8,
    pub(super) missing_left: bool,
    pub(super) left: Sums,
}

impl Rules {
    /// The value that a leaf adds to the log-odds, before the learning rate.
    pub(super) fn value(&self, sums: Sums) -> f64 {
        let hessian = self.scale.hessian(sums) + self.regularisation;
        if hessian > 0.0 {
            -self.scale.gradient(sums) / hessian
        } else {
            0.0
        }
    }

    fn worth(&self, sums: Sums) -> f64 {
        let gradient = self.scale.gradient(sums);
        gradient * gradient / (self.scale.hessian(sums) + self.regularisation)
    }

    /// Whether so many rows can be parted at all.
    pub(super) fn divisible(&self, rows: usize) -> bool {
        rows >= 2 * self.least_rows
    }

    /// The best split over some columns, and those columns on which the rows are not all alike.
    pub(super) fn best(
        &self,
        table: &Binned,
        columns: &[u32],
        histograms: &[Sums],
        total: Sums,
    ) -> (Option<Split>, Vec<u32>) {
        let mut best: Option<Split> = None;
        let mut varied = Vec::new();
        let whole = self.worth(total);
        for &column in columns {
            let at = column as usize;
            let histogram = &histograms[table.starts[at]..table.starts[at + 1]];
            if histogram.iter().filter(|sums| !sums.is_empty()).nth(1).is_none() {
                continue;
            }
            varied.push(column);
            let least = best.map_or(whole, |best| best.gain + whole);
            if let Some(mut found) = self.best_of(histogram, total, least) {
                found.column = column;
                found.gain -= whole;
                best = Some(found);
            }
        }
        (best, varied)
    }

    /// The best split of a column whose two parts are worth more than `least`, with that worth as the gain.
    fn best_of(&self, histogram: &[Sums], total: Sums, least: f64) -> Option<Split> {
        let (missing, known) = histogram.split_last()?;
        let mut best: Option<Split> = None;
        let sides = if missing.is_empty() {
            &[false][..]
        } else {
            &[false, true]
        };
        for &missing_left in sides {
            let mut left = if missing_left { *missing } else { Sums::default() };
            // Missing values alone on the right are a split of their own.
            let last = known.len() - usize::from(missing_left || missing.is_empty());
            for (bin, sums) in known[..last].iter().enumerate() {
                if sums.is_empty() {
                    continue;
                }
                left = left + *sums;
                let right = total - left;
                if self.scale.count(left) < self.least_rows {
                    continue;
                }
                if self.scale.count(right) < self.least_rows {
                    break;
                }
                let (l, r) = (self.scale.hessian(left), self.scale.hessian(right));
                if l < LEAST_HESSIAN || r < LEAST_HESSIAN {
                    continue;
                }
                let (a, b) = (self.scale.gradient(left), self.scale.gradient(right));
                let (l, r) = (l + self.regularisation, r + self.regularisation);
                let worth = (a * a * r + b * b * l) / (l * r);
                if worth > best.map_or(least, |best| best.gain) {
                    let missing_left = if missing.is_empty() {
                        // Not known: with most rows.
                        self.scale.count(left) > self.scale.count(right)
                    } else {
                        missing_left
                    };
                    best = Some(Split {
                        gain: worth,
                        column: 0,
                        bin: bin as u8,
                        missing_left,
                        left,
                    });
                }
            }
        }
        best
    }
}
