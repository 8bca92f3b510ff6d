//! Prints results: for people, or as CSV or JSON for programs.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people, with means.
    Table,
    /// A header, then a line each.
    Csv,
    /// One object a line.
    Json,
}

/// A metric, and what the reference has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) reference: Option<f64>,
}

impl Metric {
    /// By how much ours is above the reference.
    pub(crate) fn difference(&self) -> Option<f64> {
        let by = self.value - self.reference?;
        by.is_finite().then_some(by)
    }
}

/// The result of a detector on a set.
pub(crate) struct Outcome {
    pub(crate) detector: String,
    pub(crate) set: String,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) seconds: f64,
}

/// Prints outcomes as they come: nothing is lost if a run is cut short.
pub(crate) struct Printer {
    format: Format,
    begun: bool,
}

impl Printer {
    pub(crate) const fn new(format: Format) -> Self {
        Self { format, begun: false }
    }

    pub(crate) fn print(&mut self, outcome: &Outcome) {
        let Outcome {
            detector,
            set,
            metrics,
            seconds,
        } = outcome;
        let names = || metrics.iter().map(|metric| metric.name);
        let first = !std::mem::replace(&mut self.begun, true);
        match self.format {
            Format::Table => {
                if first {
                    let heads: String = names()
                        .map(|name| format!(" {name:>8} {:>8}", "(diff)"))
                        .collect();
                    println!("{:<16} {:<26}{heads} {:>9}", "detector", "set", "seconds");
                }
                let cell = |metric: &Metric| {
                    let difference = metric
                        .difference()
                        .map_or_else(String::new, |by| format!("({by:+.4})"));
                    format!(" {:>8} {difference:>8}", shown(metric.value, 4))
                };
                let cells: String = metrics.iter().map(cell).collect();
                let seconds = shown(*seconds, 3);
                println!("{detector:<16} {set:<26}{cells} {seconds:>9}");
            }
            Format::Csv => {
                if first {
                    let heads: String = names()
                        .map(|name| format!(",{name},{name}_reference,{name}_difference"))
                        .collect();
                    println!("detector,set{heads},seconds");
                }
                let number = |value: Option<f64>| {
                    let known = value.filter(|value| value.is_finite());
                    known.map_or_else(String::new, |value| format!("{value:.6}"))
                };
                let cell = |metric: &Metric| {
                    let (reference, by) = (number(metric.reference), number(metric.difference()));
                    format!(",{},{reference},{by}", number(Some(metric.value)))
                };
                let cells: String = metrics.iter().map(cell).collect();
                let (detector, set) = (csv_field(detector), csv_field(set));
                println!("{detector},{set}{cells},{}", number(Some(*seconds)));
            }
            Format::Json => {
                let mut object = Map::new();
                object.insert("detector".to_owned(), json!(detector));
                object.insert("set".to_owned(), json!(set));
                for metric in metrics {
                    object.insert(metric.name.to_owned(), json!(metric.value));
                    if let (Some(reference), Some(by)) = (metric.reference, metric.difference()) {
                        object.insert(format!("{}_reference", metric.name), json!(reference));
                        object.insert(format!("{}_difference", metric.name), json!(by));
                    }
                }
                object.insert("seconds".to_owned(), json!(seconds));
                println!("{}", Value::Object(object));
            }
        }
    }
}

/// A number for people; a dash where there is none.
fn shown(value: f64, digits: usize) -> String {
    if value.is_finite() {
        let text = format!("{value:.digits$}");
        // No zero below zero.
        match text.strip_prefix('-') {
            Some(rest) if rest.bytes().all(|byte| matches!(byte, b'0' | b'.')) => rest.to_owned(),
            _ => text,
        }
    } else {
        "-".to_owned()
    }
}

/// A field of a line of CSV, quoted where it must be (RFC 4180).
pub(crate) fn csv_field(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}

/// The means of several outcomes of one detector, under a name for the sets. References are averaged where all have one; the
/// seconds are added up.
pub(crate) fn mean(outcomes: &[&Outcome], set: &str) -> Option<Outcome> {
    let first = outcomes.first()?;
    let n = outcomes.len() as f64;
    let metric = |at: usize| {
        let all = || outcomes.iter().filter_map(move |outcome| outcome.metrics.get(at));
        let references: Option<f64> = all().map(|metric| metric.reference).sum();
        Metric {
            name: first.metrics[at].name,
            value: all().map(|metric| metric.value).sum::<f64>() / n,
            reference: references.map(|sum| sum / n),
        }
    };
    Some(Outcome {
        detector: first.detector.clone(),
        set: set.to_owned(),
        metrics: (0..first.metrics.len()).map(metric).collect(),
        seconds: outcomes.iter().map(|outcome| outcome.seconds).sum(),
    })
}
