//! What several catalogs have in common.

use amoskys_core::event::{FlowEnd, FlowRecord};

use super::catalog::Feature;
use super::fact::{AttemptOutcome, Fact, Half, Traffic};
use crate::aggregate::{Moments, aggregate, ratio};

aggregate! {
    /// Outcomes of attempts to reach a host.
    pub(super) struct Attempts {
        answered: u64,
        refused: u64,
        half_open: u64,
        unanswered: u64,
    }
}

impl Attempts {
    pub(super) const fn add(&mut self, outcome: AttemptOutcome) {
        let count = match outcome {
            AttemptOutcome::Answered => &mut self.answered,
            AttemptOutcome::Refused => &mut self.refused,
            AttemptOutcome::HalfOpen => &mut self.half_open,
            AttemptOutcome::Unanswered => &mut self.unanswered,
        };
        *count += 1;
    }

    const fn failed(&self) -> u64 {
        self.refused + self.half_open + self.unanswered
    }

    const fn all(&self) -> u64 {
        self.answered + self.failed()
    }

    pub(super) fn features<A: AsRef<Self>>() -> Vec<Feature<A>> {
        vec![
            Feature::new(
                "attempts",
                "",
                "attempts to reach a host whose outcome became known: answered, refused, half open or unanswered",
                |w| count(w.as_ref().all()),
            ),
            Feature::new("answered", "", "attempts that were answered", |w| {
                count(w.as_ref().answered)
            }),
            Feature::new("refused", "", "TCP attempts answered by a reset", |w| {
                count(w.as_ref().refused)
            }),
            Feature::new(
                "half_open",
                "",
                "TCP attempts that were answered and not confirmed",
                |w| count(w.as_ref().half_open),
            ),
            Feature::new(
                "unanswered",
                "",
                "attempts that nothing came back to within the answer time-out",
                |w| count(w.as_ref().unanswered),
            ),
            Feature::new(
                "failed_ratio",
                "",
                "(refused + half_open + unanswered) / attempts",
                |w| ratio(w.as_ref().failed(), w.as_ref().all()),
            ),
            Feature::new("refused_ratio", "", "refused / attempts", |w| {
                ratio(w.as_ref().refused, w.as_ref().all())
            }),
            Feature::new("half_open_ratio", "", "half_open / attempts", |w| {
                ratio(w.as_ref().half_open, w.as_ref().all())
            }),
            Feature::new("unanswered_ratio", "", "unanswered / attempts", |w| {
                ratio(w.as_ref().unanswered, w.as_ref().all())
            }),
        ]
    }
}

aggregate! {
    /// Flows opened, by protocol.
    pub(super) struct Opened {
        all: u64,
        tcp: u64,
        udp: u64,
        icmp: u64,
        low_ports: u64,
    }
}

impl Opened {
    pub(super) const fn add(&mut self, record: &FlowRecord) {
        self.all += 1;
        match record.key.protocol {
            6 => self.tcp += 1,
            17 => self.udp += 1,
            1 | 58 => self.icmp += 1,
            _ => {}
        }
        if matches!(record.key.protocol, 6 | 17) && record.key.destination_port < 1024 {
            self.low_ports += 1;
        }
    }

    pub(super) const fn count(&self) -> u64 {
        self.all
    }

    pub(super) fn features<A: AsRef<Self>>() -> Vec<Feature<A>> {
        vec![
            Feature::new("opened", "", "flows opened", |w| count(w.as_ref().all)),
            Feature::new("opened_tcp", "", "TCP flows opened", |w| count(w.as_ref().tcp)),
            Feature::new("opened_udp", "", "UDP flows opened", |w| count(w.as_ref().udp)),
            Feature::new("opened_icmp", "", "ICMP and ICMPv6 flows opened", |w| {
                count(w.as_ref().icmp)
            }),
        ]
    }

    pub(super) const fn low_ports(&self) -> u64 {
        self.low_ports
    }
}

aggregate! {
    /// Packets and bytes in both directions.
    pub(super) struct Volume {
        forward: HalfSums,
        backward: HalfSums,
        odd_replies: u64,
        unreachable: u64,
    }
}

aggregate! {
    /// One direction of [`Volume`].
    pub(super) struct HalfSums {
        packets: u64,
        data_packets: u64,
        bytes: u64,
        payload_bytes: u64,
        syn: u64,
        rst: u64,
        retransmitted: u64,
    }
}

impl HalfSums {
    fn add(&mut self, half: &Half) {
        self.packets = self.packets.saturating_add(half.packets);
        self.data_packets = self.data_packets.saturating_add(half.data_packets);
        self.bytes = self.bytes.saturating_add(half.bytes);
        self.payload_bytes = self.payload_bytes.saturating_add(half.payload_bytes);
        self.syn = self.syn.saturating_add(half.syn);
        self.rst = self.rst.saturating_add(half.rst);
        self.retransmitted = self.retransmitted.saturating_add(half.retransmitted);
    }
}

impl Volume {
    pub(super) fn add(&mut self, traffic: &Traffic) {
        self.forward.add(&traffic.forward);
        self.backward.add(&traffic.backward);
        self.odd_replies = self.odd_replies.saturating_add(traffic.odd_replies);
        self.unreachable = self.unreachable.saturating_add(traffic.unreachable);
    }

    const fn packets(&self) -> u64 {
        self.forward.packets.saturating_add(self.backward.packets)
    }

    pub(super) fn features<A: AsRef<Self>>() -> Vec<Feature<A>> {
        vec![
            Feature::new("forward_packets", "", "packets from the openers of flows", |w| {
                count(w.as_ref().forward.packets)
            }),
            Feature::new("backward_packets", "", "packets to the openers of flows", |w| {
                count(w.as_ref().backward.packets)
            }),
            Feature::new(
                "forward_bytes",
                "By",
                "bytes (IP total length) from the openers of flows",
                |w| count(w.as_ref().forward.bytes),
            ),
            Feature::new(
                "backward_bytes",
                "By",
                "bytes (IP total length) to the openers of flows",
                |w| count(w.as_ref().backward.bytes),
            ),
            Feature::<A>::new(
                "byte_balance",
                "",
                "(forward_bytes - backward_bytes) / (forward_bytes + backward_bytes): 1 is all sent, -1 all received; 0 without traffic",
                |w| {
                    let (forward, backward) =
                        (count(w.as_ref().forward.bytes), count(w.as_ref().backward.bytes));
                    if forward + backward > 0.0 {
                        (forward - backward) / (forward + backward)
                    } else {
                        0.0
                    }
                },
            )
            .within(-1.0, 1.0),
            Feature::new(
                "forward_packet_size",
                "By",
                "forward_bytes / forward_packets; NaN without packets",
                |w| mean(w.as_ref().forward.bytes, w.as_ref().forward.packets),
            ),
            Feature::new(
                "backward_packet_size",
                "By",
                "backward_bytes / backward_packets; NaN without packets",
                |w| mean(w.as_ref().backward.bytes, w.as_ref().backward.packets),
            ),
            Feature::new(
                "forward_payload_size",
                "By",
                "payload bytes per forward packet with payload; NaN without",
                |w| mean(w.as_ref().forward.payload_bytes, w.as_ref().forward.data_packets),
            ),
            Feature::new(
                "backward_payload_size",
                "By",
                "payload bytes per backward packet with payload; NaN without",
                |w| {
                    mean(
                        w.as_ref().backward.payload_bytes,
                        w.as_ref().backward.data_packets,
                    )
                },
            ),
            Feature::new("data_packet_ratio", "", "packets with payload / packets", |w| {
                ratio(
                    w.as_ref()
                        .forward
                        .data_packets
                        .saturating_add(w.as_ref().backward.data_packets),
                    w.as_ref().packets(),
                )
            }),
            Feature::new(
                "syn_packets",
                "",
                "TCP packets with SYN from the openers of flows",
                |w| count(w.as_ref().forward.syn),
            ),
            Feature::new("syn_ratio", "", "syn_packets / forward_packets", |w| {
                ratio(w.as_ref().forward.syn, w.as_ref().forward.packets)
            }),
            Feature::new(
                "forward_resets",
                "",
                "TCP packets with RST from the openers of flows",
                |w| count(w.as_ref().forward.rst),
            ),
            Feature::new(
                "backward_resets",
                "",
                "TCP packets with RST to the openers of flows",
                |w| count(w.as_ref().backward.rst),
            ),
            Feature::new(
                "retransmitted_ratio",
                "",
                "TCP data packets sent again, in both directions / packets with payload",
                |w| {
                    let volume = w.as_ref();
                    ratio(
                        volume
                            .forward
                            .retransmitted
                            .saturating_add(volume.backward.retransmitted),
                        volume
                            .forward
                            .data_packets
                            .saturating_add(volume.backward.data_packets),
                    )
                },
            ),
            Feature::new(
                "odd_echo_replies",
                "",
                "ICMP echo replies that did not return the data sent, or that nobody asked for",
                |w| count(w.as_ref().odd_replies),
            ),
            Feature::new(
                "unreachable",
                "",
                "ICMP destination-unreachable messages within the flows",
                |w| count(w.as_ref().unreachable),
            ),
        ]
    }
}

aggregate! {
    /// Flows that ended.
    pub(super) struct Ended {
        durations: Moments,
        packets: Moments,
        forward_bytes: Moments,
        backward_bytes: Moments,
        reset: u64,
        without_data: u64,
        short_sessions: u64,
    }
}

impl Ended {
    pub(super) fn add(&mut self, record: &FlowRecord, end: FlowEnd) {
        let seconds = record.duration().as_secs_f64();
        let data = record
            .forward
            .data_packets
            .saturating_add(record.backward.data_packets);
        self.durations.add(seconds);
        self.packets.add(count(record.packets()));
        self.forward_bytes.add(count(record.forward.bytes()));
        self.backward_bytes.add(count(record.backward.bytes()));
        self.reset += u64::from(end == FlowEnd::Reset);
        self.without_data += u64::from(data == 0);
        let both_spoke = record.forward.data_packets > 0 && record.backward.data_packets > 0;
        self.short_sessions += u64::from(record.key.protocol == 6 && both_spoke && seconds < 10.0);
    }

    pub(super) fn features<A: AsRef<Self>>() -> Vec<Feature<A>> {
        vec![
            Feature::new("ended", "", "flows that ended", |w| {
                count(w.as_ref().durations.count())
            }),
            Feature::new(
                "duration_mean",
                "s",
                "mean duration of flows that ended; NaN without",
                |w| w.as_ref().durations.mean(),
            ),
            Feature::new(
                "duration_max",
                "s",
                "longest duration of flows that ended; NaN without",
                |w| w.as_ref().durations.max(),
            ),
            Feature::new(
                "duration_variation",
                "",
                "standard deviation / mean of durations of flows that ended; NaN for fewer than two",
                |w| w.as_ref().durations.variation(),
            ),
            Feature::new(
                "flow_packets_mean",
                "",
                "mean packets of flows that ended; NaN without",
                |w| w.as_ref().packets.mean(),
            ),
            Feature::new(
                "flow_packets_variation",
                "",
                "standard deviation / mean of packets of flows that ended; NaN for fewer than two",
                |w| w.as_ref().packets.variation(),
            ),
            Feature::new(
                "flow_forward_bytes_mean",
                "By",
                "mean forward bytes of flows that ended; NaN without",
                |w| w.as_ref().forward_bytes.mean(),
            ),
            Feature::new(
                "flow_forward_bytes_variation",
                "",
                "standard deviation / mean of forward bytes of flows that ended: near 0 for a machine that repeats itself; NaN for fewer than two",
                |w| w.as_ref().forward_bytes.variation(),
            ),
            Feature::new(
                "flow_backward_bytes_mean",
                "By",
                "mean backward bytes of flows that ended; NaN without",
                |w| w.as_ref().backward_bytes.mean(),
            ),
            Feature::new(
                "flow_backward_bytes_variation",
                "",
                "standard deviation / mean of backward bytes of flows that ended; NaN for fewer than two",
                |w| w.as_ref().backward_bytes.variation(),
            ),
            Feature::new(
                "ended_reset_ratio",
                "",
                "flows that ended by a reset / ended",
                |w| ratio(w.as_ref().reset, w.as_ref().durations.count()),
            ),
            Feature::new(
                "ended_without_data_ratio",
                "",
                "flows that ended without any payload / ended",
                |w| ratio(w.as_ref().without_data, w.as_ref().durations.count()),
            ),
            Feature::new(
                "short_sessions",
                "",
                "TCP flows that ended within 10 s of their start, in which both sides sent payload",
                |w| count(w.as_ref().short_sessions),
            ),
        ]
    }
}

/// Features of the regularity of start times.
pub(super) fn regularity_features<A>() -> Vec<Feature<A>> {
    vec![
        Feature::new(
            "start_gap_median",
            "s",
            "median time between starts; NaN for fewer than three starts",
            |w| w.regularity.map_or(f64::NAN, |r| r.median),
        ),
        Feature::new(
            "start_gap_spread",
            "",
            "median distance of the times between starts from their median, in units of it: near 0 for a clock, 0.5 and above for chance; NaN for fewer than three starts",
            |w| w.regularity.map_or(f64::NAN, |r| r.spread),
        ),
        Feature::<A>::new(
            "start_gap_skew",
            "",
            "Bowley's skewness of the times between starts, -1 to 1: near 0 for a clock with jitter; NaN for fewer than three starts",
            |w| w.regularity.map_or(f64::NAN, |r| r.skew),
        )
        .within(-1.0, 1.0),
    ]
}

/// Takes what a fact says about attempts, volume and ends.
pub(super) fn add_common<A>(aggregate: &mut A, fact: &Fact<'_>)
where
    A: AsMut<Attempts> + AsMut<Volume> + AsMut<Ended>,
{
    match fact {
        Fact::Attempt { outcome, .. } => AsMut::<Attempts>::as_mut(aggregate).add(*outcome),
        Fact::Traffic { traffic, .. } => AsMut::<Volume>::as_mut(aggregate).add(traffic),
        Fact::Closed { record, end } => AsMut::<Ended>::as_mut(aggregate).add(record, *end),
        _ => {}
    }
}

/// Lets an aggregate be read and filled by the parts it has.
macro_rules! has_parts {
    ($name:ty: $($field:ident: $part:ty),*) => {
        $(
            impl AsRef<$part> for $name {
                fn as_ref(&self) -> &$part {
                    &self.$field
                }
            }
            impl AsMut<$part> for $name {
                fn as_mut(&mut self) -> &mut $part {
                    &mut self.$field
                }
            }
        )*
    };
}
pub(super) use has_parts;

/// A count as a feature value.
#[expect(clippy::cast_precision_loss, reason = "a feature needs no more than 53 bits")]
pub(super) const fn count(count: u64) -> f64 {
    count as f64
}

fn mean(sum: u64, number: u64) -> f64 {
    if number == 0 {
        f64::NAN
    } else {
        count(sum) / count(number)
    }
}
