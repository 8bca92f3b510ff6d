//! Any text as a file of Sigma rules, and as the detection of a rule that can be used otherwise: refused with a reason, or
//! applied to events, without a panic.
#![no_main]

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use amoskys_analysis::sequence::SigmaAnalyzer;
use amoskys_core::event::{ActivityAction, ActivityEvent, ProcessAction, ProcessEvent};
use amoskys_core::{
    Analyzer, Class, Epoch, Event, EventId, Observation, Payload, Recorded, Seq, StreamId, Timestamp,
};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// In memory where there is such a folder: each input is written.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
    TempDir::new_in(place).expect("a folder for the rule")
});

/// An event of each category that rules are for.
static EVENTS: LazyLock<Vec<Recorded>> = LazyLock::new(|| {
    let process = ProcessEvent {
        action: ProcessAction::Exec,
        executable: "/bin/sh".to_owned(),
        arguments: vec!["sh".to_owned(), "-c".to_owned(), "id".to_owned()],
        working_directory: "/root".to_owned(),
        uid: 33,
        pid: 4242,
        ..ProcessEvent::default()
    };
    let activity = |action| {
        let activity = ActivityEvent {
            action,
            executable: "/usr/bin/curl".to_owned(),
            path: "/etc/cron.d/job".to_owned(),
            name: "example.com".to_owned(),
            remote_address: Some([198, 51, 100, 9].into()),
            remote_port: 4444,
            ..ActivityEvent::default()
        };
        Payload::Activity(Box::new(activity))
    };
    let payloads = [
        Payload::Process(Box::new(process)),
        activity(ActivityAction::Connect),
        activity(ActivityAction::FileCreate),
        activity(ActivityAction::DnsQuery),
    ];
    let recorded = |(n, payload)| Recorded {
        timeline: 0,
        stream: Arc::new(StreamId {
            agent: "host".into(),
            epoch: Epoch::default(),
            class: Class::Telemetry,
        }),
        seq: Seq(n),
        event: Event {
            id: EventId { origin: 3, ordinal: n },
            time: Timestamp::from_secs(1_700_000_000),
            device: "host".into(),
            payload,
            ..Event::default()
        },
    };
    (0..).zip(payloads).map(recorded).collect()
});

fn apply(rule: &[u8]) {
    let path = FOLDER.path().join("rule.yml");
    std::fs::write(&path, rule).expect("the rule can be written");
    let mut rules = SigmaAnalyzer::load(FOLDER.path()).expect("the folder can be read");
    assert_eq!(rules.rules() + rules.refused().len(), 1);
    let mut verdicts = Vec::new();
    for event in &*EVENTS {
        rules
            .observe(Observation::Event(event), &mut verdicts)
            .expect("a match or none");
    }
    // Of one rule, for the events of its category.
    assert!(verdicts.len() <= rules.rules());
    assert!(verdicts.iter().all(|verdict| (0.0..=1.0).contains(&verdict.score)));
}

fuzz_target!(|input: &[u8]| {
    apply(input);
    let Some((category, detection)) = input.split_first() else {
        return;
    };
    let category = ["process_creation", "network_connection", "file_event", "dns_query"][usize::from(category % 4)];
    let mut rule = format!("title: t\nlogsource:\n  category: {category}\ndetection:\n").into_bytes();
    // What stands in the section is further in than its name.
    for line in detection.split(|byte| *byte == b'\n') {
        rule.extend_from_slice(b"  ");
        rule.extend_from_slice(line);
        rule.push(b'\n');
    }
    apply(&rule);
});
