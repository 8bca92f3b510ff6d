//! Forged ARP is seen by its contradictions; address changes are not forgeries. TLS handshakes out of order are seen too.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use amoskys_core::event::ArpOperation::{Reply, Request};
use traffic::{Ending, Traffic, alerts, inside, outside, summary};

#[test]
fn a_station_between_two_others_is_seen() {
    let mut traffic = Traffic::default();
    // Everybody talks honestly for a while: the gateway is 1, the victim 7, the forger 66.
    for n in 0..4 {
        let at = f64::from(n) * 20.0;
        traffic.arp(at, Request, 7, 7, 1);
        traffic.arp(at + 0.001, Reply, 1, 1, 7);
        traffic.arp(at + 1.0, Request, 66, 66, 1);
        traffic.arp(at + 1.001, Reply, 1, 1, 66);
        traffic.arp(at + 2.0, Request, 1, 1, 7);
        traffic.arp(at + 2.001, Reply, 7, 7, 1);
    }
    for n in 0..15 {
        let at = 90.0 + f64::from(n) * 2.0;
        traffic.arp(at, Reply, 66, 1, 7);
        traffic.arp(at + 0.001, Reply, 66, 7, 1);
    }
    let alerts = alerts(traffic);
    assert_eq!(summary(&alerts), [("T1557.002".to_owned(), inside(66))]);
}

#[test]
fn a_station_that_asks_for_what_it_claimed_is_seen() {
    let mut traffic = Traffic::default();
    for n in 0..3 {
        traffic.tcp(
            f64::from(n),
            inside(7),
            outside(9),
            443,
            Ending::Data(100, 100, 0.1),
        );
        traffic.via(1);
    }
    traffic.arp(10.0, Request, 66, 1, 7);
    traffic.arp(10.001, Reply, 7, 7, 1);
    traffic.arp(10.002, Reply, 66, 1, 7);
    for n in 0..3 {
        traffic.tcp(
            11.0 + f64::from(n),
            inside(7),
            outside(9),
            443,
            Ending::Data(100, 100, 0.1),
        );
        traffic.via(66);
    }
    traffic.arp(20.0, Request, 66, 66, 1);
    assert_eq!(summary(&alerts(traffic)), [("T1557.002".to_owned(), inside(66))]);
}

#[test]
fn address_changes_and_routers_are_no_forgeries() {
    let mut traffic = Traffic::default();
    // Announcements at boot, a machine that takes over another's address, a router that asks for everybody.
    for n in 0..30_u8 {
        let at = f64::from(n);
        traffic.arp(at, Reply, n, n, n);
        traffic.arp(at + 0.3, Request, 200, 254, n);
        traffic.arp(at + 0.301, Reply, n, n, 254);
        traffic.arp(at + 60.0, Request, 100, 5, n);
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

#[test]
fn a_question_that_makes_the_server_leak_is_seen() {
    for flights in [[220, 3_600, 8, 16_384], [267, 3_655, 16_373, 16_389]] {
        let mut traffic = Traffic::default();
        traffic.tls(1.0, outside(5), inside(20), 90, &flights, true);
        assert_eq!(
            summary(&alerts(traffic)),
            [("T1190".to_owned(), outside(5))],
            "{flights:?}"
        );
    }
}

#[test]
fn honest_handshakes_are_in_order() {
    let mut traffic = Traffic::default();
    for n in 0..20 {
        let at = f64::from(n) * 9.7;
        let client = inside(n);
        // A request after the handshake, a resumed session, an upload under TLS 1.3, and a client certificate.
        traffic.tls(
            at,
            client,
            outside(1),
            90,
            &[220, 3_600, 130, 51, 700, 30_000],
            true,
        );
        traffic.tls(at + 1.0, client, outside(2), 90, &[517, 150, 400, 9_000], false);
        traffic.tls(
            at + 2.0,
            client,
            outside(3),
            118,
            &[517, 3_600, 15_000, 16_000],
            true,
        );
        traffic.tls(
            at + 3.0,
            client,
            outside(4),
            90,
            &[220, 3_600, 4_200, 300, 500, 500],
            false,
        );
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

#[test]
fn who_asks_for_a_block_of_addresses_looks_for_hosts() {
    let asked = |targets: &mut dyn Iterator<Item = u8>| {
        let mut traffic = Traffic::default();
        for (n, target) in targets.enumerate() {
            traffic.arp(n as f64 * 1.5, Request, 5, 5, target);
        }
        summary(&alerts(traffic))
    };
    // Slowly, and the order says nothing.
    let block = |n: u8| 100 + (n % 3) * 10 + n / 3;
    assert_eq!(asked(&mut (0..30).map(block)), [("T1018".to_owned(), inside(5))]);
    // As many that are gone, here and there.
    assert_eq!(asked(&mut (0..30).map(|n| 7 * n + 11)), []);
}
