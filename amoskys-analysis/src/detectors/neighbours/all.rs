//! Neighbours by all distances.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

use super::distinct::Distinct;
use super::nearest::{Nearest, Neighbour, squared_distance};
use crate::iforest::Rows;

/// Rows that ask together, and rows they are compared with together: their products stay in the second-level cache.
const ASKING: usize = 64;
const ASKED: usize = 1024;

/// Distances come from products of matrices first, which is fast but loses digits where rows are much alike; what may be
/// among the nearest by these is computed again.
pub(super) fn search(known: &Distinct, rows: Rows<'_>, k: usize, mut take: impl FnMut(usize, &[Neighbour])) {
    let columns = known.columns();
    let norms: Vec<f64> = (0..known.len()).map(|at| norm(known.row(at))).collect();
    let largest = norms.iter().copied().fold(0.0, f64::max);
    let mut products = vec![0.0; ASKING * ASKED];
    let mut nearest: Vec<Nearest> = (0..ASKING).map(|_| Nearest::new(k, None)).collect();
    for (block, piece) in rows.pieces(ASKING).enumerate() {
        let count = piece.len();
        let own: Vec<f64> = (0..count).map(|at| norm(piece.row(at))).collect();
        nearest
            .iter_mut()
            .take(count)
            .for_each(|nearest| nearest.restart(None));
        for start in (0..known.len()).step_by(ASKED) {
            let end = (start + ASKED).min(known.len());
            let products = &mut products[..count * (end - start)];
            multiply(piece, known.range(start, end), products);
            for (at, nearest) in nearest.iter_mut().enumerate().take(count) {
                // Rounding of a product of so many terms; a row closer than this to the limit is looked at exactly.
                let doubt = 4.0 * f64::EPSILON * (columns as f64 + 4.0) * (own[at] + largest);
                let mut limit = nearest.limit() + doubt - own[at];
                for (other, product) in (start..end).zip(&products[at * (end - start)..]) {
                    if norms[other] - 2.0 * product <= limit {
                        let squared = squared_distance(piece.row(at), known.row(other));
                        nearest.offer(other, squared, known.count(other));
                        limit = nearest.limit() + doubt - own[at];
                    }
                }
            }
        }
        for (at, nearest) in nearest.iter_mut().enumerate().take(count) {
            take(block * ASKING + at, nearest.finish());
        }
    }
}

/// Neighbours kept at once while training rows search among themselves: 100 MB.
const MOST_FOUND: usize = 1 << 22;
/// Distances looked at together: hardly ever is one among them that is near enough.
const LANES: usize = 8;

/// The same for the training rows from one number to below another, each without itself. A distance is that of both rows: those of
/// the range among each other are computed once.
pub(super) fn search_training(
    known: &Distinct,
    from: usize,
    to: usize,
    k: usize,
    mut take: impl FnMut(usize, &[Neighbour]),
) {
    let norms: Vec<f64> = (0..known.len()).map(|at| norm(known.row(at))).collect();
    let largest = norms.iter().copied().fold(0.0, f64::max);
    let doubt = 8.0 * f64::EPSILON * (known.columns() as f64 + 4.0) * largest;
    let mut search = Search {
        known,
        norms,
        doubt,
        products: vec![0.0; ASKING * ASKED],
    };
    let held = (MOST_FOUND / (k + 1)).max(ASKING);
    for start in (from..to).step_by(held) {
        let end = (start + held).min(to);
        let mut range = Asking {
            start,
            nearest: (start..end).map(|at| Nearest::new(k, Some(at))).collect(),
            limits: vec![f64::INFINITY; end - start],
        };
        for at in start..end {
            // Rows that equal it.
            search.offer(&mut range, at, at, 0.0);
        }
        // From the last on: of rows in some order, a row then meets its nearest first, and hardly any after them.
        for block in (start..end).step_by(ASKING).rev() {
            let rows = block..(block + ASKING).min(end);
            search.within(&mut range, rows.clone(), end);
            search.beyond(&mut range, rows.clone(), 0..start);
            search.beyond(&mut range, rows, end..known.len());
        }
        for (at, nearest) in (start..end).zip(&mut range.nearest) {
            take(at, nearest.finish());
        }
    }
}

/// What is asked among.
struct Search<'a> {
    known: &'a Distinct,
    norms: Vec<f64>,
    /// By how much a distance by products may be wrong.
    doubt: f64,
    products: Vec<f64>,
}

/// Rows that ask at the same time.
struct Asking {
    /// The number of the first.
    start: usize,
    nearest: Vec<Nearest>,
    /// What is farther by products is farther.
    limits: Vec<f64>,
}

impl Search<'_> {
    /// Rows of the range, and those after them in the range.
    fn within(&mut self, range: &mut Asking, rows: Range<usize>, end: usize) {
        for start in (rows.start..end).step_by(ASKED) {
            let others = start..(start + ASKED).min(end);
            self.multiply(&rows, &others);
            for at in rows.clone() {
                let first = others.start.max(at + 1);
                if first >= others.end {
                    continue;
                }
                let width = others.len();
                let products = &self.products[(at - rows.start) * width..(at - rows.start + 1) * width];
                let products = &products[first - others.start..];
                let mut own = range.limits[at - range.start];
                for start in (first..others.end).step_by(LANES) {
                    let end = (start + LANES).min(others.end);
                    let lanes = products[start - first..end - first]
                        .iter()
                        .zip(&self.norms[start..end])
                        .zip(&range.limits[start - range.start..end - range.start]);
                    let near = |((product, norm), limit): ((&f64, &f64), &f64)| {
                        self.norms[at] + norm - 2.0 * product <= own.max(*limit)
                    };
                    if !lanes.map(near).fold(false, |any, near| any | near) {
                        continue;
                    }
                    for other in start..end {
                        let apart = self.norms[at] + self.norms[other] - 2.0 * products[other - first];
                        let others_limit = range.limits[other - range.start];
                        if apart > own.max(others_limit) {
                            continue;
                        }
                        let squared = squared_distance(self.known.row(at), self.known.row(other));
                        self.offer(range, at, other, squared);
                        self.offer(range, other, at, squared);
                        own = range.limits[at - range.start];
                    }
                }
            }
        }
    }

    /// Rows of the range, and others that are not in it.
    fn beyond(&mut self, range: &mut Asking, rows: Range<usize>, all: Range<usize>) {
        for start in all.clone().step_by(ASKED) {
            let others = start..(start + ASKED).min(all.end);
            self.multiply(&rows, &others);
            for at in rows.clone() {
                let products = &self.products[(at - rows.start) * others.len()..];
                let mut limit = range.limits[at - range.start] - self.norms[at];
                for (other, product) in others.clone().zip(products) {
                    if self.norms[other] - 2.0 * product <= limit {
                        let squared = squared_distance(self.known.row(at), self.known.row(other));
                        self.offer(range, at, other, squared);
                        limit = range.limits[at - range.start] - self.norms[at];
                    }
                }
            }
        }
    }

    fn multiply(&mut self, rows: &Range<usize>, others: &Range<usize>) {
        multiply(
            self.known.range(rows.start, rows.end),
            self.known.range(others.start, others.end),
            &mut self.products[..rows.len() * others.len()],
        );
    }

    fn offer(&self, range: &mut Asking, at: usize, other: usize, squared: f64) {
        let nearest = &mut range.nearest[at - range.start];
        nearest.offer(other, squared, self.known.count(other));
        range.limits[at - range.start] = nearest.limit() + self.doubt;
    }
}

/// The products of each row of one table with each of another.
fn multiply(a: Rows<'_>, b: Rows<'_>, products: &mut [f64]) {
    let shapes = (
        ArrayView2::from_shape((a.len(), a.columns()), a.values()),
        ArrayView2::from_shape((b.len(), b.columns()), b.values()),
        ArrayViewMut2::from_shape((a.len(), b.len()), products),
    );
    // Tables are as large as they say.
    if let (Ok(a), Ok(b), Ok(mut products)) = shapes {
        general_mat_mul(1.0, &a, &b.t(), 0.0, &mut products);
    }
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|value| value * value).sum()
}
