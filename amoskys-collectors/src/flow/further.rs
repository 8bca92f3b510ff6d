//! Columns beyond the usual ones: what is worked out from other fields, and what was read in payloads and tunnels.

use std::io;
use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::{FlowDirection, FlowRecord};

use super::columns::{Cell, Row};

pub(super) fn further(record: &FlowRecord, row: &mut impl Row) -> io::Result<()> {
    let (forward, backward) = (&record.forward, &record.backward);
    let seconds = record.duration().as_secs_f64();
    let rate = |count: u64| real((seconds > 0.0).then(|| count as f64 / seconds));
    let mut cell = |name, cell| row.cell(["", name, ""], cell);
    cell("bytes_per_s", rate(record.bytes()))?;
    cell("packets_per_s", rate(record.packets()))?;
    cell("fwd_bytes_per_s", rate(forward.bytes()))?;
    cell("bwd_bytes_per_s", rate(backward.bytes()))?;
    cell("fwd_packets_per_s", rate(forward.packets))?;
    cell("bwd_packets_per_s", rate(backward.packets))?;
    cell("down_up_ratio", mean(backward.packets, forward.packets))?;
    let lengths = forward.lengths.with(&backward.lengths);
    cell("length_var", Cell::Real(lengths.std_dev * lengths.std_dev))?;
    cell("subflows", Cell::Whole(record.subflows))?;
    direction(row, "fwd_", forward, record.subflows)?;
    direction(row, "bwd_", backward, record.subflows)?;
    handshake(row, record)?;
    sampling(row, record)?;
    tunnel(row, record)?;
    payloads(row, record)
}

fn direction(row: &mut impl Row, prefix: &str, side: &FlowDirection, subflows: u64) -> io::Result<()> {
    let mut cell = |name, cell| row.cell([prefix, name, ""], cell);
    let time = |time: Option<Timestamp>| time.map_or(Cell::Nothing, Cell::Time);
    cell("first_ns", time(side.first))?;
    cell("last_ns", time(side.last))?;
    cell("duration_ns", between(side.first, side.last))?;
    cell("header_min", Cell::Whole(side.header_min.into()))?;
    cell("subflow_packets", mean(side.packets, subflows))?;
    cell("subflow_bytes", mean(side.bytes(), subflows))?;
    cell("bulks", Cell::Whole(side.bulk.count))?;
    cell("bulk_packets", Cell::Whole(side.bulk.packets))?;
    cell("bulk_bytes", Cell::Whole(side.bulk.bytes))?;
    cell("bulk_duration_ns", Cell::Whole(side.bulk.duration_ns))?;
    cell("bulk_packets_mean", mean(side.bulk.packets, side.bulk.count))?;
    cell("bulk_bytes_mean", mean(side.bulk.bytes, side.bulk.count))?;
    let rate = side.bulk.bytes as f64 / (side.bulk.duration_ns as f64 / 1e9);
    cell(
        "bulk_bytes_per_s",
        real((side.bulk.duration_ns > 0).then_some(rate)),
    )?;
    cell("entropy", real(side.entropy))
}

fn handshake(row: &mut impl Row, record: &FlowRecord) -> io::Result<()> {
    let tcp = record.tcp.as_ref();
    let syn = tcp.and_then(|tcp| tcp.syn);
    let syn_ack = tcp.and_then(|tcp| tcp.syn_ack);
    let ack = tcp.and_then(|tcp| tcp.ack);
    let mut cell = |name, cell| row.cell(["tcp_", name, ""], cell);
    cell("server_rtt_ns", between(syn, syn_ack))?;
    cell("client_rtt_ns", between(syn_ack, ack))?;
    cell("handshake_ns", between(syn, ack))
}

fn sampling(row: &mut impl Row, record: &FlowRecord) -> io::Result<()> {
    let mut cell = |name, count| row.cell(["", name, ""], Cell::Whole(count));
    cell("sampling_rate", u64::from(record.sampling_rate.max(1)))?;
    cell("fwd_packets_scaled", record.scaled(record.forward.packets))?;
    cell("fwd_bytes_scaled", record.scaled(record.forward.bytes()))?;
    cell("bwd_packets_scaled", record.scaled(record.backward.packets))?;
    cell("bwd_bytes_scaled", record.scaled(record.backward.bytes()))
}

fn tunnel(row: &mut impl Row, record: &FlowRecord) -> io::Result<()> {
    let tunnel = record.tunnel.as_ref();
    let mut cell = |name, cell| row.cell(["tunnel_", name, ""], cell);
    let address = |address: Option<IpAddr>| address.map_or(Cell::Nothing, Cell::Address);
    cell(
        "kind",
        tunnel.map_or(Cell::Nothing, |tunnel| Cell::Word(tunnel.kind.as_str())),
    )?;
    let id = tunnel.and_then(|tunnel| tunnel.id);
    cell("id", id.map_or(Cell::Nothing, |id| Cell::Whole(id.into())))?;
    cell("src_ip", address(tunnel.map(|tunnel| tunnel.source)))?;
    cell("dst_ip", address(tunnel.map(|tunnel| tunnel.destination)))
}

fn payloads(row: &mut impl Row, record: &FlowRecord) -> io::Result<()> {
    let tls = record.tls.as_ref();
    let http = record.http.as_ref();
    let mut cell = |name, cell| row.cell(["", name, ""], cell);
    cell(
        "tls_over",
        tls.map_or(Cell::Nothing, |tls| {
            Cell::Word(if tls.quic { "quic" } else { "tcp" })
        }),
    )?;
    cell(
        "tls_version",
        tls.map_or(Cell::Nothing, |tls| Cell::Whole(tls.version.into())),
    )?;
    cell("tls_server_name", text(tls.map(|tls| tls.server_name.as_str())))?;
    cell("tls_alpn", text(tls.map(|tls| tls.alpn.as_str())))?;
    cell("tls_ja4", text(tls.map(|tls| tls.ja4.as_str())))?;
    cell("http_method", text(http.map(|http| http.method.as_str())))?;
    cell("http_host", text(http.map(|http| http.host.as_str())))?;
    cell("http_user_agent", text(http.map(|http| http.user_agent.as_str())))
}

fn text(text: Option<&str>) -> Cell<'_> {
    text.map_or(Cell::Nothing, Cell::Text)
}

fn real<'a>(value: Option<f64>) -> Cell<'a> {
    value.map_or(Cell::Nothing, Cell::Real)
}

fn mean<'a>(sum: u64, count: u64) -> Cell<'a> {
    real((count > 0).then(|| sum as f64 / count as f64))
}

/// The time between two events; nothing if one was not seen. 0 if they are in disorder.
fn between<'a>(from: Option<Timestamp>, to: Option<Timestamp>) -> Cell<'a> {
    match (from, to) {
        (Some(from), Some(to)) => Cell::Whole(u64::try_from(to.since(from).as_nanos()).unwrap_or(u64::MAX)),
        _ => Cell::Nothing,
    }
}
