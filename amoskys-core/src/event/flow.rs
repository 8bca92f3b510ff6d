use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::MacAddr;
use crate::time::Timestamp;

/// A conversation between two endpoints, in both directions, as metered from packets.
///
/// A flow is reported when it starts, every few seconds while packets come, and when it ends. All records of
/// one flow carry the same [`flow`](Self::flow) number, and their counters are cumulative: the latest record
/// of a flow replaces the earlier ones, and the difference of two of them is what happened in between.
///
/// The key is taken from the outermost IP header. "Forward" is the direction of the flow's first packet; where a TCP
/// connection goes on after a flow of it ended by a time-out, that of the connection's first packet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowRecord {
    /// Number of the flow in its source, from 0 in order of first packets.
    pub flow: u64,
    /// Why this record is written: the flow started, goes on, or has ended.
    pub phase: FlowPhase,
    /// Addresses, ports and protocol; the source is the sender of the first packet.
    pub key: FlowKey,
    /// Time of the first packet.
    pub first: Timestamp,
    /// Time of the latest packet.
    pub last: Timestamp,
    /// Capture interface of the first packet: its number in a pcapng file, 0 in a pcap file, the kernel's
    /// interface index for live traffic.
    pub interface: u32,
    /// Outermost VLAN id of the first packet, if it was tagged.
    pub vlan: Option<u16>,
    /// Second VLAN id of the first packet, if it was tagged twice (802.1ad).
    pub inner_vlan: Option<u16>,
    /// Hardware address of the source in the first packet, where the link has such addresses.
    pub source_mac: Option<MacAddr>,
    /// Hardware address of the destination in the first packet, where the link has such addresses.
    pub destination_mac: Option<MacAddr>,
    /// Packets from [`FlowKey::source`] to [`FlowKey::destination`].
    pub forward: FlowDirection,
    /// Packets from [`FlowKey::destination`] to [`FlowKey::source`].
    pub backward: FlowDirection,
    /// Time between successive packets in either direction, in nanoseconds.
    pub gaps: Summary,
    /// Lengths of the periods of activity, in nanoseconds. A period ends when no packet comes for longer than
    /// the meter's activity threshold (default 5 s); the current one is counted as far as it goes.
    pub active: Summary,
    /// Lengths of the pauses between periods of activity, in nanoseconds.
    pub idle: Summary,
    /// What only TCP has. `None` for other protocols.
    pub tcp: Option<TcpStats>,
    /// What only ICMP and ICMPv6 have. `None` for other protocols.
    pub icmp: Option<IcmpStats>,
    /// Counts of DNS messages. `None` if the flow carried none.
    pub dns: Option<DnsStats>,
    /// The first packets of the flow in order, 20 unless configured otherwise.
    pub sequence: Vec<PacketSample>,
    /// Bursts of packets: 1 more than the gaps longer than a second, in either direction. 0 if the source does not
    /// count them.
    pub subflows: u64,
    /// One packet in this many was metered; 0 and 1 mean all. The counts of the record are those of the packets
    /// metered; see [`scaled`](Self::scaled).
    pub sampling_rate: u32,
    /// The tunnel that carried the flow, if the flow was metered inside of one.
    pub tunnel: Option<FlowTunnel>,
    /// What the client said in the clear when it began TLS or QUIC.
    pub tls: Option<TlsHello>,
    /// The first HTTP request sent in the clear.
    pub http: Option<HttpRequest>,
}

impl FlowRecord {
    /// Time from the first to the latest packet.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.last.since(self.first)
    }

    /// Packets in both directions.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.forward.packets.saturating_add(self.backward.packets)
    }

    /// Bytes in both directions, by the IP headers' total length.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.forward.bytes().saturating_add(self.backward.bytes())
    }

    /// An estimate of how many there were, from a count of packets or bytes of this record: the count, times the
    /// sampling rate.
    #[must_use]
    pub const fn scaled(&self, count: u64) -> u64 {
        match self.sampling_rate {
            0 | 1 => count,
            rate => count.saturating_mul(rate as u64),
        }
    }
}

/// Between whom: addresses, ports and IP protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Address of the sender.
    pub source: IpAddr,
    /// Port of the sender; 0 for protocols without ports and for non-first fragments.
    pub source_port: u16,
    /// Address of the receiver.
    pub destination: IpAddr,
    /// Port of the receiver; 0 for protocols without ports and for non-first fragments.
    pub destination_port: u16,
    /// IANA protocol number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6, 132 SCTP.
    pub protocol: u8,
}

impl FlowKey {
    /// The same conversation seen from the other end.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

impl Default for FlowKey {
    /// All zeros.
    fn default() -> Self {
        let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            source: none,
            source_port: 0,
            destination: none,
            destination_port: 0,
            protocol: 0,
        }
    }
}

impl fmt::Display for FlowKey {
    /// As `SOURCE:PORT > DESTINATION:PORT/PROTOCOL`, for example `10.0.0.1:40000 > 10.0.0.2:80/6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::net::SocketAddr;
        let source = SocketAddr::new(self.source, self.source_port);
        let destination = SocketAddr::new(self.destination, self.destination_port);
        write!(f, "{source} > {destination}/{}", self.protocol)
    }
}

/// Why a flow record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlowPhase {
    /// The flow's first packet came; the record counts it.
    #[default]
    Start,
    /// Packets came since the last record.
    Update,
    /// The flow is over; the record is its last.
    End(FlowEnd),
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FlowEnd {
    /// No packet came for the idle time-out.
    #[default]
    Idle,
    /// It lasted longer than the active time-out; a new flow continues it.
    Active,
    /// Both sides closed the TCP connection with FIN.
    Finished,
    /// One side reset the TCP connection.
    Reset,
    /// The table was full and this was the flow unused for longest.
    Evicted,
    /// The source ended, or the meter was stopped.
    SourceEnd,
    /// A new connection began with the same addresses and ports.
    Replaced,
}

impl FlowEnd {
    /// The name used in files and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Finished => "fin",
            Self::Reset => "rst",
            Self::Evicted => "evicted",
            Self::SourceEnd => "source_end",
            Self::Replaced => "replaced",
        }
    }
}

impl fmt::Display for FlowEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counters and distributions of one direction of a flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowDirection {
    /// Packets.
    pub packets: u64,
    /// Packets with payload after the transport header.
    pub data_packets: u64,
    /// IP fragments, first ones included.
    pub fragments: u64,
    /// Bytes on the wire, link header included.
    pub frame_bytes: u64,
    /// Bytes of IP and transport headers.
    pub header_bytes: u64,
    /// Packet lengths in bytes, by the IP header's total length. The sum is the direction's bytes.
    pub lengths: Summary,
    /// Payload lengths in bytes, after the transport header; packets without payload count as 0.
    pub payload: Summary,
    /// Time between successive packets of this direction, in nanoseconds.
    pub gaps: Summary,
    /// Smallest time-to-live or hop limit.
    pub ttl_min: u8,
    /// Largest time-to-live or hop limit.
    pub ttl_max: u8,
    /// The first payload bytes sent, at most 16: enough to tell the protocol, too few to hold content.
    pub first_bytes: Vec<u8>,
    /// Time of the direction's first packet; `None` without packets, or if the source does not say.
    pub first: Option<Timestamp>,
    /// Time of the direction's latest packet; `None` as above.
    pub last: Option<Timestamp>,
    /// Smallest length in bytes of a packet's IP and transport headers; 0 without packets, or if the source does
    /// not say.
    pub header_min: u32,
    /// Bulk transfers in this direction.
    pub bulk: BulkStats,
    /// Shannon entropy of the direction's first payload bytes, in bits per byte: 0 to 8. `None` if it was not
    /// measured, or there was no payload.
    pub entropy: Option<f64>,
}

/// Bulk transfers of one direction: at least four data packets in a row, with no data packet of the other direction
/// between them and no pause longer than a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkStats {
    /// How many there were.
    pub count: u64,
    /// Their packets.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// How long they lasted together, each from its first to its last packet, in nanoseconds.
    pub duration_ns: u64,
}

impl FlowDirection {
    /// Bytes by the IP headers' total length.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.lengths.sum
    }
}

/// The distribution of a series of whole numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many numbers. If 0, all other fields are 0.
    pub count: u64,
    /// Their sum, saturating.
    pub sum: u64,
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
    /// Sample standard deviation (divided by `count - 1`); 0 for fewer than two numbers.
    pub std_dev: f64,
}

impl Summary {
    /// The mean; 0 if there are no numbers.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum as f64 / self.count as f64
        }
    }

    /// The distribution of both series together.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a deviation needs no more than 53 bits"
    )]
    pub fn with(&self, other: &Self) -> Self {
        if self.count == 0 {
            return *other;
        }
        if other.count == 0 {
            return *self;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let apart = other.mean() - self.mean();
        let squares = |s: &Self| s.std_dev * s.std_dev * (s.count - 1) as f64;
        let total = squares(self) + squares(other) + apart * apart * n * m / (n + m);
        Self {
            count: self.count.saturating_add(other.count),
            sum: self.sum.saturating_add(other.sum),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            std_dev: (total / (n + m - 1.0)).sqrt(),
        }
    }
}

/// What only TCP flows have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpStats {
    /// How far the connection came.
    pub state: TcpState,
    /// When the first SYN was seen.
    pub syn: Option<Timestamp>,
    /// When the first SYN+ACK was seen.
    pub syn_ack: Option<Timestamp>,
    /// When the ACK that completed the handshake was seen.
    pub ack: Option<Timestamp>,
    /// Forward direction.
    pub forward: TcpDirection,
    /// Backward direction.
    pub backward: TcpDirection,
}

/// How far a TCP connection came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TcpState {
    /// Packets without a SYN: the flow's beginning was not seen, or there never was a connection.
    #[default]
    Midstream,
    /// A SYN was sent and not answered.
    SynSent,
    /// A SYN was answered with SYN+ACK, and nothing more: half open.
    SynReceived,
    /// The handshake was completed.
    Established,
    /// One side sent FIN.
    Closing,
    /// Both sides sent FIN.
    Closed,
    /// It was reset after a SYN+ACK, or its beginning was not seen.
    Reset,
    /// A SYN was answered with RST: the port is closed, or a firewall says so.
    Refused,
}

impl TcpState {
    /// The name used in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Midstream => "midstream",
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One direction of a TCP flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpDirection {
    /// Packets with each flag set.
    pub flags: TcpFlagCounts,
    /// Window of the direction's first packet, unscaled.
    pub initial_window: Option<u16>,
    /// Maximum segment size announced with the SYN.
    pub mss: Option<u16>,
    /// Window scale announced with the SYN.
    pub window_scale: Option<u8>,
    /// Data packets with bytes that lie before the latest byte seen: sent again, or overtaken on the way.
    pub retransmitted: u64,
    /// Data packets that left a gap before them: bytes lost on the way, or overtaken.
    pub out_of_order: u64,
    /// Packets that announced a window of 0 without RST or SYN: the receiver is overwhelmed.
    pub zero_windows: u64,
}

/// Packets with each TCP flag set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlagCounts {
    /// Sender is finished.
    pub fin: u64,
    /// Synchronise sequence numbers, with or without ACK.
    pub syn: u64,
    /// Reset.
    pub rst: u64,
    /// Push.
    pub psh: u64,
    /// The acknowledgement number is valid.
    pub ack: u64,
    /// The urgent pointer is valid.
    pub urg: u64,
    /// ECN echo.
    pub ece: u64,
    /// Congestion window reduced.
    pub cwr: u64,
}

/// What only ICMP and ICMPv6 flows have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IcmpStats {
    /// Type of the flow's first message.
    pub first_type: u8,
    /// Code of the flow's first message.
    pub first_code: u8,
    /// Echo requests, in both directions.
    pub echo_requests: u64,
    /// Echo replies, in both directions.
    pub echo_replies: u64,
    /// Echo replies whose data differ from the latest request of the same identifier and sequence number. A
    /// correct host returns the data it was sent.
    pub altered_replies: u64,
    /// Echo replies that match no recent request.
    pub unsolicited_replies: u64,
    /// Destination-unreachable messages.
    pub unreachable: u64,
    /// Time-exceeded messages.
    pub time_exceeded: u64,
    /// Redirect messages.
    pub redirects: u64,
    /// Messages of any other type.
    pub other: u64,
}

/// DNS messages of a flow. Each message is also reported as a [`DnsRecord`](super::DnsRecord).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsStats {
    /// Queries.
    pub queries: u64,
    /// Responses.
    pub responses: u64,
    /// Responses that say the name does not exist (NXDOMAIN).
    pub nx_domain: u64,
    /// Responses with any other error code.
    pub errors: u64,
    /// Answers in all responses, as their headers state.
    pub answers: u64,
    /// Name of the first question, in the form of [`DnsQuestion::name`](super::DnsQuestion::name), cut to 64
    /// bytes.
    pub first_name: String,
    /// Type of the first question.
    pub first_type: u16,
}

/// One of the first packets of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PacketSample {
    /// Whether it went backward, from the flow's destination to its source.
    pub backward: bool,
    /// IP total length in bytes, at most 65 535.
    pub length: u16,
    /// Time since the packet before in either direction, in microseconds, at most about 71 minutes; 0 for the
    /// first.
    pub gap_us: u32,
}

/// The tunnel that carried a flow: its innermost one, if there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowTunnel {
    /// What kind of tunnel it is.
    pub kind: TunnelKind,
    /// Its number, if it has one: key of GRE, network identifier of VXLAN and Geneve, endpoint identifier of GTP-U.
    pub id: Option<u32>,
    /// Where the tunnel begins: source of the packet that carried the flow's first packet.
    pub source: IpAddr,
    /// Where it ends: destination of that packet.
    pub destination: IpAddr,
}

impl Default for FlowTunnel {
    /// Between addresses of zeros.
    fn default() -> Self {
        let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            kind: TunnelKind::default(),
            id: None,
            source: none,
            destination: none,
        }
    }
}

/// What carries packets inside of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TunnelKind {
    /// An IP packet in another one (RFC 2003, RFC 2473, RFC 4213).
    #[default]
    IpInIp,
    /// Generic routing encapsulation (RFC 2784, RFC 2637), of IP or Ethernet.
    Gre,
    /// VXLAN (RFC 7348).
    Vxlan,
    /// Geneve (RFC 8926).
    Geneve,
    /// GTP-U of mobile networks (3GPP TS 29.281).
    GtpU,
    /// Teredo (RFC 4380).
    Teredo,
}

impl TunnelKind {
    /// All kinds, in order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::IpInIp,
        Self::Gre,
        Self::Vxlan,
        Self::Geneve,
        Self::GtpU,
        Self::Teredo,
    ];

    /// The name used in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IpInIp => "ip",
            Self::Gre => "gre",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::GtpU => "gtpu",
            Self::Teredo => "teredo",
        }
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client says in the clear when it begins TLS (RFC 8446 section 4.1.2), over TCP or in QUIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsHello {
    /// It came in QUIC (RFC 9001), not over TCP.
    pub quic: bool,
    /// The highest version offered, as it is on the wire: 0x0303 is TLS 1.2, 0x0304 TLS 1.3.
    pub version: u16,
    /// The server that is asked for (RFC 6066); empty if none is. Bytes that are not printable ASCII are `?`.
    pub server_name: String,
    /// Application protocols offered (RFC 7301), in order, with commas between; empty if none are. Bytes that are not
    /// printable ASCII are `?`.
    pub alpn: String,
    /// Fingerprint JA4 of the hello: 36 characters.
    pub ja4: String,
}

/// The head of an HTTP/1 request in the clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// Its method, such as `GET`.
    pub method: String,
    /// The header `Host`, cut to 128 bytes; empty if there is none. Bytes that are not printable ASCII are `?`.
    pub host: String,
    /// The header `User-Agent`, cut to 128 bytes; empty as above.
    pub user_agent: String,
}
