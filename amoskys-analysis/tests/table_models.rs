//! A detector of any kind goes into a model file with all that belongs to it, and judges the same when it comes out; a site's
//! model refuses windows it was not fitted on, by name.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "common/noise.rs"]
mod noise;
mod traffic;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use amoskys_analysis::calibrate::{Calibration, Conformal};
use amoskys_analysis::detectors::Detector as _;
use amoskys_analysis::explain::Explainer;
use amoskys_analysis::live::{WindowAnalyzer, WindowParams};
use amoskys_analysis::model::{
    AnyDetector, DetectorKind, Filling, ModelFile, ModelFileError, Origin, SiteModel, SiteModelError,
    StoredTransform, TableModel, TableParts,
};
use amoskys_analysis::sequence::Threshold;
use amoskys_analysis::{Correlation, DetectionConfig};
use amoskys_core::event::{Entity, EventRange, Verdict};
use amoskys_core::{
    Analyzer, BoxError, BoxExtractor, Digest, Extractor as _, FeatureDef, FeatureSchema, FeatureVector,
    Observation, Recorded, Seq, StreamId, Timestamp, Transform,
};
use amoskys_features::FittedTransform as _;
use amoskys_features::extract::{ExtractConfig, Hosts, NetworkExtractor};
use amoskys_features::normalize::Normalizer;
use amoskys_features::window::WindowSpec;
use ndarray::{Array2, ArrayView2};
use noise::Noise;
use traffic::{Ending, Traffic, inside, outside};

fn loader(kind: &str, bytes: &[u8]) -> Result<Box<dyn Transform<FeatureVector>>, BoxError> {
    Ok(amoskys_features::load(kind, bytes)?)
}

fn schema(names: &[&str]) -> Arc<FeatureSchema> {
    let features = names.iter().map(|name| FeatureDef::new(name, "", "a feature"));
    Arc::new(FeatureSchema::new("rows", features.collect()))
}

fn vector(schema: &Arc<FeatureSchema>, values: &[f64]) -> FeatureVector {
    let stream = StreamId {
        agent: "a".into(),
        epoch: Default::default(),
        class: Default::default(),
    };
    FeatureVector {
        schema: Arc::clone(schema),
        entity: Entity::Named("e".into()),
        start: Timestamp::default(),
        end: Timestamp::default(),
        values: values.to_vec(),
        events: EventRange {
            stream,
            first: Seq(0),
            last: Seq(0),
        },
    }
}

/// A model file of this kind, fitted on rows as the transforms leave them.
fn stored(kind: DetectorKind, schema: &Arc<FeatureSchema>, rows: &[FeatureVector]) -> ModelFile {
    let scale = Normalizer::MinMax { clip: false }.fit(rows).unwrap();
    let scaled: Vec<f64> = rows.iter().flat_map(|row| scale.values(row)).collect();
    let mut scaled = Array2::from_shape_vec((rows.len(), schema.len()), scaled).unwrap();
    let filling = Filling::fit(scaled.view());
    for mut row in scaled.rows_mut() {
        filling.apply(row.as_slice_mut().unwrap());
    }
    let (fit, rest) = scaled.view().split_at(ndarray::Axis(0), rows.len() / 2);
    let labels: Vec<bool> = (0..fit.nrows()).map(|at| at.is_multiple_of(10)).collect();
    let detector = kind.fit(fit, Some(&labels), 3, NonZeroUsize::MIN).unwrap();
    let scores = detector.score(rest).unwrap().to_vec();
    let mut file = ModelFile::new("rows", "1", FeatureSchema::clone(schema), Origin::default());
    file.transforms.push(StoredTransform {
        kind: scale.kind().to_owned(),
        bytes: scale.to_bytes().unwrap(),
    });
    let sources: Vec<u16> = (0..schema.len() as u16).collect();
    let parts = TableParts {
        detector: &detector,
        calibration: &Calibration::from(Conformal::fit(&scores, 0.01).unwrap()),
        threshold: Threshold::conformal(&scores, 0.02).unwrap(),
        explainer: &Explainer::fit(fit).unwrap(),
        filling: &filling,
        sources: &sources,
    };
    TableModel::store(&mut file, &parts).unwrap();
    file
}

fn rows(schema: &Arc<FeatureSchema>, count: usize) -> Vec<FeatureVector> {
    let mut noise = Noise::new(5);
    let mut row = |at: usize| {
        let (a, b) = (noise.normal(), noise.normal());
        let missing = if at.is_multiple_of(17) { f64::NAN } else { a + b };
        vector(schema, &[a, b, missing, 1000.0 * noise.exponential()])
    };
    (0..count).map(&mut row).collect()
}

#[test]
fn every_kind_of_detector_comes_back_from_its_file_and_judges_the_same() {
    let schema = schema(&["a", "b", "c", "bytes"]);
    let rows = rows(&schema, 400);
    for kind in DetectorKind::ALL {
        assert_eq!(DetectorKind::of_name(kind.name()), Some(kind));
        let file = stored(kind, &schema, &rows);
        let again = ModelFile::from_bytes(&file.to_bytes().unwrap()).unwrap();
        let (mut before, mut after) = (
            TableModel::load(&file, &loader).unwrap(),
            TableModel::load(&again, &loader).unwrap(),
        );
        assert_eq!(after.detector().kind(), kind);
        let scores = after.score(&rows, NonZeroUsize::new(2).unwrap()).unwrap();
        assert_eq!(scores, before.score(&rows, NonZeroUsize::MIN).unwrap(), "{kind}");
        let odd = vector(&schema, &[0.1, f64::NAN, f64::INFINITY, 9e6]);
        let judged = after.judge(&odd, 0.0).unwrap().unwrap();
        assert_eq!(
            Some(judged.score),
            after.score(&[odd], NonZeroUsize::MIN).unwrap()[0]
        );
        assert!(judged.evidence.len() <= 5);
        if kind != DetectorKind::BoostedTrees {
            // Labels by turns teach nothing.
            assert!(!judged.evidence.is_empty(), "{kind}");
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let schema = schema(&["a", "b", "c", "bytes"]);
    let rows = rows(&schema, 400);
    let whole = stored(DetectorKind::Hbos, &schema, &rows);
    assert!(AnyDetector::load(&whole).unwrap().is_some());
    let mut without = whole.clone();
    without.put("explainer", &0_u8).unwrap();
    assert!(matches!(
        TableModel::load(&without, &loader),
        Err(ModelFileError::Part { .. })
    ));
    let mut elsewhere = whole.clone();
    elsewhere.put("sources", &[0_u16, 1, 2, 99]).unwrap();
    assert!(TableModel::load(&elsewhere, &loader).is_err());
    let mut narrow = whole.clone();
    narrow
        .put("filling", &Filling::fit(ArrayView2::from(&[[1.0, 2.0]])))
        .unwrap();
    assert!(TableModel::load(&narrow, &loader).is_err());
    let empty = ModelFile::new("rows", "1", FeatureSchema::clone(&schema), Origin::default());
    assert!(matches!(
        TableModel::load(&empty, &loader),
        Err(ModelFileError::Missing { .. })
    ));
    let mut model = TableModel::load(&whole, &loader).unwrap();
    let other = self::schema(&["a", "b"]);
    let error = model.judge(&vector(&other, &[1.0, 2.0]), 0.5).unwrap_err();
    assert!(error.to_string().contains("schema"), "{error}");
}

fn extractor() -> NetworkExtractor {
    let spec = WindowSpec::sliding(Duration::from_secs(60), Duration::from_secs(10)).unwrap();
    NetworkExtractor::new(ExtractConfig::default()).with::<Hosts>(spec)
}

/// A day at the office: each host fetches a few pages a minute.
fn office(seconds: u16, more: impl FnOnce(&mut Traffic)) -> Vec<Recorded> {
    let mut traffic = Traffic::default();
    let mut noise = Noise::new(1);
    for second in 0..seconds {
        if noise.uniform() < 0.5 {
            let host = inside(10 + second % 7);
            let size = 500 + (2_000.0 * noise.uniform()) as u64;
            traffic.tcp(
                f64::from(second),
                host,
                outside(60),
                443,
                Ending::Data(400, size, 0.4),
            );
        }
    }
    more(&mut traffic);
    traffic.record()
}

fn windows(events: &[Recorded]) -> Vec<FeatureVector> {
    let (mut extractor, mut vectors) = (extractor(), Vec::new());
    events
        .iter()
        .for_each(|event| extractor.observe(event, &mut vectors));
    vectors
}

fn site() -> SiteModel {
    let known = windows(&office(1_800, |_| ()));
    let schema = known[0].schema.clone();
    SiteModel::new().with_windows(stored(DetectorKind::Ensemble, &schema, &known))
}

fn analyzer(site: &SiteModel) -> WindowAnalyzer {
    let extractor = extractor();
    let schemas: Vec<Arc<FeatureSchema>> = extractor.schemas().cloned().collect();
    let models = site.window_models(&schemas, &loader).unwrap();
    WindowAnalyzer::new(
        Box::new(extractor) as BoxExtractor,
        models,
        WindowParams::default(),
    )
    .unwrap()
}

#[test]
fn windows_unlike_those_of_training_are_one_verdict_that_grows() {
    let site = SiteModel::of_file(&site().to_file(Origin::default()).unwrap()).unwrap();
    let run = |events: &[Recorded]| -> Vec<Verdict> {
        let (mut analyzer, mut verdicts) = (analyzer(&site), Vec::new());
        for event in events {
            analyzer
                .observe(Observation::Event(event), &mut verdicts)
                .unwrap();
        }
        verdicts
    };
    let quiet = run(&office(900, |_| ()));
    assert!(quiet.iter().all(|verdict| !verdict.is_alert()), "{quiet:#?}");
    let loud = office(900, |traffic| {
        for n in 0..400_u16 {
            traffic.tcp(
                300.0 + f64::from(n) / 4.0,
                inside(12),
                outside(n as u8),
                1000 + n,
                Ending::Refused,
            );
        }
    });
    let verdicts = run(&loud);
    let of_scanner: Vec<&Verdict> = verdicts
        .iter()
        .filter(|verdict| verdict.entity == Entity::Host(inside(12)))
        .collect();
    assert!(
        of_scanner.iter().any(|verdict| verdict.is_alert()),
        "{verdicts:#?}"
    );
    assert!(of_scanner.iter().all(|verdict| verdict.id == of_scanner[0].id));
    assert!(of_scanner.iter().all(|verdict| !verdict.evidence.is_empty()));
    amoskys_core::conformance::analyzer(|| analyzer(&site), &loud);
}

#[test]
fn windows_that_others_make_are_judged_as_its_own() {
    let site = site();
    let loud = office(900, |traffic| {
        for n in 0..400_u16 {
            traffic.tcp(
                300.0 + f64::from(n) / 4.0,
                inside(12),
                inside(20),
                1 + n,
                Ending::Refused,
            );
        }
    });
    let join = || Correlation::new(&DetectionConfig::default()).unwrap();
    let own = || join().with(analyzer(&site));
    let shared = || {
        let extractor = extractor();
        let schemas: Vec<Arc<FeatureSchema>> = extractor.schemas().cloned().collect();
        let models = site.window_models(&schemas, &loader).unwrap();
        let read: Vec<Digest> = models.iter().map(|model| model.schema().digest()).collect();
        let windows = WindowAnalyzer::of_vectors(models, WindowParams::default()).unwrap();
        join().with(windows).with_extractor(Box::new(extractor), &read)
    };
    let run = |mut analyzer: Correlation| {
        let mut verdicts = Vec::new();
        for event in &loud {
            analyzer
                .observe(Observation::Event(event), &mut verdicts)
                .unwrap();
        }
        verdicts
    };
    let expected = run(own());
    assert!(!expected.is_empty());
    assert_eq!(run(shared()), expected);
    amoskys_core::conformance::analyzer(shared, &loud);
    // Without anybody who makes windows there is nothing to judge.
    let stored = own().snapshot().unwrap();
    assert!(
        shared().restore(&stored).is_err(),
        "one makes windows, the other is shown them"
    );
}

#[test]
fn a_model_of_other_windows_is_refused_by_name() {
    let site = site();
    let spec = WindowSpec::sliding(Duration::from_secs(10), Duration::from_secs(1)).unwrap();
    let other = NetworkExtractor::new(ExtractConfig::default()).with::<Hosts>(spec);
    let offered: Vec<Arc<FeatureSchema>> = other.schemas().cloned().collect();
    let error = site.window_models(&offered, &loader).unwrap_err();
    assert!(error.to_string().contains("host.60s"), "{error}");

    let ours = extractor();
    let schema = ours.schema("host.60s").unwrap();
    let mut features = schema.features().to_vec();
    features[2] = FeatureDef::new("renamed", "", "another");
    let renamed = Arc::new(FeatureSchema::new("host.60s", features));
    let error = site.window_models([&renamed], &loader).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("feature 3") && text.contains("renamed"), "{text}");

    assert!(matches!(
        site.clone().join(site.clone()),
        Err(SiteModelError::Twice { .. })
    ));
    assert_eq!(SiteModel::new().join(site).unwrap().windows().len(), 1);
    let strange = ModelFile::new(
        "strange",
        "1",
        FeatureSchema::new("x", Vec::new()),
        Origin::default(),
    );
    assert!(matches!(
        SiteModel::of_file(&strange),
        Err(SiteModelError::Kind { .. })
    ));
}
