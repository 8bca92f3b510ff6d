//! Fitting: a tree at a time, each on what those before it got wrong.

use linfa::DatasetBase;
use linfa::dataset::AsSingleTargets;
use linfa::traits::Fit;
use ndarray::{ArrayBase, Data, Ix2};

use super::bins::{Binned, Edges};
use super::grow::Ground;
use super::histogram::{Scale, Sums};
use super::model::{BoostedTrees, probability_of};
use super::params::{BoostedTreesParams, EarlyStopping};
use super::split::Rules;
use crate::detectors::DetectorError;
use crate::eval::stratified_split;
use crate::iforest::Rows;

/// From so many rows on, some are held back.
const STOPPING_ROWS: usize = 10_000;
pub(super) const HELD_BACK: f64 = 0.1;
/// So many trees in a row may fail to lower the loss on the rows held back, by more than this.
const PATIENCE: usize = 10;
const LEAST_GAIN: f64 = 1e-7;
/// Sums of more rows would not leave enough bits for their derivatives.
pub(super) const MOST_ROWS: usize = 1 << 24;

impl<D: Data<Elem = f64>, T: AsSingleTargets<Elem = bool>> Fit<ArrayBase<D, Ix2>, T, DetectorError>
    for BoostedTreesParams
{
    type Object = BoostedTrees;

    /// Fits on records and targets, true for anomalies. Weights of the data set are not looked at.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<BoostedTrees, DetectorError> {
        self.check()?;
        let records = dataset.records();
        let labels = dataset.targets().as_single_targets().to_vec();
        let columns = records.ncols();
        let whole = records.as_standard_layout();
        let rows = Rows::new(whole.as_slice().unwrap_or_default(), columns)
            .map_err(|_| DetectorError::Shape { columns })?;
        if rows.len() != labels.len() {
            return Err(DetectorError::Labels {
                rows: rows.len(),
                labels: labels.len(),
            });
        }
        if rows.len() >= MOST_ROWS {
            return Err(DetectorError::TooMany {
                most: MOST_ROWS - 1,
                rows: rows.len(),
            });
        }
        if labels.iter().all(|&label| label) || !labels.contains(&true) {
            return Err(DetectorError::OneKind);
        }
        Ok(self.learn(rows, &labels))
    }
}

impl BoostedTreesParams {
    fn learn(&self, rows: Rows<'_>, labels: &[bool]) -> BoostedTrees {
        let (fitted, held) = self.split(labels);
        let edges = Edges::of_all(rows, self.seed, self.threads);
        let table = Binned::of(rows, &fitted, &edges, self.threads);
        let of = |chosen: &[usize]| chosen.iter().map(|&row| labels[row]).collect::<Vec<bool>>();
        let (labels, held_labels) = (of(&fitted), of(&held));

        let anomalies = labels.iter().filter(|&&label| label).count() as f64;
        let base = (anomalies / (labels.len() as f64 - anomalies)).ln();
        let mut model = BoostedTrees::new(rows.columns(), base);
        let mut margins = vec![base; labels.len()];
        let mut held_margins = vec![base; held.len()];
        let mut losses = vec![loss(&held_margins, &held_labels)];
        let scale = Scale::new(labels.len());
        let rules = Rules {
            scale,
            least_rows: self.least_rows,
            regularisation: self.regularisation,
        };
        let mut ground = Ground::new(&table, &edges, rules, self.leaves, self.threads);
        let mut sums: Vec<Sums> = Vec::with_capacity(labels.len());
        for _ in 0..self.trees {
            sums.clear();
            sums.extend(margins.iter().zip(&labels).map(|(&margin, &label)| {
                let probability = probability_of(margin);
                let gradient = probability - f64::from(u8::from(label));
                scale.one(gradient, probability * (1.0 - probability))
            }));
            let tree = ground.grow(&sums, self.learning_rate);
            if tree.nodes.len() == 1 {
                // Nothing is left that could be parted.
                break;
            }
            for (margin, &leaf) in margins.iter_mut().zip(ground.leaf_of()) {
                *margin += tree.nodes[usize::from(leaf)].threshold;
            }
            if !held.is_empty() {
                for (margin, &row) in held_margins.iter_mut().zip(&held) {
                    *margin += tree.value(rows.row(row));
                }
                losses.push(loss(&held_margins, &held_labels));
            }
            model.trees.push(tree);
            if gains_no_more(&losses) {
                break;
            }
        }
        model
    }

    /// Whether rows are held back to end early.
    pub(super) const fn stops(&self, rows: usize) -> bool {
        match self.stopping {
            EarlyStopping::Automatic => rows > STOPPING_ROWS,
            EarlyStopping::Always => true,
            EarlyStopping::Never => false,
        }
    }

    /// Rows to fit on, and rows held back.
    fn split(&self, labels: &[bool]) -> (Vec<usize>, Vec<usize>) {
        let share = if self.stops(labels.len()) { HELD_BACK } else { 0.0 };
        let (fitted, held) = stratified_split(labels, share, self.seed);
        // Of a very few rows one kind may be held back altogether: then nothing is.
        let both =
            |rows: &[usize]| rows.iter().any(|&row| labels[row]) && rows.iter().any(|&row| !labels[row]);
        if both(&fitted) {
            (fitted, held)
        } else {
            ((0..labels.len()).collect(), Vec::new())
        }
    }
}

/// Mean logistic loss.
fn loss(margins: &[f64], labels: &[bool]) -> f64 {
    let one = |(&margin, &label): (&f64, &bool)| {
        let wrong: f64 = if label { -margin } else { margin };
        // ln(1 + exp(wrong)), without overflow.
        wrong.max(0.0) + (-wrong.abs()).exp().ln_1p()
    };
    margins.iter().zip(labels).map(one).sum::<f64>() / labels.len().max(1) as f64
}

pub(super) fn gains_no_more(losses: &[f64]) -> bool {
    let Some(start) = losses.len().checked_sub(PATIENCE + 1) else {
        return false;
    };
    let bar = losses[start] - LEAST_GAIN;
    losses[start + 1..].iter().all(|&loss| loss >= bar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_has_an_end() {
        assert!(!gains_no_more(&[1.0]));
        assert!(!gains_no_more(&[1.0; 10]));
        assert!(gains_no_more(&[1.0; 11]));
        let mut losses = vec![1.0; 11];
        losses[10] = 0.99;
        assert!(!gains_no_more(&losses));
        losses.extend([0.99; 10]);
        assert!(gains_no_more(&losses));
        assert!((loss(&[0.0, 800.0], &[true, false]) - (2.0_f64.ln() + 800.0) / 2.0).abs() < 1e-9);
    }
}
