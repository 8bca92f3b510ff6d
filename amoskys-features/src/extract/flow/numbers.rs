//! How numbers of a record become values of features.

use amoskys_core::event::{FlowDirection, FlowEnd, FlowPhase, FlowRecord, Summary, TcpState};

use crate::extract::parts::count;

/// Seconds of a number of nanoseconds.
pub(super) fn seconds(nanos: f64) -> f64 {
    nanos / 1e9
}

/// NaN in place of what is 0 because there was nothing.
pub(super) fn known(summary: &Summary, value: f64) -> f64 {
    if summary.count == 0 { f64::NAN } else { value }
}

/// As [`known`], for deviations: NaN for fewer than two.
pub(super) fn deviation(summary: &Summary) -> f64 {
    if summary.count < 2 {
        f64::NAN
    } else {
        summary.std_dev
    }
}

/// Divided by the flow's duration in seconds; NaN for a flow of one instant.
pub(super) fn rate(record: &FlowRecord, value: u64) -> f64 {
    let seconds = record.duration().as_secs_f64();
    if seconds > 0.0 {
        count(value) / seconds
    } else {
        f64::NAN
    }
}

pub(super) fn per(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        f64::NAN
    } else {
        count(part) / count(whole)
    }
}

pub(super) fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

pub(super) fn end(record: &FlowRecord, wanted: FlowEnd) -> f64 {
    flag(record.phase == FlowPhase::End(wanted))
}

pub(super) fn state(record: &FlowRecord, wanted: &[TcpState]) -> f64 {
    flag(record.tcp.as_ref().is_some_and(|tcp| wanted.contains(&tcp.state)))
}

pub(super) fn ttl_spread(direction: &FlowDirection) -> f64 {
    f64::from(direction.ttl_max.saturating_sub(direction.ttl_min))
}

pub(super) fn bytes_entropy(bytes: &[u8]) -> f64 {
    if bytes.is_empty() {
        f64::NAN
    } else {
        super::bytes::entropy(bytes)
    }
}

/// Length of a packet of the sequence, negative if it went backward; NaN if there are fewer packets.
pub(super) fn length_at(record: &FlowRecord, at: usize) -> f64 {
    record.sequence.get(at).map_or(f64::NAN, |packet| {
        let length = f64::from(packet.length);
        if packet.backward { -length } else { length }
    })
}

pub(super) fn gap_at(record: &FlowRecord, at: usize) -> f64 {
    record
        .sequence
        .get(at)
        .map_or(f64::NAN, |packet| f64::from(packet.gap_us) / 1e6)
}
