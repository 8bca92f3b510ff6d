//! The messages of flow and DNS records.

use super::message::{enumeration, message};
use super::scalar::Element;
use crate::event::{
    BulkStats, DnsQuestion, DnsRecord, DnsStats, FlowDirection, FlowEnd, FlowKey, FlowRecord, FlowTunnel,
    HttpRequest, IcmpStats, Summary, TcpDirection, TcpFlagCounts, TcpState, TcpStats, TlsHello, TunnelKind,
};

enumeration! {
    FlowEnd { Idle = 0, Active = 1, Finished = 2, Reset = 3, Evicted = 4, SourceEnd = 5, Replaced = 6 }
    TcpState {
        Midstream = 0, SynSent = 1, SynReceived = 2, Established = 3, Closing = 4, Closed = 5, Reset = 6,
        Refused = 7,
    }
    TunnelKind { IpInIp = 0, Gre = 1, Vxlan = 2, Geneve = 3, GtpU = 4, Teredo = 5 }
}

message! {
    FlowRecord = Self::default(), "FlowRecord";
    1 flow;
    2 phase;
    3 key, required;
    4 first_ns => first;
    5 last_ns => last;
    6 interface;
    7 vlan;
    8 inner_vlan;
    9 source_mac;
    10 destination_mac;
    11 forward;
    12 backward;
    13 gaps;
    14 active;
    15 idle;
    16 tcp;
    17 icmp;
    18 dns;
    19 sequence, repeated;
    20 subflows;
    21 sampling_rate;
    22 tunnel;
    23 tls;
    24 http;
}

message! {
    FlowTunnel = Self::default(), "FlowTunnel";
    1 kind;
    2 id;
    3 source, required;
    4 destination, required;
}

message! {
    TlsHello = Self::default(), "TlsHello";
    1 quic;
    2 version;
    3 server_name;
    4 alpn;
    5 ja4;
}

message! {
    HttpRequest = Self::default(), "HttpRequest";
    1 method;
    2 host;
    3 user_agent;
}

message! {
    FlowKey = Self::default(), "FlowKey";
    1 source, required;
    2 source_port;
    3 destination, required;
    4 destination_port;
    5 protocol;
}

message! {
    FlowDirection = Self::default(), "FlowDirection";
    1 packets;
    2 data_packets;
    3 fragments;
    4 frame_bytes;
    5 header_bytes;
    6 lengths;
    7 payload;
    8 gaps;
    9 ttl_min;
    10 ttl_max;
    11 first_bytes;
    12 first_ns => first;
    13 last_ns => last;
    14 header_min;
    15 bulk;
    16 entropy;
}

message! {
    BulkStats = Self::default(), "BulkStats";
    1 count;
    2 packets;
    3 bytes;
    4 duration_ns;
}

message! {
    Summary = Self::default(), "Summary";
    1 count;
    2 sum;
    3 min;
    4 max;
    5 std_dev;
}

message! {
    TcpStats = Self::default(), "TcpStats";
    1 state;
    2 syn_ns => syn;
    3 syn_ack_ns => syn_ack;
    4 ack_ns => ack;
    5 forward;
    6 backward;
}

message! {
    TcpDirection = Self::default(), "TcpDirection";
    1 flags;
    2 initial_window;
    3 mss;
    4 window_scale;
    5 retransmitted;
    6 out_of_order;
    7 zero_windows;
}

message! {
    TcpFlagCounts = Self::default(), "TcpFlagCounts";
    1 fin;
    2 syn;
    3 rst;
    4 psh;
    5 ack;
    6 urg;
    7 ece;
    8 cwr;
}

message! {
    IcmpStats = Self::default(), "IcmpStats";
    1 first_type;
    2 first_code;
    3 echo_requests;
    4 echo_replies;
    5 altered_replies;
    6 unsolicited_replies;
    7 unreachable;
    8 time_exceeded;
    9 redirects;
    10 other;
}

message! {
    DnsStats = Self::default(), "DnsStats";
    1 queries;
    2 responses;
    3 nx_domain;
    4 errors;
    5 answers;
    6 first_name;
    7 first_type;
}

message! {
    DnsRecord = Self::default(), "DnsRecord";
    1 flow;
    2 key, required;
    3 id;
    4 response;
    5 opcode;
    6 rcode;
    7 authoritative;
    8 truncated;
    9 questions, repeated;
    10 answers;
    11 authorities;
    12 additionals;
    13 addresses, repeated;
    14 answer_bytes;
    15 min_ttl;
    16 bytes;
    17 malformed;
}

message! {
    DnsQuestion = Self::default(), "DnsQuestion";
    1 name;
    2 qtype;
    3 qclass;
}

impl Element for DnsQuestion {}
