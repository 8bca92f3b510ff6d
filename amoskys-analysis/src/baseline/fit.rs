use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use amoskys_core::{
    BoxExtractor, Class, Collector, Epoch, Extractor, FeatureVector, Recorded, Seq, StreamId, Timestamp,
};

use super::windows::{Windows, is_of_host};
use super::{Baseline, Behaviour};
use crate::config::{ConfigError, DetectionConfig};
use crate::engine::Engine;
use crate::finding::{Detector, Target};
use crate::measure::{median, seconds_between};
use crate::odds::probability;
use crate::sighting::Sighting;
use crate::temporal::Usual;

/// Behaviours, edges and hosts a baseline holds, each. Those that come after are left out, and were not normal
/// enough to come early.
const ENTRIES: usize = 100_000;
/// Kinds of windows of hosts that are learned.
const SCHEMAS: usize = 8;
/// Seconds between two looks at a host's rate.
const LOOK: f64 = 10.0;
/// Looks at the rate of one host that are kept.
const LOOKS: usize = 512;

/// Fits a [`Baseline`] from honest events.
pub struct BaselineBuilder {
    engine: Engine,
    extractors: Vec<BoxExtractor>,
    vectors: Vec<FeatureVector>,
    windows: Vec<Windows>,
    familiar: BTreeMap<(Detector, IpAddr, Target), f64>,
    highest: BTreeMap<Detector, f64>,
    edges: BTreeSet<(IpAddr, IpAddr, u8, u16)>,
    rates: BTreeMap<IpAddr, Vec<f64>>,
    clock: Option<Timestamp>,
    seconds: f64,
    events: u64,
    looked: f64,
}

impl BaselineBuilder {
    /// A builder for detectors of this configuration. `extractors` are those of the detection the baseline is for; without any,
    /// nothing is learned about windows.
    ///
    /// # Errors
    ///
    /// If the configuration is out of range.
    pub fn new(config: &DetectionConfig, extractors: Vec<BoxExtractor>) -> Result<Self, ConfigError> {
        config.validate()?;
        // The detectors are to speak long before anybody would be alarmed.
        let config = DetectionConfig {
            report_score: probability(super::UNREMARKABLE),
            ..config.clone()
        };
        let mut engine = Engine::new(&config);
        engine.behavioral.outcomes.learning = true;
        Ok(Self {
            engine,
            extractors,
            vectors: Vec::new(),
            windows: Vec::new(),
            familiar: BTreeMap::new(),
            highest: BTreeMap::new(),
            edges: BTreeSet::new(),
            rates: BTreeMap::new(),
            clock: None,
            seconds: 0.0,
            events: 0,
            looked: 0.0,
        })
    }

    /// Takes an event, in log order. Several files may follow each other, in any order of time.
    pub fn observe(&mut self, recorded: &Recorded) {
        self.events = self.events.saturating_add(1);
        self.advance(recorded.event.time);
        self.extract(recorded);
        let (edges, mut hosts) = (&mut self.edges, Vec::new());
        let step = self.engine.step(recorded, |sighting| {
            if let Sighting::Opened { contact, .. } = sighting {
                if edges.len() < ENTRIES {
                    edges.insert((contact.client, contact.server, contact.protocol, contact.port));
                }
                hosts.push(contact.client);
            }
        });
        for host in hosts {
            if self.rates.len() < ENTRIES {
                self.rates.entry(host).or_default();
            }
        }
        for finding in step.findings {
            let score = finding.card.log_odds();
            let highest = self.highest.entry(finding.detector).or_insert(score);
            *highest = highest.max(score);
            let key = (finding.detector, finding.accused, finding.target);
            if self.familiar.len() < ENTRIES || self.familiar.contains_key(&key) {
                let known = self.familiar.entry(key).or_insert(score);
                *known = known.max(score);
            }
        }
    }

    /// Observes everything a collector has, until its source ends: for captures of honest traffic, read without
    /// pipeline or log. Returns the number of events.
    ///
    /// The events are looked at on the thread that polls, which takes about 2 µs each.
    ///
    /// # Errors
    ///
    /// If the collector fails. What was observed before counts.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: what was observed counts, and the rest stays in the collector.
    ///
    /// ```
    /// # use amoskys_analysis::{Baseline, BaselineBuilder, Detection, DetectionConfig};
    /// # use amoskys_core::Collector;
    /// # async fn example<C: Collector>(mut office: C) -> Result<(), Box<dyn std::error::Error>> {
    /// let config = DetectionConfig::default();
    /// let mut builder = BaselineBuilder::new(&config, Vec::new())?;
    /// builder.learn_from(&mut office).await?;
    /// let detection = Detection::new(config, Vec::new())?.with_baseline(&builder.finish());
    /// # drop(detection);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn learn_from<C: Collector>(&mut self, collector: &mut C) -> Result<u64, C::Error> {
        let stream = Arc::new(StreamId {
            agent: "baseline".into(),
            epoch: Epoch::default(),
            class: Class::Telemetry,
        });
        let before = self.events;
        while let Some(batch) = collector.next_batch().await? {
            for event in batch.events {
                self.observe(&Recorded {
                    timeline: 0,
                    stream: stream.clone(),
                    seq: Seq(self.events),
                    event,
                });
            }
        }
        Ok(self.events - before)
    }

    /// The baseline of everything observed.
    #[must_use]
    pub fn finish(self) -> Baseline {
        let rates = self
            .rates
            .into_iter()
            .filter_map(|(host, looks)| Some((host, usual(looks)?)))
            .collect();
        let behaviour = |((detector, accused, target), log_odds)| Behaviour {
            detector,
            accused,
            target,
            log_odds,
        };
        Baseline {
            seconds: self.seconds,
            events: self.events,
            familiar: self.familiar.into_iter().map(behaviour).collect(),
            highest: self.highest.into_iter().collect(),
            edges: self.edges.into_iter().collect(),
            rates,
            outcomes: self.engine.behavioral.outcomes.chain.clone(),
            windows: self.windows.into_iter().filter_map(Windows::fit).collect(),
        }
    }

    fn extract(&mut self, recorded: &Recorded) {
        let mut vectors = std::mem::take(&mut self.vectors);
        for extractor in &mut self.extractors {
            extractor.observe(recorded, &mut vectors);
        }
        for vector in vectors.drain(..).filter(is_of_host) {
            let digest = vector.schema.digest();
            if !self.windows.iter().any(|windows| windows.schema() == digest) && self.windows.len() < SCHEMAS
            {
                self.windows.push(Windows::new(vector.schema.clone()));
            }
            if let Some(windows) = self.windows.iter_mut().find(|windows| windows.schema() == digest) {
                windows.add(&vector);
            }
        }
        self.vectors = vectors;
    }

    /// Adds up the time that has passed, leaving out leaps, and looks at all rates every ten seconds.
    fn advance(&mut self, now: Timestamp) {
        let passed = self.clock.map_or(0.0, |clock| seconds_between(clock, now));
        self.clock = Some(now);
        // A leap is another file, not time in which nothing happened.
        if (0.0..600.0).contains(&passed) {
            self.seconds += passed;
        }
        if self.seconds - self.looked < LOOK {
            return;
        }
        self.looked = self.seconds;
        for (host, looks) in &mut self.rates {
            let rate = self.engine.temporal.rates.rate(*host, now);
            if looks.len() < LOOKS && rate > 0.01 {
                looks.push(rate.ln());
            }
        }
    }
}

impl fmt::Debug for BaselineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BaselineBuilder")
            .field("seconds", &self.seconds)
            .field("events", &self.events)
            .field("extractors", &self.extractors.len())
            .finish_non_exhaustive()
    }
}

/// Center and spread of the looks at a host's rate; `None` for fewer than ten. A spread below a factor of two is not
/// believed.
fn usual(mut looks: Vec<f64>) -> Option<Usual> {
    if looks.len() < 10 {
        return None;
    }
    let center = median(&mut looks);
    let above: Vec<f64> = looks
        .iter()
        .filter(|look| **look >= center)
        .map(|look| look - center)
        .collect();
    let spread = 1.4826 * median(&mut above.clone());
    Some(Usual {
        center,
        spread: spread.max(2.0_f64.ln()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails says where")]

    use amoskys_core::event::{FlowEnd, FlowKey, FlowPhase, FlowRecord};
    use amoskys_core::memory::MemoryCollector;
    use amoskys_core::{Event, Payload};

    use super::*;

    fn flows() -> Vec<Event> {
        let flow = |n: u16| {
            let time = Timestamp::from_secs(1_700_000_000 + i64::from(n));
            let key = FlowKey {
                source: [10, 0, 0, 7].into(),
                source_port: 40_000 + n,
                destination: [10, 0, 0, 9].into(),
                destination_port: 443,
                protocol: 6,
            };
            let flow = FlowRecord {
                flow: n.into(),
                key,
                phase: FlowPhase::End(FlowEnd::Finished),
                first: time,
                last: time,
                ..FlowRecord::default()
            };
            Event {
                time,
                payload: Payload::Flow(Box::new(flow)),
                ..Event::default()
            }
        };
        (0..300).map(flow).collect()
    }

    #[tokio::test]
    async fn a_collector_teaches_what_its_events_would_teach_one_by_one() {
        let builder = || BaselineBuilder::new(&DetectionConfig::default(), Vec::new()).unwrap();
        let (mut from_collector, mut one_by_one) = (builder(), builder());
        let mut collector = MemoryCollector::new("office", flows());
        assert_eq!(from_collector.learn_from(&mut collector).await.unwrap(), 300);
        let stream = Arc::new(StreamId {
            agent: "other".into(),
            epoch: Epoch::default(),
            class: Class::Telemetry,
        });
        for (seq, event) in (0..).zip(flows()) {
            one_by_one.observe(&Recorded {
                timeline: 0,
                stream: stream.clone(),
                seq: Seq(seq),
                event,
            });
        }
        let (from_collector, one_by_one) = (from_collector.finish(), one_by_one.finish());
        assert_eq!(from_collector, one_by_one);
        assert_eq!((from_collector.events(), from_collector.seconds()), (300, 299.0));
        assert!(!from_collector.edges.is_empty(), "it learned who talks to whom");
    }
}
