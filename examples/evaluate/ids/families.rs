//! Which family is it of? Boosted trees with a class for each family of attacks, and one for honest rows.

use std::collections::BTreeSet;
use std::error::Error;
use std::num::NonZeroUsize;
use std::time::Instant;

use amoskys_analysis::boost::BoostedTrees;
use csv::StringRecord;
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use ndarray::{Array1, ArrayView1};

use super::encoding::Encoding;
use crate::output::{Metric, Outcome};

/// Lines, and the family of each; empty for honest ones.
pub(crate) type Labelled<'a> = [(&'a StringRecord, &'a str)];

/// Fits on the families of the training part, and measures on the test part. What is of a family that training lacks is
/// counted as wrong.
pub(crate) fn run(
    set: &str,
    header: &[String],
    train: &Labelled<'_>,
    test: &Labelled<'_>,
    threads: NonZeroUsize,
) -> Result<Outcome, Box<dyn Error>> {
    // Honest rows, without a name, come first.
    let families: Vec<&str> = train
        .iter()
        .map(|(_, family)| *family)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let class = |family: &str| families.binary_search(&family).unwrap_or(families.len());
    fn lines<'a>(part: &Labelled<'a>) -> Vec<&'a StringRecord> {
        part.iter().map(|(line, _)| *line).collect()
    }
    let (train_lines, test_lines) = (lines(train), lines(test));
    let encoding = Encoding::fit(header, &train_lines)?;
    let (seen, tested) = (encoding.apply(&train_lines)?, encoding.apply(&test_lines)?);
    let classes: Array1<usize> = train.iter().map(|(_, family)| class(family)).collect();
    let start = Instant::now();
    let params = BoostedTrees::params().threads(threads).classes();
    let model = params.fit(&DatasetBase::new(seen, classes))?;
    let probabilities = model.probabilities_parallel(tested.view(), threads)?;
    let seconds = start.elapsed().as_secs_f64();
    let known: Vec<usize> = test.iter().map(|(_, family)| class(family)).collect();
    let found: Vec<usize> = probabilities.outer_iter().map(highest).collect();
    let right = found
        .iter()
        .zip(&known)
        .filter(|(found, known)| found == known)
        .count();
    // Each family counts alike, however few rows it has.
    let recalls: Vec<f64> = (0..families.len())
        .filter_map(|class| {
            let of_class = known.iter().filter(|known| **known == class).count();
            let both = found
                .iter()
                .zip(&known)
                .filter(|(found, known)| **known == class && found == known);
            (of_class > 0).then(|| both.count() as f64 / of_class as f64)
        })
        .collect();
    let metric = |name, value| Metric {
        name,
        value,
        reference: None,
    };
    Ok(Outcome {
        detector: "Classes".to_owned(),
        set: format!("{set}: {} families", families.len() - 1),
        metrics: vec![
            metric("accuracy", right as f64 / known.len() as f64),
            metric(
                "mean_recall",
                recalls.iter().sum::<f64>() / recalls.len().max(1) as f64,
            ),
            metric("rounds", model.rounds() as f64),
        ],
        seconds,
    })
}

fn highest(shares: ArrayView1<'_, f64>) -> usize {
    let better = |best: usize, at: usize| if shares[at] > shares[best] { at } else { best };
    (0..shares.len()).reduce(better).unwrap_or(0)
}
