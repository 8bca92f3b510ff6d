//! Vectors for the tests of this crate.

use std::sync::Arc;

use amoskys_core::event::{Entity, EventRange};
use amoskys_core::{FeatureDef, FeatureSchema, FeatureVector, Seq, StreamId, Timestamp};

pub(crate) fn schema(names: &[&str]) -> Arc<FeatureSchema> {
    Arc::new(FeatureSchema::new(
        "test",
        names
            .iter()
            .map(|name| FeatureDef::new(name, "s", "a feature"))
            .collect(),
    ))
}

pub(crate) fn vector(schema: &Arc<FeatureSchema>, values: &[f64]) -> FeatureVector {
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
