//! Many destinations that do not answer are a scan, at any speed and beside honest work; honest failures are none.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use amoskys_core::event::{ArpOperation, TcpFlagCounts};
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

/// A client of a peer-to-peer network: each peer has a port of its own, many have the program's usual one, most are gone.
fn peers_that_are_gone(traffic: &mut Traffic) {
    for n in 0..400_u16 {
        let peer = outside(u8::try_from(n * 89 % 241).unwrap());
        let port = match n % 3 {
            0 => 51_413,
            _ => 20_000 + n * 67 % 30_000,
        };
        let ending = if n % 10 == 7 {
            Ending::Data(900, 40_000, 20.0)
        } else {
            Ending::Silent
        };
        traffic.tcp(f64::from(n) * 2.0, inside(2), peer, port, ending);
    }
}

#[test]
fn a_peer_to_peer_program_whose_peers_are_gone_sweeps_nothing() {
    let mut traffic = Traffic::default();
    peers_that_are_gone(&mut traffic);
    assert_eq!(summary(&alerts(traffic)), []);
}

/// Neither a sweep through the addresses, nor one for a system's port, nor a port scan hides behind such a program.
#[test]
fn sweeps_and_scans_are_seen_beside_a_peer_to_peer_program() {
    for kind in 0..3 {
        let mut traffic = Traffic::default();
        peers_that_are_gone(&mut traffic);
        for n in 0..60_u16 {
            let (server, port) = match kind {
                0 => (inside(100 + n), 4_444),
                1 => (inside(100 + n * 37 % 151), 445),
                _ => (inside(20), 1 + 7 * n),
            };
            traffic.tcp(700.0 + f64::from(n), inside(2), server, port, Ending::Silent);
        }
        assert_eq!(
            summary(&alerts(traffic)),
            [("T1046".to_owned(), inside(2))],
            "{kind}"
        );
    }
}

/// `nmap -D`: every port is tried by three addresses, one of which asks for hardware addresses as hosts do.
#[test]
fn a_scan_with_decoys_is_one_alert() {
    let mut traffic = Traffic::default();
    traffic.arp(0.0, ArpOperation::Request, 5, 5, 20);
    for n in 0..100_u16 {
        for (part, source) in [201, 202, 5].into_iter().enumerate() {
            let at = 1.0 + f64::from(n) * 0.01 + part as f64 * 1e-4;
            // A decoy that does not exist gets no refusal: nobody answers for its hardware address.
            let ending = if source == 5 {
                Ending::Refused
            } else {
                Ending::Silent
            };
            traffic.tcp(at, inside(source), inside(20), 20 + n * 11, ending);
        }
    }
    let alerts = alerts(traffic);
    assert_eq!(summary(&alerts), [("T1046".to_owned(), inside(5))]);
    assert!(
        alerts[0].title.contains("sources may be forged"),
        "{}",
        alerts[0].title
    );
    assert!(
        alerts[0]
            .peers
            .iter()
            .any(|peer| peer.host() == Some(inside(201)))
    );
}

/// Two that scan the same host at other times, or for other ports, are two.
#[test]
fn scans_of_their_own_are_alerts_of_their_own() {
    let mut traffic = Traffic::default();
    for n in 0..60_u16 {
        let at = f64::from(n) * 0.05;
        traffic.tcp(at, inside(5), inside(20), 20 + n, Ending::Refused);
        traffic.tcp(at, inside(6), inside(20), 2_000 + n, Ending::Refused);
        traffic.tcp(at + 30.0, inside(7), inside(20), 20 + n, Ending::Refused);
    }
    let accused: Vec<_> = alerts(traffic).iter().map(|alert| alert.entity.host()).collect();
    assert_eq!(accused, [5, 6, 7].map(|host| Some(inside(host))));
}

/// A network of which half the addresses are in use.
#[test]
fn a_ping_sweep_is_seen_though_many_answer() {
    let mut traffic = Traffic::default();
    for n in 0..160_u16 {
        let at = f64::from(n) * 0.02;
        traffic.ping(at, outside(9), inside(n), n % 2 == 0);
    }
    assert_eq!(summary(&alerts(traffic)), [("T1046".to_owned(), outside(9))]);
}

#[test]
fn a_monitor_that_pings_its_hosts_sweeps_nothing() {
    let mut traffic = Traffic::default();
    for round in 0..20 {
        for n in 0..90_u16 {
            let at = f64::from(round) * 60.0 + f64::from(n) * 0.02;
            // A few of its list are gone.
            traffic.ping(at, inside(300), inside(n), n % 30 != 0);
        }
    }
    assert_eq!(summary(&alerts(traffic)), []);
}
