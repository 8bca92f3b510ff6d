use serde::{Deserialize, Serialize};

use crate::iforest::Rows;

/// Distinct rows, each with the number of times it occurs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distinct {
    values: Vec<f64>,
    columns: usize,
    counts: Vec<u32>,
}

impl Distinct {
    /// The distinct rows in order of first occurrence, and for each row its number among them.
    pub(crate) fn of(rows: Rows<'_>) -> (Self, Vec<u32>) {
        let mut order: Vec<(u64, u32)> = (0_u32..)
            .zip(0..rows.len())
            .map(|(number, at)| (digest(rows.row(at)), number))
            .collect();
        order.sort_unstable();
        // For each row the first that equals it: rows of one digest are compared one by one.
        let mut first: Vec<u32> = vec![0; rows.len()];
        let mut firsts: Vec<u32> = Vec::new();
        for same in order.chunk_by(|a, b| a.0 == b.0) {
            firsts.clear();
            for &(_, at) in same {
                let row = rows.row(at as usize);
                let known = firsts
                    .iter()
                    .copied()
                    .find(|&known| rows.row(known as usize) == row);
                first[at as usize] = known.unwrap_or_else(|| {
                    firsts.push(at);
                    at
                });
            }
        }
        let mut distinct = Self {
            values: Vec::new(),
            columns: rows.columns(),
            counts: Vec::new(),
        };
        let mut numbers: Vec<u32> = vec![0; rows.len()];
        for at in 0..rows.len() {
            let of = first[at] as usize;
            if of == at {
                numbers[at] = distinct.counts.len() as u32;
                distinct.counts.push(1);
                distinct
                    .values
                    .extend(rows.row(at).iter().map(|value| value + 0.0));
            } else {
                numbers[at] = numbers[of];
                distinct.counts[numbers[of] as usize] += 1;
            }
        }
        (distinct, numbers)
    }

    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) const fn len(&self) -> usize {
        self.counts.len()
    }

    pub(crate) fn count(&self, at: usize) -> usize {
        self.counts[at] as usize
    }

    pub(crate) fn row(&self, at: usize) -> &[f64] {
        &self.values[at * self.columns..(at + 1) * self.columns]
    }

    /// Rows from one number to below another.
    pub(crate) fn range(&self, from: usize, to: usize) -> Rows<'_> {
        let values = &self.values[from * self.columns..to * self.columns];
        Rows::of_columns(values, self.columns)
    }

    pub(crate) fn is_sound(&self) -> bool {
        (1..=usize::from(u16::MAX)).contains(&self.columns)
            && !self.counts.is_empty()
            && self.counts.iter().all(|count| *count > 0)
            && self.values.len().checked_div(self.columns) == Some(self.counts.len())
            && self.values.len().is_multiple_of(self.columns)
            && self.values.iter().all(|value| value.is_finite())
    }
}

/// Equal rows have equal digests; others rarely do.
fn digest(row: &[f64]) -> u64 {
    row.iter().fold(0, |digest: u64, value| {
        // Zero is one number, whatever its sign.
        let mixed = (digest ^ (value + 0.0).to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    })
}
