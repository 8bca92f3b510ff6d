//! How fast and how well are edges scored, beside MIDAS and MIDAS-R?
//!
//! All score the same stream on the same core, in turns: from an empty state, one pass, one score for each edge. The peer is
//! the Rust port of MIDAS (`midas_rs`), with two rows of 1,024 buckets as its authors measure it; the C++ of the authors is
//! another program, and faster. A time is that of the processor, which what else runs does not lengthen; the ratio is the median of the
//! rounds, each of which compares what ran one right after the other, with the lowest and the highest beside it.
//!
//! ```text
//! cargo bench -p amoskys-benches --bench compare_edges -- [--quick] [--rounds N]
//! ```
//!
//! With `AMOSKYS_DATA` the stream is the recorded one of `graph/`. The area under the ROC curve, of all edges and on the mean of the
//! types of attack, says how well it is judged. Without, it is a made stream in which nearly every pair of hosts is new, with one
//! attack: a flood that comes back every ten minutes.

#[path = "edges/streams.rs"]
mod streams;

use std::error::Error;

use amoskys_analysis::eval::auroc;
use amoskys_analysis::graph::{EdgeParams, EdgeScorer, Role};
use amoskys_benches::rounds::{is_quick, option, print_ratio};
use midas_rs::{Midas, MidasParams, MidasR, MidasRParams};
use rustix::time::{ClockId, clock_gettime};

use self::streams::{Edge, Stream, made, recorded};

const BUCKETS: u64 = 1_024;

type Score = fn(&[Edge]) -> Result<Vec<f64>, Box<dyn Error>>;

/// A way to score a stream, and what became of it.
struct Entry {
    name: &'static str,
    score: Score,
    seconds: Vec<f64>,
    scores: Vec<f64>,
}

/// The first is ours, with its defaults.
const ENTRIES: [(&str, Score); 4] = [
    ("edges", |edges| ours(edges, Role::Source)),
    ("edges_either", |edges| ours(edges, Role::Either)),
    ("midas", |edges| {
        let mut midas = Midas::new(MidasParams {
            buckets: BUCKETS,
            ..MidasParams::default()
        });
        Ok(edges.iter().map(|edge| midas.insert(after_zero(*edge))).collect())
    }),
    ("midas_r", |edges| {
        let mut midas = MidasR::new(MidasRParams {
            buckets: BUCKETS,
            ..MidasRParams::default()
        });
        Ok(edges.iter().map(|edge| midas.insert(after_zero(*edge))).collect())
    }),
];

fn ours(edges: &[Edge], role: Role) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut scorer = EdgeScorer::new(&EdgeParams {
        role,
        ..EdgeParams::default()
    })?;
    let score =
        |&(source, destination, minute): &Edge| f64::from(scorer.score(source, destination, minute).value);
    Ok(edges.iter().map(score).collect())
}

/// The peer divides by the minute.
const fn after_zero((source, destination, minute): Edge) -> Edge {
    (source, destination, minute + 1)
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = if is_quick() { 3 } else { 11 };
    let rounds = option("--rounds").map_or(Ok(rounds), |number| number.parse())?;
    let stream = recorded().unwrap_or_else(|| made(1_000_000));
    let mut entries = ENTRIES.map(|(name, score)| Entry {
        name,
        score,
        seconds: Vec::new(),
        scores: Vec::new(),
    });
    // One round more than counted: the first takes memory from the system.
    for round in 0..=rounds {
        for entry in &mut entries {
            let start = processor_seconds();
            let scores = (entry.score)(&stream.edges)?;
            let seconds = processor_seconds() - start;
            if round > 0 {
                entry.seconds.push(seconds);
            }
            entry.scores = scores;
        }
    }
    report(&stream, &entries, rounds)
}

fn report(stream: &Stream, entries: &[Entry], rounds: u32) -> Result<(), Box<dyn Error>> {
    let edges = stream.edges.len();
    let share = stream.attacks.iter().filter(|attack| **attack != 0).count();
    println!(
        "{} stream: {edges} edges, {share} of them of attacks; one core; {rounds} rounds, in turns",
        stream.name
    );
    println!(
        "{:<14} {:>10} {:>9} {:>7} {:>7}  edges is faster by (from, to)",
        "scorer", "M edges/s", "ns/edge", "AUROC", "by type"
    );
    let ours = entries.first().ok_or("somebody scores")?;
    let mut ratios = Vec::new();
    for entry in entries {
        let mut seconds = entry.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        let each = middle(&seconds).ok_or("at least one round")? / edges as f64;
        let mut faster: Vec<f64> = entry
            .seconds
            .iter()
            .zip(&ours.seconds)
            .map(|(theirs, ours)| theirs / ours)
            .collect();
        faster.sort_by(f64::total_cmp);
        let (ratio, low, high) = (
            middle(&faster).ok_or("at least one round")?,
            faster[0],
            faster[faster.len() - 1],
        );
        let (area, by_type) = areas(&entry.scores, &stream.attacks).ok_or("honest edges and others")?;
        println!(
            "{:<14} {:>10.2} {:>9.1} {area:>7.4} {by_type:>7.4}  {ratio:.2} ({low:.2}, {high:.2})",
            entry.name,
            1e-6 / each,
            each * 1e9
        );
        ratios.push((entry.name, ratio));
    }
    println!();
    for (peer, ratio) in ratios.iter().filter(|(name, _)| name.starts_with("midas")) {
        print_ratio(ours.name, peer, *ratio);
    }
    Ok(())
}

/// Types with fewer edges do not count in the mean.
const FEWEST: usize = 10;

/// The area under the ROC curve: of all attacks, and the mean over their types, each against all honest edges.
fn areas(scores: &[f64], attacks: &[u16]) -> Option<(f64, f64)> {
    let area = |wanted: &dyn Fn(u16) -> bool| {
        let chosen = scores
            .iter()
            .zip(attacks)
            .filter(|(_, attack)| **attack == 0 || wanted(**attack));
        let (scores, labels): (Vec<f64>, Vec<bool>) =
            chosen.map(|(score, attack)| (*score, *attack != 0)).unzip();
        auroc(&scores, &labels)
    };
    let types = 1..=attacks.iter().copied().max()?;
    let common = types.filter(|kind| attacks.iter().filter(|attack| *attack == kind).count() >= FEWEST);
    let by_type: Vec<f64> = common.filter_map(|kind| area(&|attack| attack == kind)).collect();
    Some((
        area(&|_| true)?,
        by_type.iter().sum::<f64>() / by_type.len() as f64,
    ))
}

/// The median of sorted numbers.
fn middle(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() / 2).copied()
}

/// Seconds of the processor that this process has had.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
