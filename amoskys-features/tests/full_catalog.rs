//! Every feature is computed from real events, lies in its stated range, and says something somewhere.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use amoskys_collectors::flow::FlowCollector;
use amoskys_core::event::{
    ArpOperation, ArpRecord, DnsStats, FlowEnd, FlowTunnel, HttpRequest, IcmpStats, MacAddr, Metric,
    MetricKind, Payload, ProcessAction, ProcessEvent, SyscallEvent, TcpState, TlsHello,
};
use amoskys_core::{Collector as _, Event, Extractor, FeatureVector, Name, Recorded, Timestamp};
use amoskys_features::extract::{
    CatalogReference, ExtractConfig, FlowExtractor, ImageConfig, ImageExtractor, Kind, NetworkExtractor,
    reference,
};
use common::{Sensor, bits, ended, ms, run, tcp};

/// The events of a capture, as a sensor would record them.
fn capture(path: PathBuf) -> Vec<Recorded> {
    let mut sensor = Sensor::new("sensor");
    let mut collector = FlowCollector::from_files([path]).expect("the capture");
    let mut events = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        while let Some(batch) = collector.next_batch().await.expect("a readable capture") {
            for event in batch.events {
                let mut recorded = sensor.event(event.time, event.payload.clone());
                recorded.event = event;
                events.push(recorded);
            }
        }
    });
    events
}

fn lab() -> Vec<Recorded> {
    capture(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/lab.pcap"))
}

/// What `data/record_processes.py` has recorded, and one event that nothing ordinary does of each kind.
fn processes() -> Vec<Recorded> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/processes.txt");
    let text = std::fs::read_to_string(path).expect("the recording");
    let mut sensor = Sensor::new("host");
    let (mut events, mut parents) = (Vec::new(), BTreeMap::new());
    let mut tell = |time: Timestamp, payload: Payload| {
        let mut recorded = sensor.event(time, payload);
        recorded.event.device = Name::from("web-1");
        events.push(recorded);
    };
    let mut last = Timestamp::default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let seconds: f64 = fields[1].parse().expect("a time");
        let time = Timestamp::from_nanos(1_700_000_000_000_000_000 + (seconds * 1e9) as i64);
        last = time;
        let pid: u32 = fields[2].parse().expect("a process");
        if fields[0] == "calls" {
            let call = SyscallEvent {
                pid,
                tid: pid,
                command: fields[3].to_owned(),
                architecture: "x86_64".to_owned(),
                numbers: fields[4]
                    .split(',')
                    .map(|number| number.parse().expect("a number"))
                    .collect(),
                return_value: Some(if pid.is_multiple_of(2) { 0 } else { -2 }),
                ..SyscallEvent::default()
            };
            tell(time, Payload::Syscall(Box::new(call)));
            continue;
        }
        let mut process = ProcessEvent {
            pid,
            uid: 1000,
            parent_pid: parents.get(&pid).copied().unwrap_or(1),
            working_directory: "/home/a".to_owned(),
            ..ProcessEvent::default()
        };
        match fields[0] {
            "fork" => {
                process.action = ProcessAction::Fork;
                process.parent_pid = fields[3].parse().expect("a process");
                parents.insert(pid, process.parent_pid);
            }
            "exec" => {
                process.action = ProcessAction::Exec;
                process.executable = fields[4].to_owned();
                process.arguments = fields[5..].iter().map(|&argument| argument.to_owned()).collect();
            }
            _ => {
                process.action = ProcessAction::Exit;
                process.exit_code = fields[3].parse().ok();
                process.exit_signal = fields[3].starts_with("SIG").then_some(15);
            }
        }
        tell(time, Payload::Process(Box::new(process)));
    }
    for (n, (executable, arguments)) in [
        ("/dev/shm/.x", &["kworker", "http://10.0.0.9/a"][..]),
        ("/usr/bin/curl", &["curl", "-o", "/tmp/a", "10.0.0.9"]),
        (
            "/memfd:a (deleted)",
            &["a", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9w"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let time = last.plus(std::time::Duration::from_millis(n as u64));
        let process = |action, uid| ProcessEvent {
            action,
            pid: 70_000 + n as u32,
            parent_pid: 1,
            uid,
            executable: executable.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            container: "c".to_owned(),
            ..ProcessEvent::default()
        };
        tell(time, Payload::Process(Box::new(process(ProcessAction::Exec, 33))));
        tell(
            time,
            Payload::Process(Box::new(process(ProcessAction::Credentials, 0))),
        );
        tell(time, Payload::Process(Box::new(process(ProcessAction::Exec, 0))));
    }
    // Calls that the recorded programs do not make: ptrace, bind, accept, setuid, kill, chmod, rename, mount, init_module,
    // pipe and poll.
    let rare = SyscallEvent {
        pid: 70_000,
        tid: 70_000,
        command: "x".to_owned(),
        architecture: "x86_64".to_owned(),
        numbers: [
            [
                101, 41, 49, 43, 42, 105, 62, 90, 82, 165, 175, 22, 7, 10, 87, 33, 16, 9,
            ]
            .as_slice(),
            &[0; 40],
        ]
        .concat(),
        ..SyscallEvent::default()
    };
    tell(last, Payload::Syscall(Box::new(rare)));
    let clock = |seconds| last.plus(std::time::Duration::from_secs(seconds));
    tell(clock(100), Payload::Punctuation(Default::default()));
    events
}

/// A gauge with a season and a fall, and a counter that begins again, every five seconds for two hours.
fn measurements() -> Vec<Recorded> {
    let mut sensor = Sensor::new("switch");
    let mut events = Vec::new();
    for n in 0..1440_i64 {
        let time = Timestamp::from_secs(1_700_000_000 + 5 * n + n * n % 5);
        let value = if n == 725 {
            -40.0
        } else {
            (f64::from((n % 97) as u32) * 0.1).sin() * 10.0
        };
        let value = if n % 50 < 3 { 0.0 } else { value };
        for (name, kind, value) in [
            ("load", MetricKind::Gauge, value),
            (
                "if_in_octets",
                MetricKind::Counter,
                f64::from(((n * 1500 + n * n) % 900_000) as u32),
            ),
        ] {
            let metric = Metric {
                name: name.to_owned(),
                kind,
                value,
                labels: vec![("interface".to_owned(), "eth0".to_owned())],
                ..Metric::default()
            };
            events.push(sensor.event(time, Payload::Metric(Box::new(metric))));
        }
    }
    events.push(sensor.clock((1_700_000_000 + 100_000) * 1000));
    events
}

/// Flows of the capture that speak TLS and HTTP as a meter that looks into them would tell.
fn in_the_clear(events: &[Recorded]) -> Vec<Recorded> {
    let mut events = events.to_vec();
    for (n, event) in events.iter_mut().enumerate() {
        let Event {
            payload: Payload::Flow(flow),
            ..
        } = &mut event.event
        else {
            continue;
        };
        let n = n % 7;
        if matches!(flow.key.destination_port, 443 | 53) && flow.tls.is_none() {
            flow.tls = Some(TlsHello {
                quic: n == 1,
                version: if n == 2 { 0x0301 } else { 0x0304 },
                server_name: if n == 3 {
                    String::new()
                } else {
                    format!("w{n}.example.com")
                },
                alpn: if n == 4 {
                    String::new()
                } else {
                    "h2,http/1.1".to_owned()
                },
                ja4: format!("t13d1516h2_8daaf6152771_{n:012}"),
            });
        } else if flow.key.destination_port == 80 && flow.http.is_none() {
            flow.http = Some(HttpRequest {
                method: if n == 1 { "PUT" } else { "GET" }.to_owned(),
                host: if n == 2 {
                    "10.0.0.1".to_owned()
                } else {
                    "example.com".to_owned()
                },
                user_agent: if n == 3 {
                    String::new()
                } else {
                    format!("agent/{n}")
                },
            });
        }
    }
    events
}

/// What the small network of the laboratory does not show: tunnels, fragments, congestion, servers that answer wrong.
fn odd() -> Vec<Recorded> {
    let mut sensor = Sensor::new("odd");
    let mut events = Vec::new();
    for n in 0..12_u64 {
        let at = 1000 + 200 * n as i64;
        let mut flow = tcp(n, 1, 2, 8000, at, 6, 5);
        flow.vlan = Some(7);
        flow.tunnel = Some(FlowTunnel::default());
        for direction in [&mut flow.forward, &mut flow.backward] {
            direction.fragments = 2;
            direction.entropy = Some(7.5);
            (direction.ttl_min, direction.ttl_max) = (63, 64);
        }
        flow.forward.first_bytes = b"POST /a HTTP/1.1".to_vec();
        flow.backward.first_bytes = b"HTTP/1.1 500 Bad".to_vec();
        flow.http = Some(HttpRequest {
            method: if n % 2 == 0 { "POST" } else { "GET" }.to_owned(),
            host: "a".to_owned(),
            user_agent: if n % 3 == 0 {
                String::new()
            } else {
                format!("b{n}")
            },
        });
        flow.icmp = Some(IcmpStats {
            altered_replies: n,
            unsolicited_replies: n,
            time_exceeded: n,
            redirects: n,
            ..IcmpStats::default()
        });
        flow.dns = Some(DnsStats {
            errors: 1,
            ..DnsStats::default()
        });
        if let Some(stats) = &mut flow.tcp {
            for direction in [&mut stats.forward, &mut stats.backward] {
                (direction.flags.urg, direction.flags.ece, direction.flags.cwr) = (1, 1, 1);
                (
                    direction.retransmitted,
                    direction.out_of_order,
                    direction.zero_windows,
                ) = (1, 1, 1);
            }
        }
        if n % 2 == 0 {
            flow.key.source_port = flow.key.destination_port;
        }
        let state = if n % 3 == 0 {
            TcpState::SynReceived
        } else {
            TcpState::Midstream
        };
        let end = if n % 3 == 0 {
            FlowEnd::Idle
        } else {
            FlowEnd::Active
        };
        events.push(sensor.flow(at + 100, ended(flow, end, state, at + 100)));
        let arp = ArpRecord {
            operation: ArpOperation::Request,
            sender_ip: [10, 0, 0, 1].into(),
            target_ip: [10, 0, 0, 1].into(),
            sender_mac: MacAddr([2, 0, 0, 0, 0, n as u8]),
            ..ArpRecord::default()
        };
        events.push(sensor.event(ms(at + 100), Payload::Arp(Box::new(arp))));
        let mut question = sensor.query(at + 100, 1, "1.0.0.10.in-addr.arpa", 12);
        events.push(question.clone());
        if let Payload::Dns(record) = &mut question.event.payload {
            record.key = record.key.reversed();
            (record.response, record.rcode, record.truncated) = (true, 2, true);
        }
        events.push(question);
    }
    events.push(sensor.clock(100_000));
    events
}

/// Vectors of all catalogs about these events.
fn vectors(of: &[&[Recorded]]) -> Vec<FeatureVector> {
    let mut all = Vec::new();
    for events in of {
        let mut extractors: [Box<dyn Extractor>; 3] = [
            Box::new(FlowExtractor::new().with_updates(true)),
            Box::new(ImageExtractor::new(ImageConfig::default())),
            Box::new(NetworkExtractor::full(ExtractConfig::default())),
        ];
        for extractor in &mut extractors {
            for event in *events {
                extractor.observe(event, &mut all);
            }
        }
    }
    all
}

/// Which catalog a vector is of: the name of its schema without the length of the window.
fn catalog_of<'a>(catalogs: &'a [CatalogReference], vector: &FeatureVector) -> &'a CatalogReference {
    let schema = vector.schema.name().to_string();
    let name = schema.split('.').next().unwrap_or_default();
    catalogs
        .iter()
        .find(|catalog| catalog.name == name)
        .expect("a catalog that is listed")
}

/// Features that are zero or unknown in all vectors, after a look at their ranges.
fn silent(vectors: &[FeatureVector]) -> Vec<String> {
    let catalogs = reference();
    let mut said: BTreeSet<(&str, usize)> = BTreeSet::new();
    let mut outside = BTreeSet::new();
    for vector in vectors {
        let catalog = catalog_of(&catalogs, vector);
        assert_eq!(vector.values.len(), catalog.features.len());
        for (at, (feature, &value)) in catalog.features.iter().zip(&vector.values).enumerate() {
            if value.is_nan() {
                continue;
            }
            let (low, high) = feature.range;
            let is_flag = value == 0.0 || value == 1.0;
            let is_within = value.is_finite() && value >= low - 1e-9 && value <= high + 1e-9;
            if !is_within || feature.kind == Kind::Flag && !is_flag {
                outside.insert(format!("{}.{}: {low} to {high}", catalog.name, feature.name));
            }
            if value != 0.0 {
                said.insert((catalog.name, at));
            }
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
    let all = catalogs.iter().flat_map(|catalog| {
        catalog
            .features
            .iter()
            .enumerate()
            .map(move |each| (catalog.name, each))
    });
    all.filter(|(catalog, (at, _))| !said.contains(&(*catalog, *at)))
        .map(|(catalog, (_, feature))| format!("{catalog}.{}", feature.name))
        .collect()
}

#[test]
fn every_feature_says_something_within_its_range() {
    let lab = lab();
    let clear = in_the_clear(&lab);
    let vectors = vectors(&[&lab, &clear, &processes(), &measurements(), &odd()]);
    assert_eq!(silent(&vectors), [""; 0], "features that are zero on everything");
}

/// On captures of many origins, nearly every feature of the network says something, without help.
#[test]
fn features_of_many_captures() {
    let Some(data) = std::env::var_os("AMOSKYS_DATA") else {
        println!("skipped: AMOSKYS_DATA is not set");
        return;
    };
    let mut captures = Vec::new();
    for folder in ["benign", "attack"] {
        let folder = Path::new(&data).join("pcap").join(folder);
        for entry in std::fs::read_dir(folder).expect("the captures") {
            captures.push(entry.expect("a capture").path());
        }
    }
    captures.sort();
    let events: Vec<Vec<Recorded>> = captures.into_iter().map(capture).chain([lab()]).collect();
    let events: Vec<&[Recorded]> = events.iter().map(Vec::as_slice).collect();
    let silent = silent(&vectors(&events));
    let of_network = |name: &&String| {
        !["process.", "syscall.", "series."]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let silent: Vec<&String> = silent.iter().filter(of_network).collect();
    println!(
        "{} features say nothing about the captures: {silent:?}",
        silent.len()
    );
    // What is left needs traffic that none of them hold: tunnels, redirects, POST, QUIC.
    assert!(silent.len() <= 24, "{silent:?}");
}

#[test]
fn a_restart_changes_no_bit_of_any_catalog() {
    let events = [lab(), processes(), measurements()].concat();
    type Make = fn() -> Box<dyn Extractor>;
    let makes: [Make; 2] = [
        || Box::new(ImageExtractor::new(ImageConfig::default())),
        || Box::new(NetworkExtractor::full(ExtractConfig::default())),
    ];
    for make in makes {
        let whole = run(&mut make(), &events);
        let (mut features, mut extractor) = (Vec::new(), make());
        for part in events.chunks(events.len() / 5) {
            let mut next = make();
            next.restore(&extractor.snapshot().unwrap()).unwrap();
            extractor = next;
            features.extend(run(&mut extractor, part));
        }
        assert!(!whole.is_empty() && bits(&features) == bits(&whole));
    }
}
