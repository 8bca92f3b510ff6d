//! Many destinations that do not answer are a scan, at any speed and beside honest work; honest failures are none.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use amoskys_core::event::TcpFlagCounts;
use traffic::{Ending, Traffic, alerts, inside, outside, summary};

#[test]
fn a_fast_port_scan_is_one_alert_that_grows() {
    let mut traffic = Traffic::default();
    for port in 1..=1000 {
        let ending = if port % 100 == 22 {
            Ending::HalfOpen
        } else {
            Ending::Refused
        };
        traffic.tcp(f64::from(port) / 200.0, outside(7), inside(20), port, ending);
    }
    let alerts = alerts(traffic);
    assert_eq!(summary(&alerts), [("T1046".to_owned(), outside(7))]);
    assert!(alerts[0].revision > 0);
    assert_eq!(alerts[0].peers[0].host(), Some(inside(20)));
    // It is raised while the scan goes on, not after it.
    assert!(alerts[0].time < traffic::time(1.0), "{}", alerts[0].time);
}

#[test]
fn a_scan_of_a_port_every_fifteen_seconds_is_seen() {
    let mut traffic = Traffic::default();
    for port in 1..=40_u16 {
        traffic.tcp(
            f64::from(port) * 15.0,
            inside(9),
            inside(20),
            7 * port,
            Ending::Silent,
        );
    }
    assert_eq!(summary(&alerts(traffic)), [("T1046".to_owned(), inside(9))]);
}

#[test]
fn a_scan_is_seen_beside_honest_work_of_the_same_host() {
    let mut traffic = Traffic::default();
    for n in 0..400_u16 {
        traffic.tcp(
            f64::from(n),
            inside(9),
            inside(20 + n % 3),
            [80, 443, 8080][usize::from(n % 3)],
            Ending::Data(900, 4000, 0.3),
        );
    }
    for port in 1..=60_u16 {
        traffic.tcp(
            100.0 + f64::from(port) * 2.0,
            inside(9),
            inside(20),
            1000 + port,
            Ending::Refused,
        );
    }
    assert_eq!(summary(&alerts(traffic)), [("T1046".to_owned(), inside(9))]);
}

#[test]
fn a_sweep_over_hosts_is_seen() {
    let mut traffic = Traffic::default();
    for host in 1..=40_u16 {
        let ending = if host % 20 == 0 {
            Ending::Data(10, 10, 0.1)
        } else {
            Ending::Silent
        };
        traffic.tcp(f64::from(host) * 0.3, inside(300), inside(host), 445, ending);
    }
    assert_eq!(summary(&alerts(traffic)), [("T1046".to_owned(), inside(300))]);
}

#[test]
fn failures_of_honest_clients_are_no_scan() {
    let mut traffic = Traffic::default();
    // A client whose server is down, trying again and again.
    for n in 0..300_u16 {
        traffic.tcp(f64::from(n), inside(1), inside(50), 443, Ending::Silent);
    }
    // Peer-to-peer software: most peers are gone, on one port; some answer.
    for n in 0..300_u16 {
        let ending = if n % 3 == 0 {
            Ending::Data(500, 500, 2.0)
        } else {
            Ending::Silent
        };
        traffic.tcp(
            f64::from(n),
            inside(2),
            outside(u8::try_from(n % 250).unwrap()),
            6881,
            ending,
        );
    }
    // A client with a dozen services on one host, some of them down.
    for (n, port) in [80, 443, 22, 25, 8080, 8443, 3306, 5432, 9090, 9100, 6379, 5672]
        .into_iter()
        .enumerate()
    {
        let ending = if n % 4 == 3 {
            Ending::Refused
        } else {
            Ending::Data(300, 300, 0.1)
        };
        traffic.tcp(n as f64 * 9.0, inside(3), inside(60), port, ending);
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

#[test]
fn a_traceroute_is_no_scan() {
    let mut traffic = Traffic::default();
    for hop in 0..90_u16 {
        traffic.udp(
            f64::from(hop) * 0.05,
            inside(1),
            outside(9),
            33_434 + hop,
            false,
            u8::try_from(hop / 3 + 1).unwrap(),
        );
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

/// Packets into nothing, as `nmap -sF`, `-sX`, `-sA` and `-sM` send them: ports that are closed answer with a reset.
#[test]
fn scans_without_a_handshake_are_seen() {
    let flags = |fin, psh, urg, ack| TcpFlagCounts {
        fin,
        psh,
        urg,
        ack,
        ..TcpFlagCounts::default()
    };
    let kinds = [
        flags(1, 0, 0, 0),
        flags(1, 1, 1, 0),
        flags(0, 0, 0, 0),
        flags(0, 0, 0, 1),
        flags(1, 0, 0, 1),
    ];
    for sent in kinds {
        let mut traffic = Traffic::default();
        for n in 0..40_u16 {
            let at = f64::from(n) * 0.01;
            traffic.stray(at, (inside(5), 61_000), (inside(20), 20 + n), sent, Some(RESET));
        }
        assert_eq!(
            summary(&alerts(traffic)),
            [("T1046".to_owned(), inside(5))],
            "{sent:?}"
        );
    }
}

/// After a client was started anew, its servers go on with connections it does not know; and somebody sends answers that nobody
/// asked for.
#[test]
fn whoever_is_asked_out_of_the_blue_scans_nobody() {
    let ack = TcpFlagCounts {
        ack: 1,
        ..TcpFlagCounts::default()
    };
    let answer = TcpFlagCounts {
        syn: 1,
        ack: 1,
        ..TcpFlagCounts::default()
    };
    let mut traffic = Traffic::default();
    for n in 0..60_u16 {
        let at = f64::from(n) * 0.05;
        traffic.stray(
            at,
            (inside(20), 443),
            (inside(5), 50_000 + 7 * n),
            ack,
            Some(RESET),
        );
        traffic.stray(at, (outside(9), 2_000 + n), (inside(21), 80), answer, Some(RESET));
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

const RESET: TcpFlagCounts = TcpFlagCounts {
    rst: 1,
    fin: 0,
    syn: 0,
    psh: 0,
    ack: 0,
    urg: 0,
    ece: 0,
    cwr: 0,
};
