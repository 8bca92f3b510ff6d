//! What the message of an event should say, written down from the Rust types and the `.proto` alone.

mod flow;
mod network;
mod report;
mod says;
mod verdict;

use std::net::IpAddr;

use amoskys_core::event::*;
use amoskys_core::id::StreamId;
use amoskys_core::ledger::LedgerSnapshot;

pub(crate) use self::says::Says;
use super::host;
use super::peer::{Fields, Node};

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
        Payload::Flow(flow) => ("flow", flow::flow_record(flow)),
        Payload::Dns(dns) => ("dns", network::dns_record(dns)),
        Payload::Arp(arp) => ("arp", network::arp_record(arp)),
        Payload::Process(process) => ("process", host::process_event(process)),
        Payload::Syscall(call) => ("syscall", host::syscall_event(call)),
        Payload::Activity(activity) => ("activity", host::activity(activity)),
        Payload::SyscallHistogram(histogram) => ("syscall_histogram", host::histogram(histogram)),
        Payload::Metric(metric) => ("metric", report::measured(metric)),
        Payload::Log(log) => ("log", report::log_record(log)),
        Payload::Alarm(alarm) => ("alarm", report::device_alarm(alarm)),
        Payload::DeviceStatus(status) => ("device_status", report::device_status(status)),
        Payload::Finding(finding) => ("finding", report::tool_finding(finding)),
        Payload::Audit(entry) => ("audit", report::audit_entry(entry)),
        Payload::Loss(loss) => ("loss", report::loss_report(loss)),
        Payload::Gap(gap) => ("gap", report::stream_gap(gap)),
        Payload::Punctuation(p) => (
            "punctuation",
            Says::default()
                .uint("lateness_ns", p.lateness_ns)
                .flag("end", p.end)
                .0,
        ),
        Payload::Verdict(verdict) => ("verdict", verdict::conclusion(verdict)),
        Payload::Protected(protected) => ("protected", report::protected_event(protected)),
        _ => panic!("a payload of a newer version is not mirrored"),
    }
}

pub(crate) fn ip(address: IpAddr) -> Node {
    match address {
        IpAddr::V4(address) => Node::Bytes(address.octets().to_vec()),
        IpAddr::V6(address) => Node::Bytes(address.octets().to_vec()),
    }
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
