//! How readings become verdicts.

use std::sync::{Arc, LazyLock};

use amoskys_core::event::{Entity, EventRange, Evidence, Layer, ModelRef, Verdict, VerdictId};
use amoskys_core::{FeatureDef, FeatureSchema, Name, Recorded};

use super::detector::{Cause, Reading};
use super::group::Departure;
use super::strength::{DOUBLED, FAINTEST, alarm_probability};
use crate::odds::{LIMIT, probability};

/// Log-odds of a silence: machines are switched off more often than they are attacked.
const SILENCE: f64 = 0.4;

/// What verdicts about metrics name as evidence.
const FEATURES: [(&str, &str, &str); 9] = [
    (
        "shape",
        "",
        "how new the shape of the latest tenth of a horizon is, as a multiple of what is usual",
    ),
    (
        "extreme",
        "",
        "how far the value is outside all before, as a share of their range, times eight",
    ),
    (
        "long_shape",
        "",
        "how new the shape of the latest half horizon is, weighted",
    ),
    (
        "silence",
        "",
        "1 if values failed to come for longer than ever of late",
    ),
    (
        "departure_p_value",
        "",
        "probability of a departure this strong from what other metrics of the host say",
    ),
    ("value", "", "the value, of a counter its rise per second"),
    ("expected_low", "", "lowest value expected"),
    ("expected_high", "", "highest value expected"),
    (
        "predicted",
        "",
        "what other metrics of the host say the value should be",
    ),
];

/// The schema of the evidence.
pub(crate) fn schema() -> &'static Arc<FeatureSchema> {
    static SCHEMA: LazyLock<Arc<FeatureSchema>> = LazyLock::new(|| {
        let features = FEATURES
            .iter()
            .map(|(name, unit, text)| FeatureDef::new(name, unit, text));
        Arc::new(FeatureSchema::new("amoskys.series", features.collect()))
    });
    &SCHEMA
}

/// What a verdict is drawn from.
pub(crate) struct Occasion<'a> {
    pub(crate) model: &'a ModelRef,
    pub(crate) recorded: &'a Recorded,
    pub(crate) threshold: f64,
}

impl Occasion<'_> {
    /// One metric has alarmed.
    pub(crate) fn alarm(&self, metric: &str, value: f64, reading: &Reading, cause: Cause) -> Verdict {
        if cause == Cause::Silence {
            return self.silence(metric, reading.missing);
        }
        let device = &self.recorded.event.device;
        let strength = reading.score / self.threshold;
        let log_odds = (FAINTEST + DOUBLED * strength.log2()).clamp(-LIMIT, LIMIT);
        let expected = match reading.expected {
            Some((low, high)) => format!(", where {low:.4} to {high:.4} is expected"),
            None => String::new(),
        };
        let title = format!("{metric} of {device}: {}, {value:.4}{expected}", cause.as_str());
        let parts = reading.parts;
        let named = if cause == Cause::Absence {
            vec![("long_shape", parts.long_shape)]
        } else {
            vec![("shape", parts.shape), ("extreme", parts.extreme)]
        };
        let total: f64 = named.iter().map(|part| part.1).sum();
        let mut list: Vec<Evidence> = named
            .iter()
            .filter(|part| part.1 > 0.0)
            .map(|(name, part)| evidence(name, *part, log_odds * part / total))
            .collect();
        list.push(evidence("value", value, 0.0));
        if let Some((low, high)) = reading.expected {
            list.push(evidence("expected_low", low, 0.0));
            list.push(evidence("expected_high", high, 0.0));
        }
        let verdict = self.verdict(Some(metric), title, log_odds, list);
        Verdict {
            interval: alarm_probability(strength).of_score(verdict.score),
            ..verdict
        }
    }

    /// No values have come for long: they still do not, or they are back.
    pub(crate) fn silence(&self, metric: &str, lasts: bool) -> Verdict {
        let device = &self.recorded.event.device;
        let what = if lasts {
            "no values"
        } else {
            "values are back, after none"
        };
        let title = format!("{metric} of {device}: {what} for longer than ever of late");
        self.verdict(
            Some(metric),
            title,
            SILENCE,
            vec![evidence("silence", 1.0, SILENCE)],
        )
    }

    /// A metric has departed from the others of its host.
    pub(crate) fn departure(&self, metric: &str, departure: &Departure, rate: f64) -> Verdict {
        let device = &self.recorded.event.device;
        let Departure {
            value,
            predicted,
            p_value,
            ..
        } = *departure;
        // One that is ten times as rare adds as much as a doubled score.
        let log_odds = (FAINTEST + DOUBLED * (rate / p_value).log10()).clamp(-LIMIT, LIMIT);
        let title = format!("{metric} of {device}: {value:.4}, where the other metrics say {predicted:.4}");
        let list = vec![
            evidence("departure_p_value", p_value, log_odds),
            evidence("value", value, 0.0),
            evidence("predicted", predicted, 0.0),
        ];
        self.verdict(None, title, log_odds, list)
    }

    fn verdict(
        &self,
        metric: Option<&str>,
        title: String,
        log_odds: f64,
        mut list: Vec<Evidence>,
    ) -> Verdict {
        let Recorded {
            stream, seq, event, ..
        } = self.recorded;
        // A metric is an entity of its own: two of one host that alarm with one event are two verdicts.
        let host = Entity::Named(event.device.clone());
        let (entity, peers) = match metric {
            Some(metric) => (
                Entity::Named(Name::from(format!("{}/{metric}", event.device))),
                vec![host],
            ),
            None => (host, Vec::new()),
        };
        list.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
        Verdict {
            id: VerdictId::derive(&self.model.digest, &entity, None, stream, *seq, event.time),
            revision: 0,
            time: event.time,
            updated: event.time,
            layer: Layer::Temporal,
            entity,
            peers,
            technique: None,
            title,
            score: probability(log_odds),
            interval: None,
            evidence: list,
            model: self.model.clone(),
            schema: schema().digest(),
            events: EventRange {
                stream: (**stream).clone(),
                first: *seq,
                last: *seq,
            },
        }
    }
}

fn evidence(feature: &str, value: f64, contribution: f64) -> Evidence {
    Evidence {
        feature: Name::from(feature),
        value,
        contribution,
    }
}
