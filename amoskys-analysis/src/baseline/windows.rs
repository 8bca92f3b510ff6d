use std::sync::Arc;

use amoskys_core::event::Entity;
use amoskys_core::{Digest, FeatureSchema, FeatureVector};
use serde::{Deserialize, Serialize};

use crate::calibrate::Conformal;
use crate::iforest::{IsolationForest, Rows};

/// Windows kept for fitting. When there are more, every second is left out, and from then on every second new one.
const ROWS: usize = 4_096;
/// Windows below which nothing is learned.
const FEWEST: usize = 40;
/// Prior that the calibration asks for; only its p-values are used here.
const PRIOR: f64 = 0.01;

/// What windows of hosts look like: an isolation forest, and how its scores of unseen honest windows are spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WindowModel {
    pub(crate) schema: Digest,
    forest: IsolationForest,
    normal: Conformal,
}

impl WindowModel {
    /// How rare such a window is among honest ones: a p-value.
    pub(crate) fn rarity(&self, vector: &FeatureVector) -> Option<f64> {
        let score = self.forest.score_row(&vector.values).ok()?;
        Some(self.normal.tail_p_value(score))
    }
}

/// Collects windows of hosts, of one schema.
#[derive(Debug)]
pub(crate) struct Windows {
    schema: Arc<FeatureSchema>,
    rows: Vec<Vec<f64>>,
    stride: usize,
    seen: usize,
}

impl Windows {
    pub(crate) fn new(schema: Arc<FeatureSchema>) -> Self {
        Self {
            schema,
            rows: Vec::new(),
            stride: 1,
            seen: 0,
        }
    }

    /// Takes a window, if it is one of a host and of this schema.
    pub(crate) fn add(&mut self, vector: &FeatureVector) {
        if !is_of_host(vector) || vector.schema.digest() != self.schema.digest() {
            return;
        }
        self.seen += 1;
        if !self.seen.is_multiple_of(self.stride) {
            return;
        }
        self.rows.push(vector.values.clone());
        if self.rows.len() >= ROWS {
            let mut keep = false;
            self.rows.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride *= 2;
        }
    }

    pub(crate) fn schema(&self) -> Digest {
        self.schema.digest()
    }

    /// Fits the forest on every other window, and calibrates it on the rest; `None` if there are too few.
    pub(crate) fn fit(self) -> Option<WindowModel> {
        if self.rows.len() < FEWEST {
            return None;
        }
        let columns = self.schema.len();
        let half = |which: usize| -> Vec<f64> {
            self.rows
                .iter()
                .skip(which)
                .step_by(2)
                .flatten()
                .copied()
                .collect()
        };
        let (fit, rest) = (half(0), half(1));
        let params = IsolationForest::params();
        let forest = params
            .validate()
            .ok()?
            .fit_rows(Rows::new(&fit, columns).ok()?)
            .ok()?;
        let scores = forest.score(Rows::new(&rest, columns).ok()?).ok()?;
        let normal = Conformal::fit(&scores, PRIOR).ok()?;
        Some(WindowModel {
            schema: self.schema.digest(),
            forest,
            normal,
        })
    }
}

/// Whether a vector is about a host.
pub(crate) fn is_of_host(vector: &FeatureVector) -> bool {
    matches!(vector.entity, Entity::Host(_))
}
