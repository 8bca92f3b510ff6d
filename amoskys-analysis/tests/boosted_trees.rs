//! Boosted trees learn what their labels say, the same on any number of threads; damage and bad input are refused.
#![cfg(feature = "linfa")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::num::NonZeroUsize;

use amoskys_analysis::boost::{BoostedClasses, BoostedTrees, BoostedTreesParams, EarlyStopping};
use amoskys_analysis::detectors::{Detector as _, DetectorError, StoredDetector as _};
use amoskys_analysis::eval::{auroc, brier_score};
use amoskys_analysis::model::{ModelFile, Origin};
use amoskys_core::FeatureSchema;
use linfa::Dataset;
use linfa::traits::{Fit as _, Predict as _};
use ndarray::{Array1, Array2, Axis, ShapeBuilder as _, array};
use proptest::prelude::*;

/// Even numbers from 0 to 1 of a fixed sequence.
struct Even(u64);

impl Even {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Rows of eight columns, some with few values or mostly zero, some missing; the label follows three of them, with noise.
fn flows(rows: usize, seed: u64) -> (Array2<f64>, Array1<bool>) {
    let mut even = Even(seed);
    let mut values = Array2::from_shape_simple_fn((rows, 8), || even.next());
    let mut labels = Array1::from_elem(rows, false);
    for (mut row, label) in values.outer_iter_mut().zip(&mut labels) {
        let odds = 8.0 * (row[0] - 0.5) * (row[1] - 0.5) + 2.0 * row[2].powi(3) - 0.5;
        *label = even.next() < 1.0 / (1.0 + (-4.0 * odds).exp());
        row[3] = (row[3] * 4.0).floor();
        row[4] = if row[4] < 0.9 { 0.0 } else { row[4] };
        row[5] = f64::from(u8::from(row[5] < 0.01));
        if row[6] < 0.3 {
            row[6] = f64::NAN;
        }
        if *label && row[7] < 0.2 {
            row[7] = f64::NAN;
        }
    }
    (values, labels)
}

fn bits(scores: &Array1<f64>) -> Vec<u64> {
    scores.iter().map(|score| score.to_bits()).collect()
}

#[test]
fn learns_interactions_and_what_is_missing() {
    let (rows, labels) = flows(4000, 1);
    let model = BoostedTrees::params().fit(&Dataset::new(rows, labels)).unwrap();
    assert_eq!(model.trees(), 100);
    let (rows, labels) = flows(4000, 2);
    let probabilities = model.probabilities(rows.view()).unwrap();
    let (probabilities, known) = (probabilities.to_vec(), labels.to_vec());
    let area = auroc(&probabilities, &known).unwrap();
    let brier = brier_score(&probabilities, &known).unwrap();
    // scikit-learn 1.9.1 on the same rows: 0.9491 and 0.0895.
    assert!(area > 0.945, "{area}");
    assert!(brier < 0.0925, "{brier}");
    let predicted: Array1<bool> = model.predict(&rows);
    assert!(
        predicted
            .iter()
            .zip(&probabilities)
            .all(|(&yes, &p)| yes == (p > 0.5))
    );
    // Missing values of the last column come with anomalies alone.
    let mut row = rows.row(0).to_owned();
    row[7] = 0.5;
    let before = model.score_row(row.as_slice().unwrap()).unwrap();
    row[7] = f64::NAN;
    assert!(model.score_row(row.as_slice().unwrap()).unwrap() > before + 1.0);
}

#[test]
fn one_split_is_the_one_by_hand() {
    // Two anomalies of four rows on the right of 2.5, none on the left: the first tree has one split. Odds begin at 2/6.
    let rows = array![[1.0], [2.0], [1.0], [2.0], [3.0], [4.0], [3.0], [4.0]];
    let labels = array![false, false, false, false, true, false, true, false];
    let params = BoostedTrees::params().trees(1).least_rows(4).learning_rate(0.5);
    let model = params.fit(&Dataset::new(rows, labels)).unwrap();
    let base = (2.0_f64 / 6.0).ln();
    // p = 1/4: gradients sum to 4 · 1/4 on the left and 4 · 1/4 - 2 on the right, second derivatives to 4 · 3/16.
    for (value, step) in [(2.4, -1.0), (2.6, 1.0), (-1e300, -1.0), (f64::INFINITY, 1.0)] {
        let score = model.score_row(&[value]).unwrap();
        assert!(
            (score - (base + 0.5 * step / 0.75)).abs() < 1e-6,
            "{value}: {score}"
        );
    }
    // A missing value, of which training knew none, goes where most rows went; here, of as many, to the right.
    assert_eq!(
        model.score_row(&[f64::NAN]).unwrap(),
        model.score_row(&[2.6]).unwrap()
    );
}

#[test]
fn threads_layout_and_company_change_nothing() {
    // Large enough that histograms are shared among threads.
    let (rows, labels) = flows(80_000, 3);
    let params = BoostedTrees::params().trees(8);
    let dataset = Dataset::new(rows.clone(), labels.clone());
    let model = params.fit(&dataset).unwrap();
    let scores = model.score(rows.view()).unwrap();
    for threads in [2, 3, 7].map(|threads| NonZeroUsize::new(threads).unwrap()) {
        assert_eq!(params.threads(threads).fit(&dataset).unwrap(), model);
        assert_eq!(
            bits(&model.score_parallel(rows.view(), threads).unwrap()),
            bits(&scores)
        );
    }
    let mut by_columns = Array2::zeros(rows.raw_dim().f());
    by_columns.assign(&rows);
    assert_eq!(params.fit(&Dataset::new(by_columns, labels)).unwrap(), model);
    for at in [0, 77, 79_999] {
        let alone = model.score(rows.select(Axis(0), &[at]).view()).unwrap();
        assert_eq!(alone[0].to_bits(), scores[at].to_bits());
        assert_eq!(
            model.score_row(&rows.row(at).to_vec()).unwrap().to_bits(),
            scores[at].to_bits()
        );
    }
}

#[test]
fn stops_when_nothing_is_gained() {
    let (rows, _) = flows(2000, 4);
    let mut even = Even(9);
    let chance = Array1::from_shape_simple_fn(2000, || even.next() < 0.5);
    let dataset = Dataset::new(rows, chance);
    let params = BoostedTrees::params().trees(300);
    assert_eq!(params.fit(&dataset).unwrap().trees(), 300);
    let stopped = params
        .early_stopping(EarlyStopping::Always)
        .fit(&dataset)
        .unwrap();
    assert!(stopped.trees() < 60, "{}", stopped.trees());
    // By itself with more than 10 000 rows.
    let (rows, labels) = flows(10_001, 5);
    let dataset = Dataset::new(rows, labels);
    assert!(params.fit(&dataset).unwrap().trees() < 300);
    let other = params
        .early_stopping(EarlyStopping::Never)
        .trees(3)
        .fit(&dataset)
        .unwrap();
    assert_eq!(other.trees(), 3);
}

#[test]
fn a_model_file_keeps_every_bit_and_damage_is_refused_or_harmless() {
    let (rows, labels) = flows(600, 6);
    let model = BoostedTrees::params()
        .trees(5)
        .fit(&Dataset::new(rows.clone(), labels))
        .unwrap();
    let schema = FeatureSchema::new("flows", Vec::new());
    let mut file = ModelFile::new("test", "1", schema, Origin::default());
    model.store(&mut file).unwrap();
    let loaded = BoostedTrees::load(&ModelFile::from_bytes(&file.to_bytes().unwrap()).unwrap()).unwrap();
    assert_eq!(loaded, model);
    assert_eq!(
        bits(&loaded.score(rows.view()).unwrap()),
        bits(&model.score(rows.view()).unwrap())
    );
    let stored = postcard::to_allocvec(&model).unwrap();
    for at in 0..stored.len() {
        for bit in [0, 5, 7] {
            let mut damaged = stored.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(model) = postcard::from_bytes::<BoostedTrees>(&damaged) {
                let _ = model.score(Array2::zeros((2, model.columns())).view());
            }
        }
        assert!(postcard::from_bytes::<BoostedTrees>(&stored[..at]).is_err());
    }
}

#[test]
fn bad_input_is_refused() {
    let (rows, labels) = flows(100, 7);
    let fit = |params: BoostedTreesParams, rows: &Array2<f64>, labels: &Array1<bool>| {
        params
            .fit(&Dataset::new(rows.clone(), labels.clone()))
            .unwrap_err()
    };
    let params = BoostedTrees::params();
    assert!(matches!(
        fit(params, &rows, &Array1::from_elem(100, true)),
        DetectorError::OneKind
    ));
    assert!(matches!(
        fit(params, &rows, &Array1::from_elem(100, false)),
        DetectorError::OneKind
    ));
    let wrong = [
        params.trees(0),
        params.leaves(1),
        params.least_rows(0),
        params.learning_rate(0.0),
        params.learning_rate(f64::NAN),
        params.regularisation(-1.0),
    ];
    for params in wrong {
        assert!(matches!(
            fit(params, &rows, &labels),
            DetectorError::Parameter { .. }
        ));
    }
    assert!(matches!(
        fit(params, &Array2::zeros((100, 0)), &labels),
        DetectorError::Shape { columns: 0 }
    ));
    let model = params.fit(&Dataset::new(rows, labels)).unwrap();
    assert!(matches!(
        model.score_row(&[1.0]),
        Err(DetectorError::Columns {
            expected: 8,
            found: 1
        })
    ));
}

/// Three classes, of which one is told by an interaction.
fn families(rows: usize, seed: u64) -> (Array2<f64>, Array1<usize>) {
    let (values, labels) = flows(rows, seed);
    let classes = values.outer_iter().zip(&labels).map(|(row, &label)| {
        if row[3] > 2.5 && row[1] > 0.4 {
            2
        } else {
            usize::from(label)
        }
    });
    let classes = classes.collect();
    (values, classes)
}

#[test]
fn several_classes_are_told_apart() {
    let (rows, classes) = families(4000, 1);
    let params = BoostedClasses::params();
    let dataset = Dataset::new(rows, classes);
    let model = params.fit(&dataset).unwrap();
    assert_eq!((model.classes(), model.columns(), model.rounds()), (3, 8, 100));
    let (rows, classes) = families(4000, 2);
    let found: Array1<usize> = model.predict(&rows);
    let right = found
        .iter()
        .zip(&classes)
        .filter(|(found, known)| found == known)
        .count();
    // scikit-learn 1.9.1 on the same rows: 0.888, 3552 of them.
    assert!(right > 3520, "{right}");
    let probabilities = model.probabilities(rows.view()).unwrap();
    assert!(
        probabilities
            .outer_iter()
            .all(|row| (row.sum() - 1.0).abs() < 1e-12)
    );
    // Threads change nothing, in fitting or after.
    for threads in [2, 5].map(|threads| NonZeroUsize::new(threads).unwrap()) {
        let parallel = BoostedTrees::params()
            .threads(threads)
            .classes()
            .fit(&dataset)
            .unwrap();
        assert_eq!(parallel, model);
        assert_eq!(
            model.probabilities_parallel(rows.view(), threads).unwrap(),
            probabilities
        );
    }
    assert_eq!(
        model.probabilities(Array2::zeros((0, 8)).view()).unwrap().dim(),
        (0, 3)
    );
    assert!(matches!(
        model.probabilities(Array2::zeros((1, 7)).view()),
        Err(DetectorError::Columns {
            expected: 8,
            found: 7
        })
    ));
}

#[test]
fn two_classes_are_those_of_the_binary_model() {
    let (rows, labels) = flows(3000, 8);
    let classes = labels.mapv(usize::from);
    // Each of the two trees of a round makes the same correction, from the other side.
    let binary = BoostedTrees::params().learning_rate(0.2);
    let binary = binary.fit(&Dataset::new(rows.clone(), labels)).unwrap();
    let model = BoostedClasses::params()
        .fit(&Dataset::new(rows.clone(), classes))
        .unwrap();
    let (one, both) = (
        binary.probabilities(rows.view()).unwrap(),
        model.probabilities(rows.view()).unwrap(),
    );
    let apart = (&one - &both.column(1)).mapv(f64::abs).sum() / 3000.0;
    assert!(apart < 1e-3, "{apart}");
}

#[test]
fn several_classes_end_early_and_keep_in_a_file() {
    let (rows, _) = flows(2000, 4);
    let mut even = Even(9);
    let chance = Array1::from_shape_simple_fn(2000, || (even.next() * 4.0) as usize);
    let dataset = Dataset::new(rows.clone(), chance);
    let stopping = BoostedTrees::params()
        .early_stopping(EarlyStopping::Always)
        .classes();
    let model = stopping.fit(&dataset).unwrap();
    assert!(model.rounds() < 60, "{}", model.rounds());
    let mut file = ModelFile::new(
        "test",
        "1",
        FeatureSchema::new("flows", Vec::new()),
        Origin::default(),
    );
    model.store(&mut file).unwrap();
    let loaded = BoostedClasses::load(&ModelFile::from_bytes(&file.to_bytes().unwrap()).unwrap()).unwrap();
    assert_eq!(loaded, model);
    let stored = postcard::to_allocvec(&model).unwrap();
    for at in (0..stored.len()).step_by(stored.len() / 400 + 1).chain(0..40) {
        for bit in [0, 5, 7] {
            let mut damaged = stored.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(model) = postcard::from_bytes::<BoostedClasses>(&damaged) {
                let _ = model.probabilities(Array2::zeros((2, model.columns())).view());
            }
        }
        assert!(postcard::from_bytes::<BoostedClasses>(&stored[..at]).is_err());
    }
}

#[test]
fn classes_with_gaps_are_refused() {
    let (rows, labels) = flows(100, 7);
    let fit = |classes: Array1<usize>| {
        BoostedClasses::params()
            .fit(&Dataset::new(rows.clone(), classes))
            .unwrap_err()
    };
    assert!(matches!(fit(Array1::zeros(100)), DetectorError::OneKind));
    let gap = labels.mapv(|label| if label { 2 } else { 0 });
    assert!(matches!(fit(gap), DetectorError::NoRows { class: 1 }));
    let far = labels.mapv(|label| if label { usize::MAX } else { 0 });
    assert!(matches!(fit(far), DetectorError::Classes { most: 256, .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_values_give_finite_scores(
        values in proptest::collection::vec(prop_oneof![any::<f64>(), Just(0.0), Just(f64::NAN), -1.0..1.0_f64], 12..90),
        labels in proptest::collection::vec(any::<bool>(), 30),
        least in 1_usize..4,
    ) {
        let count = values.len() / 3;
        let rows = Array2::from_shape_vec((count, 3), values[..count * 3].to_vec()).unwrap();
        let mut labels = Array1::from(labels[..count].to_vec());
        (labels[0], labels[1]) = (true, false);
        let params = BoostedTrees::params().trees(20).least_rows(least).early_stopping(EarlyStopping::Always);
        let model = params.fit(&Dataset::new(rows.clone(), labels)).unwrap();
        prop_assert!(model.score(rows.view()).unwrap().iter().all(|score| score.is_finite()));
        let stored = postcard::to_allocvec(&model).unwrap();
        prop_assert!(postcard::from_bytes::<BoostedTrees>(&stored).is_ok_and(|read| read == model));
    }
}
