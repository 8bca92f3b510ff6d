//! Fusion: what the layers say together.
//!
//! Each layer speaks in log-odds, and the fused log-odds are their weighted sum. A layer that abstains adds nothing, so
//! it neither weakens nor strengthens the others: corroboration counts, and one layer that is sure raises an alert
//! alone. The contribution of each piece of evidence to the fused score is its own log-odds times the weight.
//!
//! The bounds of the fused score come from those of the layers: what their counts leave open, in log-odds and times the weights,
//! adds up in squares.

mod incident;

use amoskys_core::event::Layer;
use serde::{Deserialize, Serialize};

pub(crate) use self::incident::{Incidents, Signature};
use crate::calibrate::Interval;
use crate::config::DetectionConfig;
use crate::finding::Card;

/// The weights, and the least that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fusion {
    /// Of the geometric, temporal and behavioral layer.
    pub(crate) weights: [f64; 3],
    /// In log-odds.
    pub(crate) floor: f64,
}

impl Fusion {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        let weights = &config.weights;
        Self {
            weights: [weights.geometric, weights.temporal, weights.behavioral],
            floor: config.floor(),
        }
    }

    /// One layer alone, unweighted.
    pub(crate) fn only(layer: Layer, config: &DetectionConfig) -> Self {
        let mut weights = [0.0; 3];
        weights[index(layer)] = 1.0;
        Self {
            weights,
            floor: config.floor(),
        }
    }

    fn fuse(&self, voices: &[Option<Card>; 3]) -> f64 {
        let weighted = voices
            .iter()
            .zip(self.weights)
            .map(|(voice, weight)| voice.map_or(0.0, |card| weight * card.log_odds()));
        weighted.sum()
    }

    /// What the layers' counts leave open of the fused score. A layer of which nothing was counted is taken at its word.
    fn interval(&self, voices: &[Option<Card>; 3]) -> Interval {
        let part = |(voice, weight): (&Option<Card>, f64)| voice.map(|card| (weight, card.interval()));
        let parts: Vec<(f64, Interval)> = voices.iter().zip(self.weights).filter_map(part).collect();
        Interval::fused(&parts)
    }
}

/// Where a layer stands among the three.
pub(crate) const fn index(layer: Layer) -> usize {
    match layer {
        Layer::Geometric => 0,
        Layer::Temporal => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Feature;
    use crate::odds::{logit, probability};

    fn voice(p: f64) -> Option<Card> {
        Some(Card::opinion().with(Feature::Prior, p, logit(p)))
    }

    #[test]
    fn a_sure_layer_suffices_and_a_silent_one_does_no_harm() {
        let fusion = Fusion::new(&DetectionConfig::default());
        let score = |voices: [Option<Card>; 3]| probability(fusion.fuse(&voices));
        assert!(score([voice(0.94), None, None]) > 0.7);
        assert!(score([voice(0.9), None, None]) < 0.7);
        assert!(score([voice(0.8), voice(0.8), None]) > 0.7);
        assert!(score([voice(0.72), voice(0.72), voice(0.72)]) > 0.7);
        assert!(score([voice(0.94), voice(0.2), None]) < 0.7);
        assert_eq!(score([None, None, None]), 0.5);
    }

    #[test]
    fn bounds_come_from_what_the_layers_have_counted() {
        let fusion = Fusion::new(&DetectionConfig::default());
        let counted =
            |count: f64| voice(0.9).map(|card| card.with_count(Feature::Attempts, count, f64::log2));
        let fact = fusion.interval(&[voice(0.9), None, voice(0.6)]);
        assert_eq!((fact.low, fact.high), (fact.probability, fact.probability));
        let (few, many) = ([counted(4.0), None, None], [counted(400.0), None, None]);
        for voices in [few, many] {
            let interval = fusion.interval(&voices);
            let score = probability(fusion.fuse(&voices));
            assert!((interval.probability - score).abs() < 1e-9);
            assert!(interval.low < score && score < interval.high, "{interval:?}");
        }
        let width = |voices| {
            let Interval { low, high, .. } = fusion.interval(voices);
            logit(high) - logit(low)
        };
        assert!(width(&few) > 5.0 * width(&many));
    }
}
