//! Several classes at once: a tree for each class and round, on the gradient of the softmax.

use linfa::DatasetBase;
use linfa::dataset::AsSingleTargets;
use linfa::traits::Fit;
use ndarray::{ArrayBase, Data, Ix2};

use super::bins::{Binned, Edges};
use super::class_model::{BoostedClasses, shares_of};
use super::fit::{HELD_BACK, MOST_ROWS, gains_no_more};
use super::grow::Ground;
use super::histogram::{Scale, Sums};
use super::params::BoostedTreesParams;
use super::split::Rules;
use crate::detectors::DetectorError;
use crate::iforest::Rows;
use crate::iforest::random::Random;

/// A class is numbered in a byte.
const MOST_CLASSES: usize = 256;

/// Parameters of [`BoostedClasses`]: those of [`BoostedTrees`](super::BoostedTrees), the number of trees being that of rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoostedClassesParams(BoostedTreesParams);

impl BoostedTreesParams {
    /// The same for several classes: [`trees`](Self::trees) is the number of rounds then, each of which grows a tree for every
    /// class.
    #[must_use]
    pub const fn classes(self) -> BoostedClassesParams {
        BoostedClassesParams(self)
    }
}

impl<D: Data<Elem = f64>, T: AsSingleTargets<Elem = usize>> Fit<ArrayBase<D, Ix2>, T, DetectorError>
    for BoostedClassesParams
{
    type Object = BoostedClasses;

    /// Fits on records and targets, classes numbered from 0 without a gap. Weights of the data set are not looked at.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<BoostedClasses, DetectorError> {
        self.0.check()?;
        let records = dataset.records();
        let classes = dataset.targets().as_single_targets().to_vec();
        let columns = records.ncols();
        let whole = records.as_standard_layout();
        let rows = Rows::new(whole.as_slice().unwrap_or_default(), columns)
            .map_err(|_| DetectorError::Shape { columns })?;
        if rows.len() != classes.len() {
            return Err(DetectorError::Labels {
                rows: rows.len(),
                labels: classes.len(),
            });
        }
        if rows.len() >= MOST_ROWS {
            return Err(DetectorError::TooMany {
                most: MOST_ROWS - 1,
                rows: rows.len(),
            });
        }
        let count = classes.iter().max().map_or(0, |most| most.saturating_add(1));
        if count > MOST_CLASSES {
            return Err(DetectorError::Classes {
                most: MOST_CLASSES,
                class: count - 1,
            });
        }
        let mut found = vec![0_usize; count];
        classes.iter().for_each(|&class| found[class] += 1);
        if count < 2 {
            return Err(DetectorError::OneKind);
        }
        match found.iter().position(|&rows| rows == 0) {
            Some(class) => Err(DetectorError::NoRows { class }),
            None => Ok(self.learn(rows, &classes, &found)),
        }
    }
}

impl BoostedClassesParams {
    fn learn(&self, rows: Rows<'_>, classes: &[usize], found: &[usize]) -> BoostedClasses {
        let params = &self.0;
        let (fitted, held) = self.split(classes, found);
        let edges = Edges::of_all(rows, params.seed, params.threads);
        let table = Binned::of(rows, &fitted, &edges, params.threads);
        let of = |chosen: &[usize]| chosen.iter().map(|&row| classes[row]).collect::<Vec<usize>>();
        let (classes, held_classes) = (of(&fitted), of(&held));

        let count = found.len();
        let mut model = BoostedClasses::new(rows.columns(), bases(&classes, count));
        let begin = |rows: usize| model.bases().repeat(rows);
        let (mut margins, mut held_margins) = (begin(fitted.len()), begin(held.len()));
        let mut losses = vec![loss(&held_margins, &held_classes, count)];
        let scale = Scale::new(fitted.len());
        let rules = Rules {
            scale,
            least_rows: params.least_rows,
            regularisation: params.regularisation,
        };
        let mut ground = Ground::new(&table, &edges, rules, params.leaves, params.threads);
        let mut shares = vec![0.0; margins.len()];
        let mut sums: Vec<Sums> = Vec::with_capacity(fitted.len());
        for _ in 0..params.trees {
            // All trees of a round correct what the round before left.
            shares.copy_from_slice(&margins);
            shares.chunks_exact_mut(count).for_each(shares_of);
            let mut round = Vec::with_capacity(count);
            for class in 0..count {
                sums.clear();
                let of_class = shares.iter().skip(class).step_by(count);
                sums.extend(of_class.zip(&classes).map(|(&share, &known)| {
                    let gradient = share - f64::from(u8::from(known == class));
                    scale.one(gradient, share * (1.0 - share))
                }));
                let tree = ground.grow(&sums, params.learning_rate);
                let of_class = margins.iter_mut().skip(class).step_by(count);
                for (margin, &leaf) in of_class.zip(ground.leaf_of()) {
                    *margin += tree.nodes[usize::from(leaf)].threshold;
                }
                let of_class = held_margins.iter_mut().skip(class).step_by(count);
                for (margin, &row) in of_class.zip(&held) {
                    *margin += tree.value(rows.row(row));
                }
                round.push(tree);
            }
            if round.iter().all(|tree| tree.nodes.len() == 1) {
                // Nothing is left that could be parted.
                break;
            }
            model.rounds.push(round);
            if !held.is_empty() {
                losses.push(loss(&held_margins, &held_classes, count));
            }
            if gains_no_more(&losses) {
                break;
            }
        }
        model
    }

    /// Rows to fit on, and rows held back: of each class the same share, but never all.
    fn split(&self, classes: &[usize], found: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let params = &self.0;
        if !params.stops(classes.len()) {
            return ((0..classes.len()).collect(), Vec::new());
        }
        let mut is_held = vec![false; classes.len()];
        for (class, &rows) in found.iter().enumerate() {
            let members: Vec<usize> = (0..classes.len()).filter(|&at| classes[at] == class).collect();
            let wanted = ((rows as f64 * HELD_BACK).round() as usize).min(rows - 1);
            for chosen in Random::new(params.seed, 2 + class as u64).choose(rows, wanted) {
                is_held[members[chosen]] = true;
            }
        }
        (0..classes.len()).partition(|&at| !is_held[at])
    }
}

/// The logarithm of each class's share of the rows, all of which add up to 0.
fn bases(classes: &[usize], count: usize) -> Vec<f64> {
    let mut found = vec![0.0_f64; count];
    classes.iter().for_each(|&class| found[class] += 1.0);
    let mean = found.iter().map(|rows| rows.ln()).sum::<f64>() / count as f64;
    found.into_iter().map(|rows| rows.ln() - mean).collect()
}

/// Mean negative logarithm of the share that the known class gets.
fn loss(margins: &[f64], classes: &[usize], count: usize) -> f64 {
    let one = |(margins, &class): (&[f64], &usize)| {
        let most = margins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = margins.iter().map(|margin| (margin - most).exp()).sum();
        sum.ln() + most - margins[class]
    };
    let sum: f64 = margins.chunks_exact(count).zip(classes).map(one).sum();
    sum / classes.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_beginnings_are_those_by_hand() {
        let found = bases(&[0, 0, 0, 0, 1, 2], 3);
        assert!(found.iter().sum::<f64>().abs() < 1e-12);
        assert!((found[0] - found[1] - 4.0_f64.ln()).abs() < 1e-12 && found[1] == found[2]);
        // Shares 2/3, 1/6, 1/6.
        let expected = -((2.0_f64 / 3.0).ln() + (1.0_f64 / 6.0).ln()) / 2.0;
        assert!((loss(&found.repeat(2), &[0, 2], 3) - expected).abs() < 1e-12);
        assert!((loss(&[800.0, 0.0], &[1], 2) - 800.0).abs() < 1e-9);
    }
}
