//! A model comes back from its file as it was, with its transforms, and refuses what it was not made for.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::sync::Arc;

use amoskys_analysis::calibrate::{Calibration, Platt};
use amoskys_analysis::iforest::{IsolationForest, Rows};
use amoskys_analysis::model::{ForestModel, ModelFile, ModelFileError, Origin, StoredTransform};
use amoskys_core::event::{Entity, EventRange};
use amoskys_core::{
    BoxError, Digest, FeatureDef, FeatureSchema, FeatureVector, Seq, StreamId, Timestamp, Transform,
};
use amoskys_features::normalize::Normalizer;
use amoskys_features::{FittedTransform as _, load};

fn schema(name: &str) -> Arc<FeatureSchema> {
    let features = ["opened", "destinations", "bytes"].map(|name| FeatureDef::new(name, "", "a feature"));
    Arc::new(FeatureSchema::new(name, features.into()))
}

fn vector(schema: &Arc<FeatureSchema>, values: [f64; 3]) -> FeatureVector {
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

fn loader(kind: &str, bytes: &[u8]) -> Result<Box<dyn Transform<FeatureVector>>, BoxError> {
    Ok(load(kind, bytes)?)
}

/// A forest on normalized vectors, as training would store it.
fn trained() -> ModelFile {
    let schema = schema("host.10s");
    let training: Vec<FeatureVector> = (0..300)
        .map(|n| {
            vector(
                &schema,
                [f64::from(n % 7), f64::from(n % 5), 1e6 * f64::from(n % 11)],
            )
        })
        .collect();
    let normalizer = Normalizer::RobustAsinh
        .fit(&training)
        .expect("vectors of one schema");
    let rows: Vec<f64> = training
        .iter()
        .flat_map(|vector| normalizer.values(vector))
        .collect();
    let rows = Rows::new(&rows, 3).expect("three columns");
    let forest = IsolationForest::params()
        .validate()
        .and_then(|p| p.fit_rows(rows))
        .expect("enough rows");
    let origin = Origin {
        seed: 0,
        training_data: Digest::of(b"the training data"),
        training_rows: 300,
        metrics: BTreeMap::from([("auroc".to_owned(), 0.97)]),
    };
    let mut file = ModelFile::new("hosts", "1", FeatureSchema::clone(&schema), origin);
    let bytes = normalizer.to_bytes().expect("a normalizer can be stored");
    file.transforms.push(StoredTransform {
        kind: normalizer.kind().to_owned(),
        bytes,
    });
    let calibration = Calibration::from(Platt::through((0.5, 0.01), (0.75, 0.95)).expect("a rising curve"));
    ForestModel::store(&mut file, &forest, &calibration).expect("parts can be stored");
    file
}

#[test]
fn a_model_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts.model");
    let file = trained();
    file.save(&path).unwrap();
    file.save(&path).unwrap();
    let again = ModelFile::load(&path).unwrap();
    assert_eq!(again, file);
    assert_eq!(again.model_ref().unwrap(), file.model_ref().unwrap());
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );

    let (mut before, mut after) = (
        ForestModel::load(&file, &loader).unwrap(),
        ForestModel::load(&again, &loader).unwrap(),
    );
    assert_eq!(after.reference(), &file.model_ref().unwrap());
    let schema = schema("host.10s");
    let odd = vector(&schema, [3.0, 900.0, f64::NAN]);
    let judgement = after.judge(&odd, 0.0).unwrap().unwrap();
    assert_eq!(before.judge(&odd, 0.0).unwrap().unwrap(), judgement);
    assert_eq!(judgement.evidence[0].feature.as_str(), "destinations");
    assert_eq!(judgement.evidence[0].value, 900.0, "the value as it was measured");
    assert!(judgement.evidence[0].contribution > 0.0);
    let usual = after
        .judge(&vector(&schema, [3.0, 2.0, 5e6]), 0.9)
        .unwrap()
        .unwrap();
    assert!(usual.probability < judgement.probability);
    assert!(usual.evidence.is_empty());
}

#[test]
fn what_a_model_was_not_made_for_is_refused() {
    let file = trained();
    let mut model = ForestModel::load(&file, &loader).unwrap();
    assert!(
        model
            .judge(&vector(&schema("host.60s"), [1.0, 1.0, 1.0]), 0.5)
            .is_err()
    );
    assert!(matches!(
        file.check_schema(&schema("host.60s")),
        Err(ModelFileError::Schema { .. })
    ));
    assert!(file.check_schema(&schema("host.10s")).is_ok());
    let refuse = |_: &str, _: &[u8]| Err("unknown".into());
    assert!(matches!(
        ForestModel::load(&file, &refuse),
        Err(ModelFileError::Transform { .. })
    ));
    let empty = ModelFile::new("m", "1", FeatureSchema::new("s", Vec::new()), Origin::default());
    assert!(matches!(
        ForestModel::load(&empty, &loader),
        Err(ModelFileError::Missing { .. })
    ));
    let mut odd = file.clone();
    odd.origin.metrics.insert("loss".to_owned(), f64::NAN);
    assert!(matches!(odd.to_bytes(), Err(ModelFileError::Metric { .. })));
    assert!(file.part::<String>("isolation_forest").is_err());
}

#[test]
fn a_damaged_file_is_refused() {
    let file = trained();
    let bytes = file.to_bytes().unwrap();
    assert_eq!(ModelFile::from_bytes(&bytes).unwrap(), file);
    for at in (0..bytes.len()).step_by(509).chain(0..14) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(ModelFile::from_bytes(&damaged).is_err(), "byte {at}");
        assert!(ModelFile::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(matches!(
        ModelFile::from_bytes(b"PK\x03\x04 and so on, long enough to hold a digest"),
        Err(ModelFileError::NotAModel)
    ));
    let missing = ModelFile::load(std::path::Path::new("/nonexistent/model"));
    assert!(matches!(missing, Err(ModelFileError::File { .. })));
}

#[test]
fn any_change_is_another_model() {
    let file = trained();
    let digest = file.model_ref().unwrap().digest;
    let mut other = file.clone();
    other.origin.seed = 1;
    assert_ne!(other.model_ref().unwrap().digest, digest);
    other = file.clone();
    other.transforms[0].bytes[50] ^= 1;
    assert_ne!(other.model_ref().unwrap().digest, digest);
    assert_eq!(
        trained().model_ref().unwrap().digest,
        digest,
        "the same training gives the same model"
    );
}
