//! The rounds.

use std::error::Error;

use amoskys_benches::rounds::{is_quick, option, print_skip};
use amoskys_collectors::ebpf::CallStreams;

#[path = "link.rs"]
mod link;
#[path = "rate.rs"]
mod rate;
#[path = "watcher.rs"]
mod watcher;
#[path = "workload.rs"]
mod workload;

use watcher::{Bpftrace, Running, attached_calls};
use workload::{Compile, Workload};

/// What is measured, and how each pair of rounds came out.
struct Entry {
    name: &'static str,
    watcher: Watcher,
    ratios: Vec<f64>,
    calls: u64,
    lost: u64,
}

#[derive(Clone)]
enum Watcher {
    Sensor(CallStreams),
    Bpftrace(String),
}

impl Entry {
    fn new(name: &'static str, watcher: Watcher) -> Self {
        Self {
            name,
            watcher,
            ratios: Vec::new(),
            calls: 0,
            lost: 0,
        }
    }

    /// One pair: without, and with.
    fn round(&mut self, workload: &Workload) -> Result<(), Box<dyn Error>> {
        let alone = workload.run()?;
        let watched = match &self.watcher {
            Watcher::Sensor(streams) => {
                let sensor = Running::start(*streams)?;
                let watched = workload.run()?;
                let (calls, lost) = sensor.stop()?;
                (self.calls, self.lost) = (self.calls + calls, self.lost + lost);
                watched
            }
            Watcher::Bpftrace(script) => {
                let bpftrace = Bpftrace::start(script)?;
                let watched = workload.run()?;
                drop(bpftrace);
                watched
            }
        };
        self.ratios.push(watched.as_secs_f64() / alone.as_secs_f64());
        Ok(())
    }
}

pub(crate) fn compare() -> Result<(), Box<dyn Error>> {
    let only = option("--only");
    let wants = |part: &str| only.as_deref().is_none_or(|only| only == part);
    // Before anything else has used memory.
    if wants("memory") && !rate::memory()? {
        return Ok(());
    }
    let Some(calls) = attached_calls()? else {
        return Ok(());
    };
    let script = Bpftrace::script(&calls);
    if wants("dd") {
        let (count, pairs) = if is_quick() { (400_000, 5) } else { (4_000_000, 11) };
        let count: u64 = option("--count").map_or(Ok(count), |number| number.parse())?;
        let names = ["dd_security", "dd_histograms", "dd_sequences", "dd_bpftrace"];
        let what = format!("dd bs=1 count={count}");
        rounds(&what, names, &Workload::Dd(count), pairs, &script)?;
    }
    if wants("compile") {
        let (files, pairs) = if is_quick() { (6, 3) } else { (60, 11) };
        match Compile::new(files)? {
            Some(compile) => {
                let names = [
                    "compile_security",
                    "compile_histograms",
                    "compile_sequences",
                    "compile_bpftrace",
                ];
                let what = format!("compiling {files} files, two at a time");
                rounds(&what, names, &Workload::Compile(compile), pairs, &script)?;
            }
            None => print_skip("cc"),
        }
    }
    if wants("rate") {
        rate::measure()?;
    }
    if wants("link") {
        link::measure()?;
    }
    Ok(())
}

fn rounds(
    what: &str,
    names: [&'static str; 4],
    workload: &Workload,
    pairs: usize,
    script: &str,
) -> Result<(), Box<dyn Error>> {
    let [security, histograms, sequences, bpftrace] = names;
    let mut entries = vec![
        Entry::new(security, Watcher::Sensor(CallStreams::None)),
        Entry::new(histograms, Watcher::Sensor(CallStreams::Histograms)),
        Entry::new(sequences, Watcher::Sensor(CallStreams::Sequences)),
    ];
    if Bpftrace::is_there() {
        entries.push(Entry::new(bpftrace, Watcher::Bpftrace(script.to_owned())));
    } else {
        print_skip("bpftrace");
    }
    workload.run()?;
    for _ in 0..pairs {
        for entry in &mut entries {
            entry.round(workload)?;
        }
    }
    println!("\n{what}; median of {pairs} pairs, in turns");
    println!(
        "{:<18} {:>8} {:>8} {:>8} {:>12} {:>10}",
        "watched by", "median", "least", "most", "calls", "lost"
    );
    for entry in &mut entries {
        entry.ratios.sort_by(f64::total_cmp);
        let (least, most) = (entry.ratios[0], entry.ratios[entry.ratios.len() - 1]);
        println!(
            "{:<18} {:>8.3} {least:>8.3} {most:>8.3} {:>12} {:>10}",
            entry.name,
            middle(&entry.ratios),
            entry.calls,
            entry.lost
        );
    }
    println!();
    for entry in &entries {
        println!("overhead {} {:.3}", entry.name, middle(&entry.ratios));
    }
    Ok(())
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
