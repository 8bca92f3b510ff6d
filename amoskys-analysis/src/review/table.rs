//! A review as a table for people.

use std::fmt;

use amoskys_core::event::{ScoreInterval, Verdict};

use super::Review;
use crate::feedback::called_normal;

impl fmt::Display for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.alerts_left_out;
        let count = self.alerts.len();
        writeln!(f, "{count} {}", if count == 1 { "alert" } else { "alerts" })?;
        for alert in self.alerts.values() {
            let severity = alert.severity();
            line(f, severity.as_str(), alert.score, alert.interval, alert)?;
        }
        if left_out > 0 {
            writeln!(f, "  and later ones, at least {left_out}")?;
        }
        if !self.normal.is_empty() {
            let count = self.called_normal_count();
            let what = if count == 1 { "verdict" } else { "verdicts" };
            writeln!(f, "{count} {what} called normal here, not counted as alerts")?;
            for verdict in self.normal.values() {
                let score = called_normal(verdict).unwrap_or(verdict.score);
                line(f, "normal", score, None, verdict)?;
            }
        }
        // A single alert has told all there is already.
        let told = self.stories.stories();
        for story in told.filter(|story| story.chapters().nth(1).is_some()) {
            writeln!(f, "\n{story}")?;
        }
        write!(f, "\n{}", self.ledger)
    }
}

/// One verdict: severity, score and its bounds, technique, whom it accuses, and what of.
fn line(
    f: &mut fmt::Formatter<'_>,
    severity: &str,
    score: f64,
    bounds: Option<ScoreInterval>,
    verdict: &Verdict,
) -> fmt::Result {
    let bounds = bounds.map_or_else(String::new, |ScoreInterval { low, high }| {
        format!("{low:.2}-{high:.2}")
    });
    let technique = verdict
        .technique
        .as_ref()
        .map_or("", |technique| technique.as_str());
    let (entity, title) = (&verdict.entity, &verdict.title);
    writeln!(
        f,
        "  {severity:8}  {score:.2}  {bounds:9}  {technique:9}  {entity:22}  {title}"
    )
}
