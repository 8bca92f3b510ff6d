use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Points of a page.
const PAGE: usize = 64;
/// Steps that a page's range is divided into.
const STEPS: f64 = u16::MAX as f64;

/// The last points of a series, in a little more than two bytes each: pages of 64 points, each point as one of 65,535 steps
/// between the lowest and the highest of its page. So a point is kept to a hundred-thousandth of the range of its own page,
/// however large values are, and an outlier costs only its neighbours precision. Points of the last, unfinished page are exact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub(crate) struct PackedPoints {
    /// Pages kept beside the unfinished one.
    limit: usize,
    pages: VecDeque<Page>,
    latest: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Parts {
    limit: u32,
    pages: Vec<Page>,
    latest: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Page {
    low: f64,
    step: f64,
    /// Empty if all points are `low`.
    points: Box<[u16]>,
}

impl PackedPoints {
    /// For at least so many points, and at most a page more.
    pub(crate) const fn new(points: usize) -> Self {
        Self {
            limit: points.div_ceil(PAGE),
            pages: VecDeque::new(),
            latest: Vec::new(),
        }
    }

    /// Takes a finite point.
    pub(crate) fn push(&mut self, point: f64) {
        self.latest.push(point);
        if self.latest.len() < PAGE {
            return;
        }
        if self.pages.len() >= self.limit {
            self.pages.pop_front();
        }
        self.pages.push_back(Page::of(&self.latest));
        self.latest.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.pages.len() * PAGE + self.latest.len()
    }

    /// The point so many ago; 1 is the latest.
    pub(crate) fn ago(&self, points: usize) -> Option<f64> {
        let at = self.len().checked_sub(points)?;
        match self.pages.get(at / PAGE) {
            Some(page) => Some(page.point(at % PAGE)),
            None => self.latest.get(at - self.pages.len() * PAGE).copied(),
        }
    }

    /// The latest so many, at most all, the oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<f64> {
        let skip = self.len().saturating_sub(count);
        let pages = self.pages.iter().skip(skip / PAGE);
        let packed = pages.flat_map(|page| (0..PAGE).map(|at| page.point(at)));
        let (skip, whole) = (skip % PAGE, skip / PAGE >= self.pages.len());
        // The unfinished page follows the others, and is cut only if there is nothing before it.
        let all = packed.chain(self.latest.iter().copied());
        let skip = if whole {
            self.latest.len().saturating_sub(count)
        } else {
            skip
        };
        all.skip(skip).collect()
    }
}

impl Page {
    fn of(points: &[f64]) -> Self {
        let low = points.iter().copied().fold(f64::INFINITY, f64::min);
        let high = points.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let step = (high - low) / STEPS;
        let pack = |point: &f64| ((point - low) / step).round().clamp(0.0, STEPS) as u16;
        let flat = !(step > 0.0 && step.is_finite());
        Self {
            low,
            step: if flat { 0.0 } else { step },
            points: if flat {
                Box::default()
            } else {
                points.iter().map(pack).collect()
            },
        }
    }

    fn point(&self, at: usize) -> f64 {
        let steps = self.points.get(at).copied().unwrap_or(0);
        self.low + self.step * f64::from(steps)
    }
}

impl TryFrom<Parts> for PackedPoints {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        let limit = parts.limit as usize;
        if limit > u16::MAX as usize || parts.pages.len() > limit || parts.latest.len() >= PAGE {
            return Err("more points than are kept");
        }
        let fits = |page: &Page| {
            let whole = page.points.len() == PAGE || (page.points.is_empty() && page.step == 0.0);
            whole && page.low.is_finite() && page.step.is_finite()
        };
        if !parts.pages.iter().all(fits) || !parts.latest.iter().all(|point| point.is_finite()) {
            return Err("a page that cannot be one");
        }
        Ok(Self {
            limit,
            pages: parts.pages.into(),
            latest: parts.latest,
        })
    }
}

impl From<PackedPoints> for Parts {
    fn from(points: PackedPoints) -> Self {
        Self {
            limit: u32::try_from(points.limit).unwrap_or(u32::MAX),
            pages: points.pages.into(),
            latest: points.latest,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn points_are_kept_to_a_step_of_their_page(points in proptest::collection::vec(-1e9..1e9_f64, 0..500), count in 0_usize..600) {
            let mut packed = PackedPoints::new(128);
            for &point in &points {
                packed.push(point);
            }
            prop_assert!(packed.len() >= points.len().min(128) && packed.len() <= 128 + PAGE);
            let last = packed.last(count);
            prop_assert_eq!(last.len(), count.min(packed.len()));
            for (ago, point) in last.iter().rev().enumerate() {
                let true_point = points[points.len() - 1 - ago];
                prop_assert!((point - true_point).abs() <= 2e9 / STEPS, "{point} {true_point}");
                prop_assert_eq!(packed.ago(ago + 1), Some(*point));
            }
            prop_assert_eq!(packed.ago(packed.len() + 1), None);
            let bytes = postcard::to_allocvec(&packed).unwrap();
            prop_assert!(bytes.len() < 400 + 3 * points.len() + 8 * PAGE);
            let again: PackedPoints = postcard::from_bytes(&bytes).unwrap();
            prop_assert_eq!(again, packed);
        }
    }

    #[test]
    fn an_outlier_costs_only_its_neighbours_precision() {
        let mut packed = PackedPoints::new(4_096);
        for n in 0..640_u32 {
            packed.push(if n == 100 { 1e60 } else { 1e9 + f64::from(n) });
        }
        assert_eq!(packed.ago(640 - 63), Some(1e9 + 63.0));
        assert!((packed.ago(640 - 300).unwrap() - (1e9 + 300.0)).abs() < 0.001);
    }
}
