use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Aggregate, Merged};

/// So many times are kept in one pane.
const KEPT: usize = 64;
/// So many gaps are looked at in one window.
const GAPS: usize = 1024;

/// How regularly something happens: the gaps between successive times.
///
/// The first 64 times of each pane are kept, in order, wherever in the pane they came. If there were more, no
/// gap is assumed between the last one kept and the next pane. Statistics are robust: a few extra or missing
/// times hardly move them, so that a beacon shows through other traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartTimes {
    /// In order between breaks.
    times: SmallVec<[Timestamp; 2]>,
    /// Places in `times` before which some were left out.
    breaks: Vec<u32>,
    /// Later times of the last pane were left out.
    cut: bool,
}

/// Robust statistics of the gaps between successive times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regularity {
    /// Number of gaps.
    pub gaps: usize,
    /// Their median in seconds.
    pub median: f64,
    /// Median distance from the median, in units of the median: 0 is a clock, 0.5 and above is chance.
    pub spread: f64,
    /// Bowley's skewness of the quartiles, -1 to 1: near 0 for a clock with jitter, positive for human traffic.
    pub skew: f64,
}

impl StartTimes {
    /// Takes a time.
    pub fn add(&mut self, time: Timestamp) {
        let run = self.last_run();
        let at = run + self.times[run..].partition_point(|&earlier| earlier <= time);
        if at - run < KEPT {
            self.times.insert(at, time);
        }
        if at - run >= KEPT || self.times.len() - run > KEPT {
            self.times.truncate(run + KEPT);
            self.cut = true;
        }
    }

    /// Statistics of the gaps; `None` for fewer than two.
    #[must_use]
    pub fn regularity(&self) -> Option<Regularity> {
        let ends = self
            .breaks
            .iter()
            .map(|&at| at as usize)
            .chain([self.times.len()]);
        let starts = std::iter::once(0).chain(self.breaks.iter().map(|&at| at as usize));
        let runs = starts
            .zip(ends)
            .filter_map(|(start, end)| self.times.get(start..end));
        let gaps = runs.flat_map(|run| run.windows(2).map(|pair| pair[1].since(pair[0]).as_secs_f64()));
        let mut gaps: Vec<f64> = gaps.take(GAPS).collect();
        if gaps.len() < 2 {
            return None;
        }
        gaps.sort_by(f64::total_cmp);
        let median = quantile(&gaps, 0.5);
        let (low, high) = (quantile(&gaps, 0.25), quantile(&gaps, 0.75));
        let mut apart: Vec<f64> = gaps.iter().map(|gap| (gap - median).abs()).collect();
        apart.sort_by(f64::total_cmp);
        let of_whole = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        Some(Regularity {
            gaps: gaps.len(),
            median,
            spread: of_whole(quantile(&apart, 0.5), median),
            skew: of_whole(low + high - 2.0 * median, high - low),
        })
    }
}

impl StartTimes {
    /// Where the last run of times without a break begins.
    fn last_run(&self) -> usize {
        self.breaks
            .last()
            .map_or(0, |&at| at as usize)
            .min(self.times.len())
    }
}

impl Aggregate for StartTimes {
    type Sliding = Merged;

    fn merge(&mut self, later: &Self) {
        if later.times.is_empty() {
            return;
        }
        let offset = self.times.len();
        // A window has at most 1024 panes of 64 times.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        if self.cut {
            self.breaks.push(place(offset));
        }
        self.times.extend_from_slice(&later.times);
        // A pane may hold a time before the last of the pane before: times are those of the events' content, panes
        // go by when they were reported.
        let (run, joined) = (
            self.last_run(),
            later
                .breaks
                .first()
                .map_or(self.times.len(), |&at| offset + at as usize),
        );
        if let Some(run) = self.times.get_mut(run..joined)
            && !run.is_sorted()
        {
            run.sort_unstable();
        }
        self.breaks
            .extend(later.breaks.iter().map(|&at| place(offset + at as usize)));
        self.cut = later.cut;
    }

    fn assign(&mut self, other: &Self) {
        self.times.clear();
        self.times.extend_from_slice(&other.times);
        self.breaks.clone_from(&other.breaks);
        self.cut = other.cut;
    }
}

/// The quantile of sorted numbers, with linear interpolation between them.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position within a short list"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: impl IntoIterator<Item = f64>) -> StartTimes {
        let mut times = StartTimes::default();
        for second in seconds {
            times.add(Timestamp::from_nanos((second * 1e9) as i64));
        }
        times
    }

    #[test]
    fn a_clock_is_told_from_chance() {
        let clock = of((0..20).map(|n| f64::from(n) * 30.0 + f64::from(n % 3) * 0.5))
            .regularity()
            .unwrap();
        assert!(
            (clock.median - 30.0).abs() < 1.0 && clock.spread < 0.05,
            "{clock:?}"
        );
        // Exponential gaps by inversion of evenly spread probabilities.
        let mut now = 0.0;
        let chance = of((1..40).map(|n| {
            now -= 30.0 * (f64::from(n * 17 % 40) / 40.0).ln();
            now
        }));
        let chance = chance.regularity().unwrap();
        assert!(chance.spread > 0.4 && chance.skew > 0.05, "{chance:?}");
    }

    #[test]
    fn gaps_between_panes_count_unless_times_were_left_out() {
        let mut whole = of([0.0, 1.0]);
        whole.merge(&of([5.0, 6.0]));
        assert_eq!(whole.regularity(), of([0.0, 1.0, 5.0, 6.0]).regularity());

        let mut busy = of((0..100).map(|n| f64::from(n) * 0.01));
        busy.merge(&of([10.0, 10.01]));
        let gaps = busy.regularity().unwrap();
        assert_eq!(gaps.gaps, 63 + 1);
        assert!((gaps.median - 0.01).abs() < 1e-9);
    }

    #[test]
    fn order_within_a_pane_does_not_matter() {
        assert_eq!(of([3.0, 1.0, 2.0]), of([1.0, 2.0, 3.0]));
        let (forward, backward) = (of((0..200).map(f64::from)), of((0..200).rev().map(f64::from)));
        assert_eq!(forward, backward);
        assert_eq!(of([1.0, 2.0]).regularity(), None);
    }
}
