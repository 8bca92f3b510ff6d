use std::sync::{Arc, LazyLock};

use amoskys_core::{FeatureDef, FeatureSchema, Name};

/// What the verdicts of this layer name as evidence: name, unit, meaning.
const FEATURES: [(&str, &str, &str); 9] = [
    (
        "prior",
        "",
        "log-odds of such an attack before anything is measured",
    ),
    (
        "scan",
        "nat",
        "evidence that the host looks for services of one host: first contacts that failed, less those that were answered",
    ),
    ("sweep", "nat", "the same for one service on many hosts"),
    (
        "flood",
        "nat",
        "the same for one service of one host, asked by many",
    ),
    ("host_rarity", "nat", "how rarely the host began anything before"),
    (
        "chain",
        "",
        "sessions from host to host, one soon after the other, that were never taken before",
    ),
    (
        "new_step",
        "nat",
        "how rarely a session joins hosts that it never joined before",
    ),
    (
        "new_child",
        "nat",
        "how rarely the parent program starts a program it never started before",
    ),
    (
        "new_rights",
        "nat",
        "how rarely the program gains rights it never gained before",
    ),
];

/// The schema of the evidence that [`GraphAnalyzer`](super::GraphAnalyzer) gives.
#[must_use]
pub fn graph_schema() -> Arc<FeatureSchema> {
    static SCHEMA: LazyLock<Arc<FeatureSchema>> = LazyLock::new(|| {
        let features = FEATURES
            .iter()
            .map(|(name, unit, text)| FeatureDef::new(name, unit, text));
        Arc::new(FeatureSchema::new("amoskys.graph", features.collect()))
    });
    SCHEMA.clone()
}

/// Terms of log-odds by the names of their features.
pub(super) fn term(name: &'static str) -> Name {
    Name::from(name)
}
