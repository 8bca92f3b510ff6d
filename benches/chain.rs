//! What does it cost from an event to a verdict: how many events a second does one core judge, how long does one wait, and where
//! does the time go?
//!
//! The laboratory's capture, repeated side by side with other addresses: hosts, flows and attacks grow with `--copies`, and so does
//! the number of windows that end at once. Cases:
//!
//! - `cold`: the three layers and fusion, without a baseline;
//! - `extract`: the feature windows of the standard extractor, all of them;
//! - `chain`: event, those windows that a baseline reads, three layers in its light, fusion, verdict;
//! - `vector`: the verdict on one feature vector.
//!
//! Times are those of the processor, which what else runs on the core does not lengthen; inputs are made before. A second pass
//! takes the time of each event, a few tenths of a microsecond of which are the clock's, and lets events arrive at 200,000 a second
//! that take so long: `wait` is from arrival to the end, behind those before. The digest is one of all verdicts: a change that is to
//! make it faster must leave it as it is.
//!
//! ```text
//! cargo bench -p amoskys-benches --bench chain -- [--quick] [--copies N] [--streams N] [--rounds N] [--only CASE]
//! ```

#[path = "chain/load.rs"]
mod load;

mod lab;

use std::error::Error;

use amoskys_analysis::{Baseline, BaselineBuilder, Detection, DetectionConfig};
use amoskys_benches::rounds::{is_quick, option};
use amoskys_core::{Analyzer, BoxExtractor, Digest, Extractor, Observation, Recorded};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
use amoskys_features::window::Limits;
use rustix::time::{ClockId, clock_gettime};

use self::load::Load;

/// Arrivals a second for which the wait is computed.
const ARRIVALS: f64 = 200_000.0;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test` runs benches to see that they start.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let number = |name: &str, usual: usize| option(name).map_or(Ok(usual), |value| value.parse());
    let copies = number("--copies", if is_test { 1 } else { 50 })?;
    let streams = number("--streams", 1)?;
    let rounds = number("--rounds", if is_quick() || is_test { 1 } else { 3 })?;
    let only = option("--only");
    let wanted = |case: &str| only.as_deref().is_none_or(|only| only == case);

    let base = lab::events();
    let load = Load::new(&base, copies, streams);
    let baseline = baseline(&base)?;
    println!(
        "{} events ({} flow records) of {copies} copies in {streams} streams, {:.0} s of their time",
        load.events.len(),
        load.flows,
        load.seconds
    );
    println!(
        "{:<8} {:>10} {:>8} {:>8} {:>9} {:>8} {:>9} {:>9}  what came out",
        "case", "events/s", "p50 µs", "p99 µs", "p99.9 µs", "max ms", "wait p99", "max ms"
    );
    for case in ["cold", "extract", "chain"] {
        if wanted(case) {
            measure(case, rounds, &load, &baseline)?;
        }
    }
    if wanted("vector") {
        vector(&load, &baseline)?;
    }
    Ok(())
}

/// Settings for as many hosts and flows as there are.
fn settings(load: &Load) -> Result<(DetectionConfig, Vec<BoxExtractor>), Box<dyn Error>> {
    let mut config = DetectionConfig::default();
    config.capacity.flows = config.capacity.flows.max(load.flows);
    config.capacity.hosts = config.capacity.hosts.max(load.copies * 64);
    config.capacity.pairs = config.capacity.pairs.max(load.copies * 1024);
    let extract = ExtractConfig {
        limits: Limits {
            max_entities: config.capacity.pairs,
            ..Limits::default()
        },
        ..ExtractConfig::default()
    };
    Ok((config, vec![Box::new(NetworkExtractor::standard(extract))]))
}

/// A baseline of the capture itself.
fn baseline(base: &[Recorded]) -> Result<Baseline, Box<dyn Error>> {
    let extractors: Vec<BoxExtractor> = vec![Box::new(NetworkExtractor::standard(ExtractConfig::default()))];
    let mut builder = BaselineBuilder::new(&DetectionConfig::default(), extractors)?;
    base.iter().for_each(|event| builder.observe(event));
    Ok(builder.finish())
}

/// What takes events one by one, and says in the end what came of them.
type Take = Box<dyn FnMut(Option<&Recorded>) -> Result<String, Box<dyn Error>>>;

fn taker(case: &str, load: &Load, baseline: &Baseline) -> Result<Take, Box<dyn Error>> {
    let (config, mut extractors) = settings(load)?;
    if case == "extract" {
        let (mut vectors, mut count) = (Vec::new(), 0);
        return Ok(Box::new(move |event| {
            let Some(event) = event else {
                return Ok(format!("{count} vectors"));
            };
            for extractor in &mut extractors {
                extractor.observe(event, &mut vectors);
            }
            count += vectors.len();
            vectors.clear();
            Ok(String::new())
        }));
    }
    let mut detection = Detection::new(config, extractors)?;
    if case == "chain" {
        detection = detection.with_baseline(baseline);
    }
    let mut verdicts = Vec::new();
    Ok(Box::new(move |event| {
        if let Some(event) = event {
            detection.observe(Observation::Event(event), &mut verdicts)?;
            return Ok(String::new());
        }
        let texts: Vec<String> = verdicts.iter().map(|verdict| format!("{verdict:?}")).collect();
        let digest = Digest::of_parts(texts.iter().map(String::as_bytes)).to_string();
        Ok(format!(
            "{} verdicts, {} alerts, {}",
            verdicts.len(),
            verdicts.iter().filter(|verdict| verdict.is_alert()).count(),
            &digest[..16]
        ))
    }))
}

fn measure(case: &str, rounds: usize, load: &Load, baseline: &Baseline) -> Result<(), Box<dyn Error>> {
    let mut best = f64::INFINITY;
    let mut came = String::new();
    for _ in 0..rounds {
        let mut take = taker(case, load, baseline)?;
        let started = processor_seconds();
        for event in &load.events {
            take(Some(event))?;
        }
        best = best.min(processor_seconds() - started);
        came = take(None)?;
    }
    let mut take = taker(case, load, baseline)?;
    let mut times = Vec::with_capacity(load.events.len());
    let mut before = processor_seconds();
    for event in &load.events {
        take(Some(event))?;
        let now = processor_seconds();
        times.push(now - before);
        before = now;
    }
    let waits = sorted(waits(&times));
    let times = sorted(times);
    println!(
        "{case:<8} {:>10.0} {:>8.1} {:>8.1} {:>9.1} {:>8.2} {:>6.2} ms {:>9.2}  {came}",
        load.events.len() as f64 / best,
        at(&times, 0.5) * 1e6,
        at(&times, 0.99) * 1e6,
        at(&times, 0.999) * 1e6,
        at(&times, 1.0) * 1e3,
        at(&waits, 0.99) * 1e3,
        at(&waits, 1.0) * 1e3,
    );
    Ok(())
}

/// How long each event waits for those before it and for itself, if so many arrive in a second.
fn waits(times: &[f64]) -> Vec<f64> {
    let mut free = 0.0_f64;
    let wait = |(number, time): (usize, &f64)| {
        let arrived = number as f64 / ARRIVALS;
        free = free.max(arrived) + time;
        free - arrived
    };
    times.iter().enumerate().map(wait).collect()
}

/// How long the verdict on one feature vector takes, out of all that the capture gives.
fn vector(load: &Load, baseline: &Baseline) -> Result<(), Box<dyn Error>> {
    let (config, mut extractors) = settings(load)?;
    let mut vectors = Vec::new();
    for event in &load.events {
        for extractor in &mut extractors {
            extractor.observe(event, &mut vectors);
        }
        if vectors.len() > 20_000 {
            break;
        }
    }
    let mut detection = Detection::new(config, Vec::new())?.with_baseline(baseline);
    let (mut verdicts, mut times) = (Vec::new(), Vec::with_capacity(vectors.len()));
    let mut before = processor_seconds();
    for vector in vectors
        .iter()
        .filter(|vector| vector.schema.name().as_str() == "host.10s")
    {
        detection.observe(Observation::Features(vector), &mut verdicts)?;
        let now = processor_seconds();
        times.push(now - before);
        before = now;
    }
    let times = sorted(times);
    println!(
        "vector: p50 {:.1} µs, p99 {:.1} µs, of {} host.10s",
        at(&times, 0.5) * 1e6,
        at(&times, 0.99) * 1e6,
        times.len()
    );
    Ok(())
}

fn sorted(mut times: Vec<f64>) -> Vec<f64> {
    times.sort_by(f64::total_cmp);
    times
}

fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share) as usize).copied().unwrap_or(f64::NAN)
}

/// Seconds of the processor that this thread has had.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
