use serde::{Deserialize, Serialize};

use super::packed::PackedPoints;

/// Points, and means of [`STRIDE`] points, that correlations are computed from.
const SAMPLES: usize = 512;
/// Fewest samples that a period is looked for in, and the shortest period in samples.
const FEWEST: usize = 96;
const SHORTEST: usize = 4;
const STRIDE: usize = 16;
/// Points kept, to tell a period of several thousand points exactly and to look back by it.
const POINTS: usize = 4_096;
/// A correlation that is a season, that one season more must keep, and by which it must rise above the trough before.
const SEASON: f64 = 0.4;
const TWICE: f64 = 0.3;
const RISE: f64 = 0.3;
/// Values beyond are taken as this.
const LARGEST: f64 = 1e100;

/// Finds the period of a series by itself: the first high peak of its autocorrelation after it has fallen, confirmed at twice
/// the lag and by two looks in a row that agree.
///
/// It looks at the last 512 points, and at the last 512 means of 16 points, without their linear trend and with outliers cut:
/// periods of 4 to 170 points, and of up to 2,720 points to the point.
///
/// *Assumes* that three periods resemble each other. *Fails* for periods that change, and finds one of several seasons. Slow
/// noise (autoregressive with 0.9) was taken for a season in less than 5 % of the looks in the tests. *Costs* about 10 kB a
/// series, which keep each point to a hundred-thousandth of the range of its neighbours, and 0.6 µs a point.
///
/// ```
/// use amoskys_analysis::series::Seasonality;
///
/// let mut season = Seasonality::new();
/// for n in 0..400_u32 {
///     season.push(f64::from(n % 24));
/// }
/// assert_eq!(season.period(), Some(24));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seasonality {
    points: PackedPoints,
    coarse: PackedPoints,
    /// Sum and number of points of the next coarse sample.
    part: (f64, usize),
    fine_look: Look,
    coarse_look: Look,
}

/// What looking for a period has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Look {
    /// Samples since.
    since: usize,
    /// Found last time: lag in samples, and correlation.
    found: Option<(usize, f64)>,
    /// Agreed twice: period in points, and correlation.
    agreed: Option<(usize, f64)>,
}

impl Seasonality {
    /// Nothing known yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            points: PackedPoints::new(POINTS),
            coarse: PackedPoints::new(SAMPLES),
            part: (0.0, 0),
            fine_look: Look::default(),
            coarse_look: Look::default(),
        }
    }

    /// Takes a value. One that is not finite is left out.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.points.push(value.clamp(-LARGEST, LARGEST));
        self.fine_look.since += 1;
        self.part = (self.part.0 + value, self.part.1 + 1);
        if self.part.1 == STRIDE {
            self.coarse.push(self.part.0 / STRIDE as f64);
            self.part = (0.0, 0);
            self.coarse_look.since += 1;
            if is_due(&self.coarse_look, self.coarse.len().min(SAMPLES)) {
                let samples = self.coarse.last(SAMPLES);
                let points = &self.points;
                self.coarse_look
                    .take(period(&samples), |lag| refine(points, lag * STRIDE));
            }
        }
        if is_due(&self.fine_look, self.points.len().min(SAMPLES)) {
            let samples = self.points.last(SAMPLES);
            self.fine_look.take(period(&samples), Some);
        }
    }

    /// Points of a period, if there is one.
    #[must_use]
    pub fn period(&self) -> Option<usize> {
        let (fine, coarse) = (self.fine_look.agreed, self.coarse_look.agreed);
        match (fine, coarse) {
            (Some(fine), Some(coarse)) if coarse.1 > fine.1 => Some(coarse.0),
            (Some(fine), _) => Some(fine.0),
            (None, coarse) => coarse.map(|coarse| coarse.0),
        }
    }

    /// The value so many points ago; 1 is the latest.
    pub(crate) fn ago(&self, points: usize) -> Option<f64> {
        self.points.ago(points).filter(|_| points <= POINTS)
    }
}

impl Default for Seasonality {
    fn default() -> Self {
        Self::new()
    }
}

impl Look {
    fn take(&mut self, found: Option<(usize, f64)>, exact: impl FnOnce(usize) -> Option<usize>) {
        self.since = 0;
        let agree = match (self.found, found) {
            (Some(before), Some(now)) => before.0.abs_diff(now.0) * 20 <= now.0.max(20),
            _ => false,
        };
        self.agreed = match found {
            Some((lag, correlation)) if agree => exact(lag).map(|period| (period, correlation)),
            // A look that finds nothing after one that did does not end the season yet.
            _ if self.found.is_some() => self.agreed,
            _ => None,
        };
        self.found = found;
    }
}

/// After a quarter of the samples is new.
fn is_due(look: &Look, samples: usize) -> bool {
    samples >= FEWEST && look.since * 4 >= samples
}

/// The lag of the first high peak of the autocorrelation, and how high it is.
fn period(samples: &[f64]) -> Option<(usize, f64)> {
    let residuals = residuals(samples)?;
    let longest = residuals.len() / 3;
    let correlations: Vec<f64> = (0..=2 * longest + 1)
        .map(|lag| correlation(&residuals, lag))
        .collect();
    let fallen = correlations.iter().position(|&correlation| correlation < 0.1)?;
    let start = fallen.max(SHORTEST);
    let is_peak = |lag: &usize| {
        correlations[*lag] >= correlations[lag - 1] && correlations[*lag] >= correlations[lag + 1]
    };
    let peaks: Vec<usize> = (start..=longest).filter(is_peak).collect();
    let highest = peaks
        .iter()
        .map(|&lag| correlations[lag])
        .max_by(f64::total_cmp)?;
    let lag = *peaks.iter().find(|&&lag| correlations[lag] >= 0.9 * highest)?;
    let trough = correlations[1..lag].iter().copied().fold(f64::INFINITY, f64::min);
    // Twice a period that is no whole number of samples may be a sample away.
    let twice = (2 * lag - 1..=2 * lag + 1)
        .map(|lag| correlations[lag])
        .fold(-1.0, f64::max);
    let seasonal = correlations[lag] >= SEASON && twice >= TWICE && correlations[lag] - trough >= RISE;
    seasonal.then_some((lag, correlations[lag]))
}

/// Without the linear trend, and cut at three standard deviations as the median deviation tells them. `None` if nothing is
/// left.
fn residuals(samples: &[f64]) -> Option<Vec<f64>> {
    let n = samples.len() as f64;
    let middle = (n - 1.0) / 2.0;
    let mean = samples.iter().sum::<f64>() / n;
    let (mut product, mut square) = (0.0, 0.0);
    for (at, value) in samples.iter().enumerate() {
        let x = at as f64 - middle;
        product += x * (value - mean);
        square += x * x;
    }
    let slope = product / square;
    let mut residuals: Vec<f64> = samples
        .iter()
        .enumerate()
        .map(|(at, value)| value - mean - slope * (at as f64 - middle))
        .collect();
    let mut sizes: Vec<f64> = residuals.iter().map(|residual| residual.abs()).collect();
    let limit = 3.0 * 1.4826 * crate::measure::median(&mut sizes);
    if !limit.is_finite() {
        return None;
    }
    if limit > 0.0 {
        for residual in &mut residuals {
            *residual = residual.clamp(-limit, limit);
        }
    }
    let energy: f64 = residuals.iter().map(|residual| residual * residual).sum();
    (energy > 1e-18 * (1.0 + mean * mean) * n && energy.is_finite()).then_some(residuals)
}

/// Of samples so far apart: -1 to 1.
fn correlation(residuals: &[f64], lag: usize) -> f64 {
    let (early, late) = (&residuals[..residuals.len() - lag], &residuals[lag..]);
    let (mut product, mut a, mut b) = (0.0, 0.0, 0.0);
    for (x, y) in early.iter().zip(late) {
        product += x * y;
        a += x * x;
        b += y * y;
    }
    let energy = (a * b).sqrt();
    if energy > 0.0 { product / energy } else { 0.0 }
}

/// The period within a coarse sample of `about` by which points differ least.
fn refine(points: &PackedPoints, about: usize) -> Option<usize> {
    let slice = points.last(POINTS);
    let compared = slice
        .len()
        .checked_sub(about + STRIDE)
        .filter(|&compared| compared >= STRIDE)?;
    let difference = |lag: usize| -> f64 {
        let late = &slice[slice.len() - compared..];
        let early = &slice[slice.len() - compared - lag..];
        late.iter().zip(early).map(|(a, b)| (a - b).abs()).sum()
    };
    let lags = about - STRIDE..=about + STRIDE;
    lags.map(|lag| (difference(lag), lag))
        .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
        .map(|(_, lag)| lag)
}
