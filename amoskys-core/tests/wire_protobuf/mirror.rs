//! What the message of an event should say, written down from the Rust types and the `.proto` alone.

use std::net::IpAddr;

use amoskys_core::event::*;
use amoskys_core::id::{Digest, Name, StreamId};
use amoskys_core::ledger::LedgerSnapshot;

use super::host;
use super::peer::{Fields, Node};

/// Collects fields; those without presence only if they are not the default.
#[derive(Default)]
pub(crate) struct Says(pub(crate) Fields);

impl Says {
    pub(crate) fn put(mut self, name: &str, node: Node) -> Self {
        assert!(self.0.insert(name.to_owned(), node).is_none(), "{name} twice");
        self
    }

    pub(crate) fn put_if(self, wanted: bool, name: &str, node: Node) -> Self {
        if wanted { self.put(name, node) } else { self }
    }

    pub(crate) fn uint(self, name: &str, value: impl Into<u64>) -> Self {
        let value = value.into();
        self.put_if(value != 0, name, Node::Uint(value))
    }

    pub(crate) fn uint_if(self, name: &str, value: Option<impl Into<u64>>) -> Self {
        match value {
            Some(value) => self.put(name, Node::Uint(value.into())),
            None => self,
        }
    }

    pub(crate) fn int(self, name: &str, value: impl Into<i64>) -> Self {
        let value = value.into();
        self.put_if(value != 0, name, Node::Int(value))
    }

    pub(crate) fn int_if(self, name: &str, value: Option<impl Into<i64>>) -> Self {
        match value {
            Some(value) => self.put(name, Node::Int(value.into())),
            None => self,
        }
    }

    pub(crate) fn double(self, name: &str, value: f64) -> Self {
        self.put_if(value.to_bits() != 0, name, Node::Double(value.to_bits()))
    }

    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        self.put_if(value, name, Node::Bool(value))
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.put_if(!value.is_empty(), name, Node::Text(value.to_owned()))
    }

    pub(crate) fn bytes(self, name: &str, value: &[u8]) -> Self {
        self.put_if(
            value.iter().any(|byte| *byte != 0),
            name,
            Node::Bytes(value.to_vec()),
        )
    }

    pub(crate) fn number(self, name: &str, value: i32) -> Self {
        self.put_if(value != 0, name, Node::Enum(value))
    }

    pub(crate) fn message(self, name: &str, value: Fields) -> Self {
        self.put_if(!value.is_empty(), name, Node::Message(value))
    }

    pub(crate) fn message_if(self, name: &str, value: Option<Fields>) -> Self {
        match value {
            Some(value) => self.put(name, Node::Message(value)),
            None => self,
        }
    }

    pub(crate) fn list(self, name: &str, values: impl IntoIterator<Item = Node>) -> Self {
        let values: Vec<Node> = values.into_iter().collect();
        self.put_if(!values.is_empty(), name, Node::List(values))
    }
}

pub(crate) fn event(event: &Event) -> Fields {
    let class = match event.class {
        Class::Telemetry => 0,
        Class::Bulk => 1,
        Class::Alert => 2,
        Class::Audit => 3,
        _ => unreachable!(),
    };
    let attributes = event
        .attributes
        .iter()
        .map(|(name, value)| (name.clone(), attribute(value)));
    let (name, payload) = payload(&event.payload);
    Says::default()
        .put("origin", Node::Uint(event.id.origin))
        .put("ordinal", Node::Uint(event.id.ordinal))
        .int("time_ns", event.time.nanos())
        .text("device", event.device.as_str())
        .text("source", event.source.as_str())
        .number("class", class)
        .put_if(
            !event.attributes.is_empty(),
            "attributes",
            Node::Map(attributes.collect()),
        )
        .put(name, Node::Message(payload))
        .0
}

fn attribute(value: &Value) -> Node {
    let says = Says::default();
    let says = match value {
        Value::Bool(value) => says.put("boolean", Node::Bool(*value)),
        Value::Int(value) => says.put("integer", Node::Int(*value)),
        Value::Uint(value) => says.put("unsigned", Node::Uint(*value)),
        Value::Float(value) => says.put("number", Node::Double(value.to_bits())),
        Value::Text(value) => says.put("text", Node::Text(value.clone())),
        Value::Bytes(value) => says.put("bytes", Node::Bytes(value.clone())),
        _ => unreachable!(),
    };
    Node::Message(says.0)
}

fn payload(payload: &Payload) -> (&'static str, Fields) {
    match payload {
        Payload::Flow(flow) => ("flow", flow_record(flow)),
        Payload::Dns(dns) => ("dns", dns_record(dns)),
        Payload::Arp(arp) => ("arp", arp_record(arp)),
        Payload::Process(process) => ("process", process_event(process)),
        Payload::Syscall(call) => ("syscall", syscall_event(call)),
        Payload::Activity(activity) => ("activity", host::activity(activity)),
        Payload::SyscallHistogram(histogram) => ("syscall_histogram", host::histogram(histogram)),
        Payload::Metric(metric) => ("metric", measured(metric)),
        Payload::Log(log) => ("log", log_record(log)),
        Payload::Alarm(alarm) => ("alarm", device_alarm(alarm)),
        Payload::DeviceStatus(status) => ("device_status", device_status(status)),
        Payload::Finding(finding) => ("finding", tool_finding(finding)),
        Payload::Audit(entry) => ("audit", audit_entry(entry)),
        Payload::Loss(loss) => ("loss", loss_report(loss)),
        Payload::Gap(gap) => ("gap", stream_gap(gap)),
        Payload::Punctuation(p) => (
            "punctuation",
            Says::default()
                .uint("lateness_ns", p.lateness_ns)
                .flag("end", p.end)
                .0,
        ),
        Payload::Verdict(verdict) => ("verdict", conclusion(verdict)),
        Payload::Protected(protected) => ("protected", protected_event(protected)),
        _ => panic!("a payload of a newer version is not mirrored"),
    }
}

fn flow_record(flow: &FlowRecord) -> Fields {
    let sequence = flow.sequence.iter().map(|sample| {
        let backward = u64::from(sample.backward);
        Node::Uint(u64::from(sample.gap_us) << 17 | u64::from(sample.length) << 1 | backward)
    });
    let mut says = Says::default()
        .uint("flow", flow.flow)
        .message("phase", flow_phase(flow.phase))
        .put("key", Node::Message(flow_key(&flow.key)))
        .int("first_ns", flow.first.nanos())
        .int("last_ns", flow.last.nanos())
        .uint("interface", flow.interface)
        .uint_if("vlan", flow.vlan)
        .uint_if("inner_vlan", flow.inner_vlan)
        .message("forward", flow_direction(&flow.forward))
        .message("backward", flow_direction(&flow.backward))
        .message("gaps", summary(&flow.gaps))
        .message("active", summary(&flow.active))
        .message("idle", summary(&flow.idle))
        .list("sequence", sequence);
    for (name, mac) in [
        ("source_mac", flow.source_mac),
        ("destination_mac", flow.destination_mac),
    ] {
        if let Some(mac) = mac {
            says = says.put(name, Node::Bytes(mac.0.to_vec()));
        }
    }
    if let Some(tcp) = &flow.tcp {
        says = says.put("tcp", Node::Message(tcp_stats(tcp)));
    }
    if let Some(icmp) = &flow.icmp {
        says = says.put("icmp", Node::Message(icmp_stats(icmp)));
    }
    if let Some(dns) = &flow.dns {
        says = says.put("dns", Node::Message(dns_stats(dns)));
    }
    says = says
        .uint("subflows", flow.subflows)
        .uint("sampling_rate", flow.sampling_rate);
    if let Some(tunnel) = &flow.tunnel {
        says = says.put("tunnel", Node::Message(flow_tunnel(tunnel)));
    }
    if let Some(tls) = &flow.tls {
        says = says.put("tls", Node::Message(tls_hello(tls)));
    }
    if let Some(http) = &flow.http {
        says = says.put("http", Node::Message(http_request(http)));
    }
    says.0
}

fn flow_tunnel(tunnel: &FlowTunnel) -> Fields {
    let kind = TunnelKind::ALL.iter().position(|kind| *kind == tunnel.kind);
    Says::default()
        .number("kind", i32::try_from(kind.unwrap()).unwrap())
        .uint_if("id", tunnel.id)
        .put("source", ip(tunnel.source))
        .put("destination", ip(tunnel.destination))
        .0
}

fn tls_hello(tls: &TlsHello) -> Fields {
    Says::default()
        .flag("quic", tls.quic)
        .uint("version", tls.version)
        .text("server_name", &tls.server_name)
        .text("alpn", &tls.alpn)
        .text("ja4", &tls.ja4)
        .0
}

fn http_request(http: &HttpRequest) -> Fields {
    Says::default()
        .text("method", &http.method)
        .text("host", &http.host)
        .text("user_agent", &http.user_agent)
        .0
}

fn flow_phase(phase: FlowPhase) -> Fields {
    let (kind, end) = match phase {
        FlowPhase::Start => (0, 0),
        FlowPhase::Update => (1, 0),
        FlowPhase::End(end) => (
            2,
            match end {
                FlowEnd::Idle => 0,
                FlowEnd::Active => 1,
                FlowEnd::Finished => 2,
                FlowEnd::Reset => 3,
                FlowEnd::Evicted => 4,
                FlowEnd::SourceEnd => 5,
                FlowEnd::Replaced => 6,
                _ => unreachable!(),
            },
        ),
        _ => unreachable!(),
    };
    Says::default().number("kind", kind).number("end", end).0
}

pub(crate) fn ip(address: IpAddr) -> Node {
    match address {
        IpAddr::V4(address) => Node::Bytes(address.octets().to_vec()),
        IpAddr::V6(address) => Node::Bytes(address.octets().to_vec()),
    }
}

fn flow_key(key: &FlowKey) -> Fields {
    Says::default()
        .put("source", ip(key.source))
        .uint("source_port", key.source_port)
        .put("destination", ip(key.destination))
        .uint("destination_port", key.destination_port)
        .uint("protocol", key.protocol)
        .0
}

fn flow_direction(direction: &FlowDirection) -> Fields {
    Says::default()
        .uint("packets", direction.packets)
        .uint("data_packets", direction.data_packets)
        .uint("fragments", direction.fragments)
        .uint("frame_bytes", direction.frame_bytes)
        .uint("header_bytes", direction.header_bytes)
        .message("lengths", summary(&direction.lengths))
        .message("payload", summary(&direction.payload))
        .message("gaps", summary(&direction.gaps))
        .uint("ttl_min", direction.ttl_min)
        .uint("ttl_max", direction.ttl_max)
        .put_if(
            !direction.first_bytes.is_empty(),
            "first_bytes",
            Node::Bytes(direction.first_bytes.clone()),
        )
        .int_if("first_ns", direction.first.map(|time| time.nanos()))
        .int_if("last_ns", direction.last.map(|time| time.nanos()))
        .uint("header_min", direction.header_min)
        .message("bulk", bulk(&direction.bulk))
        .put_if(
            direction.entropy.is_some(),
            "entropy",
            Node::Double(direction.entropy.unwrap_or_default().to_bits()),
        )
        .0
}

fn bulk(bulk: &BulkStats) -> Fields {
    Says::default()
        .uint("count", bulk.count)
        .uint("packets", bulk.packets)
        .uint("bytes", bulk.bytes)
        .uint("duration_ns", bulk.duration_ns)
        .0
}

fn summary(summary: &Summary) -> Fields {
    Says::default()
        .uint("count", summary.count)
        .uint("sum", summary.sum)
        .uint("min", summary.min)
        .uint("max", summary.max)
        .double("std_dev", summary.std_dev)
        .0
}

fn tcp_stats(tcp: &TcpStats) -> Fields {
    let state = match tcp.state {
        TcpState::Midstream => 0,
        TcpState::SynSent => 1,
        TcpState::SynReceived => 2,
        TcpState::Established => 3,
        TcpState::Closing => 4,
        TcpState::Closed => 5,
        TcpState::Reset => 6,
        TcpState::Refused => 7,
        _ => unreachable!(),
    };
    Says::default()
        .number("state", state)
        .int_if("syn_ns", tcp.syn.map(|time| time.nanos()))
        .int_if("syn_ack_ns", tcp.syn_ack.map(|time| time.nanos()))
        .int_if("ack_ns", tcp.ack.map(|time| time.nanos()))
        .message("forward", tcp_direction(&tcp.forward))
        .message("backward", tcp_direction(&tcp.backward))
        .0
}

fn tcp_direction(direction: &TcpDirection) -> Fields {
    let flags = &direction.flags;
    let counts = Says::default()
        .uint("fin", flags.fin)
        .uint("syn", flags.syn)
        .uint("rst", flags.rst)
        .uint("psh", flags.psh)
        .uint("ack", flags.ack)
        .uint("urg", flags.urg)
        .uint("ece", flags.ece)
        .uint("cwr", flags.cwr);
    Says::default()
        .message("flags", counts.0)
        .uint_if("initial_window", direction.initial_window)
        .uint_if("mss", direction.mss)
        .uint_if("window_scale", direction.window_scale)
        .uint("retransmitted", direction.retransmitted)
        .uint("out_of_order", direction.out_of_order)
        .uint("zero_windows", direction.zero_windows)
        .0
}

fn icmp_stats(icmp: &IcmpStats) -> Fields {
    Says::default()
        .uint("first_type", icmp.first_type)
        .uint("first_code", icmp.first_code)
        .uint("echo_requests", icmp.echo_requests)
        .uint("echo_replies", icmp.echo_replies)
        .uint("altered_replies", icmp.altered_replies)
        .uint("unsolicited_replies", icmp.unsolicited_replies)
        .uint("unreachable", icmp.unreachable)
        .uint("time_exceeded", icmp.time_exceeded)
        .uint("redirects", icmp.redirects)
        .uint("other", icmp.other)
        .0
}

fn dns_stats(dns: &DnsStats) -> Fields {
    Says::default()
        .uint("queries", dns.queries)
        .uint("responses", dns.responses)
        .uint("nx_domain", dns.nx_domain)
        .uint("errors", dns.errors)
        .uint("answers", dns.answers)
        .text("first_name", &dns.first_name)
        .uint("first_type", dns.first_type)
        .0
}

fn dns_record(dns: &DnsRecord) -> Fields {
    let questions = dns.questions.iter().map(|question| {
        let says = Says::default().text("name", &question.name);
        Node::Message(
            says.uint("qtype", question.qtype)
                .uint("qclass", question.qclass)
                .0,
        )
    });
    Says::default()
        .uint("flow", dns.flow)
        .put("key", Node::Message(flow_key(&dns.key)))
        .uint("id", dns.id)
        .flag("response", dns.response)
        .uint("opcode", dns.opcode)
        .uint("rcode", dns.rcode)
        .flag("authoritative", dns.authoritative)
        .flag("truncated", dns.truncated)
        .list("questions", questions)
        .uint("answers", dns.answers)
        .uint("authorities", dns.authorities)
        .uint("additionals", dns.additionals)
        .list("addresses", dns.addresses.iter().map(|address| ip(*address)))
        .uint("answer_bytes", dns.answer_bytes)
        .uint_if("min_ttl", dns.min_ttl)
        .uint("bytes", dns.bytes)
        .flag("malformed", dns.malformed)
        .0
}

fn arp_record(arp: &ArpRecord) -> Fields {
    Says::default()
        .put("operation", Node::Uint(u16::from(arp.operation).into()))
        .bytes("sender_mac", &arp.sender_mac.0)
        .bytes("sender_ip", &arp.sender_ip.octets())
        .bytes("target_mac", &arp.target_mac.0)
        .bytes("target_ip", &arp.target_ip.octets())
        .bytes("frame_source", &arp.frame_source.0)
        .bytes("frame_destination", &arp.frame_destination.0)
        .uint_if("vlan", arp.vlan)
        .0
}

fn process_event(process: &ProcessEvent) -> Fields {
    let action = match process.action {
        ProcessAction::Seen => 0,
        ProcessAction::Fork => 1,
        ProcessAction::Exec => 2,
        ProcessAction::Exit => 3,
        ProcessAction::Credentials => 4,
        _ => unreachable!(),
    };
    let says = Says::default()
        .number("action", action)
        .uint("pid", process.pid)
        .int("start_ns", process.start.nanos())
        .uint("parent_pid", process.parent_pid)
        .int("parent_start_ns", process.parent_start.nanos())
        .uint("uid", process.uid)
        .uint("gid", process.gid)
        .text("executable", &process.executable)
        .list("arguments", process.arguments.iter().cloned().map(Node::Text))
        .text("working_directory", &process.working_directory)
        .text("container", &process.container)
        .int_if("exit_code", process.exit_code)
        .uint_if("exit_signal", process.exit_signal);
    host::process_details(says, process).0
}

fn syscall_event(call: &SyscallEvent) -> Fields {
    Says::default()
        .uint("pid", call.pid)
        .int("start_ns", call.start.nanos())
        .uint("tid", call.tid)
        .text("command", &call.command)
        .text("architecture", &call.architecture)
        .list(
            "numbers",
            call.numbers.iter().map(|number| Node::Uint((*number).into())),
        )
        .int_if("return_value", call.return_value)
        .uint("first", call.first)
        .int("first_time_ns", call.first_time.nanos())
        .0
}

fn measured(metric: &Metric) -> Fields {
    let kind = match metric.kind {
        MetricKind::Gauge => 0,
        MetricKind::Counter => 1,
        _ => unreachable!(),
    };
    let labels = metric.labels.iter();
    let labels =
        labels.map(|(name, value)| Node::Message(Says::default().text("name", name).text("value", value).0));
    Says::default()
        .text("name", &metric.name)
        .number("kind", kind)
        .double("value", metric.value)
        .text("unit", &metric.unit)
        .list("labels", labels)
        .0
}

fn log_record(log: &LogRecord) -> Fields {
    let level = match log.level {
        LogLevel::Emergency => 1,
        LogLevel::Alert => 2,
        LogLevel::Critical => 3,
        LogLevel::Error => 4,
        LogLevel::Warning => 5,
        LogLevel::Notice => 6,
        LogLevel::Info => 0,
        LogLevel::Debug => 8,
        _ => unreachable!(),
    };
    Says::default()
        .number("level", level)
        .text("facility", &log.facility)
        .text("program", &log.program)
        .uint("pid", log.pid)
        .text("message", &log.message)
        .0
}

fn severity(severity: Severity) -> i32 {
    match severity {
        Severity::Low => 0,
        Severity::Medium => 1,
        Severity::High => 2,
        Severity::Critical => 3,
        _ => unreachable!(),
    }
}

fn device_alarm(alarm: &Alarm) -> Fields {
    Says::default()
        .text("code", &alarm.code)
        .number("state", i32::from(alarm.state == AlarmState::Cleared))
        .number("severity", severity(alarm.severity))
        .text("message", &alarm.message)
        .0
}

fn device_status(status: &DeviceStatus) -> Fields {
    let state = match status.state {
        DeviceState::Unknown => 0,
        DeviceState::Up => 1,
        DeviceState::Degraded => 2,
        DeviceState::Down => 3,
        _ => unreachable!(),
    };
    Says::default()
        .number("state", state)
        .text("address", &status.address)
        .text("model", &status.model)
        .text("firmware", &status.firmware)
        .uint_if("uptime_seconds", status.uptime_seconds)
        .text("detail", &status.detail)
        .0
}

fn tool_finding(finding: &Finding) -> Fields {
    let mut says = Says::default()
        .text("tool", &finding.tool)
        .text("rule", &finding.rule)
        .text("title", &finding.title)
        .number("severity", severity(finding.severity))
        .text("subject", &finding.subject)
        .text("detail", &finding.detail);
    if let Some(technique) = &finding.technique {
        says = says.put("technique", Node::Text(technique.to_string()));
    }
    says.0
}

fn protected_event(protected: &Protected) -> Fields {
    let scheme = match protected.scheme {
        ProtectionScheme::Unknown => 0,
        ProtectionScheme::HmacSha256Aes256Gcm => 1,
        _ => unreachable!(),
    };
    Says::default()
        .put("key", Node::Bytes(protected.key.to_be_bytes().to_vec()))
        .number("scheme", scheme)
        .put_if(
            !protected.sealed.is_empty(),
            "sealed",
            Node::Bytes(protected.sealed.clone()),
        )
        .0
}

fn audit_entry(entry: &AuditEntry) -> Fields {
    let outcome = match entry.outcome {
        AuditOutcome::Success => 0,
        AuditOutcome::Denied => 1,
        AuditOutcome::Failure => 2,
        _ => unreachable!(),
    };
    Says::default()
        .text("actor", &entry.actor)
        .text("action", &entry.action)
        .text("object", &entry.object)
        .number("outcome", outcome)
        .text("reason", &entry.reason)
        .0
}

fn loss_report(loss: &LossReport) -> Fields {
    Says::default()
        .uint("count", loss.count)
        .text("unit", &loss.unit)
        .text("reason", &loss.reason)
        .text("stage", &loss.stage)
        .0
}

fn stream_gap(gap: &Gap) -> Fields {
    let reason = match gap.reason {
        GapReason::Shed => 0,
        GapReason::Quarantined => 1,
        GapReason::Expired => 2,
        GapReason::Erased => 3,
        GapReason::LogLost => 4,
        _ => unreachable!(),
    };
    Says::default()
        .put("stream", Node::Message(stream_id(&gap.stream)))
        .uint("first", gap.first.0)
        .uint("last", gap.last.0)
        .bytes("before", &gap.before.0)
        .bytes("end", &gap.end.0)
        .number("reason", reason)
        .0
}

fn stream_id(stream: &StreamId) -> Fields {
    let class = match stream.class {
        Class::Telemetry => 0,
        Class::Bulk => 1,
        Class::Alert => 2,
        Class::Audit => 3,
        _ => unreachable!(),
    };
    Says::default()
        .put("agent", Node::Text(stream.agent.to_string()))
        .uint("epoch_counter", stream.epoch.counter)
        .put(
            "epoch_random",
            Node::Bytes(stream.epoch.random.to_be_bytes().to_vec()),
        )
        .number("class", class)
        .0
}

fn conclusion(verdict: &Verdict) -> Fields {
    let layer = match verdict.layer {
        Layer::Fused => 0,
        Layer::Geometric => 1,
        Layer::Temporal => 2,
        Layer::Behavioral => 3,
        Layer::Rule => 4,
        _ => unreachable!(),
    };
    let evidence = verdict.evidence.iter().map(|evidence| {
        let says = Says::default().put("feature", Node::Text(evidence.feature.to_string()));
        let says = says
            .double("value", evidence.value)
            .double("contribution", evidence.contribution);
        Node::Message(says.0)
    });
    let model = &verdict.model;
    let events = Says::default()
        .put("stream", Node::Message(stream_id(&verdict.events.stream)))
        .uint("first", verdict.events.first.0)
        .uint("last", verdict.events.last.0);
    let mut says = Says::default()
        .put("id", Node::Bytes(verdict.id.0.to_vec()))
        .uint("revision", verdict.revision)
        .int("time_ns", verdict.time.nanos())
        .int("updated_ns", verdict.updated.nanos())
        .number("layer", layer)
        .put("entity", Node::Message(entity(&verdict.entity)))
        .list(
            "peers",
            verdict.peers.iter().map(|peer| Node::Message(entity(peer))),
        )
        .text("title", &verdict.title)
        .double("score", verdict.score)
        .list("evidence", evidence)
        .message("model", model_ref(&model.name, &model.version, &model.digest))
        .bytes("schema", &verdict.schema.0)
        .put("events", Node::Message(events.0));
    if let Some(technique) = &verdict.technique {
        says = says.put("technique", Node::Text(technique.to_string()));
    }
    if let Some(bounds) = &verdict.interval {
        let bounds = Says::default()
            .double("low", bounds.low)
            .double("high", bounds.high);
        says = says.put("interval", Node::Message(bounds.0));
    }
    says.0
}

fn model_ref(name: &Name, version: &Name, digest: &Digest) -> Fields {
    let says = Says::default()
        .text("name", name.as_str())
        .text("version", version.as_str());
    says.bytes("digest", &digest.0).0
}

fn entity(entity: &Entity) -> Fields {
    let says = Says::default();
    let says = match entity {
        Entity::Host(host) => says.put("address", ip(*host)),
        Entity::Pair(a, b) => says.number("kind", 1).put("address", ip(*a)).put("peer", ip(*b)),
        Entity::Service(host, protocol, port) => {
            let says = says.number("kind", 2).put("address", ip(*host));
            says.uint("protocol", *protocol).uint("port", *port)
        }
        Entity::Client(host, protocol, port) => {
            let says = says.number("kind", 3).put("address", ip(*host));
            says.uint("protocol", *protocol).uint("port", *port)
        }
        Entity::Named(name) => says.number("kind", 4).put("name", Node::Text(name.to_string())),
        _ => unreachable!(),
    };
    says.0
}

pub(crate) fn ledger(ledger: &LedgerSnapshot) -> Fields {
    let accounts = ledger.accounts.iter().map(|(stage, account)| {
        let dropped = account.dropped.iter();
        let dropped = dropped.map(|(reason, count)| (reason.to_string(), Node::Uint(*count)));
        let says = Says::default()
            .uint("received", account.received)
            .uint("delivered", account.delivered)
            .uint("pending", account.pending)
            .put_if(
                !account.dropped.is_empty(),
                "dropped",
                Node::Map(dropped.collect()),
            );
        (stage.clone(), Node::Message(says.0))
    });
    let accounts = Node::Map(accounts.collect());
    let positions = ledger.positions.iter();
    let positions = positions.map(|(source, position)| (source.clone(), Node::Bytes(position.0.to_vec())));
    let positions = Node::Map(positions.collect());
    Says::default()
        .put_if(!ledger.accounts.is_empty(), "accounts", accounts)
        .put_if(!ledger.positions.is_empty(), "positions", positions)
        .0
}
