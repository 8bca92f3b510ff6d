use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use amoskys_core::event::{
    DnsQuestion, DnsRecord, Entity, EventRange, Evidence, FlowDirection, FlowEnd, FlowKey, FlowPhase,
    FlowRecord, Layer, ModelRef, Payload, ScoreInterval, Summary, Technique, Verdict, VerdictId,
};
use amoskys_core::ledger::{DropReason, Ledger};
use amoskys_core::{
    Class, Digest, Epoch, Event, FeatureDef, FeatureSchema, Recorded, Seq, StreamId, Timestamp,
};

use super::Report;

const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>\u{202e}\0</style>&lt;";

fn stream(agent: &str) -> StreamId {
    StreamId {
        agent: agent.into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    }
}

fn recorded(payload: Payload) -> Recorded {
    let event = Event {
        time: Timestamp::from_secs(1_700_000_000),
        payload,
        ..Event::default()
    };
    Recorded {
        timeline: 0,
        stream: Arc::new(stream("sensor")),
        seq: Seq(0),
        event,
    }
}

fn host(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
}

fn flow(from: u32, to: u32, second: i64, phase: FlowPhase) -> Recorded {
    let time = Timestamp::from_secs(1_700_000_000 + second);
    recorded(Payload::Flow(Box::new(FlowRecord {
        phase,
        key: FlowKey {
            source: host(from),
            destination: host(to),
            ..FlowKey::default()
        },
        first: time,
        last: time,
        forward: FlowDirection {
            packets: 2,
            lengths: Summary {
                sum: 1500,
                ..Summary::default()
            },
            ..Default::default()
        },
        ..FlowRecord::default()
    })))
}

fn end() -> FlowPhase {
    FlowPhase::End(FlowEnd::Finished)
}

pub(super) fn verdict(id: u8, score: f64, title: &str) -> Verdict {
    let time = Timestamp::from_secs(1_700_000_000 + i64::from(id));
    Verdict {
        id: VerdictId([id; 16]),
        revision: 0,
        time,
        updated: time,
        layer: Layer::Fused,
        entity: Entity::Host(host(1)),
        peers: vec![Entity::Host(host(2))],
        technique: Some(Technique::new("T1046")),
        title: title.to_owned(),
        score,
        interval: None,
        evidence: vec![Evidence {
            feature: "fan_out".into(),
            value: 3.0,
            contribution: 1.5,
        }],
        model: ModelRef {
            name: "fusion".into(),
            version: "1".into(),
            digest: Digest::of(b"model"),
        },
        schema: Digest::of(b"schema"),
        events: EventRange {
            stream: stream("sensor"),
            first: Seq(7),
            last: Seq(9),
        },
    }
}

#[test]
fn an_alert_is_shown_with_all_that_is_behind_it() {
    let mut report = Report::new("Lab");
    report.input("lab.pcap");
    report.observe(&flow(1, 2, 0, end()));
    report.verdict(&verdict(1, 0.9, "Scan of one host"));
    let page = report.render();
    for expected in [
        "Lab",
        "lab.pcap",
        "1 alert",
        "Scan of one host",
        "critical",
        "T1046",
        "Network Service Discovery",
        "10.0.0.1",
        "10.0.0.2",
        "0.90",
        "fan_out",
        "+1.50",
        "2023-11-14 22:13:21.000 UTC",
        &Digest::of(b"model").to_string(),
        &Digest::of(b"schema").to_string(),
        "sensor/telemetry@0-00000000000000000000000000000000",
        &VerdictId([1; 16]).to_string(),
    ] {
        assert!(page.contains(expected), "the page lacks {expected:?}");
    }
}

#[test]
fn text_from_the_traffic_stays_text() {
    let mut report = Report::new(HOSTILE);
    report.input(HOSTILE);
    report.observe(&flow(1, 2, 0, end()));
    report.observe(&recorded(Payload::Dns(Box::new(DnsRecord {
        response: true,
        questions: vec![DnsQuestion {
            name: HOSTILE.to_owned(),
            qtype: 1,
            qclass: 1,
        }],
        addresses: vec![host(2)],
        ..DnsRecord::default()
    }))));
    let schema = FeatureSchema::new("s", vec![FeatureDef::new(HOSTILE, HOSTILE, HOSTILE)]);
    report.schema(&schema);
    for (id, score) in [(1, 0.9), (2, 0.1)] {
        report.verdict(&Verdict {
            entity: Entity::Named(HOSTILE.into()),
            peers: vec![Entity::Named(HOSTILE.into())],
            technique: Some(Technique::new(HOSTILE)),
            evidence: vec![Evidence {
                feature: HOSTILE.into(),
                value: f64::NAN,
                contribution: f64::INFINITY,
            }],
            model: ModelRef {
                name: HOSTILE.into(),
                version: HOSTILE.into(),
                digest: Digest::default(),
            },
            schema: schema.digest(),
            events: EventRange {
                stream: stream(HOSTILE),
                first: Seq(0),
                last: Seq(0),
            },
            ..verdict(id, score, HOSTILE)
        });
    }
    let ledger = Ledger::new();
    ledger.received(HOSTILE, 1);
    ledger.dropped(HOSTILE, DropReason::new(HOSTILE), 1);
    report.ledger(&ledger.snapshot());

    let page = report.render();
    assert_eq!(page.matches("<script").count(), 1, "only the page's own script");
    assert_eq!(page.matches("</style").count(), 1, "only the page's own style");
    assert!(!page.contains("<img"));
    assert!(!page.contains("\"'>"), "no attribute can be left");
    assert!(!page.contains(['\u{202e}', '\0']));
    assert!(
        page.matches("&lt;script&gt;").count() >= 15,
        "it is there, as text"
    );
}

#[test]
fn the_page_loads_nothing_and_runs_only_its_own_script() {
    let mut report = Report::new("Lab");
    report.observe(&flow(1, 2, 0, end()));
    report.verdict(&verdict(1, 0.9, "Scan"));
    let page = report.render();
    for foreign in ["://", "url(", "@import", "src=", "<link", "<iframe", " style="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let nonce = page
        .split("script-src 'nonce-")
        .nth(1)
        .and_then(|rest| rest.split('\'').next())
        .expect("a nonce");
    assert_eq!(nonce.len(), 64);
    assert!(page.contains(&format!("<script nonce=\"{nonce}\">")));
    let other = Report::new("Other").render();
    assert!(!other.contains(nonce), "another page has another nonce");
}

#[test]
fn a_score_is_shown_with_its_bounds_where_they_are_known() {
    let mut report = Report::new("Lab");
    let bounds = |low, high| Some(ScoreInterval { low, high });
    report.verdict(&Verdict {
        interval: bounds(0.81, 0.97),
        ..verdict(1, 0.92, "Scan")
    });
    report.verdict(&Verdict {
        interval: bounds(f64::NAN, 0.99),
        ..verdict(2, 0.93, "Guesses")
    });
    report.verdict(&verdict(3, 0.94, "Rule"));
    let page = report.render();
    assert_eq!(
        page.matches("class=\"bounds\"").count(),
        2,
        "in the list and on the card"
    );
    assert_eq!(page.matches("0.81\u{2013}0.97").count(), 2);
    assert!(!page.contains("NaN"));
}

#[test]
fn the_newest_revision_counts_whatever_the_order() {
    let mut report = Report::new("Lab");
    let newest = Verdict {
        revision: 2,
        ..verdict(1, 0.95, "Scan of 200 ports")
    };
    for verdict in [
        verdict(1, 0.75, "Scan of 20 ports"),
        newest,
        Verdict {
            revision: 1,
            ..verdict(1, 0.8, "Scan of 90 ports")
        },
    ] {
        report.verdict(&verdict);
    }
    let page = report.render();
    assert!(page.contains("1 alert") && page.contains("Scan of 200 ports"));
    assert!(!page.contains("Scan of 20 ports") && !page.contains("Scan of 90 ports"));
}

#[test]
fn a_layer_that_was_overruled_raises_no_alert() {
    let mut report = Report::new("Lab");
    report.verdict(&Verdict {
        layer: Layer::Temporal,
        ..verdict(1, 0.99, "Unusual hour")
    });
    report.verdict(&verdict(2, 0.7, "On the threshold"));
    let page = report.render();
    assert!(page.contains("No alert") && page.contains("2 further verdicts"));
    assert!(page.contains("Unusual hour"));
}

#[test]
fn flows_count_once_when_they_end() {
    let mut report = Report::new("Lab");
    for phase in [FlowPhase::Start, FlowPhase::Update, FlowPhase::Update, end()] {
        report.observe(&flow(1, 2, 0, phase));
    }
    let total = report.talkers.total();
    assert_eq!((total.flows, total.packets, total.bytes), (1, 2, 1500));
}

#[test]
fn a_ledger_out_of_balance_is_called_out() {
    let ledger = Ledger::new();
    ledger.received("log/events", 10);
    ledger.delivered("log/events", 10);
    let mut report = Report::new("Lab");
    report.ledger(&ledger.snapshot());
    assert!(report.render().contains("All accounts balance."));

    let mut snapshot = ledger.snapshot();
    snapshot
        .accounts
        .get_mut("log/events")
        .expect("the stage")
        .delivered = 9;
    report.ledger(&snapshot);
    assert!(report.render().contains("1 account out of balance"));
}

#[test]
fn an_empty_report_is_a_page() {
    let page = Report::new("").render();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    assert!(page.contains("No alert"));
}

#[test]
fn absurd_times_and_numbers_are_drawn_somewhere() {
    let mut report = Report::new("Lab");
    report.observe(&recorded(Payload::Flow(Box::new(FlowRecord {
        phase: end(),
        first: Timestamp::MAX,
        last: Timestamp::MIN,
        forward: FlowDirection {
            packets: u64::MAX,
            lengths: Summary {
                sum: u64::MAX,
                ..Summary::default()
            },
            ..Default::default()
        },
        ..FlowRecord::default()
    }))));
    report.observe(&flow(1, 2, 0, end()));
    for (id, score, contribution) in [
        (1, f64::NAN, f64::NAN),
        (2, f64::INFINITY, f64::MAX),
        (3, -1.0, f64::MIN),
        (4, 0.9, f64::MIN),
    ] {
        let evidence = [f64::MAX, contribution].map(|c| Evidence {
            feature: "f".into(),
            value: c,
            contribution: c,
        });
        let time = Timestamp::from_nanos(if id == 2 { i64::MIN } else { i64::MAX });
        report.verdict(&Verdict {
            time,
            updated: time,
            evidence: evidence.to_vec(),
            ..verdict(id, score, "Odd")
        });
    }
    let page = report.render();
    for wrong in ["\"NaN", "\"inf", "\"-inf"] {
        assert!(!page.contains(wrong), "{wrong} in a drawing");
    }
}

#[test]
fn the_same_calls_give_the_same_page() {
    let page = || {
        let mut report = Report::new("Lab");
        for number in 0..500 {
            report.observe(&flow(number % 40, 50 + number % 33, i64::from(number), end()));
        }
        report.verdict(&verdict(1, 0.9, "Scan"));
        report.render()
    };
    assert_eq!(page(), page());
}

#[test]
fn memory_and_page_stay_small_whatever_comes_in() {
    let hostile = HOSTILE.repeat(50);
    let mut report = Report::new(&hostile);
    let schema = FeatureSchema::new("s", vec![FeatureDef::new(&hostile, &hostile, &hostile)]);
    report.schema(&schema);
    let ledger = Ledger::new();
    for number in 0..3000_u32 {
        report.input(&hostile);
        let name: String = format!("{number}{hostile}");
        if number < 200 {
            ledger.received(&name, 40);
            (0..40)
                .for_each(|reason| ledger.dropped(&name, DropReason::new(format!("{reason}{hostile}")), 1));
        }
        let bytes = u128::from(number).to_be_bytes();
        let time = Timestamp::from_secs(1_700_000_000 + i64::from(number));
        report.verdict(&Verdict {
            id: VerdictId(bytes),
            time,
            updated: time,
            entity: Entity::Named(name.as_str().into()),
            peers: vec![Entity::Named(name.as_str().into()); 300],
            technique: Some(Technique::new(&name)),
            evidence: vec![
                Evidence {
                    feature: hostile.as_str().into(),
                    value: 1e300,
                    contribution: 0.1
                };
                300
            ],
            model: ModelRef {
                name: name.as_str().into(),
                version: name.as_str().into(),
                digest: Digest::default(),
            },
            schema: schema.digest(),
            events: EventRange {
                stream: stream(&name),
                first: Seq(0),
                last: Seq(u64::MAX),
            },
            ..verdict(1, 0.71 + f64::from(number) / 1e5, &name)
        });
    }
    for number in 0..60_000 {
        report.observe(&flow(number % 300, number * 7919, i64::from(number), end()));
    }
    report.ledger(&ledger.snapshot());
    let page = report.render();
    assert!(page.len() < 2 << 20, "the page has {} bytes", page.len());
    assert!(page.contains("the strongest are shown") && page.contains("too many pairs"));
}
