//! Fusion: what the layers say together.
//!
//! Each layer speaks in log-odds, and the fused log-odds are their weighted sum. A layer that abstains adds nothing, so
//! it neither weakens nor strengthens the others: corroboration counts, and one layer that is sure raises an alert
//! alone. The contribution of each piece of evidence to the fused score is its own log-odds times the weight.

mod incident;

use amoskys_core::event::Layer;
use serde::{Deserialize, Serialize};

pub(crate) use self::incident::{Incidents, Signature};
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
}
