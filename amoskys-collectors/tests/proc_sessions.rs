//! Who is logged in, by files that another program writes, and by bytes that are anything.
//!
//! Needs `utmpdump` of util-linux; without, that test says so and passes, unless `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(all(feature = "proc", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use amoskys_collectors::proc::utmp::{Session, sessions};
use amoskys_collectors::proc::{ProcCollector, ProcConfig};
use amoskys_core::event::{ActivityAction, ActivityEvent, ActivityVia};
use amoskys_core::{Collector, Payload};
use proptest::prelude::*;

/// What `utmpdump` makes of lines of text; `None` if it is not there.
fn written(lines: &str) -> Option<Vec<u8>> {
    let child = Command::new("utmpdump")
        .arg("-r")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        assert_ne!(
            std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref(),
            Ok("1"),
            "utmpdump is missing"
        );
        eprintln!("skipped: utmpdump is missing");
        return None;
    };
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    Some(child.wait_with_output().unwrap().stdout)
}

fn line(kind: u16, pid: u32, user: &str, terminal: &str, host: &str, address: &str) -> String {
    format!(
        "[{kind}] [{pid:05}] [ts/0] [{user:8}] [{terminal:12}] [{host:20}] [{address:15}] [2026-11-21T10:00:00,000000+00:00]\n"
    )
}

#[test]
fn sessions_are_read_as_login_programs_write_them() {
    let text = line(2, 0, "reboot", "~", "6.1.0", "0.0.0.0")
        + &line(7, 12345, "alice", "pts/0", "office.example", "198.51.100.7")
        + &line(7, 777, "bob", "tty1", "", "0.0.0.0")
        + &line(7, 778, "carol", "pts/1", "2001:db8::7", "2001:db8::7")
        + &line(8, 779, "dave", "pts/2", "", "0.0.0.0");
    let Some(file) = written(&text) else { return };
    let session = |user: &str, terminal: &str, host: &str, address: Option<&str>, pid| Session {
        user: user.to_owned(),
        terminal: terminal.to_owned(),
        host: host.to_owned(),
        address: address.map(|address| address.parse().unwrap()),
        pid,
        since_secs: 1_795_255_200,
    };
    let found: Vec<Session> = sessions(&file).map(Option::unwrap).collect();
    let expected = [
        session("alice", "pts/0", "office.example", Some("198.51.100.7"), 12345),
        session("bob", "tty1", "", None, 777),
        session("carol", "pts/1", "2001:db8::7", Some("2001:db8::7"), 778),
    ];
    assert_eq!(found, expected);
    // What is cut off is passed over.
    assert_eq!(sessions(&file[..file.len() - 1]).count(), 3);
    assert_eq!(sessions(&file[..file.len() / 5 * 2]).count(), 1);
}

#[tokio::test]
async fn users_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let utmp = dir.path().join("utmp");
    let own = std::process::id();
    let there = line(7, own, "alice", "pts/0", "office.example", "198.51.100.7");
    // Nobody has this number: whoever was logged in was thrown out without a record.
    let stale = line(7, 4_194_305, "bob", "pts/1", "", "0.0.0.0");
    let Some(file) = written(&(stale + &there)) else {
        return;
    };
    std::fs::write(&utmp, file).unwrap();
    let config = ProcConfig {
        period: Duration::from_millis(50),
        rotation: 1.try_into().unwrap(),
        utmp: utmp.clone(),
        ..ProcConfig::default()
    };
    let mut collector = ProcCollector::open(config).unwrap();
    let (came, present) = next(&mut collector).await;
    assert_eq!((came.action, present), (ActivityAction::LogIn, true));
    assert_eq!((came.name.as_str(), came.path.as_str()), ("alice", "/dev/pts/0"));
    assert_eq!(came.other_path, "office.example");
    assert_eq!(came.remote_address, Some("198.51.100.7".parse().unwrap()));
    assert_eq!((came.pid, came.via), (own, ActivityVia::Comparison));
    assert_eq!(
        came.executable,
        std::env::current_exe().unwrap().to_str().unwrap()
    );

    std::fs::write(&utmp, b"").unwrap();
    let (went, present) = next(&mut collector).await;
    assert_eq!((went.action, present), (ActivityAction::LogOut, false));
    assert_eq!((went.name.as_str(), went.pid), ("alice", own));
}

/// The next that is told of a user, and whether it was so at the start.
async fn next(collector: &mut ProcCollector) -> (ActivityEvent, bool) {
    let wait = async {
        loop {
            let batch = collector.next_batch().await.unwrap().unwrap();
            for event in batch.events {
                let present = event.attributes.contains_key("present");
                if let Payload::Activity(activity) = event.payload
                    && matches!(activity.action, ActivityAction::LogIn | ActivityAction::LogOut)
                {
                    return (*activity, present);
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("the event comes")
}

proptest! {
    #[test]
    fn bytes_may_be_anything(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), is_user in any::<bool>()) {
        if is_user && bytes.len() >= 2 {
            bytes[..2].copy_from_slice(&7_u16.to_ne_bytes());
        }
        let found = sessions(&bytes);
        let count = found.inspect(|session| {
            if let Some(session) = session {
                assert!(!session.user.is_empty() && session.pid != 0);
                // A byte that is no text becomes a sign of three bytes.
                assert!(session.user.len() <= 96 && session.host.len() <= 768);
            }
        }).count();
        prop_assert!(count <= bytes.len() / 384);
    }
}
