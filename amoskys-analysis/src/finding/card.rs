use amoskys_core::event::Evidence;
use serde::{Deserialize, Serialize};

use super::Feature;
use crate::odds::LIMIT;

/// Terms a card holds. No detector has more.
const TERMS: usize = 16;

/// A score card: log-odds as the sum of a prior and of terms that each name a feature.
///
/// It lives on the stack, so that a detector may fill one in for every event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Card {
    total: f64,
    used: u8,
    terms: [Term; TERMS],
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Term {
    feature: Feature,
    value: f64,
    contribution: f64,
}

impl Card {
    /// A card that starts from a prior, in log-odds.
    pub(crate) fn new(prior: f64) -> Self {
        Self::opinion().with(Feature::Prior, prior, prior)
    }

    /// A card without a prior: what a layer adds to another's hypothesis.
    pub(crate) fn opinion() -> Self {
        let blank = Term {
            feature: Feature::Prior,
            value: 0.0,
            contribution: 0.0,
        };
        Self {
            total: 0.0,
            used: 0,
            terms: [blank; TERMS],
        }
    }

    /// Adds a term. One that is zero or not a number adds nothing.
    #[must_use]
    pub(crate) fn with(mut self, feature: Feature, value: f64, contribution: f64) -> Self {
        let at = usize::from(self.used);
        if contribution != 0.0 && contribution.is_finite() && at < TERMS {
            self.total += contribution;
            self.terms[at] = Term {
                feature,
                value,
                contribution,
            };
            self.used += 1;
        }
        self
    }

    /// The sum, within ±[`LIMIT`].
    pub(crate) fn log_odds(&self) -> f64 {
        self.total.clamp(-LIMIT, LIMIT)
    }

    /// Appends the terms as evidence. Contributions are scaled so that they add up to `weight` times
    /// [`log_odds`](Self::log_odds), also where the sum was cut at the limit.
    pub(crate) fn explain(&self, weight: f64, evidence: &mut Vec<Evidence>) {
        let scale = if self.total == 0.0 {
            1.0
        } else {
            self.log_odds() / self.total
        };
        evidence.extend(
            self.terms[..usize::from(self.used).min(TERMS)]
                .iter()
                .map(|term| Evidence {
                    feature: term.feature.name(),
                    value: term.value,
                    contribution: term.contribution * scale * weight,
                }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contributions_add_up_to_the_score() {
        let card = Card::new(-6.0)
            .with(Feature::FailedPorts, 40.0, 30.0)
            .with(Feature::AnsweredPorts, 1.0, -2.0)
            .with(Feature::UndecidedPorts, f64::NAN, f64::NAN);
        assert_eq!(card.log_odds(), LIMIT);
        let mut evidence = Vec::new();
        card.explain(0.5, &mut evidence);
        assert_eq!(evidence.len(), 3);
        let sum: f64 = evidence.iter().map(|e| e.contribution).sum();
        assert!((sum - 0.5 * LIMIT).abs() < 1e-9);
    }
}
