//! Short alike connections to a login service are guesses; administrators, monitors and mail programs are not.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use traffic::{Ending, Traffic, alerts, inside, outside, summary};

/// Sizes of a failed login differ by a few bytes.
fn attempt(n: u32) -> Ending {
    Ending::Data(1500 + u64::from(n % 3) * 16, 2200 + u64::from(n % 2) * 32, 2.5)
}

#[test]
fn guessing_is_seen_after_about_ten_attempts() {
    for port in [22, 21, 3389] {
        let mut traffic = Traffic::default();
        for n in 0..14 {
            traffic.tcp(
                f64::from(n) * 4.0 + f64::from(n * n % 5),
                outside(5),
                inside(20),
                port,
                attempt(n),
            );
        }
        assert_eq!(
            summary(&alerts(traffic)),
            [("T1110.001".to_owned(), outside(5))],
            "port {port}"
        );
    }
}

#[test]
fn slow_guessing_is_seen_too() {
    let mut traffic = Traffic::default();
    for n in 0..30 {
        traffic.tcp(
            f64::from(n) * 15.0 + f64::from(n * 7 % 11) * 0.5,
            outside(5),
            inside(20),
            22,
            attempt(n),
        );
    }
    assert_eq!(summary(&alerts(traffic)), [("T1110.001".to_owned(), outside(5))]);
}

#[test]
fn an_exploit_that_calls_again_and_again_is_seen() {
    let mut traffic = Traffic::default();
    for n in 0..60 {
        traffic.tcp(
            f64::from(n) * 0.4,
            inside(5),
            inside(20),
            135,
            Ending::Data(228, 212, 0.1),
        );
    }
    assert_eq!(summary(&alerts(traffic)), [("T1210".to_owned(), inside(5))]);
}

#[test]
fn honest_logins_are_no_guesses() {
    let mut traffic = Traffic::default();
    for n in 0..30_u32 {
        // An administrator: commands and sessions of all sizes.
        let size = 3_000 + u64::from(n * 7919 % 17) * 2_500;
        traffic.tcp(
            f64::from(n) * 17.0,
            inside(1),
            inside(20),
            22,
            Ending::Data(size, size * 3, 4.0),
        );
        // A mail program that looks every minute and finds nothing.
        traffic.tcp(
            f64::from(n) * 60.0,
            inside(2),
            inside(21),
            995,
            Ending::Data(600, 3000, 0.4),
        );
        // A monitor that reads the greeting every five seconds.
        traffic.tcp(
            f64::from(n) * 5.0,
            inside(3),
            inside(20),
            22,
            Ending::Data(0, 40, 0.1),
        );
        // A program that asks a web service twice a second.
        traffic.tcp(
            f64::from(n) * 0.5,
            inside(4),
            inside(22),
            8080,
            Ending::Data(300, 300, 0.05),
        );
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

/// How OpenSSH and its client come to the point of logging in: greetings, key exchange, the service asked for and accepted, and a
/// first request that says which methods there are.
const EXCHANGE: [i32; 12] = [41, -41, 1448, 112, -1088, 1208, -1448, -116, 16, 44, -44, 60];
const SSH: &[u8] = b"SSH-2.0-OpenSSH_";

fn said(then: &[i32]) -> Vec<i32> {
    [&EXCHANGE[..], then].concat()
}

/// Tried so often in one connection.
fn turned_away(tries: usize) -> Vec<i32> {
    said(&[&[-52][..], &[84, -52].repeat(tries)].concat())
}

/// A command that says little.
fn let_in() -> Vec<i32> {
    said(&[
        -52, 140, -100, 308, -28, 112, -396, -44, 52, -72, -76, 36, -36, -88, 60,
    ])
}

#[test]
fn a_program_that_logs_in_again_and_again_and_is_let_in_guesses_nothing() {
    let mut traffic = Traffic::default();
    for n in 0..60_u32 {
        let at = f64::from(n) * 1.7 + f64::from(n % 5) * 0.3;
        traffic.talk(at, 0.5, (inside(1), inside(20), 22), SSH, &let_in());
        // Keys of hosts are collected by who knows none yet: that is no login.
        let host = inside(100 + u16::try_from(n).unwrap());
        traffic.talk(at, 0.1, (inside(2), host, 22), SSH, &EXCHANGE[..9]);
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

#[test]
fn who_is_turned_away_guesses_also_before_a_server_that_warns_at_length() {
    for banner in [None, Some(-700)] {
        let mut traffic = Traffic::default();
        for n in 0..10_u32 {
            let away = [&EXCHANGE[..], banner.as_slice(), &[-52, 84, -52]].concat();
            traffic.talk(f64::from(n) * 5.0, 0.4, (outside(5), inside(20), 22), SSH, &away);
        }
        assert_eq!(
            summary(&alerts(traffic)),
            [("T1110.001".to_owned(), outside(5))],
            "{banner:?}"
        );
    }
}

#[test]
fn several_tries_in_one_connection_count_as_more_than_one() {
    let found = |tries| {
        let mut traffic = Traffic::default();
        for n in 0..4_u32 {
            traffic.talk(
                f64::from(n) * 6.0,
                4.0,
                (inside(7), inside(20), 22),
                SSH,
                &turned_away(tries),
            );
        }
        summary(&alerts(traffic))
    };
    assert_eq!(found(6), [("T1110.001".to_owned(), inside(7))]);
    // Somebody who mistypes, twice.
    assert_eq!(found(1), []);
}

#[test]
fn one_password_on_many_hosts_is_seen_and_who_is_let_in_by_them_is_not() {
    let mut traffic = Traffic::default();
    for n in 0..25_u16 {
        let at = f64::from(n) * 2.0;
        traffic.talk(at, 0.4, (inside(7), inside(100 + n), 22), SSH, &turned_away(1));
        traffic.talk(at, 0.5, (inside(8), inside(100 + n), 22), SSH, &let_in());
    }
    let alerts = alerts(traffic);
    assert_eq!(summary(&alerts), [("T1110.003".to_owned(), inside(7))]);
    assert!(alerts[0].peers.len() > 4, "{:?}", alerts[0].peers);
}

#[test]
fn who_transfers_files_was_let_in() {
    let (greeting, login) = (b"220 (vsFTPd 3.0.3)", [-20, 12, -34, 22]);
    let mut traffic = Traffic::default();
    for n in 0..20_u32 {
        let at = f64::from(n) * 8.0;
        let uploads = [&login[..], &[-23, 5, -62, 9, -33, 6, -14]].concat();
        traffic.talk(at, 1.0, (inside(1), inside(20), 21), greeting, &uploads);
        let port = 40_000 + u16::try_from(n).unwrap();
        traffic.tcp(at + 0.3, inside(1), inside(20), port, Ending::Data(9_000, 0, 0.2));
        // Three passwords in each connection.
        let refused = [&[-20][..], &[10, -34, 14, -22].repeat(3)].concat();
        traffic.talk(at, 7.0, (inside(2), inside(20), 21), greeting, &refused);
    }
    assert_eq!(summary(&alerts(traffic)), [("T1110.001".to_owned(), inside(2))]);
}

#[test]
fn pages_and_shares_that_ask_for_a_password_are_login_services() {
    let mut traffic = Traffic::default();
    for n in 0..16_u32 {
        let at = f64::from(n) * 0.7;
        traffic.talk(
            at,
            0.1,
            (inside(1), inside(20), 8080),
            b"HTTP/1.1 401 Una",
            &[137, -367],
        );
        traffic.talk(
            at,
            0.1,
            (inside(2), inside(21), 445),
            b"\0\0\0",
            &[232, -288, 166, -208, 486, -77],
        );
        // Asked first, let in next: how programs without a memory do it.
        traffic.talk(
            at,
            0.1,
            (inside(3), inside(20), 80),
            b"HTTP/1.1 401 Una",
            &[137, -367],
        );
        traffic.talk(
            at + 0.2,
            0.1,
            (inside(3), inside(20), 80),
            b"HTTP/1.1 200 OK\r",
            &[190, -800],
        );
        // Somebody at work on a share.
        let work = [
            232, -288, 166, -208, 486, -105, 110, -84, 162, -77, 72, -72, 112, -84,
        ];
        traffic.talk(
            f64::from(n) * 9.0,
            0.2,
            (inside(4), inside(21), 445),
            b"\0\0\0",
            &work,
        );
    }
    let mut found = summary(&alerts(traffic));
    found.sort();
    let guess = |host| ("T1110.001".to_owned(), inside(host));
    assert_eq!(found, [guess(1), guess(2)]);
}

/// `hydra http-post-form`: the page is fetched, and the form sent, each in a connection of its own.
#[test]
fn guesses_by_a_form_are_seen() {
    let mut traffic = Traffic::default();
    for n in 0..40_u32 {
        let at = f64::from(n) * 1.5;
        let page = (inside(5), inside(20), 80);
        traffic.tcp(at, page.0, page.1, page.2, Ending::Data(90, 205, 0.1));
        traffic.begins(b"GET /login HTTP/", b"HTTP/1.1 200 OK\r");
        let sent = 150 + u64::from(n % 6);
        traffic.tcp(at + 0.3, page.0, page.1, page.2, Ending::Data(sent, 205, 0.1));
        traffic.begins(b"POST /login HTTP", b"HTTP/1.1 200 OK\r");
    }
    assert_eq!(summary(&alerts(traffic)), [("T1110.001".to_owned(), inside(5))]);
}

#[test]
fn programs_that_log_in_by_a_form_and_others_that_send_forms_guess_nothing() {
    let mut traffic = Traffic::default();
    for n in 0..60_u32 {
        // Once a minute, for each of its runs.
        traffic.tcp(
            f64::from(n) * 60.0,
            inside(5),
            inside(20),
            80,
            Ending::Data(150, 400, 0.1),
        );
        traffic.begins(b"POST /login HTTP", b"HTTP/1.1 200 OK\r");
        // Measurements, every second.
        traffic.tcp(
            f64::from(n),
            inside(6),
            inside(20),
            80,
            Ending::Data(150, 400, 0.1),
        );
        traffic.begins(b"POST /api/v1/met", b"HTTP/1.1 200 OK\r");
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

/// Four at a time, each word three times: `hydra snmp`, as it was recorded.
#[test]
fn guesses_of_communities_are_seen() {
    let mut traffic = Traffic::default();
    traffic.requests(inside(9), inside(20), 161, &[(0.0, 43), (1.0, 43)], true);
    for task in 0..4_u32 {
        let said: Vec<(f64, u64)> = (0..36_u32)
            .map(|n| {
                let at = 5.0 + f64::from(n / 3) * 8.0 + f64::from(n % 3) + f64::from(task) * 0.02;
                (at, 43 + u64::from((n / 3 + task) % 4))
            })
            .collect();
        traffic.requests(inside(5), inside(20), 161, &said, false);
    }
    assert_eq!(summary(&alerts(traffic)), [("T1110.001".to_owned(), inside(5))]);
}

#[test]
fn managers_whose_agents_are_gone_guess_nothing() {
    let mut traffic = Traffic::default();
    traffic.requests(inside(9), inside(21), 161, &[(0.0, 43), (1.0, 43)], true);
    for round in 0..30_u32 {
        let at = f64::from(round) * 20.0;
        let tries: Vec<(f64, u64)> = (0..5_u32).map(|n| (at + f64::from(n), 43)).collect();
        traffic.requests(inside(5), inside(20), 161, &tries, false);
        // One that has the wrong word.
        traffic.requests(inside(6), inside(21), 161, &tries, false);
    }
    assert_eq!(summary(&alerts(traffic)), []);
}
