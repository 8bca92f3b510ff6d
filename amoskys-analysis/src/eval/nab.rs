//! The scoring rules of the Numenta Anomaly Benchmark, version 1.1 (Lavin and Ahmad, "Evaluating real-time anomaly detection
//! algorithms", 2015; Ahmad, Lavin, Purdy and Agha, 2017).
//!
//! A detection anywhere in a labelled window finds its anomaly, and the earlier the better; each detection outside costs, less
//! so right after a window. What happens during probation, the first rows of a series, does not count.
//!
//! ```
//! use amoskys_analysis::eval::nab::{Labels, Profile, normalized};
//!
//! let labels = Labels::new(1_000, vec![(400, 449)])?;
//! let early = labels.score(&[400], Profile::STANDARD);
//! let late = labels.score(&[440], Profile::STANDARD);
//! assert_eq!(normalized(early, 1, Profile::STANDARD), Some(100.0));
//! assert!(late < early && late > labels.score(&[], Profile::STANDARD));
//! # Ok::<(), amoskys_analysis::eval::nab::LabelsError>(())
//! ```

/// What finding, missing and crying wolf weigh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// The name of the profile in the benchmark.
    pub name: &'static str,
    /// Gained by a detection at the left edge of a window.
    pub true_positive: f64,
    /// Lost with a window without a detection.
    pub false_negative: f64,
    /// Lost with a detection far from any window.
    pub false_positive: f64,
}

impl Profile {
    /// The standard profile.
    pub const STANDARD: Self = Self {
        name: "standard",
        true_positive: 1.0,
        false_negative: 1.0,
        false_positive: 0.11,
    };
    /// False alarms cost twice as much.
    pub const LOW_FALSE_POSITIVES: Self = Self {
        name: "reward_low_FP_rate",
        false_positive: 0.22,
        ..Self::STANDARD
    };
    /// Missed windows cost twice as much.
    pub const LOW_FALSE_NEGATIVES: Self = Self {
        name: "reward_low_FN_rate",
        false_negative: 2.0,
        ..Self::STANDARD
    };
    /// All three.
    pub const ALL: [Self; 3] = [
        Self::STANDARD,
        Self::LOW_FALSE_POSITIVES,
        Self::LOW_FALSE_NEGATIVES,
    ];
}

/// Rows at the start of a series of so many that do not count: 15 %, and at most 750.
#[must_use]
pub const fn probation(rows: usize) -> usize {
    let share = rows / 20 * 3 + rows % 20 * 3 / 20;
    if share < 750 { share } else { 750 }
}

/// The windows of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    rows: usize,
    windows: Vec<(usize, usize)>,
}

/// Windows that cannot be those of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelsError {
    /// A window ends before it starts, or after the series.
    #[error("there is no window from row {first} to row {last} of {rows}")]
    Range {
        /// Its first row.
        first: usize,
        /// Its last row.
        last: usize,
        /// Rows of the series.
        rows: usize,
    },
    /// Two windows overlap, or are not in order.
    #[error("a window from row {first} on follows one that ends with row {before}")]
    Order {
        /// The last row of the window before.
        before: usize,
        /// The first row of the window.
        first: usize,
    },
}

impl Labels {
    /// Windows of a series of so many rows: first and last row of each, in order.
    ///
    /// # Errors
    ///
    /// If a window is not within the series, or begins before the one before it has ended.
    pub fn new(rows: usize, windows: Vec<(usize, usize)>) -> Result<Self, LabelsError> {
        let mut before = None;
        for &(first, last) in &windows {
            if first > last || last >= rows {
                return Err(LabelsError::Range { first, last, rows });
            }
            if let Some(before) = before
                && before >= first
            {
                return Err(LabelsError::Order { before, first });
            }
            before = Some(last);
        }
        Ok(Self { rows, windows })
    }

    /// Rows of the series.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// First and last row of each window.
    #[must_use]
    pub fn windows(&self) -> &[(usize, usize)] {
        &self.windows
    }

    /// The score of detections at these rows, in any order; beyond the series and during probation they do not count.
    #[must_use]
    pub fn score(&self, detections: &[usize], profile: Profile) -> f64 {
        let mut tally = Tally::new(self, profile);
        for &row in detections {
            tally.detect(row);
        }
        tally.score
    }

    /// How many windows have a detection, and how many detections are in none.
    #[must_use]
    pub fn count(&self, detections: &[usize]) -> (usize, usize) {
        let mut found = vec![false; self.windows.len()];
        let mut outside = 0;
        for &row in detections {
            match self.place(row) {
                Place::Ignored => {}
                Place::Window(window, _) => found[window] = true,
                Place::Outside(_) => outside += 1,
            }
        }
        (found.iter().filter(|&&found| found).count(), outside)
    }

    fn place(&self, row: usize) -> Place {
        if row < probation(self.rows) || row >= self.rows {
            return Place::Ignored;
        }
        let begun = self.windows.partition_point(|window| window.0 <= row);
        let Some(at) = begun.checked_sub(1) else {
            return Place::Outside(-1.0);
        };
        let (first, last) = self.windows[at];
        let width = (last - first + 1) as f64;
        if row <= last {
            let position = -((last - row + 1) as f64) / width;
            return Place::Window(at, sigmoid(position) / sigmoid(-1.0));
        }
        // A window of one row has no width to measure the distance by.
        let position = (row - last) as f64 / (width - 1.0);
        Place::Outside(sigmoid(position))
    }
}

/// Where a row stands, and what a detection there is worth before it is weighted.
enum Place {
    Ignored,
    Window(usize, f64),
    Outside(f64),
}

fn sigmoid(x: f64) -> f64 {
    if x > 3.0 {
        -1.0
    } else {
        2.0 / (1.0 + (5.0 * x).exp()) - 1.0
    }
}

/// The score of a series as detections are added.
struct Tally<'a> {
    labels: &'a Labels,
    profile: Profile,
    /// The best detection of each window.
    best: Vec<Option<f64>>,
    score: f64,
}

impl<'a> Tally<'a> {
    fn new(labels: &'a Labels, profile: Profile) -> Self {
        Self {
            labels,
            profile,
            best: vec![None; labels.windows.len()],
            score: -profile.false_negative * labels.windows.len() as f64,
        }
    }

    fn detect(&mut self, row: usize) {
        match self.labels.place(row) {
            Place::Ignored => {}
            Place::Outside(value) => self.score += self.profile.false_positive * value,
            Place::Window(window, value) => {
                let gain = match self.best[window] {
                    None => self.profile.true_positive * value + self.profile.false_negative,
                    Some(before) => self.profile.true_positive * (value - before).max(0.0),
                };
                self.score += gain;
                self.best[window] = Some(self.best[window].map_or(value, |before| before.max(value)));
            }
        }
    }
}

/// The sum of the scores of several series with so many windows in all, so that 0 is what silence gets and 100 is one detection
/// at the left edge of each window and none elsewhere. `None` if there are no windows.
#[must_use]
pub fn normalized(total: f64, windows: usize, profile: Profile) -> Option<f64> {
    let silent = -profile.false_negative * windows as f64;
    let perfect = profile.true_positive * windows as f64;
    (windows > 0).then(|| 100.0 * (total - silent) / (perfect - silent))
}

/// The threshold on the scores of several series that gives the highest sum, and that sum. A row is a detection if its score is
/// the threshold or above; all scores are tried, and infinity, with which there are no detections. Scores that are not numbers
/// are no detections.
///
/// # Panics
///
/// If a series has more scores than rows, or fewer.
#[must_use]
pub fn best_threshold(series: &[(&Labels, &[f64])], profile: Profile) -> (f64, f64) {
    let mut tallies = Vec::with_capacity(series.len());
    let mut rows = Vec::new();
    for (at, (labels, scores)) in series.iter().enumerate() {
        assert_eq!(scores.len(), labels.rows, "each row needs a score");
        tallies.push(Tally::new(labels, profile));
        let counted = scores.iter().enumerate().skip(probation(labels.rows));
        rows.extend(
            counted
                .filter(|(_, score)| !score.is_nan())
                .map(|(row, &score)| (score, at, row)),
        );
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut total: f64 = tallies.iter().map(|tally| tally.score).sum();
    let mut best = (f64::INFINITY, total);
    for (place, &(score, at, row)) in rows.iter().enumerate() {
        let before = tallies[at].score;
        tallies[at].detect(row);
        total += tallies[at].score - before;
        let last_of_equals = rows.get(place + 1).is_none_or(|next| next.0 < score);
        if last_of_equals && total > best.1 {
            best = (score, total);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn probation_is_the_floor_of_fifteen_percent() {
        for rows in (0..20_000_usize).chain([usize::MAX]) {
            let exact = (rows as u128 * 15 / 100).min(750);
            assert_eq!(probation(rows) as u128, exact, "{rows}");
        }
    }

    #[test]
    fn values_by_hand() {
        let labels = Labels::new(1_000, vec![(100, 119), (400, 499)]).unwrap();
        let standard = Profile::STANDARD;
        let edge = 2.0 / (1.0 + (-5.0_f64).exp()) - 1.0;
        // During probation nothing counts, not even in the window that ends there.
        assert_eq!(labels.score(&[0, 110, 149, 1_000], standard), -2.0);
        // The window of probation has ended when this row comes: 200 is 81 rows behind, more than 3 widths of 19.
        assert!((labels.score(&[200], standard) - (-2.0 - 0.11)).abs() < 1e-12);
        let first = labels.score(&[400], standard);
        assert!(first.abs() < 1e-12, "{first}");
        let second = labels.score(&[410, 400, 450], standard);
        assert!((second - first).abs() < 1e-12);
        let right = (2.0 / (1.0 + (-0.05_f64).exp()) - 1.0) / edge;
        assert!((labels.score(&[499], standard) - (right - 1.0)).abs() < 1e-12);
        let behind = 2.0 / (1.0 + (5.0 / 99.0_f64).exp()) - 1.0;
        assert!((labels.score(&[500], standard) - (-2.0 + 0.11 * behind)).abs() < 1e-12);
        assert_eq!(labels.count(&[0, 400, 401, 700, 900]), (1, 2));
        assert!((labels.score(&[400], Profile::LOW_FALSE_NEGATIVES) - (1.0 - 2.0)).abs() < 1e-12);
    }

    #[test]
    fn a_window_of_one_row_is_found_there() {
        let labels = Labels::new(100, vec![(50, 50)]).unwrap();
        assert_eq!(labels.score(&[50], Profile::STANDARD), 1.0);
        assert!((labels.score(&[51], Profile::STANDARD) + 1.11).abs() < 1e-12);
    }

    #[test]
    fn windows_that_cannot_be_are_refused() {
        assert!(Labels::new(10, vec![(3, 2)]).is_err());
        assert!(Labels::new(10, vec![(3, 10)]).is_err());
        assert!(Labels::new(10, vec![(3, 5), (5, 6)]).is_err());
        assert_eq!(normalized(0.0, 0, Profile::STANDARD), None);
    }

    proptest! {
        /// The sweep finds what trying every threshold finds.
        #[test]
        fn the_best_threshold_is_the_best(
            scores in proptest::collection::vec(prop_oneof![(0_u8..6).prop_map(f64::from), Just(f64::NAN)], 60..200),
            start in 15_usize..40,
        ) {
            let labels = Labels::new(scores.len(), vec![(start, start + 15)]).unwrap();
            let total = |threshold: f64| {
                let rows: Vec<usize> = (0..scores.len()).filter(|&row| scores[row] >= threshold).collect();
                labels.score(&rows, Profile::STANDARD)
            };
            let (threshold, best) = best_threshold(&[(&labels, &scores)], Profile::STANDARD);
            prop_assert!((total(threshold) - best).abs() < 1e-9);
            for tried in 0..7_u8 {
                prop_assert!(total(f64::from(tried)) <= best + 1e-9);
            }
        }
    }
}
