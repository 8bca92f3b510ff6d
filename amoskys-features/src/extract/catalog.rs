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

    /// The events that its facts come from. Default: flows, DNS and ARP.
    const READS: Reads = Reads::Network;

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

/// The events that a catalog needs. An extractor leaves the others alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reads {
    /// Flow records, DNS and ARP messages.
    #[default]
    Network,
    /// Processes that start, end and change.
    Processes,
    /// System calls.
    Syscalls,
    /// Measured numbers.
    Metrics,
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
    /// What kind of number it is.
    pub kind: Kind,
    /// The smallest and the largest value it can have, when it is not NaN.
    pub range: (f64, f64),
}

/// What kind of number a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// How many: a whole number from 0, or an estimate of one.
    Count,
    /// A part of a whole: from 0 to 1.
    Share,
    /// 0 for no, 1 for yes.
    Flag,
    /// A number that stands for one of several things, and means nothing by its size.
    Code,
    /// Any other number.
    Measure,
}

impl Kind {
    /// The name used in lists.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Share => "share",
            Self::Flag => "flag",
            Self::Code => "code",
            Self::Measure => "measure",
        }
    }

    /// What a feature of this name and unit is, by the words that names are made of.
    pub(crate) fn of(name: &str, unit: &str) -> (Self, (f64, f64)) {
        const SHARES: [&str; 3] = ["_ratio", "_share", "_share_mean"];
        const MEASURES: [&str; 12] = [
            "_mean",
            "_median",
            "_variation",
            "_spread",
            "_deviation",
            "_min",
            "_max",
            "_p50",
            "_p90",
            "_p99",
            "_size",
            "_rate",
        ];
        if name.starts_with("is_") || name.contains("_is_") || name.starts_with("has_") {
            (Self::Flag, (0.0, 1.0))
        } else if SHARES.iter().any(|ending| name.ends_with(ending)) {
            (Self::Share, (0.0, 1.0))
        } else if unit == "bit" {
            (Self::Measure, (0.0, 8.0))
        } else if !unit.is_empty() || MEASURES.iter().any(|ending| name.ends_with(ending)) {
            (Self::Measure, (0.0, f64::INFINITY))
        } else {
            (Self::Count, (0.0, f64::INFINITY))
        }
    }
}

impl<A> Feature<A> {
    /// A feature. Its kind and range are told from its name and unit: a name that ends with `_ratio` or `_share` is a share,
    /// one that begins with `is_` or `has_` a flag, one that ends with `_mean`, `_max` and the like or has a unit a measure
    /// from 0, anything else a count. What is otherwise is said by [`within`](Self::within) and [`of_kind`](Self::of_kind).
    pub fn new(
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        value: fn(&View<'_, A>) -> f64,
    ) -> Self {
        let (kind, range) = Kind::of(name, unit);
        Self {
            name,
            unit,
            description,
            value,
            kind,
            range,
        }
    }

    /// Says that it is a measure of this range.
    #[must_use]
    pub const fn within(mut self, low: f64, high: f64) -> Self {
        self.kind = Kind::Measure;
        self.range = (low, high);
        self
    }

    /// Says of what kind it is.
    #[must_use]
    pub const fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
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
