//! An ensemble of autoencoders in the manner of KitNET.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::autoencoder::Autoencoder;
use super::estimator::{Judge, Learn, check_range, detector};
use super::streaming::{Absorb, absorb_all};
use crate::iforest::Rows;
use crate::iforest::random::Random;

/// The table of correlations of so many columns takes 8 MiB.
const MOST_COLUMNS: usize = 1024;

/// Parameters of [`AutoencoderEnsemble`]. Ranges are checked when starting or fitting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoencoderEnsembleParams {
    mapping_rows: usize,
    training_rows: usize,
    group: usize,
    rate: f64,
    seed: u64,
    threads: NonZeroUsize,
}

impl AutoencoderEnsembleParams {
    /// The defaults: 5000 rows to group columns by, 50 000 to train on, groups of at most 10 columns, learning rate 0.1, seed 0,
    /// one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mapping_rows: 5000,
            training_rows: 50_000,
            group: 10,
            rate: 0.1,
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Rows that only tell which columns go together, 2 to 1e9. Default 5000. Fitting takes a tenth of its rows, if these are fewer
    /// than both parts together.
    #[must_use]
    pub const fn mapping_rows(mut self, rows: usize) -> Self {
        self.mapping_rows = rows;
        self
    }

    /// Rows that are trained on after these, 1 to 1e9. Default 50 000. Later rows are only scored.
    #[must_use]
    pub const fn training_rows(mut self, rows: usize) -> Self {
        self.training_rows = rows;
        self
    }

    /// Columns of a group at most, 1 to 100. Default 10.
    #[must_use]
    pub const fn group(mut self, columns: usize) -> Self {
        self.group = columns;
        self
    }

    /// How far each step of training goes, 1e-6 to 1. Default 0.1.
    #[must_use]
    pub const fn learning_rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    /// Seed of the first weights. Default 0.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many threads score rows after fitting. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// One that has learned nothing yet, for rows of so many columns.
    ///
    /// # Errors
    ///
    /// If a parameter is out of range, or there are no columns or more than 1024.
    pub fn start(&self, columns: usize) -> Result<AutoencoderEnsemble, DetectorError> {
        self.check()?;
        if columns == 0 {
            return Err(DetectorError::Shape { columns });
        }
        check_range("columns", columns as f64, 1.0..=MOST_COLUMNS as f64, "1 to 1024")?;
        Ok(AutoencoderEnsemble {
            columns: columns as u32,
            mapping_rows: self.mapping_rows as u64,
            training_rows: self.training_rows as u64,
            group: self.group as u32,
            rate: self.rate,
            seed: self.seed,
            seen: 0,
            moments: Some(Moments::new(columns)),
            groups: Vec::new(),
            encoders: Vec::new(),
            output: None,
        })
    }
}

/// How badly small autoencoders reproduce a row, judged by one more (KitNET, Mirsky et al., 2018).
///
/// First it watches which columns are correlated, and makes groups of these. Then an autoencoder for each group learns to reproduce
/// it, and another to reproduce their errors. After that it only scores: the error of the last one. Until training begins, all scores
/// are 0.
///
/// - **Assumes** that training rows are honest, and that what they have in common shows in groups of a few columns.
/// - **Fails** on anomalies between columns of different groups, and where behaviour changes after training: train anew.
/// - **Costs** about `2 * 0.75 * columns * group` multiplications to score a row, three times that to train on one. Memory is the
///   square of the columns at first, later the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct AutoencoderEnsemble {
    columns: u32,
    mapping_rows: u64,
    training_rows: u64,
    group: u32,
    rate: f64,
    seed: u64,
    seen: u64,
    /// Until groups are made.
    moments: Option<Moments>,
    groups: Vec<Vec<u32>>,
    /// One for each group.
    encoders: Vec<Autoencoder>,
    output: Option<Autoencoder>,
}

/// Means and products of deviations, updated row by row (Welford, 1962).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Moments {
    rows: f64,
    means: Vec<f64>,
    /// Of each pair of columns, by rows of a square matrix.
    products: Vec<f64>,
}

detector!(
    AutoencoderEnsembleParams,
    AutoencoderEnsemble,
    "autoencoder_ensemble"
);

impl AutoencoderEnsemble {
    /// Parameters to start or fit one with.
    #[must_use]
    pub const fn params() -> AutoencoderEnsembleParams {
        AutoencoderEnsembleParams::new()
    }

    /// Whether it has seen all rows that it learns from.
    #[must_use]
    pub const fn is_trained(&self) -> bool {
        self.seen >= self.mapping_rows.saturating_add(self.training_rows)
    }

    fn of_group(group: &[u32], row: &[f64]) -> Vec<f64> {
        group.iter().map(|&column| row[column as usize]).collect()
    }

    fn score_row(&self, row: &[f64]) -> f64 {
        let Some(output) = &self.output else { return 0.0 };
        let errors: Vec<f64> = self
            .groups
            .iter()
            .zip(&self.encoders)
            .map(|(group, encoder)| encoder.error(&Self::of_group(group, row)))
            .collect();
        output.error(&errors)
    }

    fn train(&mut self, row: &[f64]) {
        let rate = self.rate;
        let errors: Vec<f64> = self
            .groups
            .iter()
            .zip(&mut self.encoders)
            .map(|(group, encoder)| encoder.train(&Self::of_group(group, row), rate))
            .collect();
        if let Some(output) = &mut self.output {
            output.train(&errors, rate);
        }
    }

    fn make_groups(&mut self, moments: &Moments) {
        self.groups = moments.groups(self.group as usize);
        let mut random = Random::new(self.seed, 0);
        self.encoders = self
            .groups
            .iter()
            .map(|group| Autoencoder::new(group.len(), &mut random))
            .collect();
        self.output = Some(Autoencoder::new(self.groups.len(), &mut random));
    }
}

impl Moments {
    fn new(columns: usize) -> Self {
        Self {
            rows: 0.0,
            means: vec![0.0; columns],
            products: vec![0.0; columns * columns],
        }
    }

    fn add(&mut self, row: &[f64]) {
        self.rows += 1.0;
        // Values that are far out tell nothing of how columns go together.
        let row: Vec<f64> = row.iter().map(|value| value.clamp(-1e100, 1e100)).collect();
        let before: Vec<f64> = row
            .iter()
            .zip(&self.means)
            .map(|(value, mean)| value - mean)
            .collect();
        for (mean, by) in self.means.iter_mut().zip(&before) {
            *mean += by / self.rows;
        }
        let columns = row.len();
        for (products, by) in self.products.chunks_exact_mut(columns).zip(&before) {
            for ((product, value), mean) in products.iter_mut().zip(&row).zip(&self.means) {
                *product += by * (value - mean);
            }
        }
    }

    /// Columns in groups of at most so many: the most correlated pairs are brought together first.
    fn groups(&self, most: usize) -> Vec<Vec<u32>> {
        let columns = self.means.len();
        let variance = |column: usize| self.products[column * columns + column];
        let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
        for first in 0..columns {
            for second in first + 1..columns {
                let product = self.products[first * columns + second];
                let correlation = product / (variance(first).sqrt() * variance(second).sqrt());
                if correlation.is_finite() {
                    pairs.push((correlation.abs(), first, second));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut group_of: Vec<usize> = (0..columns).collect();
        let mut groups: Vec<Vec<u32>> = (0..columns as u32).map(|column| vec![column]).collect();
        for (_, first, second) in pairs {
            let (into, from) = (group_of[first], group_of[second]);
            if into != from && groups[into].len() + groups[from].len() <= most {
                for column in std::mem::take(&mut groups[from]) {
                    group_of[column as usize] = into;
                    groups[into].push(column);
                }
            }
        }
        groups.retain(|group| !group.is_empty());
        groups.iter_mut().for_each(|group| group.sort_unstable());
        groups
    }
}

impl Absorb for AutoencoderEnsemble {
    fn absorb(&mut self, row: &[f64]) {
        self.seen += 1;
        if let Some(mut moments) = self.moments.take() {
            moments.add(row);
            if self.seen >= self.mapping_rows {
                self.make_groups(&moments);
            } else {
                self.moments = Some(moments);
            }
        } else if self.seen <= self.mapping_rows.saturating_add(self.training_rows) {
            self.train(row);
        }
    }

    fn absorbed(&self) -> u64 {
        self.seen
    }
}

impl Learn for AutoencoderEnsembleParams {
    type Model = AutoencoderEnsemble;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("mapping_rows", self.mapping_rows as f64, 2.0..=1e9, "2 to 1e9")?;
        check_range("training_rows", self.training_rows as f64, 1.0..=1e9, "1 to 1e9")?;
        check_range("group", self.group as f64, 1.0..=100.0, "1 to 100")?;
        check_range("learning_rate", self.rate, 1e-6..=1.0, "1e-6 to 1")
    }

    fn least_rows(&self) -> usize {
        2
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<AutoencoderEnsemble, DetectorError> {
        let mut params = *self;
        if rows.len() < self.mapping_rows.saturating_add(self.training_rows) {
            params.mapping_rows = (rows.len() / 10).clamp(2, self.mapping_rows);
            params.training_rows = (rows.len() - params.mapping_rows).max(1);
        }
        Ok(absorb_all(params.start(rows.columns())?, rows))
    }
}

impl Judge for AutoencoderEnsemble {
    fn width(&self) -> usize {
        self.columns as usize
    }

    fn is_sound(&self) -> bool {
        let columns = self.columns as usize;
        if columns == 0 || columns > MOST_COLUMNS || self.group == 0 || !(self.rate > 0.0 && self.rate <= 1.0)
        {
            return false;
        }
        let Some(output) = &self.output else {
            return self.groups.is_empty()
                && self.encoders.is_empty()
                && self
                    .moments
                    .as_ref()
                    .is_some_and(|m| m.means.len() == columns && m.products.len() == columns * columns);
        };
        let mut members: Vec<u32> = self.groups.iter().flatten().copied().collect();
        members.sort_unstable();
        self.moments.is_none()
            && members.iter().copied().eq(0..self.columns)
            && output.inputs() == self.groups.len()
            && self.encoders.len() == self.groups.len()
            && self
                .groups
                .iter()
                .zip(&self.encoders)
                .all(|(group, encoder)| group.len() == encoder.inputs())
            && self.encoders.iter().chain([output]).all(Autoencoder::is_sound)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (at, score) in scores.iter_mut().enumerate() {
            *score = self.score_row(rows.row(at));
        }
    }
}
