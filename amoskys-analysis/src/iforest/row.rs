use super::rows::Rows;
use super::score::LANES;
use super::tree::Node;
use super::{IsolationForest, IsolationForestError};

/// Columns up to which a scaled row needs no memory of its own.
const COLUMNS: usize = 128;

impl IsolationForest {
    /// Scores one row: the same, bit for bit, as [`score`](Self::score) does among others. It goes down several trees side by
    /// side, where many rows go down one tree.
    ///
    /// # Errors
    ///
    /// If it has another number of values than the training data had columns.
    pub fn score_row(&self, row: &[f64]) -> Result<f64, IsolationForestError> {
        let columns = Rows::new(row, row.len())?.columns();
        self.check_columns(columns)?;
        if columns <= COLUMNS {
            let mut scaled = [0.0_f32; COLUMNS];
            self.scale.apply(row, &mut scaled[..columns]);
            Ok(self.score_alone(&scaled[..columns]))
        } else {
            let mut scaled = vec![0.0_f32; columns];
            self.scale.apply(row, &mut scaled);
            Ok(self.score_alone(&scaled))
        }
    }

    fn score_alone(&self, scaled: &[f32]) -> f64 {
        let mut sum = 0.0;
        for trees in self.trees.chunks(LANES) {
            // A walk that has come to its leaf stays there.
            let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
            let mut at = [0_u32; LANES];
            for _ in 0..depth {
                for (tree, at) in trees.iter().zip(&mut at) {
                    let Node {
                        threshold,
                        feature,
                        left,
                    } = tree.nodes[*at as usize];
                    *at = u32::from(left) + u32::from(scaled[usize::from(feature)] > threshold);
                }
            }
            // In the order of the trees, as everywhere.
            for (tree, at) in trees.iter().zip(at) {
                sum += f64::from(tree.lengths[at as usize]);
            }
        }
        self.score_of(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_or_among_others_a_row_has_the_same_score() {
        for columns in [3, COLUMNS, COLUMNS + 1] {
            let value = |at: usize| (at * 7919 % 1009) as f64 / 7.0 - (at % 5) as f64;
            let values: Vec<f64> = (0..columns * 400).map(value).collect();
            let rows = Rows::new(&values, columns).unwrap();
            let params = IsolationForest::params().trees(37).max_samples(64);
            let forest = params.validate().unwrap().fit_rows(rows).unwrap();
            let scores = forest.score(rows).unwrap();
            for (at, score) in scores.into_iter().enumerate() {
                let alone = forest.score_row(rows.row(at)).unwrap();
                assert_eq!(alone.to_bits(), score.to_bits());
            }
            assert!(forest.score_row(&values[..columns - 1]).is_err());
            assert!(forest.score_row(&[]).is_err());
        }
    }
}
