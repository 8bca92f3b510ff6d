use serde::{Deserialize, Serialize};

/// How far a value lies outside all values before, as a share of their range.
///
/// It remembers one to two spans of points: what was extreme long ago may be extreme again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Extremes {
    span: u64,
    quiet: u64,
    seen: u64,
    current: (f64, f64),
    previous: (f64, f64),
}

const NOTHING: (f64, f64) = (f64::INFINITY, f64::NEG_INFINITY);

impl Extremes {
    /// Silent for the first `quiet` points.
    pub(crate) const fn new(quiet: u64, span: u64) -> Self {
        Self {
            span,
            quiet,
            seen: 0,
            current: NOTHING,
            previous: NOTHING,
        }
    }

    /// Whether a stored state is one of the same spans.
    pub(crate) const fn fits(&self, fresh: &Self) -> bool {
        self.span == fresh.span && self.quiet == fresh.quiet
    }

    /// Takes a finite value.
    pub(crate) fn push(&mut self, value: f64) -> f64 {
        let (low, high) = (
            self.current.0.min(self.previous.0),
            self.current.1.max(self.previous.1),
        );
        let range = high - low;
        let outside = if self.seen > self.quiet && range > 0.0 {
            ((value - high).max(low - value) / range).max(0.0)
        } else {
            0.0
        };
        self.current = (self.current.0.min(value), self.current.1.max(value));
        self.seen += 1;
        if self.seen.is_multiple_of(self.span) {
            self.previous = std::mem::replace(&mut self.current, NOTHING);
        }
        outside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_extremes_are_told_and_old_ones_forgotten() {
        let mut extremes = Extremes::new(3, 10);
        let found: Vec<f64> = [0.0, 10.0, 5.0, 5.0, 20.0, 20.0, -10.0]
            .map(|value| extremes.push(value))
            .into();
        assert_eq!(found, [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.5]);
        for _ in 0..13 {
            extremes.push(5.0);
        }
        // The extremes left with the span before; nothing else is known but 5.
        assert_eq!(extremes.push(6.0), 0.0);
        assert_eq!(extremes.push(5.5), 0.0);
        assert_eq!(extremes.push(7.0), 1.0);
    }
}
