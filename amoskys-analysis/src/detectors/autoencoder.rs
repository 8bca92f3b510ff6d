//! A small autoencoder that learns a row at a time.

use serde::{Deserialize, Serialize};

use crate::iforest::random::Random;

/// How many hidden units there are for each input.
const HIDDEN: f64 = 0.75;

/// One hidden layer with the weights of the output layer transposed, logistic units, trained by the gradient of the cross-entropy.
/// Inputs are brought to 0..1 by the least and the highest value seen in training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Autoencoder {
    /// Least and highest value of each input.
    ranges: Vec<(f64, f64)>,
    /// By input, then by hidden unit.
    weights: Vec<f64>,
    hidden_bias: Vec<f64>,
    visible_bias: Vec<f64>,
}

/// What a pass through the layers leaves.
struct Pass {
    inputs: Vec<f64>,
    hidden: Vec<f64>,
    /// Inputs less outputs.
    errors: Vec<f64>,
}

impl Autoencoder {
    pub(super) fn new(inputs: usize, random: &mut Random) -> Self {
        let hidden = (inputs as f64 * HIDDEN).ceil() as usize;
        let reach = 1.0 / inputs as f64;
        let weights = (0..inputs * hidden).map(|_| (2.0 * random.unit_f64() - 1.0) * reach);
        Self {
            ranges: vec![(f64::MAX, f64::MIN); inputs],
            weights: weights.collect(),
            hidden_bias: vec![0.0; hidden],
            visible_bias: vec![0.0; inputs],
        }
    }

    pub(super) fn inputs(&self) -> usize {
        self.ranges.len()
    }

    /// The root of the mean squared error of what comes out.
    pub(super) fn error(&self, values: &[f64]) -> f64 {
        root_mean_square(&self.pass(values).errors)
    }

    /// The error, before a step is taken to make it smaller.
    pub(super) fn train(&mut self, values: &[f64], rate: f64) -> f64 {
        for (range, &value) in self.ranges.iter_mut().zip(values) {
            *range = (range.0.min(value), range.1.max(value));
        }
        let Pass {
            inputs,
            hidden,
            errors,
        } = self.pass(values);
        let width = hidden.len();
        let mut back = vec![0.0; width];
        for (weights, error) in self.weights.chunks_exact(width).zip(&errors) {
            for (back, weight) in back.iter_mut().zip(weights) {
                *back += error * weight;
            }
        }
        for (back, unit) in back.iter_mut().zip(&hidden) {
            *back *= unit * (1.0 - unit);
        }
        for ((weights, input), error) in self.weights.chunks_exact_mut(width).zip(&inputs).zip(&errors) {
            for ((weight, back), unit) in weights.iter_mut().zip(&back).zip(&hidden) {
                *weight += rate * (input * back + error * unit);
            }
        }
        for (bias, back) in self.hidden_bias.iter_mut().zip(&back) {
            *bias += rate * back;
        }
        for (bias, error) in self.visible_bias.iter_mut().zip(&errors) {
            *bias += rate * error;
        }
        root_mean_square(&errors)
    }

    fn pass(&self, values: &[f64]) -> Pass {
        let inputs: Vec<f64> = values
            .iter()
            .zip(&self.ranges)
            .map(|(&value, &range)| placed(value, range))
            .collect();
        let mut hidden = self.hidden_bias.clone();
        let width = hidden.len();
        for (weights, input) in self.weights.chunks_exact(width).zip(&inputs) {
            for (unit, weight) in hidden.iter_mut().zip(weights) {
                *unit += input * weight;
            }
        }
        hidden.iter_mut().for_each(|unit| *unit = logistic(*unit));
        let output = |(weights, bias): (&[f64], &f64)| {
            let sum: f64 = weights
                .iter()
                .zip(&hidden)
                .map(|(weight, unit)| weight * unit)
                .sum();
            logistic(sum + bias)
        };
        let outputs = self
            .weights
            .chunks_exact(width)
            .zip(&self.visible_bias)
            .map(output);
        let errors = inputs
            .iter()
            .zip(outputs)
            .map(|(input, output)| input - output)
            .collect();
        Pass {
            inputs,
            hidden,
            errors,
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        let (inputs, hidden) = (self.ranges.len(), self.hidden_bias.len());
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        inputs > 0
            && hidden > 0
            && self.visible_bias.len() == inputs
            && self.weights.len() == inputs * hidden
            && [&self.weights, &self.hidden_bias, &self.visible_bias]
                .iter()
                .all(|values| finite(values))
            && self
                .ranges
                .iter()
                .all(|range| range.0.is_finite() && range.1.is_finite())
    }
}

/// How far outside 0..1 an input may be.
const FARTHEST: f64 = 100.0;

/// Its place in the range; beyond it, beyond 0..1. In the middle, where the range is not known or has no width.
fn placed(value: f64, (low, high): (f64, f64)) -> f64 {
    if low > high {
        return 0.5;
    }
    // Halves, lest the width overflow. Of one value alone, any other is as far as can be.
    let (above, width) = (value / 2.0 - low / 2.0, high / 2.0 - low / 2.0);
    if above == 0.0 {
        return 0.0;
    }
    (above / width.max(f64::MIN_POSITIVE)).clamp(-FARTHEST, FARTHEST)
}

fn root_mean_square(errors: &[f64]) -> f64 {
    let n = errors.len() as f64;
    (errors.iter().map(|error| error * error).sum::<f64>() / n).sqrt()
}

fn logistic(sum: f64) -> f64 {
    1.0 / (1.0 + (-sum).exp())
}
