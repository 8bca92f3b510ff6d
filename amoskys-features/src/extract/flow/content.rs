//! Features of what a flow carries, and of its first packets.

use amoskys_core::event::FlowRecord;

use super::bytes::{http_method, http_status, tls_record};
use super::numbers::{flag, gap_at, length_at};
use crate::extract::catalog::{Feature, Kind};
use crate::extract::domain::{byte_entropy, labels};
use crate::extract::parts::count;

type F = Feature<FlowRecord>;

pub(super) fn content() -> Vec<F> {
    vec![
        F::new(
            "is_tls",
            "",
            "the first payload of the source is a TLS record with a handshake, or a hello was read",
            |w| flag(w.tls.is_some() || tls_record(&w.forward.first_bytes).is_some()),
        ),
        F::new(
            "tls_record_version",
            "",
            "version in the first TLS record of the source, 0x0301 to 0x0304; NaN without",
            |w| tls_record(&w.forward.first_bytes).map_or(f64::NAN, |r| f64::from(r.version)),
        )
        .within(0.0, 65_535.0)
        .of_kind(Kind::Code),
        F::new(
            "tls_record_length",
            "By",
            "length of the first TLS record of the source; NaN without",
            |w| tls_record(&w.forward.first_bytes).map_or(f64::NAN, |r| f64::from(r.length)),
        )
        .within(0.0, 65_535.0),
        F::new(
            "tls_version",
            "",
            "highest version offered in the TLS hello; NaN without",
            |w| w.tls.as_ref().map_or(f64::NAN, |t| f64::from(t.version)),
        )
        .within(0.0, 65_535.0)
        .of_kind(Kind::Code),
        F::new("is_quic", "", "the TLS hello came in QUIC", |w| {
            flag(w.tls.as_ref().is_some_and(|t| t.quic))
        }),
        F::new(
            "tls_name_length",
            "By",
            "length of the server name in the TLS hello, 0 if there is none; NaN without a hello",
            |w| {
                w.tls
                    .as_ref()
                    .map_or(f64::NAN, |t| count(t.server_name.len() as u64))
            },
        ),
        F::new(
            "tls_name_entropy",
            "bit",
            "entropy of the bytes of the server name; NaN without a hello",
            |w| w.tls.as_ref().map_or(f64::NAN, |t| byte_entropy(&t.server_name)),
        ),
        F::new(
            "tls_name_labels",
            "",
            "labels of the server name; NaN without a hello",
            |w| {
                w.tls
                    .as_ref()
                    .map_or(f64::NAN, |t| count(labels(&t.server_name).0 as u64))
            },
        ),
        F::new(
            "tls_alpn",
            "",
            "application protocols offered; NaN without a hello",
            |w| {
                w.tls.as_ref().map_or(f64::NAN, |t| {
                    count(t.alpn.split(',').filter(|p| !p.is_empty()).count() as u64)
                })
            },
        ),
        F::new(
            "is_http",
            "",
            "the first payload of the source is an HTTP/1 request, or one was read",
            |w| flag(w.http.is_some() || http_method(&w.forward.first_bytes).is_some()),
        ),
        F::new("is_http_get", "", "the HTTP request is a GET", |w| {
            flag(
                w.http
                    .as_ref()
                    .map(|h| h.method.as_str())
                    .or(http_method(&w.forward.first_bytes))
                    == Some("GET"),
            )
        }),
        F::new("is_http_post", "", "the HTTP request is a POST", |w| {
            flag(
                w.http
                    .as_ref()
                    .map(|h| h.method.as_str())
                    .or(http_method(&w.forward.first_bytes))
                    == Some("POST"),
            )
        }),
        F::new(
            "is_http_other",
            "",
            "the HTTP request is neither GET, POST nor HEAD",
            |w| {
                flag(
                    w.http
                        .as_ref()
                        .map(|h| h.method.as_str())
                        .or(http_method(&w.forward.first_bytes))
                        .is_some_and(|m| !matches!(m, "GET" | "POST" | "HEAD")),
                )
            },
        ),
        F::new(
            "http_status",
            "",
            "status code of the first HTTP/1 response; NaN without",
            |w| http_status(&w.backward.first_bytes).map_or(f64::NAN, f64::from),
        )
        .within(0.0, 999.0)
        .of_kind(Kind::Code),
        F::new(
            "http_host_length",
            "By",
            "length of the header Host, 0 if there is none; NaN without a request",
            |w| w.http.as_ref().map_or(f64::NAN, |h| count(h.host.len() as u64)),
        ),
        F::new(
            "http_host_entropy",
            "bit",
            "entropy of the bytes of the header Host; NaN without a request",
            |w| w.http.as_ref().map_or(f64::NAN, |h| byte_entropy(&h.host)),
        ),
        F::new(
            "http_host_is_address",
            "",
            "the header Host is an address; NaN without a request",
            |w| {
                w.http.as_ref().map_or(f64::NAN, |h| {
                    flag(
                        h.host
                            .split(':')
                            .next()
                            .is_some_and(|a| a.parse::<std::net::IpAddr>().is_ok()),
                    )
                })
            },
        ),
        F::new(
            "http_agent_length",
            "By",
            "length of the header User-Agent, 0 if there is none; NaN without a request",
            |w| {
                w.http
                    .as_ref()
                    .map_or(f64::NAN, |h| count(h.user_agent.len() as u64))
            },
        ),
        F::new(
            "http_agent_entropy",
            "bit",
            "entropy of the bytes of the header User-Agent; NaN without a request",
            |w| w.http.as_ref().map_or(f64::NAN, |h| byte_entropy(&h.user_agent)),
        ),
    ]
}

pub(super) fn first_packets() -> Vec<F> {
    vec![
        F::new(
            "packet_1_length",
            "By",
            "length of packet 1 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 0),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_2_length",
            "By",
            "length of packet 2 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 1),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_3_length",
            "By",
            "length of packet 3 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 2),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_4_length",
            "By",
            "length of packet 4 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 3),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_5_length",
            "By",
            "length of packet 5 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 4),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_6_length",
            "By",
            "length of packet 6 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 5),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_7_length",
            "By",
            "length of packet 7 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 6),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_8_length",
            "By",
            "length of packet 8 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 7),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_9_length",
            "By",
            "length of packet 9 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 8),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_10_length",
            "By",
            "length of packet 10 of the flow, negative if it went backward; NaN without",
            |w| length_at(w, 9),
        )
        .within(-65_535.0, 65_535.0),
        F::new(
            "packet_2_gap",
            "s",
            "time from packet 1 to packet 2 of the flow; NaN without",
            |w| gap_at(w, 1),
        ),
        F::new(
            "packet_3_gap",
            "s",
            "time from packet 2 to packet 3 of the flow; NaN without",
            |w| gap_at(w, 2),
        ),
        F::new(
            "packet_4_gap",
            "s",
            "time from packet 3 to packet 4 of the flow; NaN without",
            |w| gap_at(w, 3),
        ),
        F::new(
            "packet_5_gap",
            "s",
            "time from packet 4 to packet 5 of the flow; NaN without",
            |w| gap_at(w, 4),
        ),
        F::new(
            "packet_6_gap",
            "s",
            "time from packet 5 to packet 6 of the flow; NaN without",
            |w| gap_at(w, 5),
        ),
        F::new(
            "packet_7_gap",
            "s",
            "time from packet 6 to packet 7 of the flow; NaN without",
            |w| gap_at(w, 6),
        ),
        F::new(
            "packet_8_gap",
            "s",
            "time from packet 7 to packet 8 of the flow; NaN without",
            |w| gap_at(w, 7),
        ),
        F::new(
            "packet_9_gap",
            "s",
            "time from packet 8 to packet 9 of the flow; NaN without",
            |w| gap_at(w, 8),
        ),
        F::new(
            "packet_10_gap",
            "s",
            "time from packet 9 to packet 10 of the flow; NaN without",
            |w| gap_at(w, 9),
        ),
        F::new(
            "turns",
            "",
            "changes of direction among the first packets, 20 by default",
            |w| {
                count(
                    w.sequence
                        .windows(2)
                        .filter(|p| p[0].backward != p[1].backward)
                        .count() as u64,
                )
            },
        ),
    ]
}
