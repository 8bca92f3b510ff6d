//! Explanations are true to the model: the features they name are those that made the score.
#![cfg(feature = "linfa")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Instant;

use amoskys_analysis::boost::BoostedTrees;
use amoskys_analysis::detectors::{
    Detector, DetectorError, Ecod, Ensemble, FitScore as _, Hbos, Knn, Lof, Novelty, Pca, RandomCutForest,
};
use amoskys_analysis::explain::Explainer;
use amoskys_analysis::iforest::IsolationForest;
use linfa::traits::Fit as _;
use linfa::{Dataset, DatasetBase, ParamGuard as _};
use ndarray::{Array1, Array2, Axis, array};

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

    fn below(&mut self, limit: usize) -> usize {
        (self.next() * limit as f64) as usize
    }
}

const COLUMNS: usize = 24;

/// Rows like those of flow records: counts and bytes over orders of magnitude that go together, shares, and flags that are mostly
/// zero. Anomalies are like a scan, an upload, or guesses: each moves some columns.
fn flows(count: usize, seed: u64) -> (Array2<f64>, Array1<bool>) {
    let mut even = Even(seed);
    let mut rows = Array2::zeros((count, COLUMNS));
    let mut labels = Array1::from_elem(count, false);
    for (mut row, label) in rows.outer_iter_mut().zip(&mut labels) {
        let size = 6.0 * even.next();
        for at in 0..8 {
            row[at] = (size + 0.5 * even.next()).exp().floor() * (at + 1) as f64;
        }
        for at in 8..16 {
            row[at] = (even.next() + even.next()) / 2.0;
        }
        for at in 16..COLUMNS {
            row[at] = f64::from(u8::from(even.next() < 0.03));
        }
        let kind = even.below(60);
        *label = kind < 3;
        match kind {
            0 => {
                for at in [8, 9, 10] {
                    row[at] = 1.0;
                }
                row[0] = 0.0;
                row[16] = 1.0;
            }
            1 => {
                row[2] *= 300.0;
                row[3] *= 200.0;
            }
            2 => {
                for at in [17, 18, 19] {
                    row[at] = 1.0;
                }
                row[12] = 0.0;
            }
            _ => {}
        }
    }
    (rows, labels)
}

/// How often the named features lower the score more than five others, drawn from the rest.
fn faithful(explainer: &Explainer, detector: &dyn Detector, rows: &[Vec<f64>]) -> f64 {
    let mut even = Even(77);
    let (mut more, mut all) = (0, 0);
    for row in rows {
        let explanation = explainer.explain(detector, row).unwrap();
        assert!((1..=5).contains(&explanation.named.len()));
        let named: Vec<usize> = explanation.named.iter().map(|named| named.feature).collect();
        let with_medians = |features: &[usize]| {
            let mut row = Array1::from(row.clone());
            for &feature in features {
                row[feature] = explainer.medians()[feature];
            }
            detector.score(row.insert_axis(Axis(0)).view()).unwrap()[0]
        };
        let drops: f64 = explanation.named.iter().map(|named| named.drop).sum();
        assert!(
            (explanation.score - drops - explanation.without).abs() < 1e-9 * explanation.score.abs().max(1.0)
        );
        assert!((with_medians(&named) - explanation.without).abs() < 1e-6 * explanation.score.abs().max(1.0));
        for _ in 0..3 {
            let mut others: Vec<usize> = (0..row.len()).filter(|at| !named.contains(at)).collect();
            for at in 0..5 {
                let drawn = at + even.below(others.len() - at);
                others.swap(at, drawn);
            }
            all += 1;
            more += usize::from(explanation.without < with_medians(&others[..5]));
        }
    }
    more as f64 / all as f64
}

/// The rows with the highest scores.
fn highest(scores: &Array1<f64>, rows: &Array2<f64>, count: usize) -> Vec<Vec<f64>> {
    let mut order: Vec<usize> = (0..rows.nrows()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order[..count].iter().map(|&at| rows.row(at).to_vec()).collect()
}

#[test]
fn named_features_lower_scores_more_than_others_do() {
    let (rows, labels) = flows(3000, 1);
    let honest: Vec<usize> = (0..3000).filter(|&at| !labels[at]).collect();
    let honest = rows.select(Axis(0), &honest);
    let (tested, _) = flows(1500, 2);
    let explainer = Explainer::fit(honest.view()).unwrap();
    let dataset = DatasetBase::from(honest.clone());
    let forest = IsolationForest::params().check().unwrap().fit(&dataset).unwrap();
    let boosted = BoostedTrees::params().fit(&Dataset::new(rows, labels)).unwrap();
    let detectors: Vec<(&str, Box<dyn Detector>)> = vec![
        ("ensemble", Box::new(Ensemble::params().fit(&dataset).unwrap())),
        ("novelty", Box::new(Novelty::params().fit(&dataset).unwrap())),
        ("forest", Box::new(forest)),
        ("boosted", Box::new(boosted)),
        ("hbos", Box::new(Hbos::params().fit(&dataset).unwrap())),
        ("ecod", Box::new(Ecod::params().fit(&dataset).unwrap())),
        ("pca", Box::new(Pca::params().fit(&dataset).unwrap())),
        ("knn", Box::new(Knn::params().fit(&dataset).unwrap())),
        (
            "cut forest",
            Box::new(RandomCutForest::params().trees(10).fit(&dataset).unwrap()),
        ),
    ];
    for (name, detector) in &detectors {
        let scores = detector.score(tested.view()).unwrap();
        let share = faithful(&explainer, detector.as_ref(), &highest(&scores, &tested, 40));
        println!("{name}: {share:.3}");
        assert!(share >= 0.9, "{name}: {share}");
    }
}

/// Labelled flow records of a set, categories one-hot: every so many of the honest rows, of the others, and the labels.
fn recorded(name: &str) -> Option<(Array2<f64>, Array1<bool>)> {
    let folder = std::env::var_os("AMOSKYS_DATA").map(|data| std::path::Path::new(&data).join("ids"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        eprintln!("skipped: AMOSKYS_DATA names no folder with ids/");
        return None;
    };
    let mut text = String::new();
    let file = std::fs::File::open(folder.join(format!("{name}.csv.gz"))).unwrap();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<&str>>());
    let header = lines.next().unwrap();
    let lines: Vec<Vec<&str>> = lines.step_by(7).collect();
    let not_features = [
        "label",
        "attack",
        "attack_cat",
        "family",
        "difficulty",
        "id",
        "source",
    ];
    let label = header.iter().position(|name| *name == "label").unwrap();
    let labels: Array1<bool> = lines.iter().map(|line| line[label] == "1").collect();
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for (at, _) in header
        .iter()
        .enumerate()
        .filter(|(_, name)| !not_features.contains(name))
    {
        let numbers: Result<Vec<f64>, _> = lines.iter().map(|line| line[at].parse::<f64>()).collect();
        match numbers {
            Ok(numbers) => {
                let finite = |number: f64| if number.is_finite() { number } else { 0.0 };
                columns.push(numbers.into_iter().map(finite).collect());
            }
            Err(_) => {
                let kinds: BTreeSet<&str> = lines.iter().map(|line| line[at]).collect();
                let is = |kind: &str| {
                    lines
                        .iter()
                        .map(|line| f64::from(u8::from(line[at] == kind)))
                        .collect()
                };
                columns.extend(kinds.into_iter().map(is));
            }
        }
    }
    let rows = Array2::from_shape_fn((lines.len(), columns.len()), |(row, column)| columns[column][row]);
    Some((rows, labels))
}

/// On flow records of three collections: fitted on honest rows (boosted trees on all), asked about the rows with the highest scores
/// among others.
#[test]
fn named_features_of_recorded_flows_lower_scores_more_than_others_do() {
    for name in ["nsl_kdd_train20", "unsw_nb15_part_a", "cic_ids2017_part_a"] {
        let Some((rows, labels)) = recorded(name) else {
            return;
        };
        let every = |first: usize, wanted: &dyn Fn(usize) -> bool, most: usize| -> Vec<usize> {
            let places = (first..rows.nrows()).step_by(2).filter(|&at| wanted(at));
            places.take(most).collect()
        };
        let honest = rows.select(Axis(0), &every(0, &|at| !labels[at], 1200));
        let tested = rows.select(Axis(0), &every(1, &|_| true, 1200));
        let all = every(0, &|_| true, 3000);
        let explainer = Explainer::fit(honest.view()).unwrap();
        let dataset = DatasetBase::from(honest);
        let boosted = Dataset::new(rows.select(Axis(0), &all), labels.select(Axis(0), &all));
        let forest = IsolationForest::params().check().unwrap().fit(&dataset).unwrap();
        let detectors: [(&str, Box<dyn Detector>); 4] = [
            ("ensemble", Box::new(Ensemble::params().fit(&dataset).unwrap())),
            ("novelty", Box::new(Novelty::params().fit(&dataset).unwrap())),
            ("forest", Box::new(forest)),
            ("boosted", Box::new(BoostedTrees::params().fit(&boosted).unwrap())),
        ];
        for (detector, model) in &detectors {
            let scores = model.score(tested.view()).unwrap();
            let share = faithful(&explainer, model.as_ref(), &highest(&scores, &tested, 30));
            println!("{name}, {detector}: {share:.3}");
            assert!(share >= 0.9, "{name}, {detector}: {share}");
        }
    }
}

#[test]
fn redundant_features_are_found_from_the_other_side() {
    // Any of two flags is enough: taking away one alone changes nothing.
    struct Either;

    impl Detector for Either {
        fn columns(&self) -> usize {
            6
        }

        fn score_parallel(
            &self,
            records: ndarray::ArrayView2<'_, f64>,
            _: std::num::NonZeroUsize,
        ) -> Result<Array1<f64>, DetectorError> {
            Ok(records.outer_iter().map(|row| row[2].max(row[4])).collect())
        }
    }

    let explainer = Explainer::fit(Array2::zeros((3, 6)).view()).unwrap();
    let explanation = explainer.explain(&Either, &[1.0; 6]).unwrap();
    assert_eq!((explanation.score, explanation.without), (1.0, 0.0));
    assert!(
        explanation
            .named
            .iter()
            .any(|named| named.feature == 2 || named.feature == 4)
    );
    // A usual row has nothing to explain.
    let explanation = explainer.explain(&Either, &[0.0; 6]).unwrap();
    assert!(explanation.named.is_empty() && explanation.without == explanation.score);
}

#[test]
fn medians_are_values_that_occur_and_shapes_are_checked() {
    let rows = array![
        [1.0, f64::NAN],
        [5.0, f64::NAN],
        [2.0, f64::NAN],
        [9.0, f64::INFINITY]
    ];
    let explainer = Explainer::fit(rows.view()).unwrap();
    assert_eq!(explainer.medians(), [5.0, 0.0]);
    let stored = postcard::to_allocvec(&explainer).unwrap();
    assert_eq!(postcard::from_bytes::<Explainer>(&stored).unwrap(), explainer);
    let (model, _) = Lof::params().fit_score(Array2::zeros((30, 3)).view()).unwrap();
    assert!(matches!(
        explainer.explain(&model, &[1.0, 2.0]),
        Err(DetectorError::Columns {
            expected: 2,
            found: 3
        })
    ));
    assert!(matches!(
        explainer.explain(&model, &[1.0]),
        Err(DetectorError::Columns {
            expected: 2,
            found: 1
        })
    ));
    assert!(matches!(
        Explainer::fit(Array2::zeros((0, 3)).view()),
        Err(DetectorError::TooFew { .. })
    ));
}

/// Prints what a verdict costs; no assertion holds on every machine, but a gross one does.
#[test]
fn a_verdict_takes_microseconds() {
    let (rows, labels) = flows(3000, 1);
    let boosted = BoostedTrees::params()
        .fit(&Dataset::new(rows.clone(), labels))
        .unwrap();
    let ensemble = Ensemble::params().fit(&DatasetBase::from(rows.clone())).unwrap();
    for (name, detector) in [
        ("boosted trees", &boosted as &dyn Detector),
        ("ensemble", &ensemble),
    ] {
        let start = Instant::now();
        for at in 0..200 {
            std::hint::black_box(detector.score(rows.select(Axis(0), &[at]).view()).unwrap());
        }
        let each = start.elapsed().as_secs_f64() / 200.0;
        println!("{name}: {:.1} µs", each * 1e6);
        assert!(each < 0.01, "{name}: {each} s");
    }
}
