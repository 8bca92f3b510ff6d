use std::num::NonZeroUsize;

use super::IsolationForest;
use super::rows::Rows;
use super::tree::{Node, Tree};

/// Walks that go on side by side: enough to hide the latency of a step behind the others.
pub(super) const LANES: usize = 16;
/// Scaled values of a block of rows; with a tree of 4 KiB beside it, they stay in the second-level cache.
const BLOCK_BYTES: usize = 64 * 1024;

impl IsolationForest {
    /// Scores rows: above 0 to 1, higher is more anomalous; 0.5 is what rows without structure have on average.
    ///
    /// # Errors
    ///
    /// If the rows have another number of columns than the training data.
    pub fn score(&self, rows: Rows<'_>) -> Result<Vec<f64>, super::IsolationForestError> {
        self.score_parallel(rows, NonZeroUsize::MIN)
    }

    /// Scores rows on several threads. The scores are the same, bit for bit, on any number of threads.
    ///
    /// # Errors
    ///
    /// If the rows have another number of columns than the training data.
    pub fn score_parallel(
        &self,
        rows: Rows<'_>,
        threads: NonZeroUsize,
    ) -> Result<Vec<f64>, super::IsolationForestError> {
        self.check_columns(rows.columns())?;
        let mut scores = vec![0.0; rows.len()];
        let share = rows.len().div_ceil(threads.get()).max(1);
        if threads.get() == 1 || rows.len() < 2 * LANES {
            self.score_into(rows, &mut scores);
        } else {
            std::thread::scope(|scope| {
                for (rows, scores) in rows.pieces(share).zip(scores.chunks_mut(share)) {
                    scope.spawn(move || self.score_into(rows, scores));
                }
            });
        }
        Ok(scores)
    }

    pub(crate) fn score_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let columns = rows.columns();
        let block = (BLOCK_BYTES / 4 / columns)
            .next_multiple_of(LANES)
            .clamp(LANES, 4096);
        let mut scaled = vec![0.0_f32; block * columns];
        let mut sums = vec![0.0_f64; block];
        for (piece, scores) in rows.pieces(block).zip(scores.chunks_mut(block)) {
            for (at, to) in scaled.chunks_exact_mut(columns).take(piece.len()).enumerate() {
                self.scale.apply(piece.row(at), to);
            }
            // The last lanes of a block that is not full walk along with what lies there.
            let filled = piece.len().next_multiple_of(LANES);
            let sums = &mut sums[..filled];
            sums.fill(0.0);
            self.sum_lengths(&scaled[..filled * columns], columns, sums);
            for (score, sum) in scores.iter_mut().zip(sums.iter()) {
                *score = self.score_of(*sum);
            }
        }
    }

    /// Adds the path lengths in all trees, in the order of the trees.
    pub(super) fn sum_lengths(&self, scaled: &[f32], columns: usize, sums: &mut [f64]) {
        for tree in &self.trees {
            for (rows, sums) in scaled
                .chunks_exact(LANES * columns)
                .zip(sums.chunks_exact_mut(LANES))
            {
                let ends = walk(tree, rows, columns);
                for (sum, end) in sums.iter_mut().zip(ends) {
                    *sum += f64::from(tree.lengths[end as usize]);
                }
            }
        }
    }

    /// The score for a sum of path lengths over all trees.
    pub(super) fn score_of(&self, sum: f64) -> f64 {
        let mean = sum / self.trees.len() as f64;
        if self.usual_path > 0.0 {
            (-mean / self.usual_path).exp2()
        } else {
            0.5
        }
    }

    pub(super) const LANES: usize = LANES;
}

/// Walks `LANES` rows down a tree, step by step side by side, and says where they end.
#[inline]
fn walk(tree: &Tree, rows: &[f32], columns: usize) -> [u32; LANES] {
    let mut at = [0_u32; LANES];
    for _ in 0..tree.depth {
        for (lane, at) in at.iter_mut().enumerate() {
            let Node {
                threshold,
                feature,
                left,
            } = tree.nodes[*at as usize];
            let value = rows[lane * columns + usize::from(feature)];
            *at = u32::from(left) + u32::from(value > threshold);
        }
    }
    at
}
