use std::sync::Arc;

use amoskys_core::event::Entity;
use amoskys_core::{FeatureDef, FeatureSchema};

use super::fact::Fact;
use crate::aggregate::{Aggregate, Regularity, StartTimes};
use crate::window::WindowSpec;

/// A list of features of one kind of entity, and how they come from facts.
///
/// Implement it to add features of your own to a [`NetworkExtractor`](super::NetworkExtractor).
pub trait Catalog: Send + Sync + 'static {
    /// What is kept for an entity over a stretch of time.
    type Aggregate: Aggregate + 'static;

    /// Short name of the kind of entity, for example `host`. The name of a schema is this and the length of the
    /// window, as in `host.10s`.
    const NAME: &'static str;

    /// Whom the fact is about; `None` if it means nothing here.
    fn entity(fact: &Fact<'_>) -> Option<Entity>;

    /// Takes a fact about the entity that [`entity`](Self::entity) named.
    fn add(aggregate: &mut Self::Aggregate, fact: &Fact<'_>);

    /// The features, in the order of the schema.
    fn features() -> Vec<Feature<Self::Aggregate>>;

    /// The start times whose regularity features may read from [`View::regularity`]. Default: none.
    fn starts(aggregate: &Self::Aggregate) -> Option<&StartTimes> {
        let _ = aggregate;
        None
    }
}

/// A feature, and how it is computed.
pub struct Feature<A> {
    /// Its name, unique in the catalog.
    pub name: &'static str,
    /// Its unit; empty for a count or a ratio.
    pub unit: &'static str,
    /// What it measures, and how it is computed.
    pub description: &'static str,
    /// Computes it. NaN if it cannot be computed.
    pub value: fn(&View<'_, A>) -> f64,
}

impl<A> Feature<A> {
    /// A feature.
    pub const fn new(
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        value: fn(&View<'_, A>) -> f64,
    ) -> Self {
        Self {
            name,
            unit,
            description,
            value,
        }
    }
}

/// What features are computed from: the aggregate of a window.
pub struct View<'a, A> {
    /// What was kept over the window.
    pub aggregate: &'a A,
    /// How regular the start times are; `None` for fewer than three.
    pub regularity: Option<Regularity>,
}

impl<A> std::ops::Deref for View<'_, A> {
    type Target = A;

    fn deref(&self) -> &A {
        self.aggregate
    }
}

/// The schema of a catalog over windows of one length.
#[must_use]
pub fn schema_of<C: Catalog>(spec: WindowSpec) -> Arc<FeatureSchema> {
    let name = format!("{}.{}", C::NAME, length_name(spec));
    let features = C::features();
    let defs = features
        .iter()
        .map(|f| FeatureDef::new(f.name, f.unit, f.description))
        .collect();
    Arc::new(FeatureSchema::new(&name, defs))
}

fn length_name(spec: WindowSpec) -> String {
    let nanos = spec.length().as_nanos();
    match (nanos % 1_000_000_000, nanos % 1_000_000) {
        (0, _) => format!("{}s", nanos / 1_000_000_000),
        (_, 0) => format!("{}ms", nanos / 1_000_000),
        _ => format!("{nanos}ns"),
    }
}
