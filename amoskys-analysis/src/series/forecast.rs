use serde::{Deserialize, Serialize};

use super::interval::PredictionInterval;
use super::season::Seasonality;
use super::sorted::SortedWindow;

/// Points whose median is the level.
const LEVEL: usize = 15;
/// Errors a prediction interval is made from.
const ERRORS: usize = 500;
/// Weight of a new error in the record of a predictor.
const RECORD: f64 = 1.0 / 64.0;
const PREDICTORS: usize = 4;

/// What the next value may be.
///
/// Four predictions are made: the last value, the median of late, the value a period ago, and that one moved by how the level
/// has changed since. The one with the least absolute error of late is used, with a [`PredictionInterval`] around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Forecast {
    season: Seasonality,
    recent: SortedWindow,
    /// Weighted mean of each predictor's absolute errors; none while it has predicted nothing.
    record: [Option<f64>; PREDICTORS],
    interval: PredictionInterval,
    /// What was predicted for the next point.
    next: [Option<f64>; PREDICTORS],
}

/// What was expected of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Expected {
    pub(crate) value: f64,
    /// Lowest and highest, if that can be said.
    pub(crate) range: Option<(f64, f64)>,
}

impl Forecast {
    pub(crate) fn new(coverage: f64) -> Self {
        Self {
            season: Seasonality::new(),
            recent: SortedWindow::new(LEVEL),
            record: [None; PREDICTORS],
            interval: PredictionInterval::new(coverage, ERRORS),
            next: [None; PREDICTORS],
        }
    }

    pub(crate) fn period(&self) -> Option<usize> {
        self.season.period()
    }

    /// The value a period before the next one, if there is a period.
    pub(crate) fn a_period_ago(&self) -> Option<f64> {
        self.season.period().and_then(|period| self.season.ago(period))
    }

    /// What is expected of the next value.
    pub(crate) fn expected(&self) -> Option<Expected> {
        let value = self.next[self.best()?]?;
        let width = self.interval.width();
        let range = (self.interval.is_ready() && (0.0..f64::MAX).contains(&width))
            .then_some((value - width, value + width));
        Some(Expected { value, range })
    }

    /// Takes a finite value.
    pub(crate) fn push(&mut self, value: f64) {
        if let Some(predicted) = self.best().and_then(|best| self.next[best]) {
            self.interval.push(value - predicted);
        }
        for (record, next) in self.record.iter_mut().zip(self.next) {
            if let Some(next) = next {
                let error = (value - next).abs();
                *record = Some(record.map_or(error, |known| known + RECORD * (error - known)));
            } else {
                *record = None;
            }
        }
        self.season.push(value);
        self.recent.push(value);
        let level = self.recent.quantile(0.5);
        let season = self.a_period_ago();
        // The same stretch a period ago, which is a little later than the median's own.
        let before = self
            .season
            .period()
            .and_then(|period| self.season.ago(period + LEVEL / 2 + 1));
        let now = self.season.ago(LEVEL / 2 + 1);
        let moved = match (season, before, now) {
            (Some(season), Some(before), Some(now)) => Some(season + now - before),
            _ => None,
        };
        self.next = [Some(value), level, season, moved];
    }

    /// The predictor with the least error; the first of equals.
    fn best(&self) -> Option<usize> {
        let known = self.record.iter().zip(&self.next).enumerate();
        known
            .filter(|(_, (_, next))| next.is_some())
            .filter_map(|(at, (record, _))| record.map(|error| (at, error)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(at, _)| at)
            .or_else(|| self.next.iter().position(Option::is_some))
    }
}
