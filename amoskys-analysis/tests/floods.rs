//! Connections begun and not completed are a flood; a busy service and a dead one are not.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

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
