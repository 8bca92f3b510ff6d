//! What an image must hold, by what the program had been told before the power was cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use amoskys_core::event::GapReason;
use amoskys_core::{Class, Offset, Open, Seq, Wal};
use amoskys_transport::verify::Verifier;
use amoskys_transport::{FileSigner, Log, RecordKind, SealedHeader, Signer};

use super::common::{event, read_all, seal};
use super::program::{OneKey, Program, trust, value};

/// A record that was appended.
#[derive(Clone, Debug)]
pub(crate) struct Appended {
    crc: u32,
    stream: String,
    next: u64,
}

/// What was said up to some moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) appended: BTreeMap<u64, Appended>,
    durable: u64,
    trimmed: u64,
    epochs: Vec<String>,
    /// Latest versions: the one that was synced, and the one that was stored.
    values: BTreeMap<String, (Option<u64>, u64)>,
    /// Where the old and the new streams part.
    fork: Option<BTreeMap<String, u64>>,
    /// Whether the log was opened after that.
    forked: bool,
}

impl Told {
    pub(crate) fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["append", offset, crc, next, stream] => {
                let appended = Appended {
                    crc: u32::from_str_radix(crc, 16).unwrap(),
                    stream: stream.to_owned(),
                    next: next.parse().unwrap(),
                };
                self.appended.insert(offset.parse().unwrap(), appended);
            }
            ["durable", offset] => self.durable = self.durable.max(offset.parse().unwrap()),
            ["trim", offset] => self.trimmed = self.trimmed.max(offset.parse().unwrap()),
            ["open", epoch] => {
                self.forked |= self.fork.is_some();
                self.epochs.push(epoch.to_owned());
            }
            ["store", .., version] => {
                let name = words[1..words.len() - 1].join(" ");
                self.values.entry(name).or_default().1 = version.parse().unwrap();
            }
            ["synced"] => {
                for (synced, stored) in self.values.values_mut() {
                    *synced = Some(*stored);
                }
            }
            ["forget"] => self.values.clear(),
            ["fork", ref ends @ ..] => {
                let ends = ends.chunks(2);
                self.fork = Some(
                    ends.map(|end| (end[0].to_owned(), end[1].parse().unwrap()))
                        .collect(),
                );
            }
            ["opening" | "closing"] => {}
            _ => panic!("{line:?} is not known"),
        }
    }
}

impl Told {
    /// Whether a log has all that was said to be durable.
    pub(crate) fn is_kept_by(&self, log: &Log) -> bool {
        let epoch = self.epochs.last();
        log.wal.durable().0 >= self.durable && epoch.is_none_or(|epoch| log.epoch().to_string() == *epoch)
    }
}

/// Checks an image, with all the records that were ever appended in the run.
pub(crate) fn check(
    program: Program,
    dir: &Path,
    keys: &Path,
    told: &Told,
    appended: &BTreeMap<u64, Appended>,
) {
    // Half of what a crash leaves is no fault, but whatever it is, it is looked at without harm.
    let _ = Verifier::new(dir).run();
    let mut log = Log::open(dir, program.options()).unwrap();
    match program {
        Program::Fork => check_fork(&log, told),
        Program::Shed => check_shed(&log, told),
        _ => check_records(&log, told, appended),
    }
    if let Some(epoch) = told.epochs.last().filter(|_| program != Program::Fork) {
        assert_eq!(log.epoch().to_string(), *epoch, "the epoch stays");
    }
    for (name, (synced, stored)) in &told.values {
        let loaded = log.wal.load(name).unwrap();
        // Version 0 was never stored.
        let allowed = synced.unwrap_or(0)..=*stored;
        let fits = match &loaded {
            Some(loaded) => allowed
                .into_iter()
                .any(|version| value(name, version) == loaded[..]),
            None => synced.is_none(),
        };
        assert!(
            fits,
            "the value {name} is {loaded:?}, synced {synced:?}, stored {stored}"
        );
    }

    // It goes on from there.
    let class = Class::Audit;
    let from = log.sealer.head(class).next.0;
    let record = seal(&mut log.sealer, class, from, 2, 50);
    let offset = log.wal.append(record.clone()).unwrap();
    log.wal.wait_durable(offset).unwrap();
    log.wal.store("last", b"value").unwrap();
    drop(log);
    let mut verifier = Verifier::new(dir);
    if program == Program::Encrypted {
        verifier = verifier.log_keys(Arc::new(OneKey));
    }
    if program == Program::Bus {
        let own = FileSigner::open(dir.join("keys/agent.key")).unwrap();
        verifier = verifier.trust(trust(keys).allow("bus", own.public_key()));
    }
    let report = verifier.run().unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.gaps.is_empty() || program == Program::Shed, "{report}");
    let log = Log::open(dir, program.options()).unwrap();
    let (records, damaged) = read_all(&log);
    assert!(damaged.is_empty());
    assert_eq!(records.last(), Some(&(offset, record)));
    assert_eq!(log.wal.load("last").unwrap().as_deref(), Some(&b"value"[..]));
}

fn check_records(log: &Log, told: &Told, appended: &BTreeMap<u64, Appended>) {
    let (first, durable) = (log.wal.first().0, log.wal.durable().0);
    assert!(
        durable >= told.durable,
        "{} was durable, and the log ends at {durable}",
        told.durable
    );
    assert!(
        first <= told.trimmed,
        "the log begins at {first}, and was trimmed to {}",
        told.trimmed
    );
    let (records, damaged) = read_all(log);
    assert!(damaged.is_empty(), "damaged: {damaged:?}");
    let mut expected = first;
    for (offset, record) in &records {
        assert_eq!(offset.0, expected, "each record once, in order");
        expected += 1;
        if SealedHeader::parse(record).unwrap().kind == RecordKind::HandOver {
            // The log's own: also one that it was opened with, to go on with what was begun.
            continue;
        }
        let appended = &appended[&offset.0];
        assert_eq!(crc32fast::hash(record), appended.crc, "record {offset}");
        let header = SealedHeader::parse(record).unwrap();
        assert_eq!(header.last().0 + 1, appended.next);
        let opened = log.opener.open(record).unwrap();
        for recorded in opened.into_recorded() {
            assert_eq!(recorded.event.id.ordinal, recorded.seq.0);
        }
    }
    assert_eq!(expected, durable, "everything below the end can be read");
    // Where each stream has come to is known, also of those whose records were all deleted.
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for (offset, appended) in appended.range(..durable) {
        let at = records.binary_search_by_key(offset, |(offset, _)| offset.0);
        if at.is_ok_and(|at| crc32fast::hash(&records[at].1) != appended.crc) {
            // Lost, and a hand-over stands there.
            continue;
        }
        ends.insert(&appended.stream, appended.next);
    }
    let mut heads = log.heads();
    heads.retain(|stream, _| stream.class != Class::Audit);
    let heads = heads.iter().map(|(stream, head)| (stream.to_string(), head.next));
    let heads: BTreeMap<_, _> = heads.filter(|(_, next)| *next != Seq(0)).collect();
    let ends: BTreeMap<_, _> = ends
        .into_iter()
        .map(|(stream, next)| (stream.to_owned(), Seq(next)))
        .collect();
    assert_eq!(heads, ends);
}

/// In every stream each event is there or in a gap, in order, up to what was durable; and alerts are never given up.
fn check_shed(log: &Log, told: &Told) {
    let (records, damaged) = read_all(log);
    assert!(damaged.is_empty(), "damaged: {damaged:?}");
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for (_, record) in &records {
        let opened = log.opener.open(record).unwrap();
        let class = opened.stream.class;
        let next = next.entry(opened.stream.to_string()).or_default();
        assert_eq!(opened.first.0, *next, "{class}");
        *next = opened.last.0 + 1;
        if let Some(gap) = &opened.gap {
            assert!(gap.reason == GapReason::Shed && class.may_be_shed(), "{gap:?}");
            continue;
        }
        for recorded in opened.into_recorded() {
            assert_eq!(recorded.event, event(recorded.seq.0, class, 150));
        }
    }
    for appended in told.appended.range(..told.durable).map(|(_, appended)| appended) {
        let there = next.get(&appended.stream).copied().unwrap_or(0);
        assert!(there >= appended.next, "{} ends at {there}", appended.stream);
    }
    for class in [Class::Bulk, Class::Telemetry, Class::Alert] {
        let ours = next.iter().find(|(stream, _)| stream.contains(class.as_str()));
        assert_eq!(log.sealer.head(class).next.0, ours.map_or(0, |(_, next)| *next));
    }
}

/// Whatever the moment: what the bus does not have is in the new epoch once, in order, if there is a new epoch.
fn check_fork(log: &Log, told: &Told) {
    let (records, damaged) = read_all(log);
    assert!(damaged.is_empty());
    let mut events: BTreeMap<(u32, Class), Vec<u64>> = BTreeMap::new();
    let mut audit = 0;
    for (_, record) in &records {
        let opened = log.opener.open(record).unwrap();
        let (epoch, class) = (opened.stream.epoch, opened.stream.class);
        for recorded in opened.into_recorded() {
            let ordinal = recorded.event.id.ordinal;
            if class == Class::Audit {
                audit += 1;
                continue;
            }
            assert_eq!(recorded.event, event(ordinal, class, 80));
            events.entry((epoch.counter, class)).or_default().push(ordinal);
        }
    }
    let counter = log.epoch().counter;
    if told.fork.is_some() {
        assert_eq!(counter, 1, "the note was durable, and is acted upon");
    }
    // What was told durable of the old epoch; of the new one, only what was appended after it was begun.
    let mut old: BTreeMap<Class, u64> = BTreeMap::new();
    let mut new = old.clone();
    for (_, appended) in told.appended.range(..told.durable) {
        let class = if appended.stream.contains("alert") {
            Class::Alert
        } else {
            Class::Telemetry
        };
        let is_old = told
            .epochs
            .first()
            .is_some_and(|epoch| appended.stream.ends_with(epoch));
        if is_old { &mut old } else { &mut new }.insert(class, appended.next);
    }
    for class in [Class::Telemetry, Class::Alert] {
        let there = events.get(&(0, class)).map_or(0, Vec::len) as u64;
        assert!(there >= old.get(&class).copied().unwrap_or(0));
        let numbers = events.get(&(0, class)).cloned().unwrap_or_default();
        assert_eq!(numbers, (0..there).collect::<Vec<_>>());
        let again = events.get(&(1, class)).cloned().unwrap_or_default();
        assert!(again.len() as u64 >= new.get(&class).copied().unwrap_or(0));
        let Some(fork) = told.fork.as_ref().filter(|_| counter == 1) else {
            continue;
        };
        let shared = fork[class.as_str()];
        let resealed = (there - shared) as usize;
        assert_eq!(again[..resealed], (shared..there).collect::<Vec<_>>());
        // What the program sealed itself is numbered by the new stream.
        let own: Vec<_> = (resealed as u64..again.len() as u64).collect();
        assert_eq!(again[resealed..], own);
        assert_eq!(log.sealer.head(class).next, Seq(again.len() as u64));
    }
    if counter == 1 {
        assert!(audit > 0, "the new epoch says why");
    }
    assert!(!told.forked || counter == 1);
    assert!(log.wal.durable() >= Offset(told.durable));
}
