//! Agents of the predecessor, with the gRPC, protobuf and cryptography libraries of their Python, against a bus: what they
//! are told, and what whoever reads the bus gets of it.
#![cfg(all(feature = "legacy", feature = "pki"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

#[path = "common/fleet.rs"]
mod fleet;
#[path = "common/python.rs"]
mod python;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use amoskys_core::event::Value as Attribute;
use amoskys_core::{Payload, Shutdown};
use amoskys_transport::bus::{Bus, BusOptions, BusReport};
use amoskys_transport::legacy::{LegacyOptions, LegacyTrust, SharedLegacyTrust};
use fleet::{Fleet, text};
use python::PythonAgent;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

struct Running {
    address: SocketAddr,
    stop: Shutdown,
    task: JoinHandle<BusReport>,
}

impl Running {
    fn start(options: BusOptions) -> Self {
        let (bus, stop) = (Arc::new(Bus::open(options).unwrap()), Shutdown::new());
        let (address, trigger) = (bus.local_addr(), stop.clone());
        Self {
            address,
            stop,
            task: tokio::spawn(async move { bus.serve(trigger).await.unwrap() }),
        }
    }

    async fn stop(self) -> BusReport {
        self.stop.trigger();
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .unwrap()
            .unwrap()
    }
}

fn now_ns() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

/// An agent in Python, and what it needs to know of the site.
struct Agent<'a> {
    python: PythonAgent,
    fleet: &'a Fleet,
}

impl Agent<'_> {
    fn connect(&mut self, bus: &Running, name: &str) {
        let path = |file: String| self.fleet.path(&format!("pki/{file}"));
        let command = json!({
            "do": "connect",
            "address": format!("localhost:{}", bus.address.port()),
            "ca": path("ca.pem".to_owned()),
            "cert": path(format!("{name}.pem")),
            "key": path(format!("{name}.key")),
        });
        self.python.ask(&command);
    }

    /// An envelope, signed by an agent.
    fn make(&mut self, fields: Value, signer: Option<&str>) -> String {
        let key = signer.map(|name| self.fleet.signing_key(name));
        let made = self
            .python
            .ask(&json!({"do": "make", "fields": fields, "sign_with": key}));
        made["bytes"].as_str().unwrap().to_owned()
    }

    fn publish(&mut self, bytes: &str) -> Value {
        self.python.ask(&json!({"do": "publish", "bytes_": bytes}))
    }

    #[track_caller]
    fn expect(&mut self, bytes: &str, status: &str, reason: &str) {
        let answer = self.publish(bytes);
        let said = answer["reason"].as_str().unwrap_or_default();
        assert!(
            answer["status"] == status && said.contains(reason) && said.is_empty() == reason.is_empty(),
            "{answer}"
        );
    }
}

fn flow(key: &str) -> Value {
    json!({
        "version": "1",
        "ts_ns": now_ns(),
        "idempotency_key": key,
        "flow": {
            "src_ip": "10.1.2.3", "dst_ip": "10.9.8.7", "src_port": 40000, "dst_port": 443, "protocol": "TCP",
            "bytes_sent": 1200, "bytes_recv": 34000, "flags": 27,
            "start_time": 1_700_000_000_000_u64, "end_time": 1_700_000_002_500_u64,
        },
    })
}

fn with(mut fields: Value, name: &str, value: Value) -> Value {
    fields[name] = value;
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_predecessor_is_heard_believed_and_told_the_truth() {
    let Some(python) = PythonAgent::start() else {
        return;
    };
    let fleet = Fleet::new(&["flowagent-1", "flowagent-2"], &["stranger"]);
    let bus = Running::start(fleet.bus_options(fleet.legacy()));
    let mut agent = Agent {
        python,
        fleet: &fleet,
    };
    agent.connect(&bus, "flowagent-1");

    let first = agent.make(flow("a-1"), Some("flowagent-1"));
    agent.expect(&first, "OK", "");
    let event = &fleet.events(bus.address, 1).await[0];
    assert_eq!(event.device.as_str(), "flowagent-1");
    assert_eq!(text(event, "legacy.idempotency_key"), "a-1");
    assert_eq!(event.attributes["legacy.signed"], Attribute::Bool(true));
    let Payload::Flow(record) = &event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(record.key.to_string(), "10.1.2.3:40000 > 10.9.8.7:443/6");
    assert_eq!((record.forward.bytes(), record.backward.bytes()), (1200, 34000));
    assert_eq!(record.duration(), Duration::from_millis(2500));

    // Again, and once more with other content: it is the key that counts.
    agent.expect(&first, "OK", "");
    let other = agent.make(with(flow("a-1"), "version", json!("2")), Some("flowagent-1"));
    agent.expect(&other, "OK", "");

    // Of the generation that has the flow as payload, and with what is known of the envelope before.
    let mut old = flow("a-2");
    old["payload_flow"] = old["flow"].take();
    old.as_object_mut().unwrap().remove("flow");
    let signature = &agent.python.ask(&json!({
        "do": "sign", "bytes_": first, "key": fleet.signing_key("flowagent-1"),
    }))["sig"];
    let old = agent.make(with(old, "prev_sig", signature.clone()), Some("flowagent-1"));
    agent.expect(&old, "OK", "");

    // Altered, by another, not signed.
    let mut altered = flow("a-3");
    altered["flow"]["dst_port"] = json!(444);
    let sound = agent.make(flow("a-3"), Some("flowagent-1"));
    let signature = sound_signature(&mut agent, &sound);
    let altered = agent.make(with(altered, "sig", signature), None);
    agent.expect(&altered, "UNAUTHORIZED", "signature");
    let foreign = agent.make(flow("a-3"), Some("flowagent-2"));
    agent.expect(&foreign, "UNAUTHORIZED", "signature");
    let unsigned = agent.make(flow("a-3"), None);
    agent.expect(&unsigned, "UNAUTHORIZED", "not signed");

    // Too large, by the number of bytes, and just not.
    for (len, status, reason) in [
        (131_072, "OK", ""),
        (131_073, "INVALID", "131072"),
        (5 << 20, "INVALID", "131072"),
    ] {
        let key = format!("large-{len}");
        let fitting = padded(&mut agent, &key, len);
        assert_eq!(fitting.len() / 2, len);
        agent.expect(&fitting, status, reason);
    }

    // Out of time, and empty.
    const DAY: u64 = 86_400 * 1_000_000_000;
    for (name, value, reason) in [
        ("ts_ns", json!(now_ns() - 8 * DAY), "so old"),
        ("ts_ns", json!(0), "so old"),
        ("ts_ns", json!(now_ns() + DAY), "ahead"),
        ("ts_ns", json!(u64::MAX), "ahead"),
        ("idempotency_key", json!(""), "idempotency_key"),
    ] {
        let envelope = agent.make(with(flow("a-4"), name, value), Some("flowagent-1"));
        agent.expect(&envelope, "INVALID", reason);
    }
    let empty = json!({"version": "1", "ts_ns": now_ns(), "idempotency_key": "a-5"});
    let empty = agent.make(empty, Some("flowagent-1"));
    agent.expect(&empty, "INVALID", "neither");
    agent.expect("ffffff", "INVALID", "no Envelope");

    // What is no call of this kind fails as a call.
    let answer = agent
        .python
        .ask(&json!({"do": "call", "path": "/messaging.EventBus/Subscribe"}));
    assert_eq!(answer["error"], "UNIMPLEMENTED", "{answer}");

    // Others: one that is not in the trust map, and one whose keys are the same.
    agent.connect(&bus, "stranger");
    let strange = agent.make(flow("b-1"), Some("stranger"));
    agent.expect(&strange, "UNAUTHORIZED", "trust map");
    agent.connect(&bus, "flowagent-2");
    agent.expect(&first, "UNAUTHORIZED", "signature");
    let same_key = agent.make(flow("a-1"), Some("flowagent-2"));
    agent.expect(&same_key, "OK", "");

    let events = fleet.events(bus.address, 4).await;
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.device.as_str(), text(event, "legacy.idempotency_key")))
        .collect();
    assert_eq!(
        seen,
        [
            ("flowagent-1", "a-1"),
            ("flowagent-1", "a-2"),
            ("flowagent-1", "large-131072"),
            ("flowagent-2", "a-1"),
        ]
    );
    assert_eq!(text(&events[1], "legacy.chain"), "known");
    assert_eq!(
        (&events[0].payload, events[0].id.ordinal != events[3].id.ordinal),
        (&event.payload, true)
    );

    let report = bus.stop().await;
    let account = &report.ledger.accounts["bus/bus-gateway"];
    assert!(account.is_balanced(), "{account:?}");
    assert_eq!(account.delivered, 4);
    let dropped: Vec<_> = account
        .dropped
        .iter()
        .map(|(reason, count)| (reason.as_str(), *count))
        .collect();
    assert_eq!(dropped, [("duplicate", 2), ("refused", 14)]);
}

fn sound_signature(agent: &mut Agent<'_>, envelope: &str) -> Value {
    let key = agent.fleet.signing_key("flowagent-1");
    agent
        .python
        .ask(&json!({"do": "sign", "bytes_": envelope, "key": key}))["sig"]
        .clone()
}

/// An envelope of so many bytes.
fn padded(agent: &mut Agent<'_>, key: &str, len: usize) -> String {
    let mut fields = flow(key);
    let mut make = |padding: usize| {
        // Not signed, and not known: any length will do.
        fields["prev_sig"] = json!("00".repeat(padding));
        agent.make(fields.clone(), Some("flowagent-1"))
    };
    let bare = make(len - 400).len() / 2;
    make(len - 400 + (len - bare))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_bus_makes_nothing_be_stored_twice() {
    let Some(python) = PythonAgent::start() else {
        return;
    };
    let fleet = Fleet::new(&["flowagent-1"], &[]);
    let mut agent = Agent {
        python,
        fleet: &fleet,
    };
    let mut envelopes = Vec::new();
    for round in 0..3 {
        let bus = Running::start(fleet.bus_options(fleet.legacy()));
        agent.connect(&bus, "flowagent-1");
        for number in 0..20 {
            envelopes.push(agent.make(flow(&format!("{round}-{number}")), Some("flowagent-1")));
        }
        // All of the rounds before once more, and those of this one twice at the same time.
        let twice: Vec<_> = envelopes.iter().chain(&envelopes).collect();
        let answers = agent
            .python
            .ask(&json!({"do": "publish_many", "envelopes": twice}));
        let statuses = answers["statuses"].as_array().unwrap();
        assert!(statuses.iter().all(|status| *status == 0), "{answers}");
        if round == 2 {
            fleet.events(bus.address, 60).await;
        }
        bus.stop().await;
        if round == 1 {
            // Without its files, it is read from the log.
            std::fs::remove_dir_all(fleet.path("bus/gateway")).unwrap();
        }
    }
    let report = amoskys_transport::verify::Verifier::new(fleet.path("bus"))
        .trust(fleet.readers_trust())
        .run()
        .unwrap();
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_is_what_python_signs_however_it_was_written() {
    let Some(python) = PythonAgent::start() else {
        return;
    };
    let fleet = Fleet::new(&["flowagent-1"], &[]);
    let bus = Running::start(fleet.bus_options(fleet.legacy()));
    let mut agent = Agent {
        python,
        fleet: &fleet,
    };
    agent.connect(&bus, "flowagent-1");
    let key = |number: u8, wire: u8| number << 3 | wire;
    let field = |number: u8, value: &[u8]| {
        let mut bytes = vec![key(number, 2), u8::try_from(value.len()).unwrap()];
        bytes.extend_from_slice(value);
        bytes
    };
    let mut time = vec![key(2, 0)];
    prost::encoding::encode_varint(now_ns(), &mut time);
    let unknown = [field(15, b"newer"), vec![0x85, 0x02, 1, 2, 3, 4]].concat();
    let port = [key(3, 0), 0xb9, 0x60];
    let (src, dst, proto) = (field(1, b"10.0.0.1"), field(2, b"10.0.0.2"), field(13, b"UDP"));
    let flows: Vec<(&str, Vec<u8>)> = vec![
        ("in order", [&src[..], &dst, &port, &proto].concat()),
        ("out of order", [&proto[..], &port, &dst, &src].concat()),
        ("twice", [&src[..], &dst, &field(1, b"10.0.0.3"), &port].concat()),
        (
            "defaults written",
            [&src[..], &dst, &[key(4, 0), 0, key(9, 0), 0], &field(5, b"")].concat(),
        ),
        (
            "unknown in the middle",
            [&src[..], &unknown, &dst, &port, &unknown].concat(),
        ),
        (
            "long numbers",
            [&src[..], &dst, &[key(3, 0), 0xb9, 0xe0, 0x80, 0x00]].concat(),
        ),
        ("empty", vec![]),
    ];
    let mut count = 0;
    for (what, flow) in &flows {
        let name = field(3, what.as_bytes());
        let version = field(1, b"1");
        let flow = field(4, flow);
        for (how, bytes) in [
            ("in order", [&version[..], &time, &name, &flow].concat()),
            ("flow first", [&flow[..], &name, &time, &version].concat()),
            (
                "unknown between",
                [&version[..], &unknown, &time, &flow, &unknown, &name].concat(),
            ),
            ("no version", [&time[..], &name, &flow].concat()),
            (
                "flow in two parts",
                [&flow[..], &time, &name, &field(4, &dst)].concat(),
            ),
        ] {
            // A key of its own for each.
            let bytes = [bytes, field(3, format!("{what}, {how}").as_bytes())].concat();
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let signed = agent.python.ask(&json!({
                "do": "sign", "bytes_": hex(&bytes), "key": fleet.signing_key("flowagent-1"),
            }));
            let signature = signed["sig"].as_str().unwrap();
            let answer = agent.publish(&format!("{}2a40{signature}", hex(&bytes)));
            assert_eq!(answer["status"], "OK", "{what}, {how}: {answer}, signed {signed}");
            count += 1;
        }
    }
    let events = fleet.events(bus.address, count).await;
    let with_unknown = |what: &str| {
        let event = events
            .iter()
            .find(|event| text(event, "legacy.idempotency_key") == format!("{what}, in order"));
        event.unwrap().attributes.get("legacy.unknown").cloned()
    };
    let twice = Attribute::Bytes([&unknown[..], &unknown].concat());
    assert_eq!(with_unknown("unknown in the middle"), Some(twice));
    assert_eq!(with_unknown("in order"), None);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_envelopes_are_taken_if_the_site_says_so_and_trust_is_replaced_while_it_runs() {
    let Some(python) = PythonAgent::start() else {
        return;
    };
    let fleet = Fleet::new(&["flowagent-1"], &["flowagent-2"]);
    let trust = SharedLegacyTrust::new(LegacyTrust::load(fleet.trust_map()).unwrap());
    let bus = Running::start(fleet.bus_options(LegacyOptions::new(trust.clone()).allow_unsigned(true)));
    let mut agent = Agent {
        python,
        fleet: &fleet,
    };
    agent.connect(&bus, "flowagent-1");
    let unsigned = agent.make(flow("1"), None);
    agent.expect(&unsigned, "OK", "");
    // A wrong signature is worse than none.
    let wrong = agent.make(flow("2"), Some("flowagent-2"));
    agent.expect(&wrong, "UNAUTHORIZED", "signature");
    agent.connect(&bus, "flowagent-2");
    agent.expect(&unsigned, "UNAUTHORIZED", "trust map");

    let pem = std::fs::read(fleet.path("pki/flowagent-2.ed25519.pub")).unwrap();
    let key = amoskys_transport::PublicKey::parse(&pem).unwrap();
    trust.replace(LegacyTrust::new().allow("flowagent-2", key));
    let signed = agent.make(flow("2"), Some("flowagent-2"));
    agent.expect(&signed, "OK", "");
    agent.connect(&bus, "flowagent-1");
    agent.expect(&unsigned, "UNAUTHORIZED", "trust map");
    let events = fleet.events(bus.address, 2).await;
    assert_eq!(events[0].attributes["legacy.signed"], Attribute::Bool(false));
    bus.stop().await;

    // A fleet that never signed: whoever has a certificate.
    let bus = Running::start(fleet.bus_options(LegacyOptions::unsigned()));
    agent.connect(&bus, "flowagent-2");
    let unsigned = agent.make(flow("3"), None);
    agent.expect(&unsigned, "OK", "");
    agent.expect(&signed, "UNAUTHORIZED", "no key");
    // And nobody without.
    let without = json!({
        "do": "connect",
        "address": format!("localhost:{}", bus.address.port()),
        "ca": fleet.path("pki/ca.pem"),
    });
    agent.python.ask(&without);
    let answer = agent
        .python
        .ask(&json!({"do": "publish", "bytes_": unsigned, "timeout": 3}));
    assert_eq!(answer["status"], Value::Null, "{answer}");
    bus.stop().await;
}
