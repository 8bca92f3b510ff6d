//! Sigma rules from a folder, applied to events.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]
#![cfg(feature = "sigma")]

use std::sync::Arc;

use amoskys_analysis::sequence::SigmaAnalyzer;
use amoskys_core::event::{ActivityAction, ActivityEvent, ProcessAction, ProcessEvent};
use amoskys_core::{
    Analyzer, Class, Epoch, Event, EventId, Observation, Payload, Recorded, Seq, StreamId, Timestamp,
};

const SHELL: &str = "
title: A web server started a shell
status: experimental
level: high
tags:
    - attack.execution
    - attack.t1059.004
logsource:
    product: linux
    category: process_creation
detection:
    parent:
        ParentImage|endswith: '/nginx'
    shell:
        Image|endswith:
            - '/sh'
            - '/bash'
    condition: parent and shell
";
const PORT: &str = "
title: A connection to a port that nothing honest uses
level: medium
logsource:
    category: network_connection
detection:
    selection:
        Initiated: 'true'
        DestinationPort: 4444
    condition: selection
";

fn event(n: u64, payload: Payload) -> Recorded {
    let stream = StreamId {
        agent: "host".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    };
    Recorded {
        timeline: 0,
        stream: Arc::new(stream),
        seq: Seq(n),
        event: Event {
            id: EventId {
                origin: 3,
                ordinal: n,
            },
            time: Timestamp::from_secs(1_700_000_000 + n as i64),
            device: "host".into(),
            payload,
            ..Event::default()
        },
    }
}

fn exec(n: u64, parent: &str, image: &str) -> Recorded {
    let mut process = ProcessEvent {
        action: ProcessAction::Exec,
        executable: image.to_owned(),
        arguments: vec![image.to_owned(), "-c".to_owned(), "id".to_owned()],
        ..ProcessEvent::default()
    };
    process.ancestors.push(Default::default());
    process.ancestors[0].executable = parent.into();
    event(n, Payload::Process(Box::new(process)))
}

fn connect(n: u64, port: u16) -> Recorded {
    let activity = ActivityEvent {
        action: ActivityAction::Connect,
        command: "x".to_owned(),
        remote_address: Some([198, 51, 100, 9].into()),
        remote_port: port,
        ..ActivityEvent::default()
    };
    event(n, Payload::Activity(Box::new(activity)))
}

#[test]
fn rules_are_applied_and_those_that_cannot_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("below")).unwrap();
    write("shell.yml", SHELL);
    write("below/port.yaml", PORT);
    write("broken.yml", "title: [");
    write("windows.yml", &SHELL.replace("linux", "windows"));
    write("registry.yml", &SHELL.replace("process_creation", "registry_set"));
    write("notes.txt", "no rule");
    let load = || SigmaAnalyzer::load(folder.path()).unwrap();
    let mut sigma = load();
    assert_eq!(sigma.rules(), 2);
    let refused: Vec<_> = sigma
        .refused()
        .iter()
        .map(|rule| rule.path.file_name().unwrap())
        .collect();
    assert_eq!(refused, ["broken.yml", "registry.yml", "windows.yml"]);

    let events = [
        exec(0, "/usr/sbin/nginx", "/bin/sh"),
        exec(1, "/usr/bin/make", "/bin/sh"),
        exec(2, "/usr/sbin/nginx", "/usr/sbin/nginx"),
        connect(3, 4444),
        connect(4, 443),
    ];
    let mut verdicts = Vec::new();
    for event in &events {
        sigma.observe(Observation::Event(event), &mut verdicts).unwrap();
    }
    let found: Vec<_> = verdicts
        .iter()
        .map(|v| (v.title.as_str(), v.is_alert(), v.events.first.0))
        .collect();
    assert_eq!(
        found,
        [
            ("A web server started a shell", true, 0),
            ("A connection to a port that nothing honest uses", false, 3),
        ]
    );
    assert_eq!(verdicts[0].technique.as_ref().unwrap().as_str(), "T1059.004");
    amoskys_core::conformance::analyzer(load, &events);
    assert!(SigmaAnalyzer::load(&folder.path().join("absent")).is_err());
}

/// Found by fuzzing, and by thinking on from there: conditions as deep as a file is long overflowed the stack, and brackets
/// that are never closed took minutes.
#[test]
fn a_rule_that_is_too_deep_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let of = |condition: &str| SHELL.replace("parent and shell", condition);
    let deep = 40_000;
    for (name, text) in [
        (
            "brackets",
            of(&format!("{}shell{}", "(".repeat(deep), ")".repeat(deep))),
        ),
        ("not", of(&format!("{}shell", "not ".repeat(deep)))),
        ("and", of(&format!("{}shell", "shell and ".repeat(deep / 2)))),
        (
            "or",
            of(&format!("\"{}shell\"", "shell\\tor\\t".repeat(deep / 4))),
        ),
        ("escaped", of(&format!("\"{}shell\"", "\\x28".repeat(deep)))),
        ("list", "[".repeat(deep)),
        ("map", "{a: ".repeat(deep)),
        ("lists", "- ".repeat(deep)),
    ] {
        std::fs::write(folder.path().join(format!("{name}.yml")), text).unwrap();
    }
    // As deep as may be.
    let most = of(&format!("{}shell{}", "(".repeat(255), ")".repeat(255)));
    std::fs::write(folder.path().join("most.yml"), most).unwrap();
    let chain = of(&format!("{}shell", "shell and ".repeat(250)));
    std::fs::write(folder.path().join("chain.yml"), chain).unwrap();
    let begun = std::time::Instant::now();
    let mut sigma = SigmaAnalyzer::load(folder.path()).unwrap();
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        (sigma.rules(), sigma.refused().len()),
        (2, 8),
        "{:?}",
        sigma.refused()
    );
    let mut verdicts = Vec::new();
    let event = exec(0, "/usr/sbin/nginx", "/bin/sh");
    sigma.observe(Observation::Event(&event), &mut verdicts).unwrap();
    assert_eq!(verdicts.len(), 2);
}
