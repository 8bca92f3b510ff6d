//! The programs whose file operations are recorded. What they are told is durable they say at once, in lines that stand
//! in the recording among the file operations.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::config::WhenFull;
use amoskys_core::{BoxError, Class, Epoch, Offset, StreamId, Wal};
use amoskys_transport::{
    FileSigner, Log, LogKey, LogKeyId, LogKeys, LogOptions, Sealer, Signer, TrustMap, WalOptions,
};
use bytes::Bytes;

use super::common::seal;
use super::disk::Random;

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// An agent: small segments, several openings, trimming, named values, and once a lost store.
    Agent,
    /// The same, encrypted.
    Encrypted,
    /// A bus: the streams of many agents in one log, deleted by size.
    Bus,
    /// Segments that are large enough to be prepared ahead.
    Large,
    /// An agent whose log turns out to be a copy.
    Fork,
    /// An agent whose full log gives up old records of classes that may be shed.
    Shed,
    /// An agent that replaces its signing key, again and again.
    Rotate,
}

impl Program {
    pub(crate) const ALL: [Self; 7] = [
        Self::Agent,
        Self::Encrypted,
        Self::Bus,
        Self::Large,
        Self::Fork,
        Self::Shed,
        Self::Rotate,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Encrypted => "encrypted",
            Self::Bus => "bus",
            Self::Large => "large",
            Self::Fork => "fork",
            Self::Shed => "shed",
            Self::Rotate => "rotate",
        }
    }

    pub(crate) fn options(self) -> LogOptions {
        let wal = WalOptions::new().sync_interval(Duration::from_millis(20));
        let (agent, wal) = match self {
            Self::Agent | Self::Encrypted | Self::Fork | Self::Rotate => {
                ("agent", wal.budget_bytes(8 << 20).segment_bytes(12 << 10))
            }
            Self::Bus => ("bus", wal.budget_bytes(256 << 10).segment_bytes(16 << 10)),
            Self::Shed => ("agent", wal.budget_bytes(SHED_BUDGET).segment_bytes(8 << 10)),
            Self::Large => ("agent", wal.budget_bytes(128 << 20).segment_bytes(8 << 20)),
        };
        let when_full = match self {
            Self::Shed => WhenFull::Shed,
            _ => WhenFull::Wait,
        };
        let options = LogOptions::new().agent(agent).wal(wal).when_full(when_full);
        match self {
            Self::Encrypted => options.log_keys(Arc::new(OneKey)),
            _ => options,
        }
    }

    /// The work. `keys` is a directory of the others' keys, which is not looked at.
    pub(crate) fn run(self, dir: &Path, keys: &Path, seed: u64) {
        let mut random = Random(seed);
        match self {
            Self::Agent | Self::Encrypted => run_agent(self, dir, &mut random),
            Self::Bus => run_bus(dir, keys, &mut random),
            Self::Large => run_large(dir, &mut random),
            Self::Fork => run_fork(dir, &mut random),
            Self::Shed => run_shed(dir, &mut random),
            Self::Rotate => run_rotate(dir, &mut random),
        }
    }
}

const SHED_BUDGET: u64 = 96 << 10;

/// What the encrypted log is encrypted with.
pub(crate) struct OneKey;

impl LogKeys for OneKey {
    fn current(&self) -> Result<LogKey, BoxError> {
        Ok(LogKey::from_bytes([5; 32]))
    }

    fn by_id(&self, id: LogKeyId) -> Result<Option<LogKey>, BoxError> {
        Ok(Some(LogKey::from_bytes([5; 32])).filter(|key| key.id() == id))
    }
}

/// How many other agents' streams are in the log of the bus.
pub(crate) const AGENTS: u64 = 12;

pub(crate) fn agent_key(keys: &Path, agent: u64) -> PathBuf {
    keys.join(format!("{agent}.key"))
}

/// Keys of the other agents, as the bus trusts them.
pub(crate) fn trust(keys: &Path) -> TrustMap {
    let signers = (0..AGENTS).map(|agent| FileSigner::open_or_create(agent_key(keys, agent)).unwrap());
    signers
        .enumerate()
        .fold(TrustMap::new(), |trust, (agent, signer)| {
            trust.allow(format!("a{agent}"), signer.public_key())
        })
}

/// Says something, in one system call.
fn tell(line: impl Display) {
    let out = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    let line = format!("told {line}\n");
    let written = File::from(out).write(line.as_bytes()).unwrap();
    assert_eq!(written, line.len());
}

/// A log that says all there is to say.
struct Telling {
    log: Log,
    next: u64,
}

impl Telling {
    fn open(program: Program, dir: &Path) -> Self {
        tell("opening");
        let log = Log::open(dir, program.options()).unwrap();
        tell(format_args!("open {}", log.epoch()));
        log.wal
            .on_durable(Box::new(|offset| tell(format_args!("durable {offset}"))));
        let next = log.wal.durable().0;
        Self { log, next }
    }

    /// Appends a record, of a stream that has then come to `next`.
    fn append(&mut self, record: Bytes, stream: &StreamId, next: u64) {
        tell(format_args!(
            "append {} {:08x} {next} {stream}",
            self.next,
            crc32fast::hash(&record)
        ));
        assert_eq!(self.log.wal.append(record).unwrap(), Offset(self.next));
        self.next += 1;
    }

    fn append_own(&mut self, class: Class, events: u64, len: usize) {
        let from = self.log.sealer.head(class).next.0;
        let record = seal(&mut self.log.sealer, class, from, events, len);
        let stream = StreamId {
            agent: self.log.sealer.agent().clone(),
            epoch: self.log.epoch(),
            class,
        };
        self.append(record, &stream, from + events);
    }

    fn wait(&self) {
        if let Some(last) = self.next.checked_sub(1) {
            self.log.wal.wait_durable(Offset(last)).unwrap();
            tell(format_args!("durable {}", self.next));
        }
    }

    fn trim(&self, to: u64) {
        tell(format_args!("trim {to}"));
        self.log.wal.trim(Offset(to)).unwrap();
    }

    fn store(&self, name: &str, version: u64) {
        tell(format_args!("store {name} {version}"));
        self.log.wal.store(name, &value(name, version)).unwrap();
    }

    fn sync(&self) {
        self.log.wal.sync().unwrap();
        tell("synced");
    }

    fn close(self) {
        tell("closing");
        let next = self.next;
        drop(self.log);
        tell(format_args!("durable {next}"));
        tell("synced");
    }
}

/// A named value, some longer than sled keeps in one piece.
pub(crate) fn value(name: &str, version: u64) -> Vec<u8> {
    let len = if version.is_multiple_of(7) { 9000 } else { 24 };
    let seed = version.to_le_bytes().into_iter().chain(name.bytes());
    seed.cycle().take(len).collect()
}

fn run_agent(program: Program, dir: &Path, random: &mut Random) {
    let mut version = 0;
    for opening in 0..4 {
        if opening == 2 {
            // Nothing in it is needed, and from now on it is another one.
            tell("forget");
            std::fs::remove_dir_all(dir.join("log/state")).unwrap();
        }
        let mut log = Telling::open(program, dir);
        for step in 0..40 {
            for _ in 0..=random.below(9) {
                let class = if random.below(4) == 0 {
                    Class::Alert
                } else {
                    Class::Telemetry
                };
                let len = if random.below(12) == 0 { 900 } else { 60 };
                log.append_own(class, 1 + random.below(6), len);
            }
            if random.below(3) == 0 {
                log.wait();
            }
            if step % 4 == 1 {
                version += 1;
                log.store(["a", "b", "c"][random.below(3) as usize], version);
            }
            if step % 9 == 5 {
                log.sync();
            }
            if step % 6 == 3 {
                log.trim(log.log.wal.durable().0.saturating_sub(random.below(80)));
            }
            if random.below(6) == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        log.close();
    }
}

fn run_bus(dir: &Path, keys: &Path, random: &mut Random) {
    let mut agents: Vec<_> = (0..AGENTS)
        .map(|agent| {
            let signer = FileSigner::open(agent_key(keys, agent)).unwrap();
            let epoch = Epoch {
                counter: 0,
                random: u128::from(agent) + 1,
            };
            Sealer::new(format!("a{agent}"), epoch, Arc::new(signer))
        })
        .collect();
    for opening in 0..3 {
        let mut log = Telling::open(Program::Bus, dir);
        for step in 0..100_u64 {
            for _ in 0..=random.below(6) {
                // Some agents speak seldom: their records are deleted long before the next one comes.
                let agent = random.below(AGENTS).min(random.below(AGENTS));
                let sealer = &mut agents[agent as usize];
                let class = if random.below(5) == 0 {
                    Class::Alert
                } else {
                    Class::Telemetry
                };
                let (from, events) = (sealer.head(class).next.0, 1 + random.below(8));
                let stream = StreamId {
                    agent: sealer.agent().clone(),
                    epoch: sealer.epoch(),
                    class,
                };
                let record = seal(sealer, class, from, events, 100);
                log.append(record, &stream, from + events);
            }
            if random.below(2) == 0 {
                log.wait();
            }
            if step % 10 == 7 {
                log.store(&format!("subscriber {}", random.below(4)), opening * 100 + step);
            }
            if step % 25 == 9 {
                log.sync();
            }
            if log.log.wal.used_bytes() > 128 << 10 {
                let kept = 60 + random.below(60);
                log.trim(log.log.wal.durable().0.saturating_sub(kept));
            }
        }
        log.close();
    }
}

fn run_large(dir: &Path, random: &mut Random) {
    for _ in 0..2 {
        let mut log = Telling::open(Program::Large, dir);
        for step in 0..36 {
            log.append_own(Class::Telemetry, 256, 1100 + random.below(50) as usize);
            log.wait();
            if step == 30 {
                log.trim(log.next - 5);
            }
        }
        log.close();
    }
}

fn run_fork(dir: &Path, random: &mut Random) {
    let mut log = Telling::open(Program::Fork, dir);
    let mut shared = BTreeMap::new();
    for batch in 0..40 {
        for class in [Class::Telemetry, Class::Alert] {
            log.append_own(class, 1 + random.below(5), 80);
            if batch == 20 {
                shared.insert(class, log.log.sealer.head(class));
            }
        }
    }
    let old = log.log.epoch();
    log.close();

    let mut lines = format!("amoskys fork 1\nold {old}\n");
    for (class, head) in &shared {
        lines += &format!("shared {class} {} {}\n", head.next, head.digest);
    }
    for (class, head) in &shared {
        lines += &format!("bus {class} {} {}\n", head.next.0 + 3, head.digest);
    }
    lines += &format!("{:08x}\n", crc32fast::hash(lines.as_bytes()));
    put_durably(&dir.join("log"), "fork", lines.as_bytes());
    let ends = shared
        .iter()
        .map(|(class, head)| format!("{class} {}", head.next));
    tell(format_args!("fork {}", ends.collect::<Vec<_>>().join(" ")));

    let mut log = Telling::open(Program::Fork, dir);
    for _ in 0..10 {
        log.append_own(Class::Telemetry, 2, 80);
        log.wait();
    }
    log.close();
}

fn run_shed(dir: &Path, random: &mut Random) {
    for _ in 0..2 {
        let mut log = Telling::open(Program::Shed, dir);
        for _ in 0..120 {
            // As a pipeline does when there is no room; what is not durable is not given up.
            while log.log.wal.used_bytes() > SHED_BUDGET - SHED_BUDGET / 8 {
                log.wait();
                if !log.log.wal.shed().unwrap() {
                    break;
                }
            }
            let class = match random.below(20) {
                0 => Class::Alert,
                1..8 => Class::Bulk,
                _ => Class::Telemetry,
            };
            log.append_own(class, 1 + random.below(5), 150);
            if random.below(3) > 0 {
                log.wait();
            }
        }
        log.close();
    }
}

fn run_rotate(dir: &Path, random: &mut Random) {
    for opening in 0..3 {
        let mut log = Telling::open(Program::Rotate, dir);
        for step in 0..12 {
            for _ in 0..random.below(4) {
                log.append_own(Class::Telemetry, 1 + random.below(4), 100);
            }
            if step % 4 == opening {
                // Where the hand-over stands, whoever looks at the records finds no event.
                let new = FileSigner::create(FileSigner::next_path(&dir.join("keys/agent.key"))).unwrap();
                log.log.rotate_key(Arc::new(new)).unwrap();
                log.next = log.log.wal.durable().0;
                tell(format_args!("durable {}", log.next));
            }
            log.append_own(Class::Alert, 1, 50);
            if random.below(2) == 0 {
                log.wait();
            }
        }
        log.close();
    }
}

fn put_durably(dir: &Path, name: &str, content: &[u8]) {
    let temporary = dir.join("fork.tmp");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .unwrap();
    file.write_all(content).unwrap();
    file.sync_all().unwrap();
    std::fs::rename(temporary, dir.join(name)).unwrap();
    File::open(dir).unwrap().sync_all().unwrap();
}
