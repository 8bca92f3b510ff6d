//! Metric events become verdicts: the analyzer alone, by the conformance suite, and in a pipeline.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "common/noise.rs"]
mod noise;

use std::num::NonZeroU32;
use std::sync::Arc;

use amoskys_analysis::series::{MetricDetection, MetricsConfig};
use amoskys_core::event::{Class, Entity, Layer, Metric, MetricKind, Payload, Verdict};
use amoskys_core::memory::{MemoryCollector, MemorySink, MemoryWal, PlainOpen, PlainSeal};
use amoskys_core::pipeline::Pipeline;
use amoskys_core::{
    Analyzer, Event, EventId, LogParts, Observation, Recorded, Seq, Shutdown, StreamId, Timestamp,
};
use noise::Noise;

/// Polls of two devices every minute: a gauge with a day, two that follow it, and a counter.
fn polls(rounds: usize) -> Vec<Event> {
    let mut noise = Noise::new(1);
    let mut octets = [0.0; 2];
    let mut events = Vec::new();
    for n in 0..rounds {
        for (device, octets) in ["router", "printer"].into_iter().zip(&mut octets) {
            let load = 40.0 + 20.0 * (n as f64 * std::f64::consts::TAU / 288.0).sin() + 3.0 * noise.normal();
            *octets += 60.0 * 1_000.0 * (load + noise.normal());
            // The counter starts again sometimes.
            if n % 1_111 == 1_110 {
                *octets = 0.0;
            }
            let odd = device == "router";
            let cpu = if odd && n == 2_400 {
                400.0
            } else {
                load + noise.normal()
            };
            let fan = if odd && (3_000..3_200).contains(&n) {
                2_900.0
            } else {
                1_500.0 + 35.0 * load
            };
            let gauges = [
                ("cpu", cpu),
                ("temperature", 20.0 + load / 2.0 + noise.normal() / 2.0),
                ("fan", fan),
            ];
            let mut push = |name: &str, kind, value| {
                let metric = Metric {
                    name: name.to_owned(),
                    kind,
                    value,
                    unit: String::new(),
                    labels: vec![("index".to_owned(), "1".to_owned())],
                };
                events.push(Event {
                    id: EventId {
                        origin: 1,
                        ordinal: events.len() as u64,
                    },
                    time: Timestamp::from_secs(1_700_000_000 + 60 * n as i64),
                    device: device.into(),
                    source: "snmp".into(),
                    payload: Payload::Metric(Box::new(metric)),
                    ..Event::default()
                });
            };
            for (name, value) in gauges {
                push(name, MetricKind::Gauge, value);
            }
            push("octets", MetricKind::Counter, *octets);
        }
    }
    events
}

fn recorded(events: Vec<Event>) -> Vec<Recorded> {
    let stream = Arc::new(StreamId {
        agent: "agent".into(),
        epoch: Default::default(),
        class: Class::Telemetry,
    });
    let record = |(event, seq)| Recorded {
        timeline: 0,
        stream: Arc::clone(&stream),
        seq: Seq(seq),
        event,
    };
    events.into_iter().zip(0..).map(record).collect()
}

fn config() -> MetricsConfig {
    let mut config = MetricsConfig::default();
    config.series.horizon = NonZeroU32::new(300).unwrap();
    config
}

fn observe(detection: &mut MetricDetection, events: &[Recorded]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for event in events {
        detection
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    }
    verdicts
}

#[test]
fn a_spike_and_a_departure_become_verdicts() {
    let mut detection = MetricDetection::new(config()).unwrap();
    let verdicts = observe(&mut detection, &recorded(polls(3_600)));
    let minute = |verdict: &Verdict| (verdict.time.nanos() / 1_000_000_000 - 1_700_000_000) / 60;
    let spike = verdicts.iter().find(|verdict| minute(verdict) == 2_400).unwrap();
    assert_eq!(spike.entity, Entity::Named("router/cpu{index=1}".into()));
    assert_eq!(spike.peers, [Entity::Named("router".into())]);
    assert!(spike.is_alert() && spike.layer == Layer::Temporal, "{spike:?}");
    assert!(
        spike
            .title
            .starts_with("cpu{index=1} of router: extreme value, 400.0000, where "),
        "{}",
        spike.title
    );
    assert_eq!(spike.evidence[0].feature.as_str(), "extreme");
    let bounds = spike
        .interval
        .expect("how sure the curve is of so strong an alarm");
    assert!(bounds.low < spike.score && spike.score < bounds.high, "{bounds}");
    let schema = MetricDetection::evidence_schema();
    assert_eq!(spike.schema, schema.digest());
    for verdict in &verdicts {
        assert!(
            verdict
                .evidence
                .iter()
                .all(|evidence| schema.index_of(evidence.feature.as_str()).is_some())
        );
    }
    let departure = verdicts.iter().find(|verdict| {
        verdict.entity == Entity::Named("router".into()) && (3_000..3_100).contains(&minute(verdict))
    });
    let departure = departure.unwrap();
    assert!(
        departure
            .title
            .starts_with("fan{index=1} of router: 2900.0000, where the other metrics say"),
        "{}",
        departure.title
    );
    // A counter is a rate, and starting again is nothing.
    let others: Vec<&Verdict> = verdicts
        .iter()
        .filter(|verdict| {
            !(2_400..2_700).contains(&minute(verdict)) && !(3_000..3_500).contains(&minute(verdict))
        })
        .collect();
    let titles: Vec<&str> = others.iter().map(|verdict| verdict.title.as_str()).collect();
    eprintln!(
        "{} other verdicts of 8 metrics in 12 days: {titles:#?}",
        others.len()
    );
    assert!(others.len() <= 16 && others.iter().filter(|verdict| verdict.is_alert()).count() <= 2);
}

#[test]
fn it_keeps_the_promises_of_an_analyzer() {
    let mut config = config();
    config.series.horizon = NonZeroU32::new(48).unwrap();
    config.group.memory = 100;
    let events = recorded(polls(900));
    let mut eager = config;
    eager.series.alarm = amoskys_analysis::series::AlarmRule::Threshold(0.4);
    let verdicts = observe(&mut MetricDetection::new(eager).unwrap(), &events);
    assert!(verdicts.len() > 10, "a suite without verdicts proves little");
    amoskys_core::conformance::analyzer(|| MetricDetection::new(eager).unwrap(), &events);
}

#[test]
fn a_metric_that_stops_is_told_while_the_others_go_on() {
    let mut events = polls(400);
    events.retain(|event| {
        let late = event.time >= Timestamp::from_secs(1_700_000_000 + 60 * 300);
        let Payload::Metric(metric) = &event.payload else {
            return true;
        };
        !(late && event.device.as_str() == "printer" && metric.name == "fan")
    });
    let mut detection = MetricDetection::new(config()).unwrap();
    let verdicts = observe(&mut detection, &recorded(events));
    let silences: Vec<&Verdict> = verdicts
        .iter()
        .filter(|verdict| verdict.evidence[0].feature.as_str() == "silence")
        .collect();
    assert_eq!(silences.len(), 1, "{silences:?}");
    assert_eq!(silences[0].entity, Entity::Named("printer/fan{index=1}".into()));
    assert!((300..310).contains(&((silences[0].time.nanos() / 1_000_000_000 - 1_700_000_000) / 60)));
}

#[test]
fn metrics_without_end_are_forgotten_and_counted() {
    let mut config = config();
    (config.newcomers, config.hosts, config.group_size) = (20, 3, 4);
    let mut detection = MetricDetection::new(config).unwrap();
    let mut events = polls(40);
    for (n, event) in events.iter_mut().enumerate() {
        event.device = format!("device {}", n % 37).into();
        if let Payload::Metric(metric) = &mut event.payload {
            metric.labels = vec![("index".to_owned(), "9".repeat(n))];
        }
    }
    let count = events.len() as u64;
    observe(&mut detection, &recorded(events));
    assert!(detection.evicted() >= count - 20);
    assert_eq!(detection.watched(), 20);
    assert!(detection.snapshot().unwrap().len() < 20 * 3_000);
    for (metrics, newcomers, hosts, group_size) in [(0, 1, 1, 4), (1, 0, 1, 4), (1, 1, 0, 4), (1, 1, 1, 65)] {
        (config.metrics, config.newcomers) = (metrics, newcomers);
        (config.hosts, config.group_size) = (hosts, group_size);
        assert!(MetricDetection::new(config).is_err());
    }
}

/// A value of a process of one machine, with the time of its second.
fn of_process(second: i64, pid: u32, value: f64) -> Event {
    let metric = Metric {
        name: "process_threads".to_owned(),
        kind: MetricKind::Gauge,
        value,
        unit: String::new(),
        labels: vec![("pid".to_owned(), pid.to_string())],
    };
    Event {
        time: Timestamp::from_secs(1_700_000_000 + second),
        device: "web".into(),
        source: "proc".into(),
        payload: Payload::Metric(Box::new(metric)),
        ..Event::default()
    }
}

#[test]
fn metrics_that_come_and_go_take_no_place_from_those_that_stay() {
    let mut config = config();
    (config.metrics, config.newcomers) = (4, 8);
    let mut detection = MetricDetection::new(config).unwrap();
    // Two that stay, and a new process every ten rounds.
    let rounds = |range: std::ops::Range<i64>, stay: &[u32]| -> Vec<Recorded> {
        let mut events = Vec::new();
        for n in range {
            let pids = stay.iter().copied().chain([1_000 + n as u32 / 10]);
            events.extend(pids.map(|pid| of_process(10 * n, pid, f64::from(pid))));
        }
        recorded(events)
    };
    observe(&mut detection, &rounds(0..1_000, &[1, 2]));
    assert_eq!(detection.watched(), 2 + 8, "the two, and the latest eight");
    assert_eq!((detection.evicted(), detection.passed_over()), (100 - 8, 0));

    // Six that stay have four places; the others wait, and those that have one keep it.
    observe(&mut detection, &rounds(1_000..1_400, &[1, 2, 3, 4, 5, 6]));
    let waited = detection.passed_over();
    assert_eq!(waited, 2 * (400 - 75));
    // An hour after two of them have stopped, the next two have their places.
    let evicted = detection.evicted();
    observe(&mut detection, &rounds(1_400..1_800, &[3, 4, 5, 6]));
    assert!(detection.passed_over() > waited && detection.passed_over() <= waited + 2 * 362);
    assert_eq!(detection.evicted() - evicted, 2 + 38);
    let last = detection.passed_over();
    observe(&mut detection, &rounds(1_800..1_900, &[3, 4, 5, 6]));
    assert_eq!(detection.passed_over(), last);
}

#[test]
fn what_an_older_version_stored_is_refused_by_name() {
    let mut detection = MetricDetection::new(config()).unwrap();
    let mut stored = detection.snapshot().unwrap();
    let (content, _) = stored.split_at(stored.len() - 32);
    let mut content = content.to_vec();
    content[4..6].copy_from_slice(&1_u16.to_le_bytes());
    stored.clone_from(&content);
    stored.extend(amoskys_core::Digest::of(&content).0);
    let error = detection.restore(&stored).unwrap_err();
    assert!(error.to_string().contains("version 1"), "{error}");
}

#[test]
fn verdicts_come_out_of_a_pipeline() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let wal = MemoryWal::new(64 << 20);
    let (sink, collected) = MemorySink::new("all");
    let log = LogParts {
        wal: Arc::new(wal.clone()),
        seal: Box::new(PlainSeal::resume("agent", &wal).unwrap()),
        open: Arc::new(PlainOpen),
    };
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("snmp", polls(2_500)))
        .log(log)
        .analyzer(MetricDetection::new(config()).unwrap())
        .sink(sink)
        .build()
        .unwrap();
    let report = runtime.block_on(pipeline.run(Shutdown::new())).unwrap();
    assert_eq!(report.ledger.unbalanced(), Vec::<&str>::new());
    let events = collected.events();
    let verdicts = events.iter().filter_map(|event| match &event.event.payload {
        Payload::Verdict(verdict) => Some(verdict),
        _ => None,
    });
    let spikes = verdicts
        .filter(|verdict| verdict.title.contains("extreme value, 400.0000"))
        .count();
    assert_eq!(spikes, 1);
}
