//! Features of one direction of a flow.

use amoskys_core::event::FlowRecord;

use super::bytes::printable_share;
use super::numbers::{bytes_entropy, deviation, known, per, rate, seconds, ttl_spread};
use crate::extract::catalog::Feature;
use crate::extract::parts::count;

type F = Feature<FlowRecord>;

/// The same features of either direction: its field, how names begin, and what descriptions call it.
macro_rules! direction {
    ($d:ident, $d_name:literal, $who:literal) => {
        vec![
            F::new(concat!($d_name, "_packets"), "", concat!("packets ", $who), |w| {
                count(w.$d.packets)
            }),
            F::new(
                concat!($d_name, "_data_packets"),
                "",
                concat!("packets with payload ", $who),
                |w| count(w.$d.data_packets),
            ),
            F::new(
                concat!($d_name, "_fragments"),
                "",
                concat!("IP fragments ", $who),
                |w| count(w.$d.fragments),
            ),
            F::new(
                concat!($d_name, "_bytes"),
                "By",
                concat!("bytes by the IP headers ", $who),
                |w| count(w.$d.bytes()),
            ),
            F::new(
                concat!($d_name, "_payload_bytes"),
                "By",
                concat!("payload bytes ", $who),
                |w| count(w.$d.payload.sum),
            ),
            F::new(
                concat!($d_name, "_frame_bytes"),
                "By",
                concat!("bytes on the wire, link headers included, ", $who),
                |w| count(w.$d.frame_bytes),
            ),
            F::new(
                concat!($d_name, "_header_bytes"),
                "By",
                concat!("bytes of IP and transport headers ", $who),
                |w| count(w.$d.header_bytes),
            ),
            F::new(
                concat!($d_name, "_length_min"),
                "By",
                concat!("smallest packet length ", $who, "; NaN without"),
                |w| known(&w.$d.lengths, count(w.$d.lengths.min)),
            ),
            F::new(
                concat!($d_name, "_length_max"),
                "By",
                concat!("largest packet length ", $who, "; NaN without"),
                |w| known(&w.$d.lengths, count(w.$d.lengths.max)),
            ),
            F::new(
                concat!($d_name, "_length_mean"),
                "By",
                concat!("mean packet length ", $who, "; NaN without"),
                |w| known(&w.$d.lengths, w.$d.lengths.mean()),
            ),
            F::new(
                concat!($d_name, "_length_deviation"),
                "By",
                concat!(
                    "standard deviation of packet length ",
                    $who,
                    "; NaN for fewer than two"
                ),
                |w| deviation(&w.$d.lengths),
            ),
            F::new(
                concat!($d_name, "_payload_min"),
                "By",
                concat!(
                    "smallest payload length, packets without included, ",
                    $who,
                    "; NaN without"
                ),
                |w| known(&w.$d.payload, count(w.$d.payload.min)),
            ),
            F::new(
                concat!($d_name, "_payload_max"),
                "By",
                concat!(
                    "largest payload length, packets without included, ",
                    $who,
                    "; NaN without"
                ),
                |w| known(&w.$d.payload, count(w.$d.payload.max)),
            ),
            F::new(
                concat!($d_name, "_payload_mean"),
                "By",
                concat!(
                    "mean payload length, packets without included, ",
                    $who,
                    "; NaN without"
                ),
                |w| known(&w.$d.payload, w.$d.payload.mean()),
            ),
            F::new(
                concat!($d_name, "_payload_deviation"),
                "By",
                concat!(
                    "standard deviation of payload length, packets without included, ",
                    $who,
                    "; NaN for fewer than two"
                ),
                |w| deviation(&w.$d.payload),
            ),
            F::new(
                concat!($d_name, "_gap_min"),
                "s",
                concat!("smallest time between packets ", $who, "; NaN without"),
                |w| seconds(known(&w.$d.gaps, count(w.$d.gaps.min))),
            ),
            F::new(
                concat!($d_name, "_gap_max"),
                "s",
                concat!("largest time between packets ", $who, "; NaN without"),
                |w| seconds(known(&w.$d.gaps, count(w.$d.gaps.max))),
            ),
            F::new(
                concat!($d_name, "_gap_mean"),
                "s",
                concat!("mean time between packets ", $who, "; NaN without"),
                |w| seconds(known(&w.$d.gaps, w.$d.gaps.mean())),
            ),
            F::new(
                concat!($d_name, "_gap_deviation"),
                "s",
                concat!(
                    "standard deviation of time between packets ",
                    $who,
                    "; NaN for fewer than two"
                ),
                |w| seconds(deviation(&w.$d.gaps)),
            ),
            F::new(
                concat!($d_name, "_ttl_min"),
                "",
                concat!("smallest time to live ", $who, "; NaN without packets"),
                |w| {
                    if w.$d.packets == 0 {
                        f64::NAN
                    } else {
                        f64::from(w.$d.ttl_min)
                    }
                },
            )
            .within(0.0, 255.0),
            F::new(
                concat!($d_name, "_ttl_spread"),
                "",
                concat!("largest less smallest time to live ", $who),
                |w| ttl_spread(&w.$d),
            )
            .within(0.0, 255.0),
            F::new(
                concat!($d_name, "_packet_rate"),
                "Hz",
                concat!("packets ", $who, " / duration; NaN for a flow of one instant"),
                |w| rate(w, w.$d.packets),
            ),
            F::new(
                concat!($d_name, "_byte_rate"),
                "By/s",
                concat!("bytes ", $who, " / duration; NaN for a flow of one instant"),
                |w| rate(w, w.$d.bytes()),
            ),
            F::new(
                concat!($d_name, "_data_share"),
                "",
                concat!("packets with payload / packets ", $who, "; NaN without packets"),
                |w| per(w.$d.data_packets, w.$d.packets),
            ),
            F::new(
                concat!($d_name, "_header_share"),
                "",
                concat!("header bytes / bytes ", $who, "; NaN without packets"),
                |w| per(w.$d.header_bytes, w.$d.bytes()),
            ),
            F::new(
                concat!($d_name, "_bulks"),
                "",
                concat!("bulk transfers ", $who, ": four or more data packets in a row"),
                |w| count(w.$d.bulk.count),
            ),
            F::new(
                concat!($d_name, "_bulk_packets_mean"),
                "",
                concat!("mean packets of a bulk transfer ", $who, "; NaN without"),
                |w| per(w.$d.bulk.packets, w.$d.bulk.count),
            ),
            F::new(
                concat!($d_name, "_bulk_bytes_mean"),
                "By",
                concat!("mean payload of a bulk transfer ", $who, "; NaN without"),
                |w| per(w.$d.bulk.bytes, w.$d.bulk.count),
            ),
            F::new(
                concat!($d_name, "_bulk_rate"),
                "By/s",
                concat!(
                    "payload of bulk transfers ",
                    $who,
                    " per second of them; NaN without"
                ),
                |w| 1e9 * per(w.$d.bulk.bytes, w.$d.bulk.duration_ns),
            ),
            F::new(
                concat!($d_name, "_entropy"),
                "bit",
                concat!(
                    "entropy of the first payload bytes ",
                    $who,
                    "; NaN if not measured"
                ),
                |w| w.$d.entropy.unwrap_or(f64::NAN),
            ),
            F::new(
                concat!($d_name, "_first_bytes_entropy"),
                "bit",
                concat!(
                    "entropy of the first payload bytes ",
                    $who,
                    ", at most 16; NaN without"
                ),
                |w| bytes_entropy(&w.$d.first_bytes),
            )
            .within(0.0, 4.0),
            F::new(
                concat!($d_name, "_printable_share"),
                "",
                concat!(
                    "printable ASCII among the first payload bytes ",
                    $who,
                    ", at most 16; NaN without"
                ),
                |w| printable_share(&w.$d.first_bytes),
            ),
            F::new(
                concat!($d_name, "_fin"),
                "",
                concat!("TCP packets with FIN ", $who, "; NaN but for TCP"),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.flags.fin)),
            ),
            F::new(
                concat!($d_name, "_syn"),
                "",
                concat!("TCP packets with SYN ", $who, "; NaN but for TCP"),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.flags.syn)),
            ),
            F::new(
                concat!($d_name, "_rst"),
                "",
                concat!("TCP packets with RST ", $who, "; NaN but for TCP"),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.flags.rst)),
            ),
            F::new(
                concat!($d_name, "_psh"),
                "",
                concat!("TCP packets with PSH ", $who, "; NaN but for TCP"),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.flags.psh)),
            ),
            F::new(
                concat!($d_name, "_ack"),
                "",
                concat!("TCP packets with ACK ", $who, "; NaN but for TCP"),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.flags.ack)),
            ),
            F::new(
                concat!($d_name, "_urg"),
                "",
                concat!("TCP packets with URG ", $who, "; NaN but for TCP"),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.flags.urg)),
            ),
            F::new(
                concat!($d_name, "_ece"),
                "",
                concat!("TCP packets with ECE ", $who, "; NaN but for TCP"),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.flags.ece)),
            ),
            F::new(
                concat!($d_name, "_cwr"),
                "",
                concat!("TCP packets with CWR ", $who, "; NaN but for TCP"),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.flags.cwr)),
            ),
            F::new(
                concat!($d_name, "_initial_window"),
                "By",
                concat!("unscaled window of the first TCP packet ", $who, "; NaN without"),
                |w| {
                    w.tcp
                        .as_ref()
                        .map_or(f64::NAN, |t| t.$d.initial_window.map_or(f64::NAN, f64::from))
                },
            )
            .within(0.0, 65_535.0),
            F::new(
                concat!($d_name, "_mss"),
                "By",
                concat!("maximum segment size announced ", $who, "; NaN if none was"),
                |w| {
                    w.tcp
                        .as_ref()
                        .map_or(f64::NAN, |t| t.$d.mss.map_or(f64::NAN, f64::from))
                },
            )
            .within(0.0, 65_535.0),
            F::new(
                concat!($d_name, "_window_scale"),
                "",
                concat!("window scale announced ", $who, "; NaN if none was"),
                |w| {
                    w.tcp
                        .as_ref()
                        .map_or(f64::NAN, |t| t.$d.window_scale.map_or(f64::NAN, f64::from))
                },
            )
            .within(0.0, 255.0),
            F::new(
                concat!($d_name, "_retransmitted"),
                "",
                concat!(
                    "TCP data packets sent again or overtaken ",
                    $who,
                    "; NaN but for TCP"
                ),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.retransmitted)),
            ),
            F::new(
                concat!($d_name, "_out_of_order"),
                "",
                concat!(
                    "TCP data packets after a gap in the bytes ",
                    $who,
                    "; NaN but for TCP"
                ),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.out_of_order)),
            ),
            F::new(
                concat!($d_name, "_zero_windows"),
                "",
                concat!(
                    "TCP packets that announce a window of 0 ",
                    $who,
                    "; NaN but for TCP"
                ),
                |w| w.tcp.as_ref().map_or(f64::NAN, |t| count(t.$d.zero_windows)),
            ),
        ]
    };
}

pub(super) fn forward() -> Vec<F> {
    direction!(forward, "forward", "from source to destination")
}

pub(super) fn backward() -> Vec<F> {
    direction!(backward, "backward", "from destination to source")
}
