//! Parts of a log that are left out in turn, so that the rest can be asked how unusual they look to it.
//!
//! Windows of one service resemble each other, and so do those of one minute. Scores of windows whose service, or whose neighbours in
//! time, the detector was fitted on are too low to say how a new service, or a later hour, will score.

use std::collections::BTreeMap;

use amoskys_core::FeatureVector;

/// Parts that are left out.
const PARTS: usize = 4;
/// Rows that a detector is fitted on without a part: evenly chosen. It is fitted eight times, and is not kept.
const MOST_ROWS: usize = 2000;

/// A way to divide rows.
pub(crate) struct Division {
    /// What is left out together, for the model's account of itself.
    pub(crate) name: &'static str,
    /// For each part its rows, and those that a detector is fitted on without it.
    pub(crate) parts: Vec<Part>,
}

/// Numbers of rows.
pub(crate) struct Part {
    pub(crate) left_out: Vec<usize>,
    pub(crate) rest: Vec<usize>,
}

/// Divides the first rows, in order of time, by entity and by stretches of time. What cannot be divided into two parts at least is
/// left undivided.
pub(crate) fn divisions(vectors: &[FeatureVector], rows: usize) -> Vec<Division> {
    let rows = &vectors[..rows.min(vectors.len())];
    let mut divisions = vec![by_entity(rows), by_time(rows)];
    for division in &mut divisions {
        division
            .parts
            .retain(|part| !part.left_out.is_empty() && !part.rest.is_empty());
    }
    divisions.retain(|division| division.parts.len() > 1);
    for part in divisions.iter_mut().flat_map(|division| &mut division.parts) {
        let rest = part.rest.len();
        if rest > MOST_ROWS {
            part.rest = (0..MOST_ROWS)
                .map(|at| part.rest[at * rest / MOST_ROWS])
                .collect();
        }
    }
    divisions
}

/// All rows of an entity are in the same part.
fn by_entity(rows: &[FeatureVector]) -> Division {
    let mut entities: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        entities.entry(row.entity.to_string()).or_default().push(at);
    }
    let mut entities: Vec<(String, Vec<usize>)> = entities.into_iter().collect();
    entities.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then(a.0.cmp(&b.0)));
    let mut parts = vec![Vec::new(); PARTS];
    for (_, rows) in entities {
        // To the one that has fewest.
        if let Some(part) = parts.iter_mut().min_by_key(|part| part.len()) {
            part.extend(rows);
        }
    }
    let parts = parts.into_iter().map(|mut left_out| {
        left_out.sort_unstable();
        let is_rest = |at: &usize| left_out.binary_search(at).is_err();
        let rest = (0..rows.len()).filter(is_rest).collect();
        Part { left_out, rest }
    });
    Division {
        name: "entities",
        parts: parts.collect(),
    }
}

/// Windows that overlap those left out are neither left out nor fitted on.
fn by_time(rows: &[FeatureVector]) -> Division {
    let part = |number: usize| {
        let (from, to) = (rows.len() * number / PARTS, rows.len() * (number + 1) / PARTS);
        let of_part = &rows[from..to];
        let begin = of_part.iter().map(|row| row.start).min();
        let end = of_part.iter().map(|row| row.end).max();
        let apart = |at: &usize| {
            let row = &rows[*at];
            begin.is_some_and(|begin| row.end <= begin) || end.is_some_and(|end| row.start >= end)
        };
        Part {
            left_out: (from..to).collect(),
            rest: (0..rows.len()).filter(apart).collect(),
        }
    };
    Division {
        name: "stretches of time",
        parts: (0..PARTS).map(part).collect(),
    }
}
