use std::sync::{Arc, LazyLock};

use amoskys_core::{FeatureDef, FeatureSchema};

/// The schema of the evidence in verdicts that several analyzers have a part in: all that each of them names, and what the
/// correlation adds. A name that several use means what the first of them says.
#[must_use]
pub fn correlation_schema() -> Arc<FeatureSchema> {
    static SCHEMA: LazyLock<Arc<FeatureSchema>> = LazyLock::new(|| {
        let own = [
            (
                super::LINEAGE,
                "",
                "probability that the process which led to this one is an intruder's",
            ),
            (
                super::NORMAL,
                "",
                "probability before somebody's word that this is normal here was taken for it",
            ),
        ];
        let mut features: Vec<FeatureDef> = own
            .iter()
            .map(|(name, unit, text)| FeatureDef::new(name, unit, text))
            .collect();
        let parts = [
            crate::evidence_schema(),
            crate::graph::graph_schema(),
            Arc::new(crate::sequence::sequence_schema()),
            crate::series::MetricDetection::evidence_schema(),
        ];
        for part in parts {
            for feature in part.features() {
                if features.iter().all(|known| known.name != feature.name) {
                    features.push(feature.clone());
                }
            }
        }
        Arc::new(FeatureSchema::new("amoskys.correlation", features))
    });
    SCHEMA.clone()
}
