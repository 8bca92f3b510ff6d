//! Which envelopes are in the log already: the keys of the newest, in memory and in files.
//!
//! Keys are kept in generations, each a set in memory and a file. When there are too many, or the window is over, the
//! oldest generation is forgotten as a whole, and then nothing of an agent is taken any more that is not newer than the
//! newest of it that was forgotten: so nothing is ever stored twice. What an agent that was away for long has kept is
//! newer than that, and is taken.
//!
//! Files are written once a second, and only about what is durable in the log. What was put into the log since is read
//! there when the index is opened.

mod file;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use amoskys_core::{Epoch, Name, Offset};

use self::file::{Chunk, KeyFile, Loaded};

/// What an envelope is known by: its event's id.
pub(crate) type Key = u128;

/// A key is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        // The half that is not drawn upon for anything else.
        self.0 = (key >> 64) as u64;
    }
}

type Keys = HashSet<Key, BuildHasherDefault<Hashed>>;
/// Newest time of each agent.
type Times = BTreeMap<Name, u64>;

struct Generation {
    keys: Keys,
    newest: Times,
    number: u64,
}

/// See above.
pub(crate) struct Index {
    dir: PathBuf,
    epoch: Epoch,
    /// The last is being filled.
    generations: VecDeque<Generation>,
    /// Keys of a generation, and how many generations there may be.
    limit: (usize, usize),
    /// What is not newer was forgotten, by agent.
    floors: Times,
    /// … and of all agents.
    floor: u64,
    file: Option<KeyFile>,
    pending: Chunk,
    floors_changed: bool,
    /// Records of the log below are in the files.
    covered: Offset,
    /// … and these in memory.
    known: Offset,
    /// When that was last written.
    noted: Instant,
}

/// Bytes a key takes in memory: itself and its share of a table that is filled to seven eighths.
const SLOT: u64 = 17;
/// How often it is noted how far the log was read, if there is nothing else.
const NOTE: Duration = Duration::from_secs(20);
/// Another file is begun when one has this much that is no keys.
const LARGE: u64 = 8 << 20;
/// Keys that may wait to be written. Beyond it nothing is taken until the disk has room again.
const MAX_PENDING: usize = 1 << 17;

impl Index {
    /// Reads what there is in a directory, or begins anew. `bytes` bounds the memory, and the files are smaller.
    pub(crate) fn open(dir: &Path, epoch: Epoch, bytes: u64) -> io::Result<Self> {
        crate::wal::create_dir(dir).map_err(io::Error::other)?;
        let slots = (bytes / SLOT / 8).max(1 << 10);
        // The largest power of two that is not larger.
        let slots = 1_u64 << (63 - slots.leading_zeros());
        let count = usize::try_from(bytes / SLOT / slots).unwrap_or(usize::MAX).max(2);
        let keys = usize::try_from(slots / 8 * 7).unwrap_or(usize::MAX);
        let mut index = Self {
            dir: dir.to_owned(),
            epoch,
            generations: VecDeque::new(),
            limit: (keys, count),
            floors: Times::new(),
            floor: 0,
            file: None,
            pending: Chunk::default(),
            floors_changed: false,
            covered: Offset(0),
            known: Offset(0),
            noted: Instant::now(),
        };
        let Loaded { files, last } = file::load(dir, epoch)?;
        for (number, chunks) in files {
            index.begin(number);
            for chunk in chunks {
                index.covered = Offset(chunk.covered).max(index.covered);
                for (agent, floor) in chunk.floors {
                    index.raise_floor(&agent, floor);
                }
                if let Some(generation) = index.generations.back_mut() {
                    generation.keys.extend(chunk.keys);
                    for (agent, newest) in chunk.newest {
                        raise(&mut generation.newest, &agent, newest);
                    }
                }
            }
        }
        index.file = last;
        index.known = index.covered;
        Ok(index)
    }

    /// Whether this is in the log already.
    pub(crate) fn contains(&self, key: Key) -> bool {
        // Most that come again do so soon.
        let mut generations = self.generations.iter().rev();
        generations.any(|generation| generation.keys.contains(&key))
    }

    /// What an agent sends must be newer than this.
    pub(crate) fn floor(&self, agent: &Name) -> u64 {
        self.floors.get(agent).copied().unwrap_or(0).max(self.floor)
    }

    /// Nothing that is not newer than this is taken any more: some of it may have been forgotten.
    pub(crate) fn raise_floor_of_all(&mut self, floor: u64) {
        self.raise_floor(&Name::default(), floor);
        self.floors_changed = true;
    }

    /// This is in the log.
    pub(crate) fn insert(&mut self, key: Key, agent: &Name, time: u64) {
        let large = self.limit.0 as u64 * 16 + LARGE;
        let is_large = self.file.as_ref().is_some_and(|file| file.len() > large);
        let full = |generation: &Generation| generation.keys.len() >= self.limit.0 || is_large;
        if self.generations.back().is_none_or(full) {
            let number = self.generations.back().map_or(0, |last| last.number + 1);
            self.begin(number);
        }
        if let Some(generation) = self.generations.back_mut()
            && generation.keys.insert(key)
        {
            raise(&mut generation.newest, agent, time);
            self.pending.keys.push((generation.number, key));
            raise(
                self.pending.newest.entry(generation.number).or_default(),
                agent,
                time,
            );
        }
    }

    /// Everything in the log below this was inserted.
    pub(crate) fn covers(&mut self, to: Offset) {
        self.known = self.known.max(to);
    }

    /// Records of the log from here on must stay: the files do not know them.
    pub(crate) fn covered(&self) -> Offset {
        self.covered
    }

    /// Whether too much waits to be written.
    pub(crate) fn is_stuck(&self) -> bool {
        self.pending.keys.len() >= MAX_PENDING
    }

    /// Whether there is something to write.
    fn is_unsaved(&self) -> bool {
        !self.pending.keys.is_empty() || self.floors_changed || self.is_behind()
    }

    /// Whether others wrote so much into the log that it is worth noting that nothing of it was missed.
    fn is_behind(&self) -> bool {
        self.known > self.covered && self.noted.elapsed() >= NOTE
    }

    /// Keys in memory.
    pub(crate) fn len(&self) -> usize {
        self.generations
            .iter()
            .map(|generation| generation.keys.len())
            .sum()
    }

    /// Forgets what is too old or too much, and writes what is new. What is inserted must be durable in the log.
    /// After an error everything is as it was, and can be tried again.
    pub(crate) fn save(&mut self, oldest: u64) -> io::Result<()> {
        let mut forgotten = Vec::new();
        while self.generations.len() > 1 {
            let Some(first) = self.generations.front() else {
                break;
            };
            let is_over = first.newest.values().all(|newest| *newest < oldest);
            if !is_over && self.generations.len() <= self.limit.1 {
                break;
            }
            let Some(first) = self.generations.pop_front() else {
                break;
            };
            for (agent, newest) in &first.newest {
                self.raise_floor(agent, newest.saturating_add(1));
            }
            self.floors_changed = true;
            forgotten.push(first.number);
        }
        self.write()?;
        for number in forgotten {
            // What stays is deleted when the index is opened next.
            if let Err(error) = file::remove(&self.dir, number) {
                tracing::warn!(%error, "a file of idempotency keys that are no longer needed cannot be removed");
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.is_unsaved() {
            return Ok(());
        }
        let newest = self.generations.back().map_or(0, |last| last.number);
        let mut numbers: Vec<u64> = self.pending.keys.iter().map(|(number, _)| *number).collect();
        numbers.dedup();
        if numbers.last() != Some(&newest) {
            numbers.push(newest);
        }
        for number in &numbers {
            let is_last = *number == newest;
            let is_new = self.file.as_ref().is_none_or(|file| file.number != *number);
            if is_new {
                if self.file.as_ref().is_some_and(|file| file.number > *number) {
                    // Written in an earlier try.
                    continue;
                }
                self.file = Some(KeyFile::create(&self.dir, *number, self.epoch)?);
            }
            let Some(file) = &mut self.file else { break };
            // A file begins with all floors, so that older ones can go.
            let mut floors: Times = match is_new || self.floors_changed {
                true => self.floors.clone(),
                false => Times::new(),
            };
            if (is_new || self.floors_changed) && self.floor > 0 {
                floors.insert(Name::default(), self.floor);
            }
            let keys = self.pending.keys.iter().filter(|(of, _)| of == number);
            let keys: Vec<Key> = keys.map(|(_, key)| *key).collect();
            let none = Times::new();
            let times = self.pending.newest.get(number).unwrap_or(&none);
            // Only the last chunk says that all is there.
            let covered = if is_last { self.known } else { self.covered };
            file.append(covered, &floors, times, &keys)?;
        }
        self.pending = Chunk::default();
        self.floors_changed = false;
        self.covered = self.known;
        self.noted = Instant::now();
        Ok(())
    }

    fn begin(&mut self, number: u64) {
        self.generations.push_back(Generation {
            keys: Keys::default(),
            newest: Times::new(),
            number,
        });
    }

    fn raise_floor(&mut self, agent: &Name, floor: u64) {
        match agent.as_str() {
            "" => self.floor = self.floor.max(floor),
            _ => raise(&mut self.floors, agent, floor),
        }
    }
}

fn raise(times: &mut Times, agent: &Name, time: u64) {
    match times.get_mut(agent) {
        Some(known) => *known = (*known).max(time),
        None => {
            times.insert(agent.clone(), time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch {
        counter: 3,
        random: 7,
    };

    fn key(n: u64) -> Key {
        let hash = amoskys_core::Digest::of(&n.to_le_bytes()).0;
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        Key::from_le_bytes(key)
    }

    fn open(dir: &Path, bytes: u64) -> Index {
        Index::open(dir, EPOCH, bytes).unwrap()
    }

    /// The smallest there is: two generations of 896 keys.
    const SMALL: u64 = 0;

    #[test]
    fn what_was_saved_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Name::from("a"), Name::from("b"));
        let mut index = open(dir.path(), 1 << 20);
        for n in 0..5000 {
            index.insert(key(n), if n % 2 == 0 { &a } else { &b }, n);
            if n % 1000 == 999 {
                index.covers(Offset(n + 1));
                index.save(0).unwrap();
            }
        }
        index.insert(key(7777), &a, 9);
        drop(index);
        let index = open(dir.path(), 1 << 20);
        assert_eq!((index.len(), index.covered()), (5000, Offset(5000)));
        assert!((0..5000).all(|n| index.contains(key(n))));
        assert!(!index.contains(key(7777)), "it was not saved");
        assert_eq!(index.floor(&a), 0);
    }

    #[test]
    fn what_is_forgotten_moves_the_floor_of_its_agent_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (busy, away) = (Name::from("busy"), Name::from("away"));
        let mut index = open(dir.path(), SMALL);
        index.insert(key(0), &away, 100);
        for n in 1..10_000 {
            index.insert(key(n), &busy, 1000 + n);
            if n % 500 == 0 {
                index.save(0).unwrap();
            }
        }
        index.save(0).unwrap();
        assert!(index.len() <= 2 * 896, "{}", index.len());
        assert_eq!(index.floor(&away), 101);
        let floor = index.floor(&busy);
        assert!(floor > 9000, "{floor}");
        // Everything above the floor is known.
        assert!((floor - 1000..10_000).all(|n| index.contains(key(n))));
        drop(index);
        let index = open(dir.path(), SMALL);
        assert_eq!((index.floor(&away), index.floor(&busy)), (101, floor));
        assert!((floor - 1000..10_000).all(|n| index.contains(key(n))));
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert!(files <= 2, "{files} files");
    }

    #[test]
    fn the_window_forgets_too() {
        let dir = tempfile::tempdir().unwrap();
        let a = Name::from("a");
        let mut index = open(dir.path(), 1 << 16);
        for n in 0..1500 {
            index.insert(key(n), &a, n);
        }
        index.save(900).unwrap();
        assert!(
            index.floor(&a) > 0 && index.floor(&a) <= 900,
            "{}",
            index.floor(&a)
        );
    }

    #[test]
    fn another_epoch_is_another_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = open(dir.path(), 1 << 16);
        index.insert(key(1), &"a".into(), 1);
        index.covers(Offset(1));
        index.save(0).unwrap();
        let other = Epoch {
            counter: 4,
            random: 8,
        };
        let index = Index::open(dir.path(), other, 1 << 16).unwrap();
        assert_eq!((index.len(), index.covered()), (0, Offset(0)));
    }

    #[test]
    fn a_file_that_is_cut_or_altered_anywhere_gives_what_is_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = open(dir.path(), 1 << 16);
        for n in 0..40 {
            index.insert(key(n), &"agent".into(), n);
            index.covers(Offset(n + 1));
            index.save(0).unwrap();
        }
        drop(index);
        let path = std::fs::read_dir(dir.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let whole = std::fs::read(&path).unwrap();
        for at in (0..64).chain((64..whole.len()).step_by(61)) {
            for altered in [false, true] {
                let mut bytes = whole.clone();
                match altered {
                    true => bytes[at] ^= 0x20,
                    false => bytes.truncate(at),
                }
                std::fs::write(&path, &bytes).unwrap();
                let mut index = open(dir.path(), 1 << 16);
                let covered = index.covered().0;
                assert!(
                    (0..40).all(|n| index.contains(key(n)) == (n < covered)),
                    "at {at}"
                );
                // And it goes on from there.
                index.insert(key(1000), &"agent".into(), 1000);
                index.covers(Offset(covered + 1));
                index.save(0).unwrap();
                drop(index);
                let index = open(dir.path(), 1 << 16);
                assert!(index.contains(key(1000)), "at {at}");
                assert_eq!(index.covered().0, covered + 1);
                for entry in std::fs::read_dir(dir.path()).unwrap() {
                    std::fs::remove_file(entry.unwrap().path()).unwrap();
                }
            }
        }
    }
}
