//! The alert file holds each alert once, in order, through updates, repetitions and crashes.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use std::collections::BTreeMap;
use std::path::Path;

use amoskys_analysis::alert::{Alert, AlertFileError};
use amoskys_analysis::{AlertFile, Detection, DetectionConfig};
use amoskys_core::event::{Entity, EventRange, Layer, ModelRef, Payload, Verdict, VerdictId};
use amoskys_core::{Digest, Event, Recorded, Seq, Sink, Timestamp};
use traffic::{Ending, Traffic, inside, outside, verdicts};

fn drawn() -> Vec<Verdict> {
    let mut traffic = Traffic::default();
    for port in 1..=400 {
        traffic.tcp(
            f64::from(port) / 20.0,
            outside(7),
            inside(20),
            port,
            Ending::Refused,
        );
        traffic.tcp(
            f64::from(port) / 20.0,
            outside(8),
            inside(21),
            port,
            Ending::Refused,
        );
    }
    verdicts(
        &mut Detection::new(DetectionConfig::default(), Vec::new()).unwrap(),
        &traffic.record(),
    )
}

fn lines(path: &Path) -> Vec<Alert> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What the file should hold in the end: the latest revision of each alert, in order.
fn expected(verdicts: &[Verdict]) -> Vec<Alert> {
    let mut latest = BTreeMap::new();
    for verdict in verdicts.iter().filter(|verdict| verdict.is_alert()) {
        // Hosts that have nothing to do with each other: each alert is a story of its own.
        let alert = Alert {
            story: Some(verdict.id),
            ..Alert::from(verdict)
        };
        latest.insert((verdict.time, verdict.id), alert);
    }
    latest.into_values().collect()
}

#[test]
fn updates_are_appended_and_put_in_order_by_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.jsonl");
    let all = drawn();
    let mut file = AlertFile::open(&path).unwrap();
    all.iter().for_each(|verdict| file.take(verdict).unwrap());
    assert!(lines(&path).len() > 2, "a reader sees updates at once");
    file.tidy().unwrap();
    assert_eq!(lines(&path), expected(&all));
    assert_eq!((lines(&path).len(), file.len()), (2, 2));
}

#[test]
fn a_crash_anywhere_and_the_repetition_after_it_leave_the_same_file() {
    let all = drawn();
    for crash in 0..all.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.jsonl");
        let mut file = AlertFile::open(&path).unwrap();
        all[..crash]
            .iter()
            .for_each(|verdict| file.take(verdict).unwrap());
        drop(file);
        // The last line was not written to its end.
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len().saturating_sub(10)]).unwrap();
        let mut file = AlertFile::open(&path).unwrap();
        all[crash / 2..]
            .iter()
            .for_each(|verdict| file.take(verdict).unwrap());
        file.tidy().unwrap();
        assert_eq!(lines(&path), expected(&all), "crash after {crash}");
    }
}

#[test]
fn a_line_has_the_documented_form() {
    let all = drawn();
    let alert = all.iter().find(|verdict| verdict.is_alert()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&Alert::from(alert).to_line().unwrap()).unwrap();
    let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let mut wanted = vec![
        "id",
        "time_ns",
        "host",
        "peers",
        "technique",
        "title",
        "severity",
        "score",
        "interval",
        "evidence",
        "model",
        "schema",
        "events",
    ];
    wanted.sort_unstable();
    assert_eq!(
        {
            let mut keys = keys;
            keys.sort_unstable();
            keys
        },
        wanted
    );
    assert_eq!(value["host"], outside(7).to_string());
    assert_eq!(value["peers"][0], inside(20).to_string());
    assert_eq!(value["technique"], "T1046");
    assert_eq!(value["events"]["stream"], "sensor/telemetry");
    assert!(value["time_ns"].is_i64() && value["events"]["first"].is_u64());
    for key in ["feature", "value", "contribution"] {
        assert!(!value["evidence"][0][key].is_null(), "{key}");
    }
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "dear diary\n").unwrap();
    assert!(matches!(
        AlertFile::open(&path),
        Err(AlertFileError::Line { number: 1, .. })
    ));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear diary\n");
}

/// Makes an alert of each event, so that the sink's promises can be checked on any events.
struct EachAnAlert(AlertFile);

impl Sink for EachAnAlert {
    type Error = AlertFileError;

    fn name(&self) -> &str {
        self.0.name()
    }

    async fn write(&mut self, events: &[Recorded]) -> Result<(), AlertFileError> {
        let alarm = |recorded: &Recorded| {
            let stream = (*recorded.stream).clone();
            let verdict = Verdict {
                id: VerdictId(u128::from(recorded.seq.0).to_be_bytes()),
                revision: 0,
                time: Timestamp::from_secs(1),
                updated: Timestamp::from_secs(1),
                layer: Layer::Fused,
                entity: Entity::Host(inside(1)),
                peers: Vec::new(),
                technique: None,
                title: "a".to_owned(),
                score: 0.9,
                interval: None,
                evidence: Vec::new(),
                model: ModelRef::default(),
                schema: Digest::default(),
                events: EventRange {
                    stream,
                    first: recorded.seq,
                    last: recorded.seq,
                },
            };
            let event = Event {
                payload: Payload::Verdict(Box::new(verdict)),
                ..recorded.event.clone()
            };
            Recorded {
                timeline: 0,
                stream: recorded.stream.clone(),
                seq: recorded.seq,
                event,
            }
        };
        let alarms: Vec<Recorded> = events.iter().map(alarm).collect();
        self.0.write(&alarms).await
    }

    async fn flush(&mut self) -> Result<(), AlertFileError> {
        self.0.flush().await
    }
}

#[test]
fn it_keeps_the_promises_of_a_sink() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.jsonl");
    let make = || EachAnAlert(AlertFile::open(&path).unwrap());
    let written = || lines(&path).iter().map(|alert| Seq(alert.events.last)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(amoskys_core::conformance::sink(make, written));
}
