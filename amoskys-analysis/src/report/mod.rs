//! The HTML report: one self-contained page that shows what was seen and why it was judged so.
//!
//! The page needs no network and no server: style, script and drawings are inside, nothing is fetched. It can be
//! read without its script, in light and dark, on a phone and on paper. Text that came from the traffic (host
//! and domain names, titles) is escaped, stripped of control characters, and kept from running by the page's
//! content security policy.
//!
//! A [`Report`] is fed while the input is read and keeps a bounded summary, never the events themselves:
//!
//! ```
//! use amoskys_analysis::report::Report;
//! # use amoskys_core::{Recorded, ledger::LedgerSnapshot};
//! # fn page(events: &[Recorded], verdicts: &[amoskys_core::event::Verdict], ledger: &LedgerSnapshot) -> String {
//! let mut report = Report::new("Office network, Friday");
//! report.input("office.pcap");
//! for event in events {
//!     report.observe(event);
//! }
//! for verdict in verdicts {
//!     report.verdict(verdict);
//! }
//! report.ledger(ledger);
//! report.render()
//! # }
//! # assert!(page(&[], &[], &LedgerSnapshot::default()).contains("Office network, Friday"));
//! ```

mod alerts;
mod chart;
mod findings;
mod format;
mod graph;
mod page;
mod shadow;
mod stories;
mod talkers;
mod timeline;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use amoskys_core::event::{Payload, Verdict};
use amoskys_core::ledger::LedgerSnapshot;
use amoskys_core::{Digest, FeatureDef, FeatureSchema, Recorded, Timestamp};

use self::findings::Findings;
use self::talkers::Talkers;
use self::timeline::Timeline;
use crate::live::Disagreement;
use crate::story::Stories;

/// Summary of a run, and the page made from it.
///
/// Memory is bounded by a few megabytes and the page by about two, whatever the input: of hosts, pairs and
/// verdicts the busiest and strongest are kept, and the page says so where something was left out. The same
/// calls give the same page, byte for byte.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    inputs: Vec<String>,
    inputs_left_out: u64,
    span: Option<(Timestamp, Timestamp)>,
    events: BTreeMap<&'static str, u64>,
    timeline: Timeline,
    talkers: Talkers,
    findings: Findings,
    stories: Stories,
    schemas: BTreeMap<Digest, Vec<FeatureDef>>,
    ledger: Option<LedgerSnapshot>,
    disagreement: Option<Disagreement>,
}

const MOST_NAME_CHARS: usize = 120;
const MOST_INPUTS: usize = 20;
const MOST_SCHEMAS: usize = 16;

impl Report {
    /// An empty report with this headline.
    #[must_use]
    pub fn new(title: &str) -> Self {
        Self {
            title: format::foreign(title, MOST_NAME_CHARS),
            inputs: Vec::new(),
            inputs_left_out: 0,
            span: None,
            events: BTreeMap::new(),
            timeline: Timeline::new(),
            talkers: Talkers::default(),
            findings: Findings::default(),
            stories: Stories::new(),
            schemas: BTreeMap::new(),
            ledger: None,
            disagreement: None,
        }
    }

    /// Names something that was read: a file, an interface. The first 20 are listed.
    pub fn input(&mut self, name: &str) {
        if self.inputs.len() < MOST_INPUTS {
            self.inputs.push(format::foreign(name, MOST_NAME_CHARS));
        } else {
            self.inputs_left_out += 1;
        }
    }

    /// Takes one event into the summary.
    ///
    /// Flows count when they end, so that start and update records are not counted twice. A verdict among the
    /// events is taken as by [`verdict`](Self::verdict).
    pub fn observe(&mut self, recorded: &Recorded) {
        let event = &recorded.event;
        *self.events.entry(event.payload.kind()).or_default() += 1;
        match &event.payload {
            Payload::Flow(flow) => {
                self.see(flow.first);
                self.see(flow.last);
                if matches!(flow.phase, amoskys_core::event::FlowPhase::End(_)) {
                    self.timeline.flow(flow);
                    self.talkers.flow(flow);
                }
            }
            Payload::Dns(dns) => {
                self.see(event.time);
                self.talkers.dns(dns);
            }
            Payload::Verdict(verdict) => self.verdict(verdict),
            // They state the clock, which is not to say that something happened.
            Payload::Punctuation(_) => {}
            _ => self.see(event.time),
        }
    }

    /// Takes one verdict: a new one, or a newer revision of one.
    ///
    /// Every score is drawn over time. Listed as alerts are those of fusion and of rules above
    /// [`Verdict::ALERT_SCORE`]; those that follow from each other are told as [stories](crate::story). What somebody called
    /// [normal](crate::feedback) is listed apart. Of more than 1000 verdicts the strongest are kept.
    pub fn verdict(&mut self, verdict: &Verdict) {
        self.timeline.score(self.findings.latest(&verdict.id), verdict);
        self.findings.add(verdict);
        if findings::is_alert(verdict) || !verdict.is_alert() {
            self.stories.take(verdict);
        }
    }

    /// Makes the descriptions and units of a schema's features known, for the evidence tables. At most 16
    /// schemas are kept.
    pub fn schema(&mut self, schema: &FeatureSchema) {
        if self.schemas.len() < MOST_SCHEMAS {
            self.schemas.insert(schema.digest(), schema.features().to_vec());
        }
    }

    /// Sets the ledger to show: in = out + dropped + pending, stage by stage.
    pub fn ledger(&mut self, snapshot: &LedgerSnapshot) {
        self.ledger = Some(snapshot.clone());
    }

    /// Sets what a model that was only tried says otherwise: see [`Shadow`](crate::live::Shadow).
    pub fn disagreement(&mut self, told: &Disagreement) {
        self.disagreement = Some(told.clone());
    }

    /// The page, as HTML in UTF-8.
    #[must_use]
    pub fn render(&self) -> String {
        page::render(self)
    }

    /// A time in a list: with its date, if the input does not lie within one day.
    fn clock(&self, time: Timestamp) -> String {
        let day = |time| format::time_as(time, "%Y-%m-%d");
        let one_day = self
            .span
            .is_some_and(|(first, last)| day(first) == day(last) && day(first) == day(time));
        format::time_as(time, if one_day { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" })
    }

    /// The feature of this name in the schema of this digest, or in any other that has one.
    fn feature(&self, schema: &Digest, name: &str) -> Option<&FeatureDef> {
        let own = self.schemas.get(schema).into_iter();
        own.chain(self.schemas.values())
            .flatten()
            .find(|feature| feature.name.as_str() == name)
    }

    fn see(&mut self, time: Timestamp) {
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
    }
}
