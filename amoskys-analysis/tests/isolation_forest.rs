//! The forest is the same on any number of threads and after a restart, takes any numbers, and explains itself
//! faithfully.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::num::NonZeroUsize;

use amoskys_analysis::iforest::{IsolationForest, IsolationForestError, Rows};
use proptest::prelude::*;

const COLUMNS: usize = 12;

/// Rows of a fixed sequence: a crowd around zero, and each 20th row far out in two to four columns.
fn rows() -> (Vec<f64>, Vec<bool>) {
    let mut state = 7_u64;
    let mut unit = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for n in 0..2000 {
        // The sum of six even numbers is nearly normal.
        let mut row: Vec<f64> = (0..COLUMNS)
            .map(|_| (0..6).map(|_| unit()).sum::<f64>() - 3.0)
            .collect();
        let anomaly = n % 20 == 0;
        if anomaly {
            for k in 0..2 + n / 20 % 3 {
                let column = (n / 20 + 5 * k) % COLUMNS;
                row[column] += if k % 2 == 0 { 5.0 } else { -5.0 };
            }
        }
        values.extend(row);
        labels.push(anomaly);
    }
    (values, labels)
}

fn fit(values: &[f64], columns: usize, seed: u64, threads: usize) -> IsolationForest {
    let threads = NonZeroUsize::new(threads).expect("one thread or more");
    let params = IsolationForest::params().seed(seed).threads(threads);
    params
        .validate()
        .and_then(|p| p.fit_rows(Rows::new(values, columns)?))
        .expect("a table of two rows or more")
}

fn bits(scores: &[f64]) -> Vec<u64> {
    scores.iter().map(|score| score.to_bits()).collect()
}

#[test]
fn threads_and_storing_change_no_bit() {
    let (values, _) = rows();
    let table = Rows::new(&values, COLUMNS).unwrap();
    let forest = fit(&values, COLUMNS, 3, 1);
    let scores = bits(&forest.score(table).unwrap());
    for threads in [2, 3, 7, 500] {
        let other = fit(&values, COLUMNS, 3, threads);
        assert_eq!(other, forest);
        let threads = NonZeroUsize::new(threads).unwrap();
        assert_eq!(bits(&other.score_parallel(table, threads).unwrap()), scores);
    }
    let stored = postcard::to_allocvec(&forest).unwrap();
    let again: IsolationForest = postcard::from_bytes(&stored).unwrap();
    assert_eq!(bits(&again.score(table).unwrap()), scores);
    // One at a time, or all together.
    let singly: Vec<f64> = (0..50)
        .map(|at| forest.score_row(table.row(at)).unwrap())
        .collect();
    assert_eq!(bits(&singly), scores[..50]);
    assert_ne!(fit(&values, COLUMNS, 4, 1), forest);
}

#[test]
fn a_damaged_forest_is_refused_or_harmless() {
    let (values, _) = rows();
    let table = Rows::new(&values[..100 * COLUMNS], COLUMNS).unwrap();
    let stored = postcard::to_allocvec(&fit(&values, COLUMNS, 3, 1)).unwrap();
    for at in (0..stored.len()).step_by(311) {
        for bit in [0, 4, 7] {
            let mut damaged = stored.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(forest) = postcard::from_bytes::<IsolationForest>(&damaged) {
                let _ = forest.score(table);
            }
        }
        assert!(postcard::from_bytes::<IsolationForest>(&stored[..at]).is_err());
    }
}

#[test]
fn explanations_are_faithful() {
    let (values, labels) = rows();
    let table = Rows::new(&values, COLUMNS).unwrap();
    let forest = fit(&values, COLUMNS, 1, 1);
    let with_medians = |row: &[f64], features: &[usize]| {
        let mut row = row.to_vec();
        features
            .iter()
            .for_each(|&feature| row[feature] = forest.median(feature));
        forest.score_row(&row).unwrap()
    };
    let (mut better, mut cases) = (0, 0);
    for (at, _) in labels.iter().enumerate().filter(|(_, label)| **label) {
        let row = table.row(at);
        let score = forest.score_row(row).unwrap();
        let named = forest.explain(row, 5).unwrap();
        let features: Vec<usize> = named.iter().map(|part| part.feature).collect();
        let lowered = with_medians(row, &features);
        let sum: f64 = named.iter().map(|part| part.drop).sum();
        assert!((score - lowered - sum).abs() < 1e-9, "drops add up");
        assert!(named.iter().all(|part| part.drop > 0.0));
        // Five others, in a fixed order without meaning.
        let others: Vec<usize> = (0..COLUMNS)
            .map(|n| (n * 5 + at) % COLUMNS)
            .filter(|f| !features.contains(f))
            .take(5)
            .collect();
        better += usize::from(lowered < with_medians(row, &others));
        cases += 1;

        let contributions = forest.contributions(row).unwrap();
        let strongest = contributions.iter().copied().fold(f64::MIN, f64::max);
        assert!((strongest - named[0].drop).abs() < 1e-12);
    }
    assert_eq!(cases, 100);
    assert!(better >= 90, "{better} of {cases}");
}

#[test]
fn bad_requests_are_refused() {
    let params = IsolationForest::params;
    for wrong in [
        params().trees(0),
        params().trees(10_001),
        params().max_samples(1),
        params().max_samples(40_000),
    ] {
        assert!(matches!(
            wrong.validate(),
            Err(IsolationForestError::Parameter { .. })
        ));
    }
    assert!(matches!(
        Rows::new(&[1.0, 2.0, 3.0], 2),
        Err(IsolationForestError::Shape { .. })
    ));
    assert!(matches!(
        Rows::new(&[], 0),
        Err(IsolationForestError::Shape { .. })
    ));
    let one = Rows::new(&[1.0], 1).unwrap();
    let refused = params().validate().unwrap().fit_rows(one);
    assert!(matches!(refused, Err(IsolationForestError::Empty { rows: 1 })));
    let forest = fit(&[1.0, 2.0, 3.0], 1, 0, 1);
    assert!(matches!(
        forest.score_row(&[1.0, 2.0]),
        Err(IsolationForestError::Columns {
            expected: 1,
            found: 2
        })
    ));
    assert!(matches!(
        forest.explain(&[], 5),
        Err(IsolationForestError::Columns { .. })
    ));
}

#[test]
fn a_missing_value_counts_as_the_median() {
    let (values, _) = rows();
    let forest = fit(&values, COLUMNS, 3, 1);
    let mut row = values[..COLUMNS].to_vec();
    row[4] = f64::NAN;
    let missing = forest.score_row(&row).unwrap();
    row[4] = forest.median(4);
    assert_eq!(missing, forest.score_row(&row).unwrap());
}

#[cfg(feature = "linfa")]
#[test]
fn linfa_fits_and_predicts_the_same() {
    use linfa::prelude::*;
    use ndarray::{Array2, ShapeBuilder as _, s};

    let (values, _) = rows();
    let records = Array2::from_shape_vec((2000, COLUMNS), values.clone()).unwrap();
    let forest = fit(&values, COLUMNS, 9, 1);
    let scores = forest.score(Rows::new(&values, COLUMNS).unwrap()).unwrap();

    let by_linfa = IsolationForest::params()
        .seed(9)
        .fit(&DatasetBase::from(records.clone()))
        .unwrap();
    assert_eq!(by_linfa, forest);
    assert_eq!(by_linfa.predict(&records).to_vec(), scores);
    // A view of every other row, and a matrix stored column by column.
    let every_other = by_linfa.score_array(&records.slice(s![..;2, ..])).unwrap();
    assert_eq!(
        every_other.to_vec(),
        scores.iter().copied().step_by(2).collect::<Vec<_>>()
    );
    let mut by_columns = Array2::zeros((2000, COLUMNS).f());
    by_columns.assign(&records);
    assert_eq!(by_linfa.score_array(&by_columns).unwrap().to_vec(), scores);
    assert!(by_linfa.score_array(&records.slice(s![.., ..3])).is_err());
    assert!(
        IsolationForest::params()
            .trees(0)
            .fit(&DatasetBase::from(records))
            .is_err()
    );
}

proptest! {
    #[test]
    fn any_numbers_give_scores(
        rows in proptest::collection::vec(proptest::collection::vec(prop_oneof![any::<f64>(), Just(0.0), -1.0..1.0_f64], 3), 2..80),
        other in proptest::collection::vec(any::<f64>(), 3),
    ) {
        let values = rows.concat();
        let forest = fit(&values, 3, 1, 1);
        for score in forest.score(Rows::new(&values, 3).unwrap()).unwrap() {
            prop_assert!(score > 0.0 && score <= 1.0, "{score}");
        }
        prop_assert!(forest.score_row(&other).unwrap().is_finite());
        prop_assert!(forest.explain(&other, 5).unwrap().len() <= 3);
    }
}
