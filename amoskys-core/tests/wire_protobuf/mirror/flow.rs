//! What the messages of flows should say.

use amoskys_core::event::*;

use super::{Says, ip};
use crate::peer::{Fields, Node};

pub(super) fn flow_record(flow: &FlowRecord) -> Fields {
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

pub(super) fn flow_key(key: &FlowKey) -> Fields {
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
