//! Connections begun and not completed are a flood; a busy service and a dead one are not.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use amoskys_core::event::TcpFlagCounts;
use traffic::{Ending, Traffic, alerts, inside, outside, summary};

#[test]
fn a_short_burst_is_seen_while_it_lasts() {
    let mut traffic = Traffic::default();
    for n in 0..1200 {
        traffic.tcp(f64::from(n) * 0.001, inside(5), inside(20), 80, Ending::HalfOpen);
    }
    let alerts = alerts(traffic);
    assert_eq!(summary(&alerts), [("T1499.001".to_owned(), inside(5))]);
    assert_eq!(alerts[0].peers[0].host(), Some(inside(20)));
    // The meter tells of each a second after its end.
    assert!(alerts[0].time < traffic::time(1.3), "{:?}", alerts[0].time);
}

#[test]
fn a_steady_trickle_that_is_never_completed_is_seen() {
    let mut traffic = Traffic::default();
    for n in 0..1500 {
        traffic.tcp(f64::from(n) * 0.04, outside(5), inside(20), 443, Ending::Silent);
    }
    assert_eq!(summary(&alerts(traffic)), [("T1499.001".to_owned(), outside(5))]);
}

#[test]
fn a_flood_from_forged_addresses_is_one_alert() {
    let mut traffic = Traffic::default();
    for n in 0..4000_u16 {
        traffic.tcp(
            f64::from(n) * 0.0005,
            inside(1000 + n),
            inside(20),
            80,
            Ending::Silent,
        );
    }
    let alerts = alerts(traffic);
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].peers[0].host(), Some(inside(20)));
}

/// More than can be remembered one by one until they are given up.
#[test]
fn a_flood_too_fast_to_follow_is_seen() {
    let mut traffic = Traffic::default();
    for n in 0..100_000_u32 {
        let from = inside(1000 + (n % 50_000) as u16);
        traffic.tcp(f64::from(n) * 0.0001, from, inside(20), 80, Ending::Silent);
    }
    let alerts = alerts(traffic);
    assert_eq!(alerts.len(), 1);
    assert!(alerts[0].time < traffic::time(7.0), "{:?}", alerts[0].time);
}

#[test]
fn a_load_test_of_a_slow_service_in_use_is_no_flood() {
    let mut traffic = Traffic::default();
    for n in 0..60 {
        let at = f64::from(n);
        traffic.tcp(at, inside(6), inside(20), 80, Ending::Data(200, 900, 0.2));
    }
    for n in 0..2000 {
        let at = 30.0 + f64::from(n) * 0.005;
        traffic.tcp(at, inside(5), inside(20), 80, Ending::Data(200, 900, 8.0));
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

#[test]
fn a_benchmark_and_a_dead_service_are_no_flood() {
    let mut traffic = Traffic::default();
    for n in 0..3000_u16 {
        traffic.tcp(
            f64::from(n) * 0.002,
            inside(5),
            inside(20),
            80,
            Ending::Data(200, 900, 0.01),
        );
    }
    for n in 0..200_u16 {
        traffic.tcp(
            f64::from(n) * 0.25,
            inside(6 + n % 30),
            inside(21),
            443,
            Ending::Silent,
        );
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

/// Whom a flood is aimed at, and how long it takes to see it: two seconds of it, and five more.
fn flooded(traffic: Traffic, from: std::net::IpAddr, technique: &str) {
    let alerts = alerts(traffic);
    assert_eq!(summary(&alerts), [(technique.to_owned(), from)]);
    assert_eq!(alerts[0].peers[0].host(), Some(inside(20)));
    assert!(alerts[0].time < traffic::time(7.0), "{:?}", alerts[0].time);
}

#[test]
fn a_flood_of_datagrams_that_nobody_answers_is_seen() {
    let mut traffic = Traffic::default();
    for n in 0..6_000 {
        traffic.udp(f64::from(n) * 0.001, inside(5), inside(20), 9_999, false, 64);
    }
    flooded(traffic, inside(5), "T1498.001");
}

#[test]
fn a_flood_of_packets_into_no_connection_is_seen() {
    let mut traffic = Traffic::default();
    let ack = TcpFlagCounts {
        ack: 1,
        ..TcpFlagCounts::default()
    };
    let reset = TcpFlagCounts {
        rst: 1,
        ..TcpFlagCounts::default()
    };
    for n in 0..3_000_u16 {
        let at = f64::from(n) * 0.001;
        traffic.stray(at, (outside(5), 1_024 + n), (inside(20), 80), ack, Some(reset));
    }
    flooded(traffic, outside(5), "T1498.001");
}

#[test]
fn a_flood_of_echo_requests_is_seen_and_pings_are_none() {
    let mut traffic = Traffic::default();
    traffic.pings(0.0, inside(5), inside(20), 4_000, 2.0);
    for host in 30..90 {
        traffic.pings(f64::from(host), inside(6), inside(host), 5, 5.0);
    }
    traffic.pings(100.0, inside(7), inside(21), 300, 60.0);
    flooded(traffic, inside(5), "T1498.001");
}

#[test]
fn busy_services_over_udp_are_not_flooded() {
    let mut traffic = Traffic::default();
    for n in 0..6_000_u32 {
        let at = f64::from(n) * 0.002;
        // A resolver that answers nearly all, and a collector that answers nobody.
        traffic.udp(at, inside(5), inside(20), 53, n % 40 != 0, 64);
        traffic.udp(at, inside(6), inside(21), 8_125, false, 64);
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

/// Begun, gone on with every ten seconds, and never finished.
#[test]
fn requests_that_are_kept_unfinished_are_seen() {
    let mut traffic = Traffic::default();
    for n in 0..120 {
        let at = f64::from(n) * 0.05;
        let said = [(0.01, 60), (10.0, 12), (10.0, 12), (10.0, 12)];
        traffic.messages(
            at,
            (inside(5), inside(20), 80),
            [b"GET / HTTP/1.1\r\n", b""],
            &said,
        );
    }
    assert_eq!(summary(&alerts(traffic)), [("T1499.002".to_owned(), inside(5))]);
}

#[test]
fn a_slow_server_and_one_that_only_listens_are_not_flooded() {
    let mut traffic = Traffic::default();
    for n in 0..120 {
        let at = f64::from(n) * 0.05;
        // Whole requests, answered late.
        let late = [(0.01, 300), (14.0, -2_000)];
        traffic.messages(
            at,
            (inside(5), inside(20), 80),
            [b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r"],
            &late,
        );
        // A node whose programs each send lines to a collector of logs, which says nothing.
        let lines = [(0.01, 80), (10.0, 80), (10.0, 80), (10.0, 80)];
        traffic.messages(
            at,
            (inside(6), inside(21), 6514),
            [b"<13>1 2026-11-22", b""],
            &lines,
        );
        // Uploads at a pace of their own.
        let upload = [
            (0.01, 1_400),
            (5.0, 1_400),
            (5.0, 1_400),
            (5.0, 1_400),
            (5.0, 1_400),
        ];
        traffic.messages(
            at,
            (inside(7), inside(22), 80),
            [b"PUT /x HTTP/1.1\r", b""],
            &upload,
        );
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

/// So many whole connections a second, from a time on.
fn whole(traffic: &mut Traffic, from: f64, to: f64, rate: f64, client: u16, server: u16) {
    let mut at = from;
    while at < to {
        traffic.tcp(
            at,
            inside(client),
            inside(server),
            80,
            Ending::Data(90, 3_000, 0.02),
        );
        at += 1.0 / rate;
    }
}

#[test]
fn a_flood_of_whole_requests_is_seen() {
    let mut traffic = Traffic::default();
    // The service has other clients, and the sensor has watched for a while.
    whole(&mut traffic, 0.0, 80.0, 4.0, 1, 20);
    whole(&mut traffic, 0.0, 80.0, 3.0, 2, 20);
    whole(&mut traffic, 60.0, 66.0, 700.0, 5, 20);
    assert_eq!(summary(&alerts(traffic)), [("T1499.002".to_owned(), inside(5))]);
}

#[test]
fn a_busy_service_behind_a_balancer_and_a_small_load_test_are_no_flood() {
    let mut traffic = Traffic::default();
    whole(&mut traffic, 0.0, 90.0, 300.0, 1, 20);
    whole(&mut traffic, 60.0, 61.0, 600.0, 3, 21);
    assert_eq!(summary(&alerts(traffic)), []);
}
