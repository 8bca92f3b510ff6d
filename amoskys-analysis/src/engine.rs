//! The three layers over one stream of sightings.

use amoskys_core::Recorded;
use amoskys_core::event::Layer;
use serde::{Deserialize, Serialize};

use crate::baseline::Normal;
use crate::behavioral::Behavioral;
use crate::config::DetectionConfig;
use crate::finding::{Card, Finding, Streams};
use crate::geometric::Geometric;
use crate::layer::LayerModel;
use crate::sighting::{Sighting, Tracker};
use crate::temporal::Temporal;

/// The layers, and the work they share.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Engine {
    pub(crate) streams: Streams,
    tracker: Tracker,
    pub(crate) geometric: Geometric,
    pub(crate) temporal: Temporal,
    pub(crate) behavioral: Behavioral,
}

/// What an event led to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Hypotheses, in the order they were raised.
    pub(crate) findings: Vec<Finding>,
    /// Whether event time has come to another second.
    pub(crate) tick: bool,
    /// Whether the source has ended.
    pub(crate) end: bool,
}

impl Engine {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            streams: Streams::default(),
            tracker: Tracker::new(config.capacity.flows),
            geometric: Geometric::new(config),
            temporal: Temporal::new(config),
            behavioral: Behavioral::new(config),
        }
    }

    /// Shows an event to the layers, and each of its sightings to `look`.
    pub(crate) fn step(&mut self, recorded: &Recorded, mut look: impl FnMut(&Sighting<'_>)) -> Step {
        let mark = self.streams.mark(recorded);
        let mut step = Step::default();
        let (geometric, temporal, behavioral) =
            (&mut self.geometric, &mut self.temporal, &mut self.behavioral);
        self.tracker.observe(&recorded.event, mark, &mut |sighting| {
            look(&sighting);
            if let Sighting::Tick { end } = sighting {
                (step.tick, step.end) = (true, step.end || end);
            }
            geometric.observe(&sighting, mark, &mut step.findings);
            temporal.observe(&sighting, mark, &mut step.findings);
            behavioral.observe(&sighting, mark, &mut step.findings);
        });
        step
    }

    /// What each layer thinks of a finding; the layer that raised it has said so already.
    pub(crate) fn opinions(&self, finding: &Finding, normal: Option<&Normal>) -> [Option<Card>; 3] {
        let own = finding.detector.layer();
        let ask = |layer: Layer| {
            if layer == own {
                return None;
            }
            match layer {
                Layer::Geometric => self.geometric.opinion(finding, normal),
                Layer::Temporal => self.temporal.opinion(finding, normal),
                _ => self.behavioral.opinion(finding, normal),
            }
        };
        [
            ask(Geometric::LAYER),
            ask(Temporal::LAYER),
            ask(Behavioral::LAYER),
        ]
    }

    /// Entries forgotten because a table was full.
    pub(crate) fn evicted(&self) -> u64 {
        self.tracker.evicted()
            + self.geometric.evicted()
            + self.temporal.evicted()
            + self.behavioral.evicted()
    }
}
