//! How many events a second does our log make durable, beside a bare file, SQLite and fjall?
//!
//! One committer: it hands over one commit's events, waits until they would survive a power cut, and goes on. All
//! stores take turns in short rounds on the same file system. The figure is the median of the rounds.
//!
//! ```text
//! cargo bench -p amoskys-benches --bench compare_wal -- [--quick] [--dir DIR]
//! cargo bench -p amoskys-benches --bench compare_wal -- --backlog [--quick] [--dir DIR]
//! ```
//!
//! With `--backlog` the question is another: what do appending, reading and trimming cost with 0, 1 and 5 GiB unread
//! (0 and 1 if quick), and what does opening such a log?

#[path = "compare_wal/backlog.rs"]
mod backlog;
#[path = "compare_wal/events.rs"]
mod events;
#[path = "compare_wal/stores.rs"]
mod stores;
#[path = "compare_wal/streams.rs"]
mod streams;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use amoskys_benches::rounds::{is_quick, median, option, print_ratio};

use self::events::{Commit, EVENT_BYTES, commits};
use self::stores::{BareFile, EncryptedLog, Fjall, OurLog, SealedLog, Sqlite, Store};

/// Events a commit.
const SIZES: [usize; 3] = [64, 1024, 8192];
/// Events that are read back in a round.
const READ_EVENTS: u64 = 500_000;

/// A store, and how long a thousand events took it in each round.
struct Entry {
    store: Box<dyn Store>,
    dir: PathBuf,
    per_thousand: Vec<Duration>,
    events: u64,
    /// How long it took to read a thousand events back, in each round.
    read_per_thousand: Vec<Duration>,
}

impl Entry {
    fn new(store: impl Store + 'static, dir: &Path) -> Self {
        let dir = dir.join(store.name());
        Self {
            store: Box::new(store),
            dir,
            per_thousand: Vec::new(),
            events: 0,
            read_per_thousand: Vec::new(),
        }
    }

    /// Commits for this long.
    fn run(&mut self, commits: &[Commit], time: Duration) -> Result<(), Box<dyn Error>> {
        let (start, mut events) = (Instant::now(), 0_u32);
        for commit in commits.iter().cycle() {
            self.store.commit(commit)?;
            events += u32::try_from(commit.payloads.len())?;
            if start.elapsed() >= time {
                break;
            }
        }
        self.per_thousand.push(start.elapsed() * 1000 / events);
        self.events += u64::from(events);
        Ok(())
    }

    /// Reads the oldest events back.
    fn read_back(&mut self, commit: &Commit) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let events = self.store.read_back(commit, READ_EVENTS.min(self.events))?;
        if events == 0 {
            return Err(format!("{} gave nothing back", self.store.name()).into());
        }
        self.read_per_thousand
            .push(start.elapsed().mul_f64(1000.0 / events as f64));
        Ok(())
    }

    fn events_per_second(&self) -> f64 {
        1000.0 / median(&self.per_thousand).as_secs_f64()
    }

    fn read_per_second(&self) -> f64 {
        1000.0 / median(&self.read_per_thousand).as_secs_f64()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(dir) = option(backlog::OPEN) {
        return backlog::open(&dir);
    }
    let (rounds, time) = match is_quick() {
        true => (3, Duration::from_millis(400)),
        false => (9, Duration::from_millis(1500)),
    };
    let scratch = match option("--dir") {
        Some(dir) => tempfile::tempdir_in(dir)?,
        // Not the default for temporary files, which may be in memory.
        None => tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"))
            .or_else(|_| tempfile::tempdir())?,
    };
    if std::env::args().any(|argument| argument == "--backlog") {
        let sizes: &[u64] = if is_quick() { &[0, 1] } else { &[0, 1, 5] };
        return backlog::compare(scratch.path(), sizes, rounds);
    }
    println!(
        "\nevents of {EVENT_BYTES} incompressible bytes; one committer; median of {rounds} rounds, in turns"
    );
    let mut ratios = Vec::new();
    for size in SIZES {
        let dir = scratch.path().join(size.to_string());
        let commits = commits(size)?;
        let mut entries = [
            Entry::new(OurLog::default(), &dir),
            Entry::new(SealedLog::default(), &dir),
            Entry::new(EncryptedLog::default(), &dir),
            Entry::new(BareFile::default(), &dir),
            Entry::new(Sqlite::default(), &dir),
            Entry::new(Fjall::default(), &dir),
        ];
        for entry in &mut entries {
            std::fs::create_dir_all(&entry.dir)?;
            entry.store.open(&entry.dir)?;
        }
        for _ in 0..rounds {
            for entry in &mut entries {
                entry.run(&commits, time)?;
            }
        }
        for _ in 0..rounds {
            for entry in &mut entries {
                entry.read_back(&commits[0])?;
            }
        }
        println!(
            "\n{:<16} {:>12} {:>14} {:>12} {:>12}  {size} events a commit",
            "store", "events/s", "us a commit", "read back/s", "disk/payload"
        );
        for entry in &mut entries {
            entry.store.close();
            let payload = entry.events * EVENT_BYTES as u64;
            println!(
                "{:<16} {:>12.0} {:>14.1} {:>12.0} {:>12.3}  {}",
                entry.store.name(),
                entry.events_per_second(),
                size as f64 / entry.events_per_second() * 1e6,
                entry.read_per_second(),
                disk_bytes(&entry.dir)? as f64 / payload as f64,
                entry.store.does(),
            );
        }
        for ours in &entries[..3] {
            for peer in &entries[3..] {
                let ratio = ours.events_per_second() / peer.events_per_second();
                ratios.push((format!("{}_{size}", ours.store.name()), peer.store.name(), ratio));
            }
        }
        drop(entries);
        std::fs::remove_dir_all(dir)?;
    }
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(streams::commits_per_second(
            &scratch.path().join("streams"),
            time,
        )?);
    }
    rates.sort_by(|(alone, together), (alone2, together2)| {
        (together / alone).total_cmp(&(together2 / alone2))
    });
    let (alone, together) = rates[rates.len() / 2];
    println!(
        "\n{} streams, a batch of one event a commit: {together:.0} commits/s; one stream alone: {alone:.0} commits/s",
        streams::STREAMS
    );
    println!();
    print_ratio("many_streams", "one_stream", together / alone);
    for (ours, peer, ratio) in ratios {
        print_ratio(&ours, peer, ratio);
    }
    Ok(())
}

/// Bytes of disk that the files of a directory take.
fn disk_bytes(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}
