use super::{IsolationForest, IsolationForestError};

/// How much one feature moves the score of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// Which column.
    pub feature: usize,
    /// By how much the score falls when the feature takes its training median, given that the features named before
    /// it already have theirs. Negative if the score rises.
    pub drop: f64,
}

impl IsolationForest {
    /// By how much the score of a row falls when one feature takes its training median, for each feature.
    ///
    /// Features that are unusual only together may each show little; [`explain`](Self::explain) finds them.
    ///
    /// # Errors
    ///
    /// If the row has another number of values than the training data had columns.
    pub fn contributions(&self, row: &[f64]) -> Result<Vec<f64>, IsolationForestError> {
        let scaled = self.scaled(row)?;
        let score = self.score_scaled(&scaled);
        let mut drops = vec![0.0; row.len()];
        for (feature, without) in self.without_each(&scaled) {
            drops[feature] = score - without;
        }
        Ok(drops)
    }

    /// The features, at most `most`, whose return to the training median lowers the score of a row most: the
    /// strongest first, then the strongest with the first one already at its median, and so on. Ends early when no
    /// feature lowers it further.
    ///
    /// The drops add up to the difference between the row's score and its score with all named features at their
    /// medians. Costs one scoring of the row for each feature that is not at its median, `most` times.
    ///
    /// # Errors
    ///
    /// If the row has another number of values than the training data had columns.
    pub fn explain(&self, row: &[f64], most: usize) -> Result<Vec<Contribution>, IsolationForestError> {
        let mut scaled = self.scaled(row)?;
        let mut score = self.score_scaled(&scaled);
        let mut named = Vec::new();
        while named.len() < most {
            let lowest = self
                .without_each(&scaled)
                .into_iter()
                .min_by(|a, b| a.1.total_cmp(&b.1));
            let Some((feature, without)) = lowest else { break };
            if without >= score {
                break;
            }
            named.push(Contribution {
                feature,
                drop: score - without,
            });
            scaled[feature] = 0.0;
            score = without;
        }
        Ok(named)
    }

    /// The training median of a feature: what a missing value counts as. NaN if there is no such feature.
    #[must_use]
    pub fn median(&self, feature: usize) -> f64 {
        self.scale.median(feature)
    }

    fn scaled(&self, row: &[f64]) -> Result<Vec<f32>, IsolationForestError> {
        self.check_columns(row.len())?;
        let mut scaled = vec![0.0; row.len()];
        self.scale.apply(row, &mut scaled);
        Ok(scaled)
    }

    fn score_scaled(&self, scaled: &[f32]) -> f64 {
        let rows = scaled.repeat(Self::LANES);
        let mut sums = [0.0; Self::LANES];
        self.sum_lengths(&rows, scaled.len(), &mut sums);
        self.score_of(sums[0])
    }

    /// The score of the row with each feature in turn at its median, for those that are not there already.
    fn without_each(&self, scaled: &[f32]) -> Vec<(usize, f64)> {
        let apart: Vec<usize> = (0..scaled.len())
            .filter(|&feature| scaled[feature] != 0.0)
            .collect();
        let count = apart.len().next_multiple_of(Self::LANES);
        let mut rows = scaled.repeat(count);
        for (row, &feature) in apart.iter().enumerate() {
            rows[row * scaled.len() + feature] = 0.0;
        }
        let mut sums = vec![0.0; count];
        self.sum_lengths(&rows, scaled.len(), &mut sums);
        apart
            .into_iter()
            .zip(sums)
            .map(|(feature, sum)| (feature, self.score_of(sum)))
            .collect()
    }
}
