//! Columns in at most 255 bins of about as many rows each, and one for missing values.

use crate::detectors::parallel::in_parts;
use crate::iforest::Rows;
use crate::iforest::random::Random;
use std::num::NonZeroUsize;

/// Bins of a column at most, without that of missing values.
const MOST_BINS: usize = 255;
/// Bins of larger tables are made from so many rows, drawn.
const MOST_SAMPLED: usize = 200_000;
/// A column is kept as a list of those rows that are not in its largest bin, if these are no more than this share.
const SPARSE: usize = 4;

/// Where the bins of a column end.
pub(super) struct Edges(Vec<f64>);

impl Edges {
    /// Ends of the bins of all columns.
    pub(super) fn of_all(rows: Rows<'_>, seed: u64, threads: NonZeroUsize) -> Vec<Self> {
        let sampled: Vec<usize> = if rows.len() > MOST_SAMPLED {
            Random::new(seed, 1).choose(rows.len(), MOST_SAMPLED)
        } else {
            (0..rows.len()).collect()
        };
        in_parts(rows.columns(), threads, |columns| {
            let edges = |column| Self::of(sampled.iter().map(|&row| rows.row(row)[column]));
            columns.map(edges).collect()
        })
    }

    /// Halfway between neighbouring values if these are few; else at so many quantiles.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.filter(|value| !value.is_nan()).map(bounded).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let mut distinct = sorted.clone();
        distinct.dedup();
        let between = |a: f64, b: f64| {
            let middle = a / 2.0 + b / 2.0;
            // Rounding must not carry the edge to the value above it.
            if middle < b { middle } else { a }
        };
        let mut edges: Vec<f64> = if distinct.len() <= MOST_BINS {
            distinct
                .windows(2)
                .map(|pair| between(pair[0], pair[1]))
                .collect()
        } else {
            let last = (sorted.len() - 1) as f64;
            let quantile = |bin: usize| {
                let place = bin as f64 / MOST_BINS as f64 * last;
                between(sorted[place.floor() as usize], sorted[place.ceil() as usize])
            };
            (1..MOST_BINS).map(quantile).collect()
        };
        edges.dedup();
        Self(edges)
    }

    /// The bin of a value; that of missing ones is the last.
    fn bin(&self, value: f64) -> u8 {
        if value.is_nan() {
            return self.missing();
        }
        let value = bounded(value);
        self.0.partition_point(|edge| *edge < value) as u8
    }

    /// The bin of missing values, after all others.
    pub(super) fn missing(&self) -> u8 {
        self.0.len() as u8 + 1
    }

    /// The highest value of a bin that is not the last.
    pub(super) fn end(&self, bin: u8) -> f64 {
        self.0[usize::from(bin)]
    }
}

fn bounded(value: f64) -> f64 {
    // The sum turns a negative zero into the other, which equals it and must sort so.
    value.clamp(f64::MIN, f64::MAX) + 0.0
}

/// A table whose values are bins.
pub(super) struct Binned {
    pub(super) rows: usize,
    pub(super) columns: Vec<BinnedColumn>,
    /// Where the histogram of each column begins, and at the end, where the last one ends.
    pub(super) starts: Vec<usize>,
}

pub(super) struct BinnedColumn {
    pub(super) bins: Vec<u8>,
    pub(super) missing: u8,
    /// The largest bin, and the rows that are not in it, if they are few.
    pub(super) others: Option<(u8, Vec<u32>)>,
}

impl Binned {
    pub(super) fn of(rows: Rows<'_>, chosen: &[usize], edges: &[Edges], threads: NonZeroUsize) -> Self {
        let columns = in_parts(edges.len(), threads, |part| {
            let column = |column| BinnedColumn::of(rows, chosen, column, &edges[column]);
            part.map(column).collect()
        });
        let mut starts = vec![0];
        for edges in edges {
            starts.push(starts[starts.len() - 1] + usize::from(edges.missing()) + 1);
        }
        Self {
            rows: chosen.len(),
            columns,
            starts,
        }
    }
}

impl BinnedColumn {
    fn of(rows: Rows<'_>, chosen: &[usize], column: usize, edges: &Edges) -> Self {
        let bins: Vec<u8> = chosen
            .iter()
            .map(|&row| edges.bin(rows.row(row)[column]))
            .collect();
        let mut counts = [0_usize; 256];
        for &bin in &bins {
            counts[usize::from(bin)] += 1;
        }
        let (mut largest, mut most) = (0_u8, 0);
        for (bin, &count) in (0_u8..=u8::MAX).zip(&counts) {
            if count > most {
                (largest, most) = (bin, count);
            }
        }
        let others = ((bins.len() - most) * SPARSE <= bins.len()).then(|| {
            let others = bins.iter().zip(0_u32..).filter(|(bin, _)| **bin != largest);
            (largest, others.map(|(_, row)| row).collect())
        });
        Self {
            bins,
            missing: edges.missing(),
            others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(values: &[f64]) -> (Edges, Vec<u8>) {
        let edges = Edges::of(values.iter().copied());
        let bins = values.iter().map(|&value| edges.bin(value)).collect();
        (edges, bins)
    }

    #[test]
    fn few_values_have_a_bin_each() {
        let (edges, found) = bins(&[2.0, -0.0, f64::NAN, f64::INFINITY, 0.0, 2.0, f64::NEG_INFINITY]);
        assert_eq!(found, [2, 1, 4, 3, 1, 2, 0]);
        assert_eq!((edges.end(1), edges.missing()), (1.0, 4));
        // Neighbours among floats.
        let (_, found) = bins(&[1.0, 1.0_f64.next_up(), f64::MAX, f64::MAX.next_down()]);
        assert_eq!(found, [0, 1, 3, 2]);
        let (edges, found) = bins(&[f64::NAN, f64::NAN]);
        assert_eq!((found, edges.missing()), (vec![1, 1], 1));
    }

    #[test]
    fn many_values_share_bins_evenly() {
        let values: Vec<f64> = (0..25_500).map(|n| f64::from(n * 7 % 25_500)).collect();
        let (edges, found) = bins(&values);
        assert_eq!(edges.missing(), 255);
        let mut counts = [0; 255];
        found.iter().for_each(|&bin| counts[usize::from(bin)] += 1);
        assert!(
            counts.iter().all(|count| (98..=102).contains(count)),
            "{counts:?}"
        );
        // One value that most rows have takes one bin.
        let values: Vec<f64> = (0..5000).map(|n| f64::from(n - 4000).max(0.0)).collect();
        let (_, found) = bins(&values);
        assert!(found[..4000].iter().all(|&bin| bin == 0) && found[4999] > 40);
    }
}
