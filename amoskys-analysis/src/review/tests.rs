#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::sync::Arc;

use amoskys_core::event::{FlowKey, FlowRecord, ScoreInterval};
use amoskys_core::ledger::Ledger;
use amoskys_core::{Class, Epoch, Event, Seq, StreamId, WalError};

use super::*;
use crate::{Detection, DetectionConfig};

type Record = Result<(Offset, Opened), ReadLogError>;

fn detection() -> Detection {
    Detection::new(DetectionConfig::default(), Vec::new()).unwrap()
}

/// A host that knocks at a hundred ports.
fn knocks() -> Vec<Event> {
    let knock = |port: u16| {
        let key = FlowKey {
            source: [198, 51, 100, 7].into(),
            source_port: 40_000,
            destination: [10, 0, 0, 9].into(),
            destination_port: port,
            protocol: 6,
        };
        let time = Timestamp::from_secs(1_700_000_000 + i64::from(port / 20));
        let flow = FlowRecord {
            flow: port.into(),
            key,
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
    (1..=100).map(knock).collect()
}

fn record(class: Class, first: u64, events: Vec<Event>) -> Record {
    let stream = StreamId {
        agent: "agent".into(),
        epoch: Epoch::default(),
        class,
    };
    let last = Seq(first + events.len() as u64 - 1);
    let mut opened = Opened::new(Arc::new(stream), Seq(first), last, "test".into());
    let ledger = Ledger::new();
    ledger.received("log/events", last.0 + 1);
    opened.ledger = Some(ledger.snapshot());
    opened.events = events;
    Ok((Offset(first), opened))
}

fn damaged() -> Record {
    Err(ReadLogError::Record("a flipped byte".into()))
}

/// A log as a pipeline leaves it: the events, and the verdicts on them.
fn log() -> Vec<Record> {
    let mut verdicts = Vec::new();
    let mut detection = detection();
    let events = knocks();
    for recorded in record(Class::Telemetry, 0, events.clone())
        .unwrap()
        .1
        .into_recorded()
    {
        detection
            .observe(Observation::Event(&recorded), &mut verdicts)
            .unwrap();
    }
    let verdict = |verdict: Verdict| Event {
        time: verdict.updated,
        payload: Payload::Verdict(Box::new(verdict)),
        ..Event::default()
    };
    let verdicts: Vec<Event> = verdicts.into_iter().map(verdict).collect();
    assert!(!verdicts.is_empty());
    vec![
        record(Class::Telemetry, 0, events),
        record(Class::Alert, 0, verdicts),
    ]
}

#[test]
fn verdicts_read_and_verdicts_drawn_anew_are_the_same() {
    let (mut read, mut drawn) = (Review::new(), Review::new());
    read.read(log()).unwrap();
    drawn.redraw(log(), &mut detection()).unwrap();
    let alerts: Vec<&Verdict> = read.alerts().collect();
    assert_eq!(alerts.len(), 1, "the scan, once, in its latest revision");
    assert!(alerts.iter().copied().eq(drawn.alerts()));
    let table = read.to_string();
    assert!(
        table.starts_with("1 alert\n") && table.contains("T1046"),
        "{table}"
    );
    assert_eq!(table, drawn.to_string());
    let ScoreInterval { low, high } = alerts[0].interval.expect("failed contacts were counted");
    assert!(low < alerts[0].score && alerts[0].score <= high);
    assert!(table.contains(&format!("{low:.2}-{high:.2}")), "{table}");
}

#[test]
fn nothing_is_drawn_from_an_analyzer_that_was_not_asked_and_nothing_is_believed_that_the_log_says() {
    let mut without_verdicts = Review::new();
    without_verdicts.read(log().into_iter().take(1)).unwrap();
    assert_eq!(without_verdicts.alerts().count(), 0);
    let mut without_events = Review::new();
    without_events
        .redraw(log().into_iter().skip(1), &mut detection())
        .unwrap();
    assert_eq!(without_events.alerts().count(), 0);
}

#[test]
fn an_alert_that_is_none_any_more_goes() {
    let mut records = log();
    if let Ok((_, opened)) = &mut records[1] {
        let mut calm = opened.events[opened.events.len() - 1].clone();
        if let Payload::Verdict(verdict) = &mut calm.payload {
            verdict.score = 0.4;
        }
        opened.events.push(calm);
    }
    let mut review = Review::new();
    review.read(records).unwrap();
    assert_eq!(review.alerts().count(), 0);
}

#[test]
fn damaged_records_are_counted_and_the_rest_is_read() {
    let mut records = log();
    records.insert(1, damaged());
    records.extend((0..200).map(|_| damaged()));
    let mut review = Review::new();
    review.read(records).unwrap();
    assert_eq!(review.alerts().count(), 1);
    assert_eq!(
        (review.damaged_records(), review.damage().len()),
        (201, MOST_ERRORS)
    );
}

#[test]
fn storage_that_fails_is_an_error_and_what_was_read_before_counts() {
    let mut records = log();
    let source = std::io::Error::other("no such disk").into();
    records.push(Err(ReadLogError::Storage(WalError::Failed {
        action: "was reading",
        source,
    })));
    let mut review = Review::new();
    assert!(matches!(review.read(records), Err(ReviewError::Log(_))));
    assert_eq!(review.alerts().count(), 1);
}

#[test]
fn the_ledger_is_the_last_in_the_log_until_another_is_set() {
    let mut review = Review::new();
    review.read(log().into_iter().take(1)).unwrap();
    assert_eq!(review.ledger().accounts["log/events"].received, 100);
    assert!(review.to_string().contains("log/events"));
    review.set_ledger(LedgerSnapshot::default());
    assert!(review.ledger().accounts.is_empty());
}

#[test]
fn the_alert_file_holds_the_alerts_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alerts.jsonl");
    let mut review = Review::new().with_alert_file(AlertFile::open(&path).unwrap());
    review.read(log()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.lines().count() == 1 && text.contains("198.51.100.7"),
        "{text}"
    );
}

#[cfg(feature = "report")]
#[test]
fn the_page_shows_alerts_and_ledger_and_takes_each_verdict_once() {
    let page = |review: &Review| review.page().unwrap();
    assert_eq!(Review::new().page(), None);
    let mut read = Review::new().with_report(Report::new("read"));
    read.read(log()).unwrap();
    assert!(page(&read).contains("198.51.100.7") && page(&read).contains("log/events"));
    let mut drawn = Review::new().with_report(Report::new("read"));
    drawn.redraw(log(), &mut detection()).unwrap();
    let figures = |page: String| page.matches("198.51.100.7").count();
    assert_eq!(figures(page(&read)), figures(page(&drawn)));
}
