//! What a row about a flow holds, whatever the format.

use std::io;
use std::net::IpAddr;

use super::further::further;
use super::rows::Columns;
use amoskys_core::Timestamp;
use amoskys_core::event::{
    DnsStats, FlowDirection, FlowPhase, FlowRecord, IcmpStats, MacAddr, PacketSample, Summary, TcpDirection,
    TcpStats,
};

/// A value of a row.
#[derive(Clone, Copy)]
pub(super) enum Cell<'a> {
    /// There is no such value.
    Nothing,
    Whole(u64),
    Time(Timestamp),
    Real(f64),
    /// Text of a fixed set, which needs no quotation.
    Word(&'a str),
    Text(&'a str),
    Address(IpAddr),
    Mac(MacAddr),
    Bytes(&'a [u8]),
    Sequence(&'a [PacketSample]),
}

impl<'a> Cell<'a> {
    fn whole(value: Option<impl Into<u64>>) -> Self {
        value.map_or(Self::Nothing, |value| Self::Whole(value.into()))
    }

    fn time(value: Option<Timestamp>) -> Self {
        value.map_or(Self::Nothing, Self::Time)
    }
}

/// Receives the cells of a row in order. The name of a column is prefix, name and suffix together.
pub(super) trait Row {
    fn cell(&mut self, name: [&str; 3], cell: Cell<'_>) -> io::Result<()>;

    /// The five cells of a distribution. Many are of nothing, which formats may write in one go.
    #[inline]
    fn summary(&mut self, [prefix, name]: [&str; 2], summary: &Summary) -> io::Result<()> {
        self.cell([prefix, name, "_count"], Cell::Whole(summary.count))?;
        self.cell([prefix, name, "_min"], Cell::Whole(summary.min))?;
        self.cell([prefix, name, "_max"], Cell::Whole(summary.max))?;
        self.cell([prefix, name, "_mean"], Cell::Real(summary.mean()))?;
        self.cell([prefix, name, "_std"], Cell::Real(summary.std_dev))
    }
}

/// Gives the cells of a record, always the same columns in the same order. The first eleven are the flow's key,
/// times and counts; programs rely on their names and places.
pub(super) fn visit(record: &FlowRecord, columns: Columns, row: &mut impl Row) -> io::Result<()> {
    let (forward, backward) = (&record.forward, &record.backward);
    let mut cell = |name, cell| row.cell(["", name, ""], cell);
    cell("src_ip", Cell::Address(record.key.source))?;
    cell("src_port", Cell::Whole(record.key.source_port.into()))?;
    cell("dst_ip", Cell::Address(record.key.destination))?;
    cell("dst_port", Cell::Whole(record.key.destination_port.into()))?;
    cell("protocol", Cell::Whole(record.key.protocol.into()))?;
    cell("first_ns", Cell::Time(record.first))?;
    cell("last_ns", Cell::Time(record.last))?;
    cell("fwd_packets", Cell::Whole(forward.packets))?;
    cell("fwd_bytes", Cell::Whole(forward.bytes()))?;
    cell("bwd_packets", Cell::Whole(backward.packets))?;
    cell("bwd_bytes", Cell::Whole(backward.bytes()))?;
    if columns == Columns::Counts {
        return Ok(());
    }

    let duration = u64::try_from(record.duration().as_nanos()).unwrap_or(u64::MAX);
    cell("flow", Cell::Whole(record.flow))?;
    cell("phase", Cell::Word(phase(record.phase)))?;
    cell("duration_ns", Cell::Whole(duration))?;
    cell("interface", Cell::Whole(record.interface.into()))?;
    cell("vlan", Cell::whole(record.vlan))?;
    cell("inner_vlan", Cell::whole(record.inner_vlan))?;
    cell("src_mac", record.source_mac.map_or(Cell::Nothing, Cell::Mac))?;
    cell("dst_mac", record.destination_mac.map_or(Cell::Nothing, Cell::Mac))?;

    row.summary(["", "length"], &forward.lengths.with(&backward.lengths))?;
    row.summary(["", "payload"], &forward.payload.with(&backward.payload))?;
    row.summary(["", "gap_ns"], &record.gaps)?;
    row.summary(["", "active_ns"], &record.active)?;
    row.summary(["", "idle_ns"], &record.idle)?;
    direction(row, "fwd_", forward)?;
    direction(row, "bwd_", backward)?;
    tcp(row, record.tcp.as_ref())?;
    icmp(row, record.icmp.as_ref())?;
    dns(row, record.dns.as_ref())?;
    row.cell(["", "sequence", ""], Cell::Sequence(&record.sequence))?;
    if columns == Columns::All {
        further(record, row)?;
    }
    Ok(())
}

/// `start`, `update`, or why the flow ended.
fn phase(phase: FlowPhase) -> &'static str {
    match phase {
        FlowPhase::Start => "start",
        FlowPhase::End(end) => end.as_str(),
        _ => "update",
    }
}

fn direction(row: &mut impl Row, prefix: &str, side: &FlowDirection) -> io::Result<()> {
    let mut cell = |name, cell| row.cell([prefix, name, ""], cell);
    cell("frame_bytes", Cell::Whole(side.frame_bytes))?;
    cell("header_bytes", Cell::Whole(side.header_bytes))?;
    cell("payload_bytes", Cell::Whole(side.payload.sum))?;
    cell("data_packets", Cell::Whole(side.data_packets))?;
    cell("fragments", Cell::Whole(side.fragments))?;
    cell("ttl_min", Cell::Whole(side.ttl_min.into()))?;
    cell("ttl_max", Cell::Whole(side.ttl_max.into()))?;
    cell("first_payload", Cell::Bytes(&side.first_bytes))?;
    row.summary([prefix, "length"], &side.lengths)?;
    row.summary([prefix, "payload"], &side.payload)?;
    row.summary([prefix, "gap_ns"], &side.gaps)
}

fn tcp(row: &mut impl Row, stats: Option<&TcpStats>) -> io::Result<()> {
    let mut cell = |name, cell| row.cell(["tcp_", name, ""], cell);
    cell(
        "state",
        stats.map_or(Cell::Nothing, |tcp| Cell::Word(tcp.state.as_str())),
    )?;
    cell("syn_ns", Cell::time(stats.and_then(|tcp| tcp.syn)))?;
    cell("syn_ack_ns", Cell::time(stats.and_then(|tcp| tcp.syn_ack)))?;
    cell("ack_ns", Cell::time(stats.and_then(|tcp| tcp.ack)))?;
    tcp_direction(row, "fwd_", stats.map(|tcp| &tcp.forward))?;
    tcp_direction(row, "bwd_", stats.map(|tcp| &tcp.backward))
}

fn tcp_direction(row: &mut impl Row, prefix: &str, side: Option<&TcpDirection>) -> io::Result<()> {
    let flags = side.map(|side| side.flags);
    let mut cell = |name, value: Option<u64>| row.cell([prefix, name, ""], Cell::whole(value));
    cell("fin", flags.map(|flags| flags.fin))?;
    cell("syn", flags.map(|flags| flags.syn))?;
    cell("rst", flags.map(|flags| flags.rst))?;
    cell("psh", flags.map(|flags| flags.psh))?;
    cell("ack", flags.map(|flags| flags.ack))?;
    cell("urg", flags.map(|flags| flags.urg))?;
    cell("ece", flags.map(|flags| flags.ece))?;
    cell("cwr", flags.map(|flags| flags.cwr))?;
    cell(
        "initial_window",
        side.and_then(|side| side.initial_window).map(u64::from),
    )?;
    cell("mss", side.and_then(|side| side.mss).map(u64::from))?;
    cell(
        "window_scale",
        side.and_then(|side| side.window_scale).map(u64::from),
    )?;
    cell("retransmitted", side.map(|side| side.retransmitted))?;
    cell("out_of_order", side.map(|side| side.out_of_order))?;
    cell("zero_windows", side.map(|side| side.zero_windows))
}

fn icmp(row: &mut impl Row, stats: Option<&IcmpStats>) -> io::Result<()> {
    let mut cell =
        |name, value: fn(&IcmpStats) -> u64| row.cell(["icmp_", name, ""], Cell::whole(stats.map(value)));
    cell("type", |icmp| icmp.first_type.into())?;
    cell("code", |icmp| icmp.first_code.into())?;
    cell("echo_requests", |icmp| icmp.echo_requests)?;
    cell("echo_replies", |icmp| icmp.echo_replies)?;
    cell("altered_replies", |icmp| icmp.altered_replies)?;
    cell("unsolicited_replies", |icmp| icmp.unsolicited_replies)?;
    cell("unreachable", |icmp| icmp.unreachable)?;
    cell("time_exceeded", |icmp| icmp.time_exceeded)?;
    cell("redirects", |icmp| icmp.redirects)?;
    cell("other", |icmp| icmp.other)
}

fn dns(row: &mut impl Row, stats: Option<&DnsStats>) -> io::Result<()> {
    let mut cell =
        |name, value: fn(&DnsStats) -> u64| row.cell(["dns_", name, ""], Cell::whole(stats.map(value)));
    cell("queries", |dns| dns.queries)?;
    cell("responses", |dns| dns.responses)?;
    cell("nx_domain", |dns| dns.nx_domain)?;
    cell("errors", |dns| dns.errors)?;
    cell("answers", |dns| dns.answers)?;
    cell("first_type", |dns| dns.first_type.into())?;
    let name = stats.map_or(Cell::Nothing, |dns| Cell::Text(&dns.first_name));
    row.cell(["dns_", "first_name", ""], name)
}
