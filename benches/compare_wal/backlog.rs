//! Does a log that nobody reads grow slow?
//!
//! Logs with different amounts of unread records take turns. In each round the same number of records is appended, each
//! durable before the next; then as many of the oldest are read and opened, and then trimmed one by one, until the disk has as many
//! files as before. So the backlog stays what it was.
//! Then each log is closed, its pages are dropped from the cache where that is allowed, and a process of its own opens it.

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use amoskys_benches::rounds::median;
use amoskys_core::{Name, Offset, Open as _, Seal as _, Wal as _};
use amoskys_transport::{Log, LogOptions, WalOptions};

use crate::events::{Commit, EVENT_BYTES, commits, unsealed};

/// Events a commit.
const SIZE: usize = 1024;
/// Commits of a round: more than three segments, as trimming gives segments back as a whole.
const COMMITS: usize = 700;
const GIGABYTE: u64 = 1 << 30;
/// Argument that makes this program open a log, and say what that took.
pub(crate) const OPEN: &str = "--open-log";

/// A log with a backlog, and how long each kind of work took it, per round.
struct Backlog {
    gigabytes: u64,
    dir: PathBuf,
    log: Log,
    append: Vec<Duration>,
    read: Vec<Duration>,
    trim: Vec<Duration>,
}

/// Fills logs with so many gigabytes and compares them.
pub(crate) fn compare(dir: &Path, sizes: &[u64], rounds: usize) -> Result<(), Box<dyn Error>> {
    let (commits, source) = (commits(SIZE)?, Name::from("bench"));
    let mut backlogs = Vec::new();
    for &gigabytes in sizes {
        let dir = dir.join(format!("backlog-{gigabytes}"));
        let mut log = Log::open(&dir, options())?;
        while log.wal.used_bytes() < gigabytes * GIGABYTE {
            append(&mut log, &source, &commits, 64)?;
        }
        backlogs.push(Backlog {
            gigabytes,
            dir,
            log,
            append: Vec::new(),
            read: Vec::new(),
            trim: Vec::new(),
        });
    }
    // The first round of each, which meets empty buffers and files, is not counted.
    for round in 0..=rounds {
        for turn in 0..backlogs.len() {
            let backlog = &mut backlogs[(turn + round) % sizes.len()];
            let times = backlog.round(&commits, &source)?;
            if round > 0 {
                backlog.append.push(times[0]);
                backlog.read.push(times[1]);
                backlog.trim.push(times[2]);
            }
        }
    }
    let events = (COMMITS * SIZE) as f64;
    println!(
        "\n{:<10} {:>14} {:>14} {:>14} {:>10} {:>12}  median of {rounds} rounds of {events} events",
        "unread", "append/s", "read/s", "trim/s", "open ms", "open MiB"
    );
    let rate = |times: &[Duration]| events / median(times).as_secs_f64();
    let mut ratios = Vec::new();
    let first = backlogs
        .first()
        .map(|b| [&b.append, &b.read, &b.trim].map(|times| rate(times)));
    for backlog in backlogs {
        let rates = [&backlog.append, &backlog.read, &backlog.trim].map(|times| rate(times));
        let Backlog {
            gigabytes, dir, log, ..
        } = backlog;
        drop(log);
        let (milliseconds, mebibytes) = open_elsewhere(&dir)?;
        println!(
            "{:<10} {:>14.0} {:>14.0} {:>14.0} {milliseconds:>10.1} {mebibytes:>12.1}",
            format!("{gigabytes} GiB"),
            rates[0],
            rates[1],
            rates[2],
        );
        for ((name, rate), none) in ["append", "read", "trim"]
            .iter()
            .zip(rates)
            .zip(first.unwrap_or(rates))
        {
            ratios.push((format!("{name}_{gigabytes}gib"), rate / none));
        }
        std::fs::remove_dir_all(dir)?;
    }
    println!();
    let smallest = sizes.first().copied().unwrap_or_default();
    for (name, ratio) in ratios {
        if !name.ends_with(&format!("_{smallest}gib")) {
            amoskys_benches::rounds::print_ratio(&name, &format!("{smallest}gib"), ratio);
        }
    }
    Ok(())
}

impl Backlog {
    /// Appends, reads and trims, and returns how long each took.
    fn round(&mut self, commits: &[Commit], source: &Name) -> Result<[Duration; 3], Box<dyn Error>> {
        let files = files(&self.dir)?;
        let start = Instant::now();
        append(&mut self.log, source, commits, COMMITS)?;
        let appended = start.elapsed();

        let wal = &self.log.wal;
        let (start, first) = (Instant::now(), wal.first());
        let (mut from, end) = (first, Offset(first.0 + COMMITS as u64));
        while from < end {
            let records = wal.read(from, 1 << 20)?;
            for (_, record) in records.iter().take_while(|(offset, _)| *offset < end) {
                black_box(self.log.opener.open(record)?);
            }
            from = records.last().ok_or("records are missing")?.0.next();
        }
        let read = start.elapsed();

        let start = Instant::now();
        for offset in first.0..end.0 {
            wal.trim(Offset(offset + 1))?;
        }
        // Where in a segment a round begins decides about one of them.
        while self::files(&self.dir)? > files + 1 {
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok([appended, read, start.elapsed()])
    }
}

/// Files in the log's own directory: segments, and a few others whose number stays.
fn files(dir: &Path) -> std::io::Result<usize> {
    Ok(std::fs::read_dir(dir.join("log"))?.count())
}

/// Seals and appends, each commit durable before the next.
fn append(log: &mut Log, source: &Name, commits: &[Commit], count: usize) -> Result<(), Box<dyn Error>> {
    for commit in commits.iter().cycle().take(count) {
        let sealed = log.sealer.seal(unsealed(source, &commit.events))?;
        let offset = log.wal.append(sealed.record)?;
        log.wal.wait_durable(offset)?;
    }
    Ok(())
}

fn options() -> LogOptions {
    LogOptions::new().wal(WalOptions::new().budget_bytes(1 << 40))
}

/// Opens a log in a process of its own: milliseconds, and the most memory that process had, in MiB.
fn open_elsewhere(dir: &Path) -> Result<(f64, f64), Box<dyn Error>> {
    // Only root may, and the log is opened all the same.
    let _ = Command::new("sync").status();
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
    let output = Command::new(std::env::current_exe()?)
        .arg(OPEN)
        .arg(dir)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let (milliseconds, mebibytes) = text.trim().split_once(' ').ok_or("no figures")?;
    Ok((milliseconds.parse()?, mebibytes.parse()?))
}

/// What the other process does.
pub(crate) fn open(dir: &str) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let log = Log::open(dir, options())?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes: f64 = peak
        .and_then(|line| line.split_whitespace().next())
        .ok_or("the system does not say how much memory was used")?
        .parse()?;
    println!("{milliseconds} {}", kibibytes / 1024.0);
    drop(log);
    Ok(())
}

/// The bytes of events in a round, which is what makes it long enough.
const _: () = assert!(COMMITS * SIZE * EVENT_BYTES > 200 << 20);
