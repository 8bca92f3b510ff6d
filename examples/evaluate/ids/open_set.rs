//! Attacks of a kind that nobody has labelled: each family in turn is left out of training, and found among honest rows by boosted
//! trees, by a detector that needs no labels, and by both.

use std::collections::BTreeSet;
use std::error::Error;
use std::num::NonZeroUsize;

use amoskys_analysis::boost::BoostedTrees;
use amoskys_analysis::detectors::{Detector as _, FitScore as _, Novelty, Stacking};
use csv::StringRecord;
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use ndarray::{Array1, Array2, ArrayView1, Axis, stack};

use super::encoding::Encoding;

/// Honest rows are held back from the models that stacking learns from, a part of so many from each in turn.
const PARTS: usize = 5;

/// Training and test part of a set, with the family of each row; empty for honest ones.
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a [String],
    pub(crate) train: Vec<(&'a StringRecord, &'a str)>,
    pub(crate) test: Vec<(&'a StringRecord, &'a str)>,
    pub(crate) threads: NonZeroUsize,
}

/// The scores of the honest test rows and of those of one family.
pub(crate) struct Found {
    pub(crate) family: String,
    pub(crate) labels: Vec<bool>,
    pub(crate) supervised: Vec<f64>,
    pub(crate) unsupervised: Vec<f64>,
    pub(crate) fused: Vec<f64>,
}

/// The column that tells the family of an attack.
pub(crate) fn family_column(header: &[String]) -> Option<usize> {
    ["family", "attack_cat", "attack"]
        .iter()
        .find_map(|name| header.iter().position(|column| column.eq_ignore_ascii_case(name)))
}

/// Leaves each family out in turn.
pub(crate) fn run(parts: &Parts<'_>) -> Result<Vec<Found>, Box<dyn Error>> {
    let train_lines: Vec<&StringRecord> = parts.train.iter().map(|row| row.0).collect();
    let test_lines: Vec<&StringRecord> = parts.test.iter().map(|row| row.0).collect();
    let honest: Vec<usize> = (0..parts.train.len())
        .filter(|&at| parts.train[at].1.is_empty())
        .collect();
    let honest_lines: Vec<&StringRecord> = honest.iter().map(|&at| train_lines[at]).collect();

    // What needs no labels is the same for all families.
    let encoding = Encoding::fit(parts.header, &honest_lines)?;
    let (novelty, of_honest) = Novelty::params()
        .threads(parts.threads)
        .fit_score(encoding.apply(&honest_lines)?.view())?;
    let mut seen_novelty = novelty
        .score_parallel(encoding.apply(&train_lines)?.view(), parts.threads)?
        .to_vec();
    for (&at, &score) in honest.iter().zip(&of_honest) {
        seen_novelty[at] = score;
    }
    let test_novelty = novelty.score_parallel(encoding.apply(&test_lines)?.view(), parts.threads)?;

    let encoding = Encoding::fit(parts.header, &train_lines)?;
    let task = Task {
        parts,
        train: encoding.apply(&train_lines)?,
        honest,
        seen_novelty,
    };
    let test = encoding.apply(&test_lines)?;
    let families: BTreeSet<&str> = parts
        .train
        .iter()
        .map(|row| row.1)
        .filter(|name| !name.is_empty())
        .collect();
    let families: Vec<&str> = families.into_iter().collect();
    if families.len() < 2 {
        let count = families.len();
        let what =
            "the families that are not left out teach how a new one looks, so there have to be two at least";
        return Err(format!("{what}; there are {count} in training").into());
    }
    let mut learned: Vec<Lesson> = Vec::new();
    for (first, one) in families.iter().enumerate() {
        for other in &families[first + 1..] {
            learned.push(task.lesson([one, other], learned.len())?);
        }
    }
    if !parts.test.iter().any(|row| families.contains(&row.1)) {
        return Err("no family of attacks of the test occurs in training".into());
    }
    let mut found = Vec::new();
    for &family in &families {
        let tested: Vec<usize> = (0..parts.test.len())
            .filter(|&at| parts.test[at].1.is_empty() || parts.test[at].1 == family)
            .collect();
        let labels: Vec<bool> = tested.iter().map(|&at| !parts.test[at].1.is_empty()).collect();
        if !labels.contains(&true) {
            continue;
        }
        let kept: Vec<usize> = (0..parts.train.len())
            .filter(|&at| parts.train[at].1 != family)
            .collect();
        let supervised = task
            .boost(&kept)?
            .score_parallel(test.select(Axis(0), &tested).view(), parts.threads)?;
        let unsupervised = test_novelty.select(Axis(0), &tested);
        let fused = task
            .stack(&learned, family)?
            .score(pair(supervised.view(), unsupervised.view())?.view())?;
        found.push(Found {
            family: family.to_owned(),
            labels,
            supervised: supervised.to_vec(),
            unsupervised: unsupervised.to_vec(),
            fused: fused.to_vec(),
        });
    }
    Ok(found)
}

struct Task<'a> {
    parts: &'a Parts<'a>,
    train: Array2<f64>,
    honest: Vec<usize>,
    seen_novelty: Vec<f64>,
}

/// How a model that knows neither of two families scores both, and honest rows it has not seen.
struct Lesson<'a> {
    without: [&'a str; 2],
    rows: Vec<usize>,
    scores: Vec<f64>,
}

impl<'a> Task<'a> {
    fn boost(&self, rows: &[usize]) -> Result<BoostedTrees, Box<dyn Error>> {
        let labels: Array1<bool> = rows
            .iter()
            .map(|&at| !self.parts.train[at].1.is_empty())
            .collect();
        let dataset = DatasetBase::new(self.train.select(Axis(0), rows), labels);
        Ok(BoostedTrees::params().threads(self.parts.threads).fit(&dataset)?)
    }

    fn lesson(&self, without: [&'a str; 2], number: usize) -> Result<Lesson<'a>, Box<dyn Error>> {
        let held: BTreeSet<usize> = self
            .honest
            .iter()
            .copied()
            .skip(number % PARTS)
            .step_by(PARTS)
            .collect();
        let (rows, kept): (Vec<usize>, Vec<usize>) = (0..self.parts.train.len())
            .partition(|at| held.contains(at) || without.contains(&self.parts.train[*at].1));
        let model = self.boost(&kept)?;
        let scores = model.score_parallel(self.train.select(Axis(0), &rows).view(), self.parts.threads)?;
        Ok(Lesson {
            without,
            rows,
            scores: scores.to_vec(),
        })
    }

    /// Learns, from the families other than one, how far to trust each score of a family that boosting does not know.
    fn stack(&self, learned: &[Lesson<'_>], family: &str) -> Result<Stacking, Box<dyn Error>> {
        let (mut supervised, mut unsupervised, mut labels, mut weights) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for lesson in learned.iter().filter(|lesson| lesson.without.contains(&family)) {
            let of = |at: usize| self.parts.train[at].1;
            let attacks = lesson
                .rows
                .iter()
                .filter(|&&at| !of(at).is_empty() && of(at) != family)
                .count();
            let others = lesson.rows.iter().filter(|&&at| of(at).is_empty()).count();
            for (&at, &score) in lesson.rows.iter().zip(&lesson.scores) {
                if of(at) == family {
                    continue;
                }
                supervised.push(score);
                unsupervised.push(self.seen_novelty[at]);
                labels.push(!of(at).is_empty());
                // Every family, and the honest rows beside it, count alike.
                weights.push(1.0 / if of(at).is_empty() { others } else { attacks } as f32);
            }
        }
        let scores = pair(ArrayView1::from(&supervised), ArrayView1::from(&unsupervised))?;
        let dataset = DatasetBase::new(scores, Array1::from(labels)).with_weights(Array1::from(weights));
        Ok(Stacking::params().fit(&dataset)?)
    }
}

fn pair<'a>(first: ArrayView1<'a, f64>, second: ArrayView1<'a, f64>) -> Result<Array2<f64>, Box<dyn Error>> {
    Ok(stack(Axis(1), &[first, second])?)
}
