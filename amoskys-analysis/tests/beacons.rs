//! Timers that call outside are beacons; people, monitors and timekeepers are not.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use traffic::{Ending, Traffic, alerts, inside, outside, summary};

/// Numbers between 0 and 1 that look random and are always the same.
fn noise(n: u32) -> f64 {
    f64::from((n.wrapping_mul(2_654_435_761) >> 8) % 10_000) / 10_000.0
}

/// Other hosts at work, so that the client is not alone.
fn office(traffic: &mut Traffic, seconds: u32) {
    let mut at = 0.0;
    for n in 0.. {
        at += -(1.0 - noise(n)).ln() * 4.0;
        if at > f64::from(seconds) {
            return;
        }
        let host = inside(100 + u16::try_from(n % 6).unwrap());
        let size = 1_000 + u64::from(n * 7919 % 97) * 400;
        traffic.tcp(
            at,
            host,
            outside(u8::try_from(n % 20).unwrap()),
            443,
            Ending::Data(700, size, 0.4),
        );
    }
}

#[test]
fn a_beacon_with_jitter_and_gaps_is_seen() {
    for (period, jitter) in [(7.0, 0.1), (30.0, 0.2), (60.0, 0.1)] {
        let mut traffic = Traffic::default();
        office(&mut traffic, 1_200);
        let mut at = 3.0;
        for n in 0..18 {
            at += period * (1.0 + jitter * (2.0 * noise(n + 7) - 1.0)) * if n == 9 { 2.0 } else { 1.0 };
            traffic.tcp(at, inside(66), outside(66), 443, Ending::Data(420, 900, 0.2));
        }
        assert_eq!(
            summary(&alerts(traffic)),
            [("T1071.001".to_owned(), inside(66))],
            "every {period} s"
        );
    }
}

#[test]
fn regular_uploads_beside_a_quiet_connection_are_seen() {
    let mut traffic = Traffic::default();
    office(&mut traffic, 300);
    traffic.tcp(5.0, inside(66), outside(66), 4433, Ending::Data(300, 100, 200.0));
    for n in 0..10_u32 {
        traffic.tcp(
            40.0 + 10.0 * f64::from(n),
            inside(66),
            outside(66),
            4433,
            Ending::Data(85_000 + u64::from(n % 3) * 100, 14, 0.1),
        );
    }
    assert_eq!(summary(&alerts(traffic)), [("T1041".to_owned(), inside(66))]);
}

#[test]
fn honest_regularity_is_no_beacon() {
    let mut traffic = Traffic::default();
    office(&mut traffic, 1_200);
    for n in 0..80 {
        let at = f64::from(n) * 15.0;
        // A monitor that polls its servers.
        for server in 20..26 {
            traffic.tcp(
                at + f64::from(server) * 0.1,
                inside(5),
                inside(server),
                443,
                Ending::Data(200, 300, 0.05),
            );
        }
        // Timekeeping, and an industrial controller asked by UDP.
        traffic.udp(at, inside(6), outside(123), 123, true, 64);
        traffic.udp(at, inside(7), inside(30), 161, true, 64);
        // A page that is loaded anew by everybody, as a dashboard on the wall.
        for client in 100..106 {
            traffic.tcp(
                at + f64::from(client),
                inside(client),
                outside(200),
                443,
                Ending::Data(500, 700, 0.1),
            );
        }
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

#[test]
fn people_are_no_beacons() {
    let mut traffic = Traffic::default();
    for person in 0..20_u16 {
        let mut at = 0.0;
        for n in 0..60 {
            let draw = (noise(n + u32::from(person) * 100) + noise(n * 3 + u32::from(person)) - 1.0) * 2.5;
            at += 9.0 * draw.exp();
            let size = 500 + u64::from((n * 7919 + u32::from(person)) % 113) * 300;
            traffic.tcp(
                at,
                inside(person),
                outside(u8::try_from(person).unwrap()),
                443,
                Ending::Data(600, size, 0.3),
            );
        }
    }
    assert_eq!(summary(&alerts(traffic)), []);
}

/// A third of the period more or less, and seen before it has called twelve times.
#[test]
fn a_beacon_with_much_jitter_is_seen_as_soon() {
    let mut traffic = Traffic::default();
    office(&mut traffic, 300);
    let mut at = 3.0;
    for n in 0..12 {
        traffic.tcp(at, inside(3), outside(200), 443, Ending::Data(400, 700, 0.1));
        at += 12.0 * (0.7 + 0.6 * noise(n * 5 + 1));
    }
    assert_eq!(summary(&alerts(traffic)), [("T1071.001".to_owned(), inside(3))]);
}

/// `bash -i` tied to a connection: greeting and prompt, then each order is repeated, answered, and followed by a prompt. As recorded.
#[test]
fn a_shell_that_calls_back_is_seen() {
    let mut said = vec![(0.1, 77), (0.08, 35)];
    for (pause, order, answer) in [
        (3.8, 3, 62),
        (3.0, 9, 89),
        (4.0, 9, 1_400),
        (3.8, 16, 939),
        (3.6, 7, 1_400),
    ] {
        said.extend([(pause, -order), (0.05, order - 1), (0.01, answer)]);
    }
    let mut traffic = Traffic::default();
    traffic.messages(
        1.0,
        (inside(5), outside(9), 4_447),
        [b"bash: cannot set", b"id\nuname -a\n"],
        &said,
    );
    assert_eq!(summary(&alerts(traffic)), [("T1059".to_owned(), inside(5))]);
}

#[test]
fn those_whom_a_server_asks_obey_nobody() {
    let mut traffic = Traffic::default();
    let often = |part: &[(f64, i32)], times: usize| part.repeat(times);
    // Chat: lines for everyone, and whether somebody is still there.
    let chat = often(&[(4.0, -60), (2.0, -90), (6.0, -18), (0.02, 18)], 12);
    traffic.messages(
        1.0,
        (inside(1), outside(1), 6_667),
        [b"NICK ana\r\nUSER", b":irc.example NOT"],
        &chat,
    );
    // Messages for a telephone, each acknowledged in as many bytes, in binary.
    let push = often(&[(7.0, -20), (0.05, 20)], 20);
    traffic.messages(
        1.0,
        (inside(2), outside(2), 5_228),
        [&[8, 1, 0, 200], &[8, 2, 0, 17]],
        &push,
    );
    // Mail to a server that takes its time.
    let mail = [&[(0.1, -40)][..], &often(&[(0.01, 60), (1.5, -14)], 10)].concat();
    traffic.messages(
        1.0,
        (inside(3), outside(3), 25),
        [b"EHLO mail.exampl", b"220 mx.example E"],
        &mail,
    );
    // Somebody who types, and is answered.
    let typed = often(&[(3.0, 12), (0.1, -400)], 12);
    traffic.messages(
        1.0,
        (inside(4), outside(4), 2_323),
        [b"ls\r\n", b"welcome"],
        &typed,
    );
    assert_eq!(summary(&alerts(traffic)), []);
}
