//! Messages in DNS names and in ICMP echoes are tunnels; look-ups and pings are not.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use amoskys_core::event::DnsRecord;
use traffic::{Traffic, alerts, inside, outside, summary};

/// A name of `length` characters that looks like encoded data.
fn encoded(n: u32, length: usize) -> String {
    let mut state = n.wrapping_mul(2_654_435_761) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(state % 32) as usize])
    };
    (0..length).map(|_| letter()).collect()
}

fn answer(bytes: u32) -> DnsRecord {
    DnsRecord {
        answers: 1,
        answer_bytes: bytes,
        ..DnsRecord::default()
    }
}

#[test]
fn a_tunnel_is_seen_by_any_type_fast_or_slow() {
    for (qtype, pause, length, answers) in [
        (10, 0.05, 60, 120),
        (16, 0.5, 50, 90),
        (16, 20.0, 60, 60),
        (5, 0.2, 55, 60),
        (1, 0.1, 60, 4),
    ] {
        let mut traffic = Traffic::default();
        for n in 0..120 {
            let name = format!("{}.t.example.com", encoded(n, length));
            traffic.dns(
                f64::from(n) * pause,
                inside(5),
                inside(1),
                &name,
                qtype,
                answer(answers),
            );
        }
        assert_eq!(
            summary(&alerts(traffic)),
            [("T1071.004".to_owned(), inside(5))],
            "type {qtype}, every {pause} s"
        );
    }
}

#[test]
fn the_resolver_that_passes_a_tunnel_on_is_not_accused() {
    let mut traffic = Traffic::default();
    for n in 0..200 {
        let name = format!("{}.t.example.com", encoded(n, 60));
        traffic.dns(f64::from(n) * 0.1, inside(5), inside(1), &name, 10, answer(100));
        traffic.dns(
            f64::from(n) * 0.1 + 0.001,
            inside(1),
            outside(53),
            &name,
            10,
            answer(100),
        );
    }
    assert_eq!(summary(&alerts(traffic)), [("T1071.004".to_owned(), inside(5))]);
}

#[test]
fn honest_lookups_are_no_tunnel() {
    let mut traffic = Traffic::default();
    let hosts = [
        "www", "mail", "cdn", "static", "api", "img1", "img2", "login", "m", "news", "shop", "blog", "dev",
        "docs",
    ];
    for n in 0..400_u32 {
        let at = f64::from(n);
        let host = hosts[n as usize % hosts.len()];
        traffic.dns(
            at,
            inside(1),
            inside(53),
            &format!("{host}.example.com"),
            1,
            answer(4),
        );
        // A content network's many hosts.
        traffic.dns(
            at,
            inside(2),
            inside(53),
            &format!("r{}---sn-{}.cdn.example.net", n % 9, encoded(n % 60, 8)),
            1,
            answer(4),
        );
        // A mail server that asks a block list, and for policies.
        let listed = DnsRecord {
            answers: 1,
            answer_bytes: 4,
            addresses: vec![[127, 0, 0, 2].into()],
            ..DnsRecord::default()
        };
        let reversed = format!("{}.{}.113.203.zen.example.org", n % 250, n / 250);
        traffic.dns(at, inside(3), inside(53), &reversed, 1, listed.clone());
        // A virus scanner that asks about files by their digests.
        traffic.dns(
            at,
            inside(4),
            inside(53),
            &format!("{}.avqs.example.biz", encoded(n, 52)),
            1,
            listed,
        );
        // Reverse look-ups.
        traffic.dns(
            at,
            inside(5),
            inside(53),
            &format!("{}.{}.0.10.in-addr.arpa", n % 250, n / 250),
            12,
            answer(20),
        );
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

#[test]
fn echoes_that_carry_messages_are_seen() {
    let mut traffic = Traffic::default();
    traffic.echoes(1.0, inside(5), outside(9), 60, 40, 200.0);
    assert_eq!(summary(&alerts(traffic)), [("T1095".to_owned(), inside(5))]);
}

#[test]
fn pings_are_no_tunnel() {
    let mut traffic = Traffic::default();
    traffic.echoes(1.0, inside(5), outside(9), 1000, 0, 0.0);
    // Two sizes, and a damaged packet now and then.
    traffic.echoes(1.0, inside(6), outside(9), 1000, 2, 400.0);
    assert_eq!(summary(&alerts(traffic)), []);
}

/// A few bytes in a new name now and then, by ordinary types.
#[test]
fn new_names_at_an_even_pace_are_seen() {
    for (qtype, pause, length) in [(1, 10.0, 8), (28, 6.0, 10), (1, 3.0, 13)] {
        let mut traffic = Traffic::default();
        for n in 0..40 {
            let at = f64::from(n) * pause + f64::from(n * 7 % 5) * 0.06 * pause;
            let name = format!("{}.b.example.com", encoded(n, length));
            traffic.dns(at, inside(5), inside(1), &name, qtype, answer(4));
        }
        assert_eq!(
            summary(&alerts(traffic)),
            [("T1071.004".to_owned(), inside(5))],
            "type {qtype}, every {pause} s"
        );
    }
}

#[test]
fn a_mail_server_that_asks_for_keys_and_policies_tunnels_nothing() {
    let mut traffic = Traffic::default();
    for n in 0..400_u32 {
        let (sender, key) = (n * 37 % 90, n % 7);
        let names = [
            (16, format!("sel{key}._domainkey.d{sender}.provider.example")),
            (16, format!("_dmarc.d{sender}.provider.example")),
            (15, format!("d{}.provider.example", n * 53 % 90)),
        ];
        for (part, (qtype, name)) in names.iter().enumerate() {
            let at = f64::from(n) * 4.0 + part as f64;
            traffic.dns(at, inside(6), inside(1), name, *qtype, answer(200));
        }
    }
    assert_eq!(summary(&alerts(traffic)), []);
}
