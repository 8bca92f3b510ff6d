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
