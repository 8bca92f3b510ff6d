//! The graph as an analyzer: what it finds, what it does not, and what it promises.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod capture;
mod traffic;

use std::sync::Arc;

use amoskys_analysis::graph::{GraphAnalyzer, GraphAnalyzerParams};
use amoskys_core::event::{Ancestor, Credentials, Entity, ProcessAction, ProcessEvent, Verdict};
use amoskys_core::{
    Analyzer, Class, Epoch, Event, EventId, Observation, Payload, Recorded, Seq, StreamId, Timestamp,
};
use traffic::{Ending, Traffic, inside, outside};

fn analyzer() -> GraphAnalyzer {
    GraphAnalyzer::new(GraphAnalyzerParams::default()).unwrap()
}

fn feed(analyzer: &mut GraphAnalyzer, events: &[Recorded]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for event in events {
        analyzer
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    }
    verdicts
}

/// Whom alerts accuse of what.
fn accused(verdicts: Vec<Verdict>) -> Vec<(String, Entity)> {
    let alerts = capture::latest(verdicts).into_iter().filter(Verdict::is_alert);
    let of = |verdict: Verdict| {
        (
            verdict
                .technique
                .map(|t| t.as_str().to_owned())
                .unwrap_or_default(),
            verdict.entity,
        )
    };
    alerts.map(of).collect()
}

fn work(traffic: &mut Traffic, minutes: u16) {
    for n in 0..minutes {
        let at = f64::from(n) * 60.0;
        for host in 0..6 {
            traffic.tcp(
                at,
                inside(host),
                outside((n % 200) as u8),
                443,
                Ending::Data(500, 5_000, 0.5),
            );
            traffic.tcp(
                at + 1.0,
                inside(host),
                inside(100),
                445,
                Ending::Data(900, 900, 0.5),
            );
        }
    }
}

#[test]
fn it_keeps_the_promises_of_an_analyzer() {
    let mut traffic = Traffic::default();
    work(&mut traffic, 20);
    for n in 0..40_u16 {
        traffic.tcp(
            100.0 + f64::from(n) * 5.0,
            inside(9),
            inside(20),
            1_000 + n,
            Ending::Refused,
        );
        traffic.tcp(
            300.0 + f64::from(n) * 5.0,
            inside(3),
            inside(200 + n),
            445,
            Ending::Silent,
        );
    }
    let events = traffic.record();
    assert!(!accused(feed(&mut analyzer(), &events)).is_empty());
    amoskys_core::conformance::analyzer(analyzer, &events);
}

#[test]
fn a_scan_and_a_slow_sweep_by_a_busy_host_are_found_and_honest_work_is_not() {
    let mut traffic = Traffic::default();
    work(&mut traffic, 1_500);
    assert_eq!(accused(feed(&mut analyzer(), &traffic.record())), []);

    let mut traffic = Traffic::default();
    work(&mut traffic, 1_500);
    for n in 0..20_u16 {
        // One an hour.
        traffic.tcp(
            f64::from(n) * 3_600.0 + 30.0,
            inside(3),
            inside(200 + n),
            22,
            Ending::Silent,
        );
        traffic.tcp(
            40_000.0 + f64::from(n),
            outside(250),
            inside(100),
            1_000 + n,
            Ending::Refused,
        );
    }
    let found = accused(feed(&mut analyzer(), &traffic.record()));
    let host = |address| ("T1046".to_owned(), Entity::Host(address));
    assert!(found.contains(&host(inside(3))), "{found:?}");
    assert!(found.contains(&host(outside(250))), "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn sessions_from_host_to_host_that_nobody_took_before_are_a_chain() {
    let mut traffic = Traffic::default();
    // An administrator's rounds, through a gateway.
    for n in 0..400_u16 {
        let at = f64::from(n) * 600.0;
        traffic.tcp(at, inside(1), inside(2), 22, Ending::Data(3_000, 9_000, 60.0));
        traffic.tcp(
            at + 100.0,
            inside(2),
            inside(10 + n % 20),
            22,
            Ending::Data(3_000, 9_000, 60.0),
        );
    }
    let rounds = 400.0 * 600.0;
    for (n, (from, to)) in [(30, 31), (31, 32), (32, 33), (33, 34)].into_iter().enumerate() {
        let at = rounds + n as f64 * 300.0;
        traffic.tcp(at, inside(from), inside(to), 22, Ending::Data(3_000, 9_000, 60.0));
    }
    let found = accused(feed(&mut analyzer(), &traffic.record()));
    assert!(
        !found.is_empty() && found.iter().all(|(technique, _)| technique == "T1021"),
        "{found:?}"
    );
    let of_rounds = Entity::Host(inside(2));
    assert!(found.iter().all(|(_, entity)| *entity != of_rounds), "{found:?}");
}

/// A process event of the machine `web`.
fn process(n: u64, event: ProcessEvent) -> Recorded {
    let stream = StreamId {
        agent: "web".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    };
    Recorded {
        timeline: 0,
        stream: Arc::new(stream),
        seq: Seq(n),
        event: Event {
            id: EventId {
                origin: 1,
                ordinal: n,
            },
            time: Timestamp::from_secs(1_700_000_000 + n as i64),
            device: "web".into(),
            payload: Payload::Process(Box::new(event)),
            ..Event::default()
        },
    }
}

fn exec(n: u64, parent: &str, child: &str) -> Recorded {
    let ancestors = vec![Ancestor {
        pid: 10,
        executable: parent.into(),
        ..Ancestor::default()
    }];
    let event = ProcessEvent {
        action: ProcessAction::Exec,
        executable: child.to_owned(),
        ancestors,
        ..ProcessEvent::default()
    };
    process(n, event)
}

fn rights(n: u64, program: &str, uid: u32) -> Recorded {
    let before = Credentials {
        uid,
        effective_uid: uid,
        ..Credentials::default()
    };
    let event = ProcessEvent {
        action: ProcessAction::Credentials,
        executable: program.to_owned(),
        previous: Some(before),
        credentials: Some(Credentials {
            uid,
            ..Credentials::default()
        }),
        result: Some(0),
        ..ProcessEvent::default()
    };
    process(n, event)
}

#[test]
fn a_child_no_such_parent_ever_had_and_rights_nobody_ever_gained_are_found() {
    let mut events = Vec::new();
    for n in 0..6_000_u64 {
        let event = match n % 3 {
            0 => exec(n, "/usr/sbin/nginx", "/usr/sbin/php-fpm"),
            // A shell starts something new all the time.
            1 => exec(n, "/bin/bash", &format!("/usr/bin/tool{}", n % 1_000)),
            _ => rights(n, "/usr/bin/sudo", 1_000),
        };
        events.push(event);
    }
    assert_eq!(accused(feed(&mut analyzer(), &events)), []);
    let mut watcher = analyzer();
    feed(&mut watcher, &events);
    let odd = [
        exec(7_000, "/usr/sbin/nginx", "/bin/sh"),
        rights(7_001, "/tmp/.x", 33),
        exec(7_002, "/bin/bash", "/usr/bin/toolnew"),
    ];
    let found: Vec<String> = accused(feed(&mut watcher, &odd))
        .into_iter()
        .map(|(technique, _)| technique)
        .collect();
    assert_eq!(found, ["T1059", "T1548"]);
}

#[test]
fn the_recorded_lab_shows_its_scan_and_nothing_else() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/lab.pcap");
    let mut analyzer = analyzer();
    let mut verdicts = Vec::new();
    capture::show_events(&file, |event| {
        analyzer
            .observe(Observation::Event(event), &mut verdicts)
            .unwrap();
    })
    .unwrap();
    let found = accused(verdicts);
    let scanner = Entity::Host("192.0.2.208".parse().unwrap());
    assert_eq!(found, [("T1046".to_owned(), scanner)]);
}
