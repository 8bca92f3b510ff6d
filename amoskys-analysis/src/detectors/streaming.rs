//! Detectors that learn from a stream, a row at a time.

use super::estimator::{Judge, StoredDetector, checked_row};
use super::{Detector, DetectorError};
use crate::iforest::Rows;

/// A detector that goes on learning: memory stays bounded however many rows come, and a stored one goes on, bit for bit, as the one
/// it was stored from.
///
/// linfa's `Fit` starts one and learns the rows of a data set in their order.
pub trait StreamingDetector: StoredDetector {
    /// Scores a row by what was learned so far. Learns nothing.
    ///
    /// # Errors
    ///
    /// If the row has another number of columns, or holds a value that is not finite.
    fn score_row(&self, row: &[f64]) -> Result<f64, DetectorError>;

    /// Learns a row.
    ///
    /// # Errors
    ///
    /// As [`score_row`](Self::score_row); nothing is learned then.
    fn learn_row(&mut self, row: &[f64]) -> Result<(), DetectorError>;

    /// Rows that were learned.
    fn seen(&self) -> u64;

    /// Scores a row, then learns it.
    ///
    /// # Errors
    ///
    /// As [`score_row`](Self::score_row); nothing is learned then.
    fn observe(&mut self, row: &[f64]) -> Result<f64, DetectorError> {
        let score = self.score_row(row)?;
        self.learn_row(row)?;
        Ok(score)
    }
}

/// What a streaming detector has to say itself.
pub(super) trait Absorb: Judge {
    /// Learns a row that was checked.
    fn absorb(&mut self, row: &[f64]);

    fn absorbed(&self) -> u64;
}

impl<M: Absorb + StoredDetector> StreamingDetector for M {
    fn score_row(&self, row: &[f64]) -> Result<f64, DetectorError> {
        checked_row(row, Detector::columns(self))?;
        let mut score = [0.0];
        self.judge_into(Rows::of_columns(row, row.len()), &mut score);
        Ok(score[0])
    }

    fn learn_row(&mut self, row: &[f64]) -> Result<(), DetectorError> {
        checked_row(row, Detector::columns(self))?;
        self.absorb(row);
        Ok(())
    }

    fn seen(&self) -> u64 {
        self.absorbed()
    }
}

/// Learns all rows in order.
pub(super) fn absorb_all<M: Absorb>(mut model: M, rows: Rows<'_>) -> M {
    for at in 0..rows.len() {
        model.absorb(rows.row(at));
    }
    model
}

/// Scores each row by what those before it taught, and learns it.
pub(super) fn absorb_and_judge<M: Absorb>(mut model: M, rows: Rows<'_>) -> (M, Vec<f64>) {
    let mut scores = Vec::with_capacity(rows.len());
    for piece in rows.pieces(1) {
        let mut score = [0.0];
        model.judge_into(piece, &mut score);
        scores.extend(score);
        model.absorb(piece.row(0));
    }
    (model, scores)
}
