#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::net::Ipv4Addr;

use amoskys_core::event::{EventRange, Layer, ModelRef};
use amoskys_core::{Class, Digest, Epoch, Seq, StreamId};

use super::*;

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn outside(last: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, 100, last).into()
}

fn alert(second: i64, entity: Entity, technique: &str, peers: &[Entity]) -> Verdict {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&second.to_be_bytes());
    let time = Timestamp::from_secs(1_700_000_000 + second);
    let stream = StreamId {
        agent: "sensor".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    };
    Verdict {
        id: VerdictId(id),
        revision: 0,
        time,
        updated: time,
        layer: Layer::Fused,
        entity,
        peers: peers.to_vec(),
        technique: Some(Technique::new(technique)),
        title: format!("{technique} happened"),
        score: 0.9,
        interval: None,
        evidence: Vec::new(),
        model: ModelRef::default(),
        schema: Digest::default(),
        events: EventRange {
            stream,
            first: Seq(1),
            last: Seq(2),
        },
    }
}

fn process(name: &str) -> Entity {
    Entity::Named(name.into())
}

/// The number of alerts in each story.
fn told(alerts: &[Verdict]) -> Vec<usize> {
    let mut stories = Stories::new();
    for alert in alerts {
        stories.take(alert).unwrap();
    }
    stories.stories().map(|story| story.chapters().count()).collect()
}

#[test]
fn what_happens_to_one_machine_is_one_story_told_in_order() {
    let alerts = [
        alert(
            0,
            process("web//usr/bin/bash"),
            "T1059.004",
            &[Entity::Pair(address(5), outside(9))],
        ),
        alert(MINUTE, process("web//usr/bin/sudo"), "T1548.003", &[]),
        // By its address, as the connection told.
        alert(
            2 * MINUTE,
            Entity::Host(address(5)),
            "T1071.001",
            &[Entity::Host(outside(9))],
        ),
        alert(3 * MINUTE, process("web//usr/bin/tee"), "T1053.003", &[]),
    ];
    assert_eq!(told(&alerts), [4]);
    let mut stories = Stories::new();
    let ids: Vec<_> = alerts.iter().map(|alert| stories.take(alert)).collect();
    assert!(ids.iter().all(|id| *id == Some(alerts[0].id)));
    let text = stories.of(&alerts[2].id).unwrap().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(
        lines[0].ends_with("Execution -> Privilege Escalation -> Command and Control -> Persistence"),
        "{text}"
    );
    assert!(
        lines[0].contains("web, 10.0.0.5, from 2023-11-14 22:13:20 to 22:16:20 UTC"),
        "{text}"
    );
    assert!(
        lines[4].contains("22:16:20  T1053.003  web//usr/bin/tee  T1053.003 happened"),
        "{text}"
    );
}

#[test]
fn a_machine_that_was_entered_goes_on_with_the_story_and_one_that_was_scanned_does_not() {
    let then = |technique: &str| {
        let first = alert(
            0,
            Entity::Host(outside(7)),
            technique,
            &[Entity::Host(address(5))],
        );
        told(&[
            first,
            alert(
                HOUR,
                Entity::Host(address(5)),
                "T1071.001",
                &[Entity::Host(outside(9))],
            ),
        ])
    };
    assert_eq!(then("T1110.001"), [2]);
    assert_eq!(then("T1210"), [2]);
    assert_eq!(then("T1046"), [1, 1]);
    assert_eq!(then("T1499.001"), [1, 1]);
}

#[test]
fn who_calls_the_scanner_or_where_others_call_is_part_of_it() {
    let scan = alert(0, Entity::Host(outside(7)), "T1046", &[Entity::Host(address(5))]);
    let shell = alert(
        HOUR,
        process("web/bash"),
        "T1059.004",
        &[Entity::Pair(address(6), outside(7))],
    );
    assert_eq!(told(&[scan, shell]), [2]);
    let beacon = |host, at, peer| {
        alert(
            at,
            Entity::Host(address(host)),
            "T1071.001",
            &[Entity::Host(peer)],
        )
    };
    assert_eq!(
        told(&[beacon(1, 0, outside(9)), beacon(2, HOUR, outside(9))]),
        [2]
    );
    assert_eq!(
        told(&[beacon(1, 0, outside(9)), beacon(2, HOUR, outside(8))]),
        [1, 1]
    );
    // An inside server is called by many for many reasons.
    assert_eq!(
        told(&[beacon(1, 0, address(9)), beacon(2, HOUR, address(9))]),
        [1, 1]
    );
}

#[test]
fn a_day_later_it_is_another_story() {
    let at = |second| alert(second, Entity::Host(address(1)), "T1046", &[]);
    assert_eq!(told(&[at(0), at(23 * HOUR), at(46 * HOUR)]), [3]);
    assert_eq!(told(&[at(0), at(25 * HOUR)]), [1, 1]);
}

#[test]
fn an_alert_that_is_none_any_more_leaves_its_story() {
    let mut stories = Stories::new();
    let mut one = alert(0, Entity::Host(address(1)), "T1046", &[]);
    stories.take(&one).unwrap();
    one.score = 0.2;
    assert_eq!(stories.take(&one), None);
    assert_eq!(stories.stories().count(), 0);
    assert!(stories.of(&one.id).is_none());
}

#[test]
fn lines_that_were_written_keep_their_stories() {
    let alerts = [
        alert(
            0,
            process("web/bash"),
            "T1059.004",
            &[Entity::Pair(address(5), outside(9))],
        ),
        alert(
            9,
            Entity::Host(address(5)),
            "T1071.001",
            &[Entity::Host(outside(9))],
        ),
        alert(20, Entity::Host(address(6)), "T1046", &[]),
    ];
    let mut drawn = Stories::new();
    let mut read = Stories::new();
    for verdict in &alerts {
        let line = Alert {
            story: drawn.take(verdict),
            ..Alert::from(verdict)
        };
        let line = serde_json::from_str(&line.to_line().unwrap()).unwrap();
        read.learn(&line);
    }
    let stories = |stories: &Stories| stories.stories().cloned().collect::<Vec<_>>();
    assert_eq!(stories(&drawn), stories(&read));
    let next = alert(30, Entity::Host(address(5)), "T1486", &[]);
    assert_eq!(read.take(&next), Some(alerts[0].id));
    assert_eq!(read.take(&alerts[1]), Some(alerts[0].id));
}

#[test]
fn memory_is_bounded() {
    let mut stories = Stories::new();
    for n in 0..1_500_u16 {
        let host = Entity::Host(Ipv4Addr::new(10, 1, (n / 256) as u8, (n % 256) as u8).into());
        stories.take(&alert(i64::from(n), host, "T1046", &[]));
    }
    for n in 2_000..2_300 {
        stories.take(&alert(n, Entity::Host(address(1)), "T1046", &[]));
    }
    assert_eq!(stories.stories().count(), STORIES);
    let long = stories
        .stories()
        .max_by_key(|story| story.chapters().count())
        .unwrap();
    assert_eq!((long.chapters().count(), long.left_out()), (CHAPTERS, 200));
}
