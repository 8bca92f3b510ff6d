//! Features of a flow as a whole.

use amoskys_core::event::{FlowEnd, FlowRecord, TcpState};

use super::numbers::{deviation, end, flag, known, per, rate, seconds, state};
use crate::extract::catalog::{Feature, Kind};
use crate::extract::domain::byte_entropy;
use crate::extract::parts::count;
use crate::extract::tracker::is_group;

type F = Feature<FlowRecord>;

pub(super) fn features() -> Vec<F> {
    vec![
        F::new("duration", "s", "time from the first to the last packet", |w| {
            w.duration().as_secs_f64()
        }),
        F::new("packets", "", "packets in both directions", |w| {
            count(w.packets())
        }),
        F::new("bytes", "By", "bytes by the IP headers in both directions", |w| {
            count(w.bytes())
        }),
        F::new(
            "packet_rate",
            "Hz",
            "packets / duration; NaN for a flow of one instant",
            |w| rate(w, w.packets()),
        ),
        F::new(
            "byte_rate",
            "By/s",
            "bytes / duration; NaN for a flow of one instant",
            |w| rate(w, w.bytes()),
        ),
        F::new(
            "length_mean",
            "By",
            "mean packet length in both directions; NaN without",
            |w| {
                let all = w.forward.lengths.with(&w.backward.lengths);
                known(&all, all.mean())
            },
        ),
        F::new(
            "length_deviation",
            "By",
            "standard deviation of packet length in both directions; NaN for fewer than two",
            |w| deviation(&w.forward.lengths.with(&w.backward.lengths)),
        ),
        F::new(
            "byte_balance",
            "",
            "(forward_bytes - backward_bytes) / (forward_bytes + backward_bytes)",
            |w| {
                let (f, b) = (count(w.forward.bytes()), count(w.backward.bytes()));
                if f + b > 0.0 { (f - b) / (f + b) } else { 0.0 }
            },
        )
        .within(-1.0, 1.0),
        F::new(
            "packet_balance",
            "",
            "(forward_packets - backward_packets) / (forward_packets + backward_packets)",
            |w| {
                let (f, b) = (count(w.forward.packets), count(w.backward.packets));
                if f + b > 0.0 { (f - b) / (f + b) } else { 0.0 }
            },
        )
        .within(-1.0, 1.0),
        F::new(
            "backward_per_forward",
            "",
            "backward_packets / forward_packets; NaN without forward packets",
            |w| per(w.backward.packets, w.forward.packets),
        )
        .within(0.0, f64::INFINITY),
        F::new(
            "gap_min",
            "s",
            "smallest time between packets of either direction; NaN without",
            |w| seconds(known(&w.gaps, count(w.gaps.min))),
        ),
        F::new(
            "gap_max",
            "s",
            "largest time between packets of either direction; NaN without",
            |w| seconds(known(&w.gaps, count(w.gaps.max))),
        ),
        F::new(
            "gap_mean",
            "s",
            "mean time between packets of either direction; NaN without",
            |w| seconds(known(&w.gaps, w.gaps.mean())),
        ),
        F::new(
            "gap_deviation",
            "s",
            "standard deviation of time between packets of either direction; NaN for fewer than two",
            |w| seconds(deviation(&w.gaps)),
        ),
        F::new(
            "active_min",
            "s",
            "smallest period of activity; NaN without",
            |w| seconds(known(&w.active, count(w.active.min))),
        ),
        F::new(
            "active_max",
            "s",
            "largest period of activity; NaN without",
            |w| seconds(known(&w.active, count(w.active.max))),
        ),
        F::new("active_mean", "s", "mean period of activity; NaN without", |w| {
            seconds(known(&w.active, w.active.mean()))
        }),
        F::new(
            "active_deviation",
            "s",
            "standard deviation of period of activity; NaN for fewer than two",
            |w| seconds(deviation(&w.active)),
        ),
        F::new(
            "idle_min",
            "s",
            "smallest pause between periods of activity; NaN without",
            |w| seconds(known(&w.idle, count(w.idle.min))),
        ),
        F::new(
            "idle_max",
            "s",
            "largest pause between periods of activity; NaN without",
            |w| seconds(known(&w.idle, count(w.idle.max))),
        ),
        F::new(
            "idle_mean",
            "s",
            "mean pause between periods of activity; NaN without",
            |w| seconds(known(&w.idle, w.idle.mean())),
        ),
        F::new(
            "idle_deviation",
            "s",
            "standard deviation of pause between periods of activity; NaN for fewer than two",
            |w| seconds(deviation(&w.idle)),
        ),
        F::new("idles", "", "pauses between periods of activity", |w| {
            count(w.idle.count)
        }),
        F::new(
            "gap_variation",
            "",
            "standard deviation / mean of time between packets: near 0 for a machine that keeps time; NaN for fewer than two",
            |w| {
                if w.gaps.sum == 0 {
                    f64::NAN
                } else {
                    deviation(&w.gaps) / w.gaps.mean()
                }
            },
        ),
        F::new(
            "subflows",
            "",
            "bursts of packets more than a second apart; 0 if the meter does not count them",
            |w| count(w.subflows),
        ),
        F::new(
            "packets_per_subflow",
            "",
            "packets / subflows; NaN without",
            |w| per(w.packets(), w.subflows),
        )
        .within(0.0, f64::INFINITY),
        F::new("bytes_per_subflow", "By", "bytes / subflows; NaN without", |w| {
            per(w.bytes(), w.subflows)
        }),
        F::new(
            "handshake_server",
            "s",
            "time from SYN to SYN+ACK; NaN without",
            |w| {
                w.tcp
                    .as_ref()
                    .and_then(|t| Some(t.syn_ack?.since(t.syn?).as_secs_f64()))
                    .unwrap_or(f64::NAN)
            },
        ),
        F::new(
            "handshake_client",
            "s",
            "time from SYN+ACK to the ACK that completes the handshake; NaN without",
            |w| {
                w.tcp
                    .as_ref()
                    .and_then(|t| Some(t.ack?.since(t.syn_ack?).as_secs_f64()))
                    .unwrap_or(f64::NAN)
            },
        ),
        F::new("is_tcp", "", "the protocol is TCP", |w| flag(w.key.protocol == 6)),
        F::new("is_udp", "", "the protocol is UDP", |w| {
            flag(w.key.protocol == 17)
        }),
        F::new("is_icmp", "", "the protocol is ICMP or ICMPv6", |w| {
            flag(matches!(w.key.protocol, 1 | 58))
        }),
        F::new("is_ipv6", "", "the addresses are IPv6", |w| {
            flag(w.key.source.is_ipv6())
        }),
        F::new(
            "is_to_group",
            "",
            "the destination is a multicast or broadcast address",
            |w| flag(is_group(w.key.destination)),
        ),
        F::new("is_low_port", "", "the destination port is below 1024", |w| {
            flag(matches!(w.key.protocol, 6 | 17) && w.key.destination_port < 1024)
        }),
        F::new("is_high_to_high", "", "neither port is below 1024", |w| {
            flag(
                matches!(w.key.protocol, 6 | 17)
                    && w.key.destination_port >= 1024
                    && w.key.source_port >= 1024,
            )
        }),
        F::new("is_same_port", "", "both ports are the same", |w| {
            flag(matches!(w.key.protocol, 6 | 17) && w.key.source_port == w.key.destination_port)
        }),
        F::new("is_one_way", "", "nothing came back", |w| {
            flag(w.backward.packets == 0)
        }),
        F::new("has_tunnel", "", "a tunnel carried the flow", |w| {
            flag(w.tunnel.is_some())
        }),
        F::new("has_vlan", "", "the first packet had a VLAN tag", |w| {
            flag(w.vlan.is_some())
        }),
        F::new("protocol", "", "IP protocol number", |w| {
            f64::from(w.key.protocol)
        })
        .within(0.0, 255.0)
        .of_kind(Kind::Code),
        F::new("source_port", "", "port of the source", |w| {
            f64::from(w.key.source_port)
        })
        .within(0.0, 65_535.0)
        .of_kind(Kind::Code),
        F::new("destination_port", "", "port of the destination", |w| {
            f64::from(w.key.destination_port)
        })
        .within(0.0, 65_535.0)
        .of_kind(Kind::Code),
        F::new(
            "is_ended_idle",
            "",
            "the flow ended because no packet came for the idle time-out",
            |w| end(w, FlowEnd::Idle),
        ),
        F::new(
            "is_ended_active",
            "",
            "the flow ended because it lasted longer than the active time-out",
            |w| end(w, FlowEnd::Active),
        ),
        F::new(
            "is_ended_finished",
            "",
            "the flow ended because both sides closed the connection",
            |w| end(w, FlowEnd::Finished),
        ),
        F::new(
            "is_ended_reset",
            "",
            "the flow ended because one side reset the connection",
            |w| end(w, FlowEnd::Reset),
        ),
        F::new("is_established", "", "the TCP handshake was completed", |w| {
            state(w, &[TcpState::Established, TcpState::Closing, TcpState::Closed])
        }),
        F::new(
            "is_half_open",
            "",
            "a SYN was answered and the answer not confirmed",
            |w| state(w, &[TcpState::SynReceived]),
        ),
        F::new("is_syn_only", "", "a SYN was not answered", |w| {
            state(w, &[TcpState::SynSent])
        }),
        F::new("is_refused", "", "a SYN was answered by a reset", |w| {
            state(w, &[TcpState::Refused])
        }),
        F::new("is_midstream", "", "no SYN was seen", |w| {
            state(w, &[TcpState::Midstream])
        }),
        F::new(
            "icmp_echo_requests",
            "",
            "ICMP echo requests; NaN but for ICMP",
            |w| w.icmp.as_ref().map_or(f64::NAN, |i| count(i.echo_requests)),
        ),
        F::new(
            "icmp_echo_replies",
            "",
            "ICMP echo replies; NaN but for ICMP",
            |w| w.icmp.as_ref().map_or(f64::NAN, |i| count(i.echo_replies)),
        ),
        F::new(
            "icmp_altered_replies",
            "",
            "ICMP echo replies whose data are not those of the request; NaN but for ICMP",
            |w| w.icmp.as_ref().map_or(f64::NAN, |i| count(i.altered_replies)),
        ),
        F::new(
            "icmp_unsolicited_replies",
            "",
            "ICMP echo replies that match no request; NaN but for ICMP",
            |w| w.icmp.as_ref().map_or(f64::NAN, |i| count(i.unsolicited_replies)),
        ),
        F::new(
            "icmp_unreachable",
            "",
            "ICMP destination-unreachable messages; NaN but for ICMP",
            |w| w.icmp.as_ref().map_or(f64::NAN, |i| count(i.unreachable)),
        ),
        F::new(
            "icmp_time_exceeded",
            "",
            "ICMP time-exceeded messages; NaN but for ICMP",
            |w| w.icmp.as_ref().map_or(f64::NAN, |i| count(i.time_exceeded)),
        ),
        F::new(
            "icmp_redirects",
            "",
            "ICMP redirect messages; NaN but for ICMP",
            |w| w.icmp.as_ref().map_or(f64::NAN, |i| count(i.redirects)),
        ),
        F::new(
            "icmp_type",
            "",
            "type of the first ICMP message; NaN but for ICMP",
            |w| w.icmp.as_ref().map_or(f64::NAN, |i| f64::from(i.first_type)),
        )
        .within(0.0, 255.0)
        .of_kind(Kind::Code),
        F::new(
            "dns_queries",
            "",
            "DNS queries; NaN for a flow without DNS",
            |w| w.dns.as_ref().map_or(f64::NAN, |d| count(d.queries)),
        ),
        F::new(
            "dns_responses",
            "",
            "DNS responses; NaN for a flow without DNS",
            |w| w.dns.as_ref().map_or(f64::NAN, |d| count(d.responses)),
        ),
        F::new(
            "dns_nx_domain",
            "",
            "DNS responses that say the name does not exist; NaN for a flow without DNS",
            |w| w.dns.as_ref().map_or(f64::NAN, |d| count(d.nx_domain)),
        ),
        F::new(
            "dns_errors",
            "",
            "DNS responses with another error code; NaN for a flow without DNS",
            |w| w.dns.as_ref().map_or(f64::NAN, |d| count(d.errors)),
        ),
        F::new(
            "dns_answers",
            "",
            "answers in DNS responses; NaN for a flow without DNS",
            |w| w.dns.as_ref().map_or(f64::NAN, |d| count(d.answers)),
        ),
        F::new(
            "dns_name_length",
            "By",
            "length of the first name asked for, at most 64; NaN without DNS",
            |w| {
                w.dns
                    .as_ref()
                    .map_or(f64::NAN, |d| count(d.first_name.len() as u64))
            },
        )
        .within(0.0, 64.0),
        F::new(
            "dns_name_entropy",
            "bit",
            "entropy of the bytes of the first name asked for; NaN without DNS",
            |w| w.dns.as_ref().map_or(f64::NAN, |d| byte_entropy(&d.first_name)),
        ),
    ]
}
