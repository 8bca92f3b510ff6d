//! What the messages of DNS and ARP should say.

use amoskys_core::event::*;

use super::flow::flow_key;
use super::{Says, ip};
use crate::peer::{Fields, Node};

pub(super) fn dns_record(dns: &DnsRecord) -> Fields {
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

pub(super) fn arp_record(arp: &ArpRecord) -> Fields {
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
