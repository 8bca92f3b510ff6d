//! Whether the bounds of an alarm's probability hold: that of lying in a labelled window, by the alarm's strength.
//!
//! The released curve was chosen on these very alarms. So curves are also fitted on the alarms of one half of the series, with bounds
//! of the same kind, and looked at on those of the other half, over random halves.

use amoskys_analysis::calibrate::{Calibration, Interval, Platt};
use amoskys_analysis::eval::{CoverageBin, coverage};
use amoskys_analysis::series::alarm_probability;
use amoskys_core::event::ScoreInterval;

use super::{Detected, shuffled};

/// Of about equally many alarms.
const BINS: usize = 5;
/// Fewer alarms of either kind make no curve.
const FEWEST: usize = 5;

/// Strengths of alarms, and whether each is in a window.
type Alarms = (Vec<f64>, Vec<bool>);

pub(super) fn print(results: &[Detected], draws: u64) {
    let every: Vec<usize> = (0..results.len()).collect();
    let (strengths, labels) = of(results, &every);
    if !are_enough(&labels) {
        return;
    }
    let intervals: Vec<Interval> = strengths
        .iter()
        .map(|&strength| alarm_probability(strength))
        .collect();
    let bins = coverage(&intervals, &labels, BINS);
    let within = bins.iter().filter(|bin| bin.is_within()).count();
    println!(
        "bounds of the {} alarms: they hold in {within} of {} bins, {} with room for chance",
        labels.len(),
        bins.len(),
        agreeing(&bins)
    );
    let (mut held, mut all) = (0, 0);
    for draw in 0..draws {
        let order = shuffled(results.len(), draw);
        let (fitted_on, tried_on) = order.split_at(order.len() / 2);
        let Some(bins) = tried(&of(results, fitted_on), &of(results, tried_on)) else {
            continue;
        };
        held += agreeing(&bins);
        all += bins.len();
    }
    if all > 0 {
        let share = 100.0 * held as f64 / all as f64;
        println!(
            "fitted on half of the series, they hold in {share:.1} % of {all} bins of the other, with room for chance"
        );
    }
}

fn of(results: &[Detected], series: &[usize]) -> Alarms {
    let alarms = series
        .iter()
        .flat_map(|&at| results[at].strengths.iter().copied());
    alarms.unzip()
}

fn are_enough(labels: &[bool]) -> bool {
    let inside = labels.iter().filter(|label| **label).count();
    inside >= FEWEST && labels.len() - inside >= FEWEST
}

fn tried((known, known_labels): &Alarms, (new, labels): &Alarms) -> Option<Vec<CoverageBin>> {
    if !are_enough(known_labels) || labels.is_empty() {
        return None;
    }
    let doublings = |strengths: &[f64]| -> Vec<f64> { strengths.iter().map(|one| one.log2()).collect() };
    let curve = Calibration::from(Platt::fit(&doublings(known), known_labels).ok()?);
    let intervals: Vec<Interval> = doublings(new)
        .into_iter()
        .map(|strength| curve.interval(strength, ScoreInterval::CONFIDENCE))
        .collect();
    Some(coverage(&intervals, labels, BINS))
}

fn agreeing(bins: &[CoverageBin]) -> usize {
    bins.iter()
        .filter(|bin| bin.agrees(ScoreInterval::CONFIDENCE))
        .count()
}
