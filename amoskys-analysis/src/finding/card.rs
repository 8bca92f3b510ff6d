use amoskys_core::event::{Evidence, ScoreInterval};
use serde::{Deserialize, Serialize};

use super::Feature;
use crate::calibrate::{Interval, count_interval, share_interval};
use crate::odds::{LIMIT, probability};

/// Terms a card holds. No detector has more.
const TERMS: usize = 16;

/// A score card: log-odds as the sum of a prior and of terms that each name a feature.
///
/// A term that comes from a count is what this count says, and the count is one draw of what may be expected: the card keeps how far
/// its counts leave the sum open. The prior, the weights, and what is a fact (a port, whether a peer is outside) are taken as
/// given.
///
/// It lives on the stack, so that a detector may fill one in for every event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Card {
    total: f64,
    /// Squares of how far below and above its counts leave the sum open. `None` if nothing was counted.
    open: Option<[f64; 2]>,
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
            open: None,
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

    /// Adds a term that is a function of a number of independent events: with the function's values at the bounds of what number is
    /// to be expected.
    #[must_use]
    pub(crate) fn with_count(self, feature: Feature, count: f64, by: impl Fn(f64) -> f64) -> Self {
        self.with(feature, count, by(count)).open_by_count(count, by)
    }

    /// Notes that the term added last is a function of a number of independent events.
    #[must_use]
    pub(crate) fn open_by_count(self, count: f64, by: impl Fn(f64) -> f64) -> Self {
        let (low, high) = count_interval(count, ScoreInterval::CONFIDENCE);
        self.left_open(by(low), by(count), by(high))
    }

    /// Notes that the terms added last are a function of a share, of which `found` of `rows` were counted.
    #[must_use]
    pub(crate) fn open_by_share(self, found: f64, rows: f64, by: impl Fn(f64) -> f64) -> Self {
        if rows <= 0.0 {
            return self;
        }
        let (low, high) = share_interval(found, rows, ScoreInterval::CONFIDENCE);
        self.left_open(by(low), by(found / rows), by(high))
    }

    /// Notes that what was added last as `now` may as well have been between these two values, in either order.
    #[must_use]
    pub(crate) fn left_open(mut self, one: f64, now: f64, other: f64) -> Self {
        if one.is_nan() || other.is_nan() || !now.is_finite() {
            return self;
        }
        let below = (now - one.min(other)).clamp(0.0, 2.0 * LIMIT);
        let above = (one.max(other) - now).clamp(0.0, 2.0 * LIMIT);
        let [low, high] = self.open.unwrap_or_default();
        self.open = Some([low + below * below, high + above * above]);
        self
    }

    /// Whether anything of it was counted, so that its [interval](Self::interval) says something.
    pub(crate) const fn is_counted(&self) -> bool {
        self.open.is_some()
    }

    /// The probability of the sum, and what its counts leave open of it. Errors of different counts are taken as independent.
    pub(crate) fn interval(&self) -> Interval {
        let [below, above] = self.open.unwrap_or_default();
        let of = |sum: f64| probability(sum.clamp(-LIMIT, LIMIT));
        Interval {
            low: of(self.total - below.sqrt()),
            probability: of(self.total),
            high: of(self.total + above.sqrt()),
        }
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

    #[test]
    fn what_is_counted_leaves_the_sum_open_and_the_more_the_less() {
        let fact = Card::new(-2.0).with(Feature::LoginService, 1.0, 2.0);
        assert!(!fact.is_counted());
        assert_eq!(fact.interval(), Interval::sure(0.5));

        let doublings = |count: f64| 2.0 * (count / 10.0).log2();
        let width = |count: f64| {
            let card = fact.with_count(Feature::Attempts, count, doublings);
            let Interval {
                low,
                probability,
                high,
            } = card.interval();
            assert!(low < probability && probability < high, "{card:?}");
            assert!((probability - crate::odds::probability(card.log_odds())).abs() < 1e-15);
            crate::odds::logit(high) - crate::odds::logit(low)
        };
        // Four times the count is known twice as well.
        assert!((width(16.0) / width(64.0) - 2.0).abs() < 0.1);

        // Two shares of the same rows: errors that know nothing of each other add up in squares.
        let by = |share: f64| 10.0 * share;
        let once = Card::opinion().open_by_share(5.0, 10.0, by).open.unwrap();
        let twice = Card::opinion()
            .open_by_share(5.0, 10.0, by)
            .open_by_share(5.0, 10.0, by)
            .open
            .unwrap();
        assert!((once[0] - once[1]).abs() < 1e-9 && (twice[0] - 2.0 * once[0]).abs() < 1e-9);
        assert_eq!(Card::opinion().open_by_share(0.0, 0.0, by).open, None);
        let card = Card::opinion().left_open(f64::NAN, 0.0, 1.0);
        assert!(!card.is_counted());
    }
}
