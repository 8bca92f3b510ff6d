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

const SHED_IN: &str = "AMOSKYS_TEST_SHED_IN";

/// A log that is always full of what nobody reads.
fn open_full(dir: &Path) -> amoskys_transport::Log {
    use amoskys_core::config::WhenFull;
    use amoskys_transport::{LogOptions, WalOptions};
    let wal = WalOptions::new().budget_bytes(256 << 10).segment_bytes(8 << 10);
    let options = LogOptions::new().agent("agent").when_full(WhenFull::Shed);
    amoskys_transport::Log::open(dir, options.wal(wal)).unwrap()
}

/// The process that is killed: it runs only as a child of the test below.
#[test]
#[ignore = "run by `killed_while_it_sheds_nothing_is_there_twice_or_gone_without_a_gap`"]
fn child_that_sheds() {
    let Some(dir) = std::env::var_os(SHED_IN).map(PathBuf::from) else {
        return;
    };
    let mut log = open_full(&dir);
    let mut out = std::io::stdout().lock();
    for round in 0_u64.. {
        while log.wal.used_bytes() > 224 << 10 {
            assert!(log.wal.shed().unwrap(), "there is always something to shed");
        }
        // Few alerts, so that there is always something else.
        let class = match round % 40 {
            39 => Class::Alert,
            n if n % 3 == 0 => Class::Bulk,
            _ => Class::Telemetry,
        };
        let next = log.sealer.head(class).next.0;
        // In the end the alerts fill the log.
        if class == Class::Alert && next > 200 {
            continue;
        }
        let record = seal(&mut log.sealer, class, next, 3, 150);
        let offset = log.wal.append(record).unwrap();
        log.wal.wait_durable(offset).unwrap();
        writeln!(
            out,
            "durable {} {}",
            offset.0,
            log.sealer.head(Class::Alert).next.0
        )
        .unwrap();
    }
}

#[test]
fn killed_while_it_sheds_nothing_is_there_twice_or_gone_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut seed = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .subsec_nanos();
    println!("seed {seed}");
    let mut gaps = 0;
    for _ in 0..KILLS / 2 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "child_that_sheds",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(SHED_IN, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        // Long enough to fill the log a few times over.
        let numbers = |line: &String| -> Option<(u64, u64)> {
            let (offset, alerts) = line.strip_prefix("durable ")?.split_once(' ')?;
            Some((offset.parse().ok()?, alerts.parse().ok()?))
        };
        let wanted = 100 + (seed >> 16) % 400;
        let mut last = (&mut lines)
            .filter_map(|line| numbers(&line))
            .take(wanted as usize)
            .last();
        child.kill().unwrap();
        child.wait().unwrap();
        // Of the last line, a part may be missing that looks whole.
        let rest: Vec<_> = lines.collect();
        last = rest.iter().rev().skip(1).find_map(numbers).or(last);

        let log = open_full(dir.path());
        let (records, damaged) = read_all(&log);
        assert!(damaged.is_empty());
        let (offset, alerts) = last.expect("the child comes to work");
        assert!(log.wal.durable().0 > offset, "record {offset} was durable");
        assert!(log.sealer.head(Class::Alert).next.0 >= alerts);
        let mut next = std::collections::BTreeMap::<Class, u64>::new();
        for (_, record) in records {
            let opened = log.opener.open(&record).unwrap();
            let next = next.entry(opened.stream.class).or_default();
            assert_eq!(opened.first.0, *next, "each event once, in order, or in a gap");
            *next = opened.last.0 + 1;
            if opened.gap.is_some() {
                assert!(opened.stream.class < Class::Alert);
                gaps += 1;
            }
        }
        for (class, next) in next {
            assert_eq!(log.sealer.head(class).next.0, next);
        }
        drop(log);
        assert_clean(dir.path());
    }
    assert!(gaps > 0);
}
