//! Metrics of generic interface counters (those of RFC 2233).

use amoskys_core::event::{Metric, MetricKind};
use flowparser_sflow::counter_records::generic_interface::GenericInterface;

/// One metric for each counter that the agent has.
pub(super) fn metrics(interface: &GenericInterface) -> impl Iterator<Item = Metric> {
    let label = interface.if_index.to_string();
    let i = interface;
    let octets = [
        ("if_in_octets", i.if_in_octets),
        ("if_out_octets", i.if_out_octets),
    ];
    let packets = [
        ("if_in_ucast_pkts", i.if_in_ucast_pkts),
        ("if_in_multicast_pkts", i.if_in_multicast_pkts),
        ("if_in_broadcast_pkts", i.if_in_broadcast_pkts),
        ("if_in_discards", i.if_in_discards),
        ("if_in_errors", i.if_in_errors),
        ("if_in_unknown_protos", i.if_in_unknown_protos),
        ("if_out_ucast_pkts", i.if_out_ucast_pkts),
        ("if_out_multicast_pkts", i.if_out_multicast_pkts),
        ("if_out_broadcast_pkts", i.if_out_broadcast_pkts),
        ("if_out_discards", i.if_out_discards),
        ("if_out_errors", i.if_out_errors),
    ];
    let gauges = [
        ("if_speed", i.if_speed as f64, "bit/s"),
        ("if_admin_up", f64::from(i.if_status & 1), ""),
        ("if_oper_up", f64::from(i.if_status >> 1 & 1), ""),
    ];
    let counter = MetricKind::Counter;
    // All ones stand for a counter that is not there.
    let octets = octets.into_iter().filter(|(_, value)| *value != u64::MAX);
    let packets = packets.into_iter().filter(|(_, value)| *value != u32::MAX);
    octets
        .map(move |(name, value)| (name, counter, value as f64, "By"))
        .chain(packets.map(move |(name, value)| (name, counter, f64::from(value), "")))
        .chain(gauges.map(|(name, value, unit)| (name, MetricKind::Gauge, value, unit)))
        .map(move |(name, kind, value, unit)| Metric {
            name: name.to_owned(),
            kind,
            value,
            unit: unit.to_owned(),
            labels: vec![("interface".to_owned(), label.clone())],
        })
}
