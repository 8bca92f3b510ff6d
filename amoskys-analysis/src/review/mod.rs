//! Reading a log back: the alerts in it, its ledger and its report; or the same from verdicts drawn anew.
//!
//! ```
//! use amoskys_analysis::review::Review;
//! use amoskys_core::{LogParts, read_log};
//!
//! fn show(log: &LogParts) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut review = Review::new();
//!     review.read(read_log(&*log.wal, &*log.open))?;
//!     println!("{review}");
//!     Ok(())
//! }
//! # show(&amoskys_core::memory::PlainSeal::memory_log("agent", 1 << 20))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use amoskys_core::event::{Payload, Verdict, VerdictId};
use amoskys_core::ledger::LedgerSnapshot;
use amoskys_core::{Analyzer, AnalyzerError, BoxError, Observation, Offset, Opened, ReadLogError, Timestamp};

use crate::alert::{AlertFile, AlertFileError};
use crate::feedback::called_normal;
#[cfg(feature = "report")]
use crate::live::Disagreement;
#[cfg(feature = "report")]
use crate::report::Report;
use crate::story::Stories;

/// Alerts that are kept for the table. Later ones are counted; an alert file and the report have them.
const MOST_ALERTS: usize = 10_000;
/// Errors of damaged records that are kept. Further ones are counted.
const MOST_ERRORS: usize = 100;

/// What a log amounts to: its alerts, each in its latest revision, and the ledger sealed last.
///
/// [`Display`](std::fmt::Display) is a table of the alerts in order of time, each with its score and the bounds of the score, the stories
/// that several of them tell, and the ledger, for people.
///
/// A record that cannot be opened is counted and passed over, and the rest is read. Memory does not grow with the log:
/// of alerts the first 10 000 are kept, of damaged records the first 100 errors.
#[derive(Debug, Default)]
pub struct Review {
    alerts: BTreeMap<(Timestamp, VerdictId), Verdict>,
    alerts_left_out: u64,
    stories: Stories,
    normal: BTreeMap<(Timestamp, VerdictId), Verdict>,
    normal_left_out: u64,
    ledger: LedgerSnapshot,
    damaged: Vec<BoxError>,
    damaged_records: u64,
    file: Option<AlertFile>,
    #[cfg(feature = "report")]
    report: Option<Report>,
}

/// Why a review came to an end before the log did. What was read before counts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// The log cannot be read on.
    #[error("the log could not be reviewed to its end")]
    Log(#[source] ReadLogError),
    /// The analyzer refused an event of the log.
    #[error("an event of the log could not be analyzed")]
    Analyzer(#[source] AnalyzerError),
    /// The alerts could not be written.
    #[error("the alerts could not be written")]
    AlertFile(#[source] AlertFileError),
}

impl Review {
    /// A review without a report and an alert file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds this report with all events and verdicts.
    #[cfg(feature = "report")]
    #[must_use]
    pub fn with_report(mut self, report: Report) -> Self {
        self.report = Some(report);
        self
    }

    /// Writes the alerts to this file as well.
    #[must_use]
    pub fn with_alert_file(mut self, file: AlertFile) -> Self {
        self.file = Some(file);
        self
    }

    /// Takes the events and verdicts of a log, as [`read_log`](amoskys_core::read_log) gives them.
    ///
    /// # Errors
    ///
    /// If the storage fails, or the alert file cannot be written.
    pub fn read(
        &mut self,
        log: impl IntoIterator<Item = Result<(Offset, Opened), ReadLogError>>,
    ) -> Result<(), ReviewError> {
        self.walk(log, None)
    }

    /// Takes the events of a log and has `analyzer` draw the verdicts anew; those in the log are passed over.
    ///
    /// An analyzer in its first state, of the same model and settings as the one that ran, draws the same verdicts
    /// again, bit for bit, if nothing has been trimmed from the log.
    ///
    /// # Errors
    ///
    /// If the storage fails, the analyzer refuses an event, or the alert file cannot be written.
    pub fn redraw(
        &mut self,
        log: impl IntoIterator<Item = Result<(Offset, Opened), ReadLogError>>,
        analyzer: &mut impl Analyzer,
    ) -> Result<(), ReviewError> {
        self.walk(log, Some(analyzer))
    }

    /// Replaces the ledger, for example by the one at the end of a run, which is later than the last in the log.
    pub fn set_ledger(&mut self, ledger: LedgerSnapshot) {
        self.ledger = ledger;
    }

    /// Shows in the report what a model that was only tried says otherwise: see [`Shadow`](crate::live::Shadow).
    #[cfg(feature = "report")]
    pub fn set_disagreement(&mut self, told: &Disagreement) {
        if let Some(report) = &mut self.report {
            report.disagreement(told);
        }
    }

    /// The ledger: the last in the log, or the one that was set.
    #[must_use]
    pub fn ledger(&self) -> &LedgerSnapshot {
        &self.ledger
    }

    /// The alerts, in order of their time, each in its latest revision.
    pub fn alerts(&self) -> impl Iterator<Item = &Verdict> {
        self.alerts.values()
    }

    /// The stories that the alerts tell.
    #[must_use]
    pub fn stories(&self) -> &Stories {
        &self.stories
    }

    /// Verdicts that are no alerts because somebody has called them [normal](crate::feedback), in order of their time, each in its latest
    /// revision. At most 10,000.
    pub fn called_normal(&self) -> impl Iterator<Item = &Verdict> {
        self.normal.values()
    }

    /// How many there are of these, with those that are not kept.
    #[must_use]
    pub fn called_normal_count(&self) -> u64 {
        self.normal.len() as u64 + self.normal_left_out
    }

    /// Records that could not be opened.
    #[must_use]
    pub fn damaged_records(&self) -> u64 {
        self.damaged_records
    }

    /// What was wrong with the first of the records that could not be opened.
    #[must_use]
    pub fn damage(&self) -> &[BoxError] {
        &self.damaged
    }

    /// The report's page with the ledger; `None` without a report.
    #[cfg(feature = "report")]
    #[must_use]
    pub fn page(&self) -> Option<String> {
        let mut report = self.report.clone()?;
        report.ledger(&self.ledger);
        Some(report.render())
    }

    fn walk(
        &mut self,
        log: impl IntoIterator<Item = Result<(Offset, Opened), ReadLogError>>,
        mut analyzer: Option<&mut dyn Analyzer>,
    ) -> Result<(), ReviewError> {
        let mut drawn = Vec::new();
        for opened in log {
            let mut opened = match opened {
                Ok((_, opened)) => opened,
                Err(ReadLogError::Record(error)) => {
                    self.note_damage(error);
                    continue;
                }
                Err(error) => return Err(ReviewError::Log(error)),
            };
            if let Some(ledger) = opened.ledger.take() {
                self.ledger = ledger;
            }
            for recorded in opened.into_recorded() {
                let verdict = match &recorded.event.payload {
                    Payload::Verdict(verdict) => Some(verdict),
                    _ => None,
                };
                match (&mut analyzer, verdict) {
                    (Some(_), Some(_)) => continue,
                    (Some(analyzer), None) => analyzer
                        .observe(Observation::Event(&recorded), &mut drawn)
                        .map_err(ReviewError::Analyzer)?,
                    (None, Some(verdict)) => self.take(verdict)?,
                    (None, None) => {}
                }
                #[cfg(feature = "report")]
                if let Some(report) = &mut self.report {
                    report.observe(&recorded);
                    drawn.iter().for_each(|verdict| report.verdict(verdict));
                }
                for verdict in drawn.drain(..) {
                    self.take(&verdict)?;
                }
            }
        }
        match &mut self.file {
            Some(file) => file.tidy().map_err(ReviewError::AlertFile),
            None => Ok(()),
        }
    }

    fn take(&mut self, verdict: &Verdict) -> Result<(), ReviewError> {
        if let Some(file) = &mut self.file {
            file.take(verdict).map_err(ReviewError::AlertFile)?;
        }
        self.stories.take(verdict);
        let key = (verdict.time, verdict.id);
        if called_normal(verdict).is_none() {
            self.normal.remove(&key);
        } else if self.normal.len() < MOST_ALERTS || self.normal.contains_key(&key) {
            self.normal.insert(key, verdict.clone());
        } else if verdict.revision == 0 {
            self.normal_left_out += 1;
        }
        if !verdict.is_alert() {
            self.alerts.remove(&key);
        } else if self.alerts.len() < MOST_ALERTS || self.alerts.contains_key(&key) {
            self.alerts.insert(key, verdict.clone());
        } else if verdict.revision == 0 {
            self.alerts_left_out += 1;
        }
        Ok(())
    }

    fn note_damage(&mut self, error: BoxError) {
        self.damaged_records += 1;
        if self.damaged.len() < MOST_ERRORS {
            self.damaged.push(error);
        }
    }
}
