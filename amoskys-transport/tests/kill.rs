//! A process that seals and appends is killed with SIGKILL at random moments, again and again. What it was told is
//! durable is there, once, in order, and the chains hold.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use amoskys_core::{Class, Offset, Open, Wal};
use common::{assert_clean, read_all, seal};

const DIR: &str = "AMOSKYS_TEST_KILLED_IN";
/// How often, if the environment does not say so.
const KILLS: usize = 25;
const KILLS_WANTED: &str = "AMOSKYS_TEST_KILLS";

fn open(dir: &Path) -> amoskys_transport::Log {
    common::open(dir)
}

/// The process that is killed: it runs only as a child of the test below.
#[test]
#[ignore = "run by `killed_at_any_moment_nothing_durable_is_lost`"]
fn child() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let mut log = open(&dir);
    let mut out = std::io::stdout().lock();
    let mut round = 0_u64;
    loop {
        let mut last = Offset(0);
        // Some alone, some several to a commit.
        for _ in 0..=round % 4 {
            let class = if round.is_multiple_of(3) {
                Class::Alert
            } else {
                Class::Telemetry
            };
            let next = log.sealer.head(class).next.0;
            let record = seal(&mut log.sealer, class, next, 1 + round % 7, 150);
            last = log.wal.append(record).unwrap();
            round += 1;
        }
        log.wal.store("seen", &last.0.to_le_bytes()).unwrap();
        log.wal.trim(Offset(last.0.saturating_sub(300))).unwrap();
        log.wal.wait_durable(last).unwrap();
        let heads = [Class::Telemetry, Class::Alert].map(|class| log.sealer.head(class).next.0);
        writeln!(out, "durable {} {} {}", last.0, heads[0], heads[1]).unwrap();
    }
}

#[test]
fn killed_at_any_moment_nothing_durable_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut seed = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .subsec_nanos();
    println!("seed {seed}");
    let wanted = std::env::var(KILLS_WANTED)
        .ok()
        .and_then(|kills| kills.parse().ok());
    for kill in 0..wanted.unwrap_or(KILLS) {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, told) = std::sync::mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let numbers: Option<Vec<u64>> = line
                    .strip_prefix("durable ")
                    .map(|rest| rest.split(' ').flat_map(str::parse).collect());
                // The last line may be cut off by the kill.
                if let Some([offset, telemetry, alert]) = numbers.as_deref() {
                    lines.send((*offset, *telemetry, *alert)).unwrap();
                }
            }
        });
        // Sometimes before it has opened the log, sometimes in full run.
        let mut last = match kill % 5 {
            0 => None,
            _ => Some(
                told.recv_timeout(Duration::from_secs(60))
                    .expect("the child comes to work"),
            ),
        };
        std::thread::sleep(Duration::from_micros(u64::from(seed >> 16) * 2));
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        last = told.try_iter().last().or(last);

        let log = open(dir.path());
        let (records, damaged) = read_all(&log);
        assert!(damaged.is_empty());
        if let Some((offset, telemetry, alert)) = last {
            assert!(log.wal.durable().0 > offset, "record {offset} was durable");
            assert!(log.sealer.head(Class::Telemetry).next.0 >= telemetry);
            assert!(log.sealer.head(Class::Alert).next.0 >= alert);
        }
        let mut next = [None::<u64>; 2];
        for (_, record) in records {
            let opened = log.opener.open(&record).unwrap();
            let next = &mut next[usize::from(opened.stream.class == Class::Alert)];
            for recorded in opened.into_recorded() {
                assert!(
                    next.is_none_or(|next| next == recorded.seq.0),
                    "each event once, in order"
                );
                assert_eq!(recorded.event.id.ordinal, recorded.seq.0);
                *next = Some(recorded.seq.0 + 1);
            }
        }
        let heads = [Class::Telemetry, Class::Alert].map(|class| log.sealer.head(class).next.0);
        assert!(
            next.iter()
                .zip(heads)
                .all(|(next, head)| next.is_none_or(|next| next == head))
        );
        drop(log);
        let report = assert_clean(dir.path());
        assert!(report.gaps.is_empty(), "{report}");
    }
}
