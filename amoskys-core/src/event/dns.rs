use std::net::IpAddr;

use super::FlowKey;

/// One DNS message (RFC 1035), query or response, from a flow to or from port 53 (DNS) or 5353 (mDNS).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsRecord {
    /// Number of the flow that carried it: [`FlowRecord::flow`](super::FlowRecord::flow) of the same source.
    pub flow: u64,
    /// Who sent it to whom: the source is the sender of this message.
    pub key: FlowKey,
    /// Message id, which pairs a response with its query.
    pub id: u16,
    /// Whether it is a response.
    pub response: bool,
    /// Kind of query: 0 standard, 4 notify, 5 update.
    pub opcode: u8,
    /// Response code: 0 no error, 2 server failure, 3 no such name (NXDOMAIN), 5 refused. 0 in queries.
    pub rcode: u8,
    /// The answer comes from an authority for the name.
    pub authoritative: bool,
    /// The message was cut to fit.
    pub truncated: bool,
    /// What is asked; usually one question. At most 16 are kept.
    pub questions: Vec<DnsQuestion>,
    /// Number of answers, as the header states.
    pub answers: u16,
    /// Number of authority records, as the header states.
    pub authorities: u16,
    /// Number of additional records, as the header states.
    pub additionals: u16,
    /// Addresses in the answers (types A and AAAA). At most 16 are kept.
    pub addresses: Vec<IpAddr>,
    /// Bytes of data in the answers, of all types.
    pub answer_bytes: u32,
    /// Smallest time to live of the answers, in seconds.
    pub min_ttl: Option<u32>,
    /// Size of the message in bytes.
    pub bytes: u32,
    /// The message breaks the format, or was cut by the capture; what was read before is here.
    pub malformed: bool,
}

/// What a DNS message asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DnsQuestion {
    /// The name, without the final dot, in the presentation format of RFC 1035 section 5.1: a byte that is not
    /// printable ASCII is written `\DDD`, a dot or backslash within a label is preceded by a backslash. Case is
    /// kept. The root is the empty string.
    pub name: String,
    /// Type asked for: 1 A, 5 CNAME, 10 NULL, 12 PTR, 15 MX, 16 TXT, 28 AAAA, 33 SRV, 255 any.
    pub qtype: u16,
    /// Class: 1 is the Internet. In mDNS the top bit asks for a unicast response.
    pub qclass: u16,
}
