//! Whatever bytes a model file holds, also with a digest that is right: an error, or a model that judges; never a panic.
#![cfg(feature = "linfa")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use amoskys_analysis::calibrate::{Calibration, Conformal};
use amoskys_analysis::detectors::Detector as _;
use amoskys_analysis::explain::Explainer;
use amoskys_analysis::model::{DetectorKind, Filling, ModelFile, Origin, SiteModel, TableModel, TableParts};
use amoskys_analysis::sequence::{Example, SequenceParams, Threshold};
use amoskys_analysis::{BaselineBuilder, DetectionConfig};
use amoskys_core::event::{Entity, EventRange};
use amoskys_core::{
    BoxError, Digest, FeatureDef, FeatureSchema, FeatureVector, Seq, StreamId, Timestamp, Transform,
};
use ndarray::Array2;
use proptest::prelude::*;

fn loader(kind: &str, bytes: &[u8]) -> Result<Box<dyn Transform<FeatureVector>>, BoxError> {
    Ok(amoskys_features::load(kind, bytes)?)
}

fn table(kind: DetectorKind) -> ModelFile {
    let rows = Array2::from_shape_fn((60, 3), |(row, column)| ((row * (column + 7)) % 23) as f64);
    let labels: Vec<bool> = (0..60_u32).map(|row| row.is_multiple_of(9)).collect();
    let detector = kind
        .fit(rows.view(), Some(&labels), 1, NonZeroUsize::MIN)
        .unwrap();
    let scores = detector.score(rows.view()).unwrap().to_vec();
    let features = ["a", "b", "c"].map(|name| FeatureDef::new(name, "", "a feature"));
    let schema = FeatureSchema::new("rows", features.into());
    let mut file = ModelFile::new("rows", "1", schema, Origin::default());
    let parts = TableParts {
        detector: &detector,
        calibration: &Calibration::from(Conformal::fit(&scores, 0.01).unwrap()),
        threshold: Threshold(1.0),
        explainer: &Explainer::fit(rows.view()).unwrap(),
        filling: &Filling::fit(rows.view()),
        sources: &[0, 1, 2],
    };
    TableModel::store(&mut file, &parts).unwrap();
    file
}

/// Models of all kinds, in their stored form.
static STORED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let kinds = [
        DetectorKind::Hbos,
        DetectorKind::Ensemble,
        DetectorKind::BoostedTrees,
    ];
    let mut files: Vec<ModelFile> = kinds.into_iter().map(table).collect();
    let builder = BaselineBuilder::new(&DetectionConfig::default(), Vec::new()).unwrap();
    let traces: Vec<Vec<u32>> = (0..400_u32)
        .map(|n| (0..8 + n % 11).map(|at| (at * n) % 13).collect())
        .collect();
    let examples: Vec<Example<'_>> = traces
        .iter()
        .map(|calls| Example { program: "sh", calls })
        .collect();
    let sequences = SequenceParams {
        false_alarms: 0.1,
        ..SequenceParams::default()
    };
    let sequences = sequences.fit(&examples).unwrap();
    let site = SiteModel::new()
        .with_baseline(builder.finish())
        .with_windows(table(DetectorKind::Hbos))
        .with_sequences(sequences.to_file("sequences", "1", Origin::default()).unwrap())
        .unwrap();
    files.push(site.to_file(Origin::default()).unwrap());
    files.iter().map(|file| file.to_bytes().unwrap()).collect()
});

/// Everything that is done with a file somebody gives.
fn use_it(bytes: &[u8]) {
    let Ok(file) = ModelFile::from_bytes(bytes) else {
        return;
    };
    let _ = SiteModel::of_file(&file).map(|site| site.to_file(Origin::default()));
    let _ = file.model_ref();
    let Ok(mut model) = TableModel::load(&file, &loader) else {
        return;
    };
    let stream = StreamId {
        agent: "a".into(),
        epoch: Default::default(),
        class: Default::default(),
    };
    let vector = FeatureVector {
        values: vec![f64::NAN; model.schema().len()],
        schema: Arc::new(model.schema().clone()),
        entity: Entity::Named("e".into()),
        start: Timestamp::default(),
        end: Timestamp::default(),
        events: EventRange {
            stream,
            first: Seq(0),
            last: Seq(0),
        },
    };
    let _ = model.judge(&vector, 0.0);
}

/// With the digest that belongs to the bytes, so that the damage is not noticed by it.
fn signed(mut content: Vec<u8>) -> Vec<u8> {
    let digest = Digest::of(&content);
    content.extend(digest.0);
    content
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changed_bytes_are_an_error_or_a_model(
        which in 0_usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let stored = &STORED[which];
        let mut content = stored[..stored.len() - 32].to_vec();
        for (at, byte) in changes {
            let at = at.index(content.len());
            content[at] = byte;
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        use_it(&content);
        use_it(&signed(content));
    }

    #[test]
    fn any_bytes_are_no_model(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use_it(&bytes);
        let mut begun = b"AMOSKYSM\x01\x00".to_vec();
        begun.extend(bytes);
        use_it(&signed(begun));
    }
}

#[test]
fn what_was_stored_is_used() {
    for bytes in STORED.iter() {
        assert_eq!(ModelFile::from_bytes(bytes).unwrap().to_bytes().unwrap(), *bytes);
        use_it(bytes);
    }
    let site = SiteModel::of_file(&ModelFile::from_bytes(&STORED[3]).unwrap()).unwrap();
    assert!(site.baseline().is_some() && site.sequences().is_some() && site.windows().len() == 1);
}
