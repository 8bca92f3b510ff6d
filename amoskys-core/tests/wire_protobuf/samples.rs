//! One event of every kind with every field set, always the same: the content of the fixtures.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amoskys_core::Position;
use amoskys_core::event::*;
use amoskys_core::id::{Digest, Epoch, EventId, Name, Seq, StreamId};
use amoskys_core::ledger::{Account, DropReason, LedgerSnapshot};
use amoskys_core::time::Timestamp;

const START: i64 = 1_700_000_000_123_456_789;

/// The events, in order of their payloads' field numbers.
pub(crate) fn events() -> Vec<Event> {
    payloads()
        .into_iter()
        .enumerate()
        .map(|(at, payload)| event(at as u64, payload))
        .collect()
}

pub(crate) fn event(ordinal: u64, payload: Payload) -> Event {
    let attributes = [
        ("bool", Value::Bool(true)),
        ("bytes", Value::Bytes(vec![0, 255])),
        ("float", Value::Float(-0.0)),
        ("int", Value::Int(i64::MIN)),
        ("text", Value::Text("näher".to_owned())),
        ("uint", Value::Uint(u64::MAX)),
    ];
    Event {
        id: EventId {
            origin: 0x0123_4567_89ab_cdef,
            ordinal,
        },
        time: Timestamp::from_nanos(START),
        device: Name::from("pump-7"),
        source: Name::from(payload.kind()),
        class: Class::Alert,
        payload,
        attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
        unknown: UnknownFields::default(),
    }
}

fn payloads() -> Vec<Payload> {
    vec![
        Payload::Flow(Box::new(flow())),
        Payload::Dns(Box::new(dns())),
        Payload::Arp(Box::new(ArpRecord {
            operation: ArpOperation::Reply,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
            frame_source: MacAddr([2, 0, 0, 0, 0, 3]),
            frame_destination: MacAddr::BROADCAST,
            vlan: Some(4095),
        })),
        Payload::Process(Box::new(ProcessEvent {
            action: ProcessAction::Exit,
            pid: 4242,
            start: Timestamp::from_nanos(START + 1),
            parent_pid: 1,
            parent_start: Timestamp::from_nanos(-5),
            uid: 1000,
            gid: u32::MAX,
            executable: "/usr/bin/curl".to_owned(),
            arguments: vec!["curl".to_owned(), String::new(), "-s".to_owned()],
            working_directory: "/tmp".to_owned(),
            container: "4f0c".to_owned(),
            exit_code: Some(-1),
            exit_signal: Some(0),
            ..ProcessEvent::default()
        })),
        Payload::Syscall(Box::new(SyscallEvent {
            pid: 4242,
            start: Timestamp::from_nanos(START + 2),
            tid: 4243,
            command: "curl".to_owned(),
            architecture: "x86_64".to_owned(),
            numbers: vec![0, 1, 300, u32::MAX],
            return_value: Some(-13),
            ..SyscallEvent::default()
        })),
        Payload::Metric(Box::new(Metric {
            name: "if_in_octets".to_owned(),
            kind: MetricKind::Counter,
            value: 1.5e300,
            unit: "By".to_owned(),
            labels: vec![
                ("if".to_owned(), "eth0".to_owned()),
                ("if".to_owned(), "eth0".to_owned()),
            ],
        })),
        Payload::Log(Box::new(LogRecord {
            level: LogLevel::Debug,
            facility: "auth".to_owned(),
            program: "sshd".to_owned(),
            pid: 77,
            message: "Failed password for root".to_owned(),
        })),
        Payload::Alarm(Box::new(Alarm {
            code: "1.3.6.1.6.3.1.1.5.3".to_owned(),
            state: AlarmState::Cleared,
            severity: Severity::High,
            message: "link is up".to_owned(),
        })),
        Payload::DeviceStatus(Box::new(DeviceStatus {
            state: DeviceState::Degraded,
            address: "10.0.0.9".to_owned(),
            model: "Infusomat".to_owned(),
            firmware: "686U".to_owned(),
            uptime_seconds: Some(0),
            detail: "battery low".to_owned(),
        })),
        Payload::Finding(Box::new(Finding {
            tool: "aide".to_owned(),
            rule: "changed".to_owned(),
            title: "A file was changed".to_owned(),
            severity: Severity::Medium,
            technique: Some(Technique::new("T1565.001")),
            subject: "/etc/passwd".to_owned(),
            detail: "size 1 to 2".to_owned(),
        })),
        Payload::Audit(Box::new(AuditEntry {
            actor: "CN=ops".to_owned(),
            action: "trust_map.reload".to_owned(),
            object: "trust.json".to_owned(),
            outcome: AuditOutcome::Failure,
            reason: "not signed".to_owned(),
        })),
        Payload::Loss(Box::new(LossReport {
            count: 300,
            unit: "packets".to_owned(),
            reason: "kernel".to_owned(),
            stage: "af_packet".to_owned(),
        })),
        Payload::Gap(Box::new(Gap {
            stream: stream(Class::Bulk),
            first: Seq(100),
            last: Seq(u64::MAX),
            before: Digest([7; 32]),
            end: Digest([8; 32]),
            reason: GapReason::LogLost,
        })),
        Payload::Punctuation(Punctuation {
            lateness_ns: 5_000_000_000,
            end: true,
        }),
        Payload::Verdict(Box::new(verdict())),
        Payload::Protected(Box::new(Protected {
            key: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
            scheme: ProtectionScheme::HmacSha256Aes256Gcm,
            sealed: (0..60).collect(),
        })),
    ]
}

fn stream(class: Class) -> StreamId {
    StreamId {
        agent: Name::from("gate-1"),
        epoch: Epoch {
            counter: 3,
            random: 1 << 127 | 9,
        },
        class,
    }
}

fn key() -> FlowKey {
    FlowKey {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        source_port: 40_000,
        destination: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        destination_port: 443,
        protocol: 6,
    }
}

fn summary(seed: u64) -> Summary {
    Summary {
        count: seed,
        sum: seed * 1000,
        min: seed + 1,
        max: seed * 100,
        std_dev: seed as f64 / 3.0,
    }
}

fn direction(seed: u64) -> FlowDirection {
    FlowDirection {
        packets: seed,
        data_packets: seed + 1,
        fragments: seed + 2,
        frame_bytes: seed + 3,
        header_bytes: seed + 4,
        lengths: summary(seed + 5),
        payload: summary(seed + 6),
        gaps: summary(seed + 7_000_000),
        ttl_min: 63,
        ttl_max: 255,
        first_bytes: vec![0x16, 3, 1, 0],
        ..FlowDirection::default()
    }
}

fn tcp_direction(seed: u64) -> TcpDirection {
    TcpDirection {
        flags: TcpFlagCounts {
            fin: seed,
            syn: seed + 1,
            rst: seed + 2,
            psh: seed + 3,
            ack: seed + 4,
            urg: seed + 5,
            ece: seed + 6,
            cwr: seed + 7,
        },
        initial_window: Some(65_535),
        mss: Some(1460),
        window_scale: Some(0),
        retransmitted: seed + 8,
        out_of_order: seed + 9,
        zero_windows: seed + 10,
    }
}

/// A flow of everything at once, as no packets would give it.
pub(crate) fn flow() -> FlowRecord {
    FlowRecord {
        flow: 123_456,
        phase: FlowPhase::End(FlowEnd::Reset),
        key: key(),
        first: Timestamp::from_nanos(START),
        last: Timestamp::from_nanos(START + 3_000_000_000),
        interface: 2,
        vlan: Some(10),
        inner_vlan: Some(0),
        source_mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        destination_mac: Some(MacAddr::default()),
        forward: direction(10),
        backward: direction(200),
        gaps: summary(17),
        active: summary(18),
        idle: summary(19),
        tcp: Some(TcpStats {
            state: TcpState::Refused,
            syn: Some(Timestamp::from_nanos(START)),
            syn_ack: Some(Timestamp::from_nanos(0)),
            ack: Some(Timestamp::from_nanos(START + 2)),
            forward: tcp_direction(1),
            backward: tcp_direction(1000),
        }),
        icmp: Some(IcmpStats {
            first_type: 8,
            first_code: 255,
            echo_requests: 1,
            echo_replies: 2,
            altered_replies: 3,
            unsolicited_replies: 4,
            unreachable: 5,
            time_exceeded: 6,
            redirects: 7,
            other: 8,
        }),
        dns: Some(DnsStats {
            queries: 1,
            responses: 2,
            nx_domain: 3,
            errors: 4,
            answers: 5,
            first_name: "example.com".to_owned(),
            first_type: 28,
        }),
        sequence: vec![
            PacketSample {
                backward: false,
                length: 60,
                gap_us: 0,
            },
            PacketSample {
                backward: true,
                length: u16::MAX,
                gap_us: u32::MAX,
            },
        ],
        ..FlowRecord::default()
    }
}

/// An event of a flow, with what was added to flow records later.
pub(crate) fn flow_in_a_tunnel() -> Event {
    let mut record = flow();
    record.subflows = 3;
    record.sampling_rate = 100;
    record.tunnel = Some(FlowTunnel {
        kind: TunnelKind::Vxlan,
        id: Some(0),
        source: Ipv4Addr::new(192, 0, 2, 1).into(),
        destination: Ipv6Addr::LOCALHOST.into(),
    });
    record.tls = Some(TlsHello {
        quic: true,
        version: 0x0304,
        server_name: "example.com".to_owned(),
        alpn: "h3".to_owned(),
        ja4: "q13d0312h3_55b375c5d22e_06cda9e17597".to_owned(),
    });
    record.http = Some(HttpRequest {
        method: "GET".to_owned(),
        host: "example.com".to_owned(),
        user_agent: "a browser".to_owned(),
    });
    record.forward.first = Some(Timestamp::from_nanos(START));
    record.forward.last = Some(Timestamp::from_nanos(START + 1));
    record.forward.header_min = 40;
    record.forward.bulk = BulkStats {
        count: 1,
        packets: 4,
        bytes: 5000,
        duration_ns: 6_000_000,
    };
    record.forward.entropy = Some(0.0);
    event(0, Payload::Flow(Box::new(record)))
}

fn dns() -> DnsRecord {
    DnsRecord {
        flow: 9,
        key: key(),
        id: 0xbeef,
        response: true,
        opcode: 5,
        rcode: 3,
        authoritative: true,
        truncated: true,
        questions: vec![DnsQuestion {
            name: "a\\.b.example".to_owned(),
            qtype: 255,
            qclass: 0x8001,
        }],
        answers: 1,
        authorities: 2,
        additionals: 3,
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        answer_bytes: 20,
        min_ttl: Some(0),
        bytes: 512,
        malformed: true,
    }
}

/// A verdict with the bounds of its score, which came later.
pub(crate) fn verdict_with_bounds() -> Event {
    let verdict = Verdict {
        interval: Some(ScoreInterval {
            low: 0.91,
            high: 0.99,
        }),
        ..verdict()
    };
    event(0, Payload::Verdict(Box::new(verdict)))
}

fn verdict() -> Verdict {
    let host = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
    Verdict {
        id: VerdictId([0xa5; 16]),
        revision: 4,
        time: Timestamp::from_nanos(START),
        updated: Timestamp::from_nanos(START + 9),
        layer: Layer::Behavioral,
        entity: Entity::Service(host, 17, 53),
        peers: vec![
            Entity::Host(host),
            Entity::Pair(host, IpAddr::V6(Ipv6Addr::LOCALHOST)),
            Entity::Client(host, 6, 22),
            Entity::Named(Name::from("pump-7")),
        ],
        technique: Some(Technique::new("T1046")),
        title: "Port scan".to_owned(),
        score: 0.97,
        interval: None,
        evidence: vec![Evidence {
            feature: Name::from("distinct_ports"),
            value: 512.0,
            contribution: 2.5,
        }],
        model: ModelRef {
            name: Name::from("forest"),
            version: Name::from("1.2"),
            digest: Digest([1; 32]),
        },
        schema: Digest([2; 32]),
        events: EventRange {
            stream: stream(Class::Telemetry),
            first: Seq(5),
            last: Seq(99),
        },
    }
}

/// A ledger with every field set.
pub(crate) fn ledger() -> LedgerSnapshot {
    let dropped = [(DropReason::FULL, 2), (DropReason::CRASH, 1)].into();
    let account = Account {
        received: 10,
        delivered: 4,
        pending: 3,
        dropped,
    };
    let accounts = [
        ("pcap/packets".to_owned(), account),
        ("log/events".to_owned(), Account::default()),
    ];
    let positions = [("flow".to_owned(), Position(vec![1, 2, 0xff].into()))];
    LedgerSnapshot {
        accounts: accounts.into(),
        positions: positions.into(),
    }
}
