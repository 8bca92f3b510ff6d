//! Streaming detectors: as good as the established ones on a stream that drifts, bounded, and the same after a restart.
#![cfg(feature = "linfa")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use amoskys_analysis::detectors::{
    AutoencoderEnsemble, Detector as _, DetectorError, HalfSpaceTrees, RandomCutForest, StreamingDetector,
};
use amoskys_analysis::eval::auroc;
use amoskys_analysis::model::{ModelFile, Origin};
use amoskys_core::FeatureSchema;

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

/// Two crowds of rows in four columns, which move once; one row in fifty has even values in some columns.
fn stream(count: usize) -> (Vec<[f64; 4]>, Vec<bool>) {
    let mut even = Even(42);
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for at in 0..count {
        let mut center = if even.next() < 0.5 { 0.3 } else { 0.6 };
        if at >= 1500 {
            center += 0.1;
        }
        let mut row: [f64; 4] =
            std::array::from_fn(|_| center + 0.1 * ((0..4).map(|_| even.next()).sum::<f64>() / 2.0 - 1.0));
        let anomaly = even.next() < 0.02;
        if anomaly {
            for value in &mut row {
                if even.next() < 0.6 {
                    *value = even.next();
                }
            }
        }
        rows.push(row);
        labels.push(anomaly);
    }
    (rows, labels)
}

fn quality(model: &mut impl StreamingDetector, rows: &[[f64; 4]], labels: &[bool], from: usize) -> f64 {
    let scores: Vec<f64> = rows.iter().map(|row| model.observe(row).unwrap()).collect();
    auroc(&scores[from..], &labels[from..]).unwrap()
}

#[test]
fn half_space_trees_find_what_river_finds() {
    let (rows, labels) = stream(3000);
    let mut sum = 0.0;
    for seed in 0..5 {
        let mut model = HalfSpaceTrees::params().seed(seed).start(4).unwrap();
        sum += quality(&mut model, &rows, &labels, 250) / 5.0;
    }
    assert!(sum > RIVER - 0.01, "{sum}");
}

/// River 0.26.1: `HalfSpaceTrees(n_trees=25, height=8, window_size=250)`, columns in 0..1, mean of five seeds.
const RIVER: f64 = 0.907;

#[test]
fn random_cuts_find_what_rrcf_finds() {
    let (rows, labels) = stream(2000);
    let mut model = RandomCutForest::params().start(4).unwrap();
    let found = quality(&mut model, &rows, &labels, 256);
    assert!(found > RRCF - 0.01, "{found}");
}

/// rrcf 0.4.4: 40 trees over the last 256 points.
const RRCF: f64 = 0.925;

/// Stores it after so many rows, reads it back, and lets both go on.
fn restart<M: StreamingDetector + PartialEq + std::fmt::Debug>(
    model: &mut M,
    rows: &[[f64; 4]],
    at: &[usize],
) {
    let schema = FeatureSchema::new("stream", Vec::new());
    let mut twin: Option<M> = None;
    for (number, row) in rows.iter().enumerate() {
        if at.contains(&number) {
            let mut file = ModelFile::new("stream", "1", schema.clone(), Origin::default());
            model.store(&mut file).unwrap();
            let read = M::load(&ModelFile::from_bytes(&file.to_bytes().unwrap()).unwrap()).unwrap();
            assert_eq!(read, *model, "after {number} rows");
            twin = Some(read);
        }
        let score = model.score_row(row).unwrap();
        assert_eq!(model.observe(row).unwrap().to_bits(), score.to_bits());
        if let Some(twin) = &mut twin {
            assert_eq!(
                twin.observe(row).unwrap().to_bits(),
                score.to_bits(),
                "row {number}"
            );
        }
    }
    assert_eq!(model.seen(), rows.len() as u64);
    assert!(twin.is_some_and(|twin| twin == *model));
}

#[test]
fn a_restart_changes_no_bit() {
    let (mut rows, _) = stream(1200);
    // Equal rows come and go as well.
    for at in (10..1200).step_by(7) {
        rows[at] = rows[at - 5];
    }
    let mut trees = HalfSpaceTrees::params().trees(5).window(100).start(4).unwrap();
    restart(&mut trees, &rows, &[0, 50, 99, 100, 101, 650]);
    let params = AutoencoderEnsemble::params()
        .mapping_rows(100)
        .training_rows(500)
        .group(2);
    restart(
        &mut params.start(4).unwrap(),
        &rows,
        &[0, 1, 99, 100, 101, 599, 600, 601, 900],
    );
    let mut forest = RandomCutForest::params().trees(5).window(64).start(4).unwrap();
    restart(&mut forest, &rows, &[0, 1, 2, 30, 64, 65, 700]);
}

#[test]
fn what_is_stored_does_not_grow() {
    let (rows, _) = stream(3000);
    let size = |model: &RandomCutForest| postcard::to_allocvec(model).unwrap().len();
    let mut forest = RandomCutForest::params().trees(3).window(32).start(4).unwrap();
    let mut most = 0;
    for (at, row) in rows.iter().enumerate() {
        forest.learn_row(row).unwrap();
        if at == 100 {
            most = size(&forest);
        }
    }
    assert!(size(&forest) < most + 16, "{most} became {}", size(&forest));
}

#[test]
fn a_crowd_of_anomalies_does_not_hide_its_members() {
    // Ten rows at one place far off, one after the other: the last still stands out.
    let (rows, _) = stream(256);
    let mut forest = RandomCutForest::params().start(4).unwrap();
    let usual: Vec<f64> = rows.iter().map(|row| forest.observe(row).unwrap()).collect();
    let mut even = Even(3);
    let mut last = 0.0;
    for _ in 0..10 {
        last = forest
            .observe(&std::array::from_fn::<f64, 4, _>(|_| 5.0 + 0.01 * even.next()))
            .unwrap();
    }
    let mut sorted = usual[100..].to_vec();
    sorted.sort_by(f64::total_cmp);
    assert!(last > sorted[sorted.len() * 95 / 100], "{last}");
    // But what stays becomes usual.
    for _ in 0..256 {
        last = forest
            .observe(&std::array::from_fn::<f64, 4, _>(|_| 5.0 + 0.01 * even.next()))
            .unwrap();
    }
    assert!(last < sorted[sorted.len() * 95 / 100], "{last}");
}

#[test]
fn bad_rows_are_refused_and_teach_nothing() {
    let mut trees = HalfSpaceTrees::params().start(2).unwrap();
    let before = trees.clone();
    assert!(matches!(
        trees.observe(&[1.0]),
        Err(DetectorError::Columns {
            expected: 2,
            found: 1
        })
    ));
    assert!(matches!(
        trees.learn_row(&[1.0, f64::NAN]),
        Err(DetectorError::NotFinite {
            row: 0,
            column: 1,
            ..
        })
    ));
    assert_eq!(trees, before);
    assert_eq!(trees.columns(), 2);
    assert!(matches!(
        RandomCutForest::params().start(0),
        Err(DetectorError::Shape { columns: 0 })
    ));
    assert!(matches!(
        RandomCutForest::params().window(1).start(3),
        Err(DetectorError::Parameter { .. })
    ));
}

#[test]
fn autoencoders_learn_what_goes_together() {
    // Two pairs of columns go together; the anomalies break that, and no single value is unusual.
    let mut even = Even(5);
    let mut row = |broken: bool| {
        let (a, b) = (even.next(), even.next());
        let other = if broken { (a + 0.5).fract() } else { a };
        [a, b, other + 0.02 * even.next(), 1.0 - b + 0.02 * even.next()]
    };
    let params = AutoencoderEnsemble::params()
        .mapping_rows(500)
        .training_rows(20_000)
        .group(2);
    let mut model = params.start(4).unwrap();
    assert_eq!(model.observe(&row(false)).unwrap(), 0.0);
    while !model.is_trained() {
        model.learn_row(&row(false)).unwrap();
    }
    let labels: Vec<bool> = (0..1000).map(|at| at % 20 == 0).collect();
    let rows: Vec<[f64; 4]> = labels.iter().map(|&label| row(label)).collect();
    let before = model.clone();
    let found = quality(&mut model, &rows, &labels, 0);
    assert!(found > 0.95, "{found}");
    // Trained, it learns no more.
    assert_eq!(
        before.score_row(&rows[7]).unwrap(),
        model.score_row(&rows[7]).unwrap()
    );
}
