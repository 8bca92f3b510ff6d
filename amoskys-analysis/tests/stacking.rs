//! Stacking trusts the detectors that labels speak for, never against an alarm.
#![cfg(feature = "linfa")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use amoskys_analysis::detectors::{Detector as _, DetectorError, Stacking, StoredDetector as _};
use amoskys_analysis::eval::auroc;
use amoskys_analysis::model::{ModelFile, Origin};
use amoskys_core::FeatureSchema;
use linfa::traits::Fit as _;
use linfa::{Dataset, DatasetBase};
use ndarray::{Array1, Array2, array};

/// Scores of three detectors: a good one, a weaker one on another scale, and one that is lower for anomalies.
fn scores(rows: usize, seed: u64) -> (Array2<f64>, Array1<bool>) {
    let mut state = seed;
    let mut even = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let labels: Array1<bool> = (0..rows).map(|at| at % 7 == 0).collect();
    let mut values = Array2::zeros((rows, 3));
    for (mut row, label) in values.outer_iter_mut().zip(&labels) {
        let shift = f64::from(u8::from(*label));
        row[0] = even() + even() + 0.9 * shift;
        row[1] = 1000.0 * (even() + even() + 0.5 * shift);
        row[2] = even() - 0.3 * shift;
    }
    (values, labels)
}

#[test]
fn together_they_are_better_than_the_best() {
    let (values, labels) = scores(3000, 1);
    let stacking = Stacking::params().fit(&Dataset::new(values, labels)).unwrap();
    let weights = stacking.weights();
    assert!(
        weights[0] > weights[1] && weights[1] > 0.2 && weights[2] == 0.0,
        "{weights:?}"
    );
    let (values, labels) = scores(3000, 2);
    let labels = labels.to_vec();
    let fused = auroc(&stacking.score(values.view()).unwrap().to_vec(), &labels).unwrap();
    let alone = auroc(&values.column(0).to_vec(), &labels).unwrap();
    assert!(fused > alone + 0.02, "{fused}, {alone}");
    // Log-odds that come true.
    let given: Vec<f64> = stacking
        .score(values.view())
        .unwrap()
        .iter()
        .map(|s| 1.0 / (1.0 + (-s).exp()))
        .collect();
    let mean = given.iter().sum::<f64>() / given.len() as f64;
    assert!((mean - 1.0 / 7.0).abs() < 0.02, "{mean}");
    // A higher score of any detector never lowers it.
    for column in 0..3 {
        let mut row = array![[0.5, 900.0, 0.2]];
        let before = stacking.score(row.view()).unwrap()[0];
        row[[0, column]] += 1000.0;
        assert!(stacking.score(row.view()).unwrap()[0] >= before);
    }
}

#[test]
fn weights_of_rows_count_as_rows_do() {
    let (values, labels) = scores(700, 3);
    let mut twice = values.clone();
    twice.append(ndarray::Axis(0), values.view()).unwrap();
    let mut weights = Array1::from_elem(1400, 1.0_f32);
    weights.slice_mut(ndarray::s![700..]).fill(0.0);
    let both: Array1<bool> = labels.iter().chain(&labels).copied().collect();
    let weighted = DatasetBase::new(twice, both).with_weights(weights);
    let (a, b) = (
        Stacking::params().fit(&weighted).unwrap(),
        Stacking::params()
            .fit(&Dataset::new(values.clone(), labels))
            .unwrap(),
    );
    let apart = &a.score(values.view()).unwrap() - &b.score(values.view()).unwrap();
    assert!(apart.iter().all(|by| by.abs() < 1e-6));
}

#[test]
fn a_model_file_keeps_it_and_bad_input_is_refused() {
    let (values, labels) = scores(300, 4);
    let stacking = Stacking::params()
        .fit(&Dataset::new(values.clone(), labels.clone()))
        .unwrap();
    let mut file = ModelFile::new(
        "test",
        "1",
        FeatureSchema::new("scores", Vec::new()),
        Origin::default(),
    );
    stacking.store(&mut file).unwrap();
    assert_eq!(
        Stacking::load(&ModelFile::from_bytes(&file.to_bytes().unwrap()).unwrap()).unwrap(),
        stacking
    );
    let stored = postcard::to_allocvec(&stacking).unwrap();
    for at in 0..stored.len() {
        let mut damaged = stored.clone();
        damaged[at] ^= 0x80;
        if let Ok(model) = postcard::from_bytes::<Stacking>(&damaged) {
            assert!(!model.score(Array2::zeros((1, model.columns())).view()).unwrap()[0].is_nan());
        }
    }
    let fit =
        |values: Array2<f64>, labels: Array1<bool>| Stacking::params().fit(&Dataset::new(values, labels));
    assert!(matches!(
        fit(values.clone(), Array1::from_elem(300, true)),
        Err(DetectorError::OneKind)
    ));
    let mut broken = values.clone();
    broken[[3, 1]] = f64::NAN;
    assert!(matches!(
        fit(broken, labels.clone()),
        Err(DetectorError::NotFinite {
            row: 3,
            column: 1,
            ..
        })
    ));
    let weighted = DatasetBase::new(values, labels).with_weights(Array1::from_elem(300, -1.0_f32));
    assert!(matches!(
        Stacking::params().fit(&weighted),
        Err(DetectorError::Parameter { .. })
    ));
}
