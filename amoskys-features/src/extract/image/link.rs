use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::{RATES, RATES_HZ};
use crate::aggregate::{DampedSums, decay};

/// Damped sums at each rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Stream {
    sums: [DampedSums; RATES],
}

/// Two streams in opposite directions, and how they move together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Link {
    sides: [Stream; 2],
    /// The distance of each side's latest number from its mean then.
    residuals: [[f64; RATES]; 2],
    /// Damped sums of products of residuals.
    products: [f64; RATES],
    at: Timestamp,
}

impl Stream {
    /// Takes a number. A time before the latest one counts as that.
    pub(super) fn add(&mut self, time: Timestamp, value: f64) {
        for (sums, rate) in self.sums.iter_mut().zip(RATES_HZ) {
            let time = if sums.weight() == 0.0 {
                time
            } else {
                time.max(sums.at())
            };
            sums.add(rate, time, value);
        }
    }

    /// Weight, mean and deviation at a rate.
    pub(super) fn write(&self, rate: usize, values: &mut Vec<f64>) {
        let sums = &self.sums[rate];
        values.extend([sums.weight(), sums.mean(), sums.std_dev()]);
    }
}

impl Link {
    /// Takes a number of one side, 0 or 1. A time before the latest one counts as that.
    pub(super) fn add(&mut self, side: usize, time: Timestamp, value: f64) {
        let is_new = self.sides.iter().all(|side| side.sums[0].weight() == 0.0);
        let time = if is_new { time } else { time.max(self.at) };
        let passed = time.since(self.at);
        self.at = time;
        for (rate, hz) in RATES_HZ.into_iter().enumerate() {
            let sums = &mut self.sides[side].sums[rate];
            sums.add(hz, time, value);
            let residual = value - sums.mean();
            self.residuals[side][rate] = residual;
            let other = self.residuals[1 - side][rate];
            let kept = if is_new {
                0.0
            } else {
                self.products[rate] * decay(hz, passed)
            };
            self.products[rate] = kept + residual * other;
        }
    }

    /// Of one side and both, at a rate: weight, mean, deviation; radius, magnitude, covariance, correlation.
    pub(super) fn write(&self, side: usize, rate: usize, values: &mut Vec<f64>) {
        self.sides[side].write(rate, values);
        let hz = RATES_HZ[rate];
        let (mine, mut other) = (self.sides[side].sums[rate], self.sides[1 - side].sums[rate]);
        let mut weight = 0.0;
        if other.weight() > 0.0 {
            other.decay_to(hz, self.at);
            weight = other.weight();
        }
        let known = |value: f64| if weight > f64::MIN_POSITIVE { value } else { 0.0 };
        let (mean, variance) = (known(other.mean()), known(other.variance()));
        let radius = mine.variance().hypot(variance);
        let magnitude = mine.mean().hypot(mean);
        let covariance = self.products[rate] / (mine.weight() + weight);
        // What rounding leaves of a variance of 0 is none.
        let is_moving = |mean: f64, variance: f64| variance > 1e-12 * mean * mean;
        let deviations = (mine.variance() * variance).sqrt();
        let both_move = is_moving(mine.mean(), mine.variance()) && is_moving(mean, variance);
        let correlation = if both_move {
            (covariance / deviations).clamp(-1.0, 1.0)
        } else {
            0.0
        };
        values.extend([radius, magnitude, covariance, correlation]);
    }
}
