//! Whether calibrated probabilities, and the bounds of them, hold for rows that nobody has seen.
//!
//! Each detector is fitted once more, on 70 % of the training rows; isotonic regression makes probabilities of its scores on the other
//! 30 %, with their labels. The test rows, sorted by their probability into twenty bins of about equally many, then show how often the
//! share of attacks lies between the bounds that were given.

use std::error::Error;

use amoskys_analysis::calibrate::{Interval, Isotonic};
use amoskys_analysis::eval::{CoverageBin, coverage, stratified_split};
use amoskys_core::event::ScoreInterval;
use csv::StringRecord;

use crate::output::Metric;

const CALIBRATED_ON: f64 = 0.3;
const SEED: u64 = 1;
const BINS: usize = 20;

/// Lines with their labels.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) lines: &'a [&'a StringRecord],
    pub(crate) labels: &'a [bool],
}

impl<'a> Part<'a> {
    /// The lines that are honest.
    pub(crate) fn honest(&self) -> Vec<&'a StringRecord> {
        let rows = self.lines.iter().zip(self.labels);
        rows.filter(|(_, label)| !**label)
            .map(|(line, _)| *line)
            .collect()
    }

    fn select(&self, rows: &[usize]) -> (Vec<&'a StringRecord>, Vec<bool>) {
        rows.iter().map(|&at| (self.lines[at], self.labels[at])).unzip()
    }
}

/// What was given and what came true, bin by bin; none if there are too few rows to calibrate on. `score` fits a detector on its first argument and scores its second.
pub(crate) fn bins(
    seen: Part<'_>,
    tested: Part<'_>,
    score: impl FnOnce(Part<'_>, &[&StringRecord]) -> Result<Vec<f64>, Box<dyn Error>>,
) -> Result<Vec<CoverageBin>, Box<dyn Error>> {
    let (kept, held) = stratified_split(seen.labels, CALIBRATED_ON, SEED);
    let ((lines, labels), (held_lines, held_labels)) = (seen.select(&kept), seen.select(&held));
    let fitted = Part {
        lines: &lines,
        labels: &labels,
    };
    let scores = score(fitted, &[held_lines.as_slice(), tested.lines].concat())?;
    let (known, new) = scores.split_at(held_lines.len());
    let Ok(isotonic) = Isotonic::fit(known, &held_labels) else {
        // Too few rows for both labels to be among them.
        return Ok(Vec::new());
    };
    let interval = |&score: &f64| isotonic.interval(score, ScoreInterval::CONFIDENCE);
    let intervals: Vec<Interval> = new.iter().map(interval).collect();
    Ok(coverage(&intervals, tested.labels, BINS))
}

/// The share of bins in which what came true lies between the bounds, and the same with room for the chance of the bin's own rows.
pub(crate) fn metrics(bins: &[CoverageBin]) -> [Metric; 2] {
    let share = |name, holds: fn(&CoverageBin) -> bool| Metric {
        name,
        value: bins.iter().filter(|bin| holds(bin)).count() as f64 / bins.len() as f64,
        reference: None,
    };
    [
        share("coverage", CoverageBin::is_within),
        share("agreement", |bin| bin.agrees(ScoreInterval::CONFIDENCE)),
    ]
}

/// The columns of [`lines`].
pub(crate) const HEADS: [&str; 7] = [
    "detector",
    "rows",
    "given",
    "bounds",
    "came true",
    "within",
    "with chance",
];

/// The bins as a table of words.
pub(crate) fn lines(detector: &str, bins: &[CoverageBin]) -> Vec<Vec<String>> {
    let word = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
    let line = |bin: &CoverageBin| {
        let Interval {
            low,
            probability,
            high,
        } = bin.given;
        vec![
            detector.to_owned(),
            bin.rows.to_string(),
            format!("{probability:.4}"),
            format!("{low:.4} to {high:.4}"),
            format!("{:.4}", bin.came_true),
            word(bin.is_within()),
            word(bin.agrees(ScoreInterval::CONFIDENCE)),
        ]
    };
    bins.iter().map(line).collect()
}
