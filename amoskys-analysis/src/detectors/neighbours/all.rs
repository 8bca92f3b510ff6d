//! Neighbours by all distances.

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
pub(super) fn search(
    known: &Distinct,
    rows: Rows<'_>,
    itself: impl Fn(usize) -> Option<usize>,
    k: usize,
    mut take: impl FnMut(usize, &[Neighbour]),
) {
    let columns = known.columns();
    let norms: Vec<f64> = (0..known.len()).map(|at| norm(known.row(at))).collect();
    let largest = norms.iter().copied().fold(0.0, f64::max);
    let mut products = vec![0.0; ASKING * ASKED];
    let mut nearest: Vec<Nearest> = (0..ASKING).map(|_| Nearest::new(k, None)).collect();
    for (block, piece) in rows.pieces(ASKING).enumerate() {
        let count = piece.len();
        let own: Vec<f64> = (0..count).map(|at| norm(piece.row(at))).collect();
        for (at, nearest) in nearest.iter_mut().enumerate().take(count) {
            nearest.restart(itself(block * ASKING + at));
        }
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
