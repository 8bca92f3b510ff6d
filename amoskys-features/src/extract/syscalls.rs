use amoskys_core::event::Entity;
use serde::{Deserialize, Serialize};

use super::calls::{CATEGORIES, Category, KEY_CALLS, category, key_call};
use super::catalog::{Catalog, Feature, Reads};
use super::fact::Fact;
use super::parts::count;
use super::process_tracker::process_entity;
use crate::aggregate::{Aggregate, Distinct, Frequencies, Merged, Moments, Quantiles, aggregate, ratio};
use crate::hash::KeyHash;

/// Features of the system calls of a process: which, in what order, and how unusual for the program. The entity is
/// [`Entity::Named`] by device, program and process id, as in `web-1/nginx[812]`.
pub struct Syscalls;

type F = Feature<SyscallAggregate>;

/// Sequences of three calls are hashed into so many buckets, and counted.
const BUCKETS: usize = 32;

aggregate! {
    /// What is kept for the system calls of a process.
    pub struct SyscallAggregate {
        events: u64,
        calls: Frequencies,
        pairs: Frequencies,
        triples: Frequencies,
        buckets: Counts<BUCKETS>,
        categories: Counts<CATEGORIES>,
        keys: Counts<KEY_CALLS>,
        threads: Distinct,
        surprise: Moments,
        surprises: Quantiles,
        rare: u64,
        new_triples: u64,
        repeats: u64,
        returned: u64,
        failed: u64,
        run_lengths: Moments,
    }
}

/// A counter each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
struct Counts<const N: usize>([u64; N]);

impl<const N: usize> Counts<N> {
    fn add(&mut self, at: usize) {
        if let Some(counter) = self.0.get_mut(at) {
            *counter = counter.saturating_add(1);
        }
    }

    /// The share of one counter in all; 0 if there is nothing.
    fn share(&self, at: usize) -> f64 {
        ratio(
            self.0.get(at).copied().unwrap_or(0),
            self.0.iter().fold(0, |all, n| all.saturating_add(*n)),
        )
    }
}

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Aggregate for Counts<N> {
    type Sliding = Merged;

    fn merge(&mut self, later: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&later.0) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}

impl<const N: usize> TryFrom<Vec<u64>> for Counts<N> {
    type Error = &'static str;

    fn try_from(counts: Vec<u64>) -> Result<Self, Self::Error> {
        counts.try_into().map(Self).map_err(|_| "not as many counters")
    }
}

impl<const N: usize> From<Counts<N>> for Vec<u64> {
    fn from(counts: Counts<N>) -> Self {
        counts.0.to_vec()
    }
}

impl Catalog for Syscalls {
    type Aggregate = SyscallAggregate;

    const NAME: &'static str = "syscall";
    const READS: Reads = Reads::Syscalls;

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        match fact {
            Fact::Syscalls { device, record, .. } => {
                Some(process_entity(device, &record.command, record.pid))
            }
            _ => None,
        }
    }

    fn add(kept: &mut SyscallAggregate, fact: &Fact<'_>) {
        let Fact::Syscalls { record, calls, .. } = fact else {
            return;
        };
        kept.events += 1;
        kept.threads.add(KeyHash::of_number(u64::from(record.tid)));
        kept.new_triples += calls.new_trigrams;
        if let Some(value) = record.return_value {
            kept.returned += 1;
            kept.failed += u64::from(value < 0);
        }
        for &surprise in &calls.surprises {
            kept.surprise.add(surprise);
            kept.surprises.add(surprise);
            kept.rare += u64::from(surprise > 8.0);
        }
        let hash = |number: u32| KeyHash::of_number(u64::from(number));
        for &number in &record.numbers {
            kept.calls.add(hash(number));
            kept.categories
                .add(category(&record.architecture, number).map_or(usize::MAX, |found| found as usize));
            kept.keys
                .add(key_call(&record.architecture, number).unwrap_or(usize::MAX));
        }
        for pair in record.numbers.windows(2) {
            kept.pairs.add(hash(pair[0]).and(hash(pair[1])));
            kept.repeats += u64::from(pair[0] == pair[1]);
        }
        for triple in record.numbers.windows(3) {
            let triple = hash(triple[0]).and(hash(triple[1])).and(hash(triple[2]));
            kept.triples.add(triple);
            kept.buckets.add((triple.0 % BUCKETS as u64) as usize);
        }
        for run in record.numbers.chunk_by(|a, b| a == b) {
            kept.run_lengths.add(count(run.len() as u64));
        }
    }

    fn features() -> Vec<Feature<SyscallAggregate>> {
        let mut features = order();
        features.extend(kinds());
        features.extend(buckets());
        features
    }
}

fn order() -> Vec<F> {
    vec![
        F::new("events", "", "runs of calls reported", |w| count(w.events)),
        F::new("calls", "", "system calls", |w| count(w.calls.total())),
        F::new("distinct_calls", "", "distinct system calls", |w| w.calls.distinct()),
        F::new("call_entropy", "bit", "entropy of the system calls", |w| w.calls.entropy()),
        F::new("call_evenness", "", "call_entropy in units of the largest possible", |w| w.calls.evenness()).within(0.0, 1.0),
        F::new("call_top_share", "", "share of the commonest system call", |w| w.calls.top_share()),
        F::new("distinct_pairs", "", "distinct sequences of two calls within a run", |w| w.pairs.distinct()),
        F::new("pair_entropy", "bit", "entropy of the sequences of two calls", |w| w.pairs.entropy()),
        F::new("pair_top_share", "", "share of the commonest sequence of two calls", |w| w.pairs.top_share()),
        F::new("distinct_triples", "", "distinct sequences of three calls within a run", |w| w.triples.distinct()),
        F::new("triple_entropy", "bit", "entropy of the sequences of three calls", |w| w.triples.entropy()),
        F::new("triple_top_share", "", "share of the commonest sequence of three calls", |w| w.triples.top_share()),
        F::new("new_triples", "", "sequences of three calls that the program had not made before", |w| count(w.new_triples)),
        F::new("new_triple_ratio", "", "new_triples / calls", |w| ratio(w.new_triples, w.calls.total())),
        F::new("surprise_mean", "bit", "mean of -log2 of the probability of a call after the one before, as learnt from the program so far; NaN without", |w| {
            w.surprise.mean()
        })
        .within(0.0, 64.0),
        F::new("surprise_max", "bit", "largest surprise; NaN without", |w| w.surprise.max()).within(0.0, 64.0),
        F::new("surprise_p90", "bit", "nine tenths of the surprises are no larger; NaN without", |w| w.surprises.quantile(0.9))
            .within(0.0, 64.0),
        F::new("rare_ratio", "", "calls of probability below 1/256 after the one before / calls", |w| {
            ratio(w.rare, w.calls.total())
        }),
        F::new("repeat_ratio", "", "calls that repeat the one before / calls", |w| ratio(w.repeats, w.calls.total())),
        F::new("run_length_mean", "", "mean length of runs of the same call; NaN without", |w| w.run_lengths.mean()),
        F::new("run_length_max", "", "longest run of the same call; NaN without", |w| w.run_lengths.max()),
        F::new("threads", "", "distinct threads that made calls", |w| w.threads.count()),
        F::new("failed_ratio", "", "calls that returned an error / calls whose return value was observed", |w| {
            ratio(w.failed, w.returned)
        }),
    ]
}

/// The share of calls of a category, and of one call.
fn kinds() -> Vec<F> {
    macro_rules! categories {
        ($($name:literal $category:ident $of:literal,)*) => {
            vec![$(F::new(concat!($name, "_share"), "", concat!("calls that ", $of, " / calls of any category"), |w| {
                w.categories.share(Category::$category as usize)
            }),)*]
        };
    }
    macro_rules! keys {
        ($($at:literal $name:literal,)*) => {
            vec![$(F::new(concat!("calls_", $name), "", concat!("calls of ", $name, ", or its variants"), |w| {
                count(w.keys.0[$at])
            }),)*]
        };
    }
    let mut kinds = categories! {
        "file" File "open, close, name or change files",
        "data" Data "read or write data",
        "network" Network "use sockets",
        "process" Process "create, await, end or control processes",
        "memory" Memory "change memory",
        "signal" Signal "handle signals",
        "wait" Wait "wait or tell the time",
        "identity" Identity "ask for or change users, groups and capabilities",
        "system" System "change or ask for the state of the system",
        "channel" Channel "make or use pipes, queues and shared memory",
    };
    kinds.extend(keys! {
        0 "execve", 1 "clone", 2 "ptrace", 3 "mprotect", 4 "mmap", 5 "connect", 6 "accept", 7 "bind", 8 "setuid", 9 "kill",
        10 "open", 11 "unlink", 12 "chmod", 13 "rename", 14 "dup", 15 "ioctl", 16 "mount", 17 "module",
    });
    kinds
}

fn buckets() -> Vec<F> {
    macro_rules! buckets {
        ($($at:literal)*) => {
            vec![$(F::new(concat!("triples_", $at, "_share"), "", concat!("sequences of three calls whose hash is ", $at, " modulo 32 / all of them"), |w| {
                w.buckets.share($at)
            }),)*]
        };
    }
    buckets! { 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 }
}
