//! `adfa-ld`: traces of system calls. The model sees normal training traces only; other normal traces, and those of attacks, are
//! scored.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use amoskys_analysis::calibrate::Platt;
use amoskys_analysis::eval::{auroc, average_precision};
use amoskys_analysis::sequence::{Threshold, TraceModel, TraceParams};

use crate::output::{Format, Metric, Outcome};
use crate::report::{Drawn, Report, Results};
use crate::table::{Csv, Lines, folder};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `adfa-ld/`, that folder, or a file of that form: CSV with columns `label`, `family`, `split` and
    /// `syscalls`.
    #[arg(long)]
    data: PathBuf,
    /// Another file to take the normal training traces from: those whose `split` is `train`, or all whose `label` is
    /// `normal` if there are none. The normal traces that are scored are then all of the data's that its own `split` does not
    /// call `train`.
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,
    /// Random halves on which thresholds are set, to be tried on the other half.
    #[arg(long, default_value_t = 200)]
    halves: u32,
}

/// The reference with the highest AUROC.
const REFERENCE: &str = "tfidf3_1nn_cosine";
const RATES: [(f64, &str); 3] = [(0.05, "dr_fpr05"), (0.10, "dr_fpr10"), (0.15, "dr_fpr15")];

/// A trace, and what is known of it.
struct Trace {
    normal: bool,
    family: String,
    split: String,
    calls: Vec<u32>,
}

pub(crate) fn run(options: &Options, format: Format, page: &mut Report) -> Result<(), Box<dyn Error>> {
    let file = if options.data.is_file() {
        options.data.clone()
    } else {
        folder(&options.data, "adfa-ld").join("traces.csv.gz")
    };
    let traces = read(&file)?;
    let own;
    let (source, from) = match &options.train {
        Some(path) => {
            own = read(path)?;
            (&own, path)
        }
        None => (&traces, &file),
    };
    let is_training = |trace: &&Trace| trace.normal && trace.split == "train";
    let mut training: Vec<&[u32]> = calls(source.iter().filter(is_training));
    if training.is_empty() && options.train.is_some() {
        training = calls(source.iter().filter(|trace| trace.normal));
    }
    let mut validation: Vec<&[u32]> = of_split(&traces, "validation");
    if validation.is_empty() {
        validation = calls(traces.iter().filter(|trace| trace.normal && !is_training(trace)));
    }
    let attacks = traces.iter().filter(|trace| !trace.normal).count();
    let (path, shown) = (from.display(), file.display());
    for (count, path, what) in [
        (
            training.len(),
            &path,
            "normal traces to train on: `label` normal, `split` train",
        ),
        (
            validation.len(),
            &shown,
            "normal traces to score: `label` normal, `split` validation",
        ),
        (attacks, &shown, "traces of attacks: `label` other than normal"),
    ] {
        if count == 0 {
            return Err(format!("{path}: there are no {what}").into());
        }
    }
    let used = validation.len() + attacks + traces.iter().filter(is_training).count();
    if used < traces.len() {
        let unused = traces.len() - used;
        eprintln!("{shown}: {unused} normal traces of other splits than train and validation are left out");
    }

    let begun = Instant::now();
    let model = TraceParams::default()
        .fit(&training)
        .map_err(|error| format!("{path}: {error}"))?;
    let fitted = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let normal = score(&model, &validation);
    let mut families: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut attacks = Vec::new();
    let mut scorer = model.scorer();
    for trace in traces.iter().filter(|trace| !trace.normal) {
        let score = scorer.score(&trace.calls).value;
        families.entry(&trace.family).or_default().push(score);
        attacks.push((&trace.calls, score));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let calls: usize = validation.iter().map(|calls| calls.len()).sum();
    let calls = calls + attacks.iter().map(|(calls, _)| calls.len()).sum::<usize>();
    eprintln!(
        "fitted on {} traces in {fitted:.3} s; {} normal and {} attack traces, {:.1} M calls/s",
        training.len(),
        validation.len(),
        attacks.len(),
        calls as f64 / seconds / 1e6
    );

    let references = Reference::beside(&file);
    let mut results = Results::new(format, page);
    results.group("adfa-ld");
    let all: Vec<f64> = attacks.iter().map(|(_, score)| *score).collect();
    let mut print = |set: &str, family: &str, normal: &[f64], attacks: &[f64], seconds: f64| {
        if normal.is_empty() || attacks.is_empty() {
            return;
        }
        let outcome = Outcome {
            detector: "traces".to_owned(),
            set: set.to_owned(),
            metrics: measure(normal, attacks, |metric| references.value(family, metric)),
            seconds,
        };
        let (scores, labels) = labelled(normal, attacks);
        let drawn = Drawn {
            scores: &scores,
            labels: &labels,
            probabilities: None,
        };
        let name = set.rsplit(": ").next().unwrap_or(set);
        results.add_named(&outcome, if name == set { "all" } else { name }, &drawn);
    };
    print("adfa-ld", "ALL", &normal, &all, seconds);
    for (family, scores) in &families {
        print(&format!("adfa-ld: {family}"), family, &normal, scores, 0.0);
    }
    let distinct = |calls: &mut dyn Iterator<Item = (&Vec<u32>, f64)>| -> Vec<f64> {
        calls.collect::<BTreeMap<_, _>>().into_values().collect()
    };
    let owned: Vec<Vec<u32>> = validation.iter().map(|calls| calls.to_vec()).collect();
    let distinct_normal = distinct(&mut owned.iter().zip(normal.iter().copied()));
    let distinct_attacks = distinct(&mut attacks.iter().copied());
    print(
        "adfa-ld: distinct traces",
        "",
        &distinct_normal,
        &distinct_attacks,
        0.0,
    );
    reliability(&distinct_normal, &distinct_attacks, &mut results);
    calibration(&owned, &normal, options.halves);
    Ok(())
}

/// How far scores are probabilities: a logistic curve is fitted on every other distinct trace with its label, and looked at on the
/// others.
fn reliability(normal: &[f64], attacks: &[f64], results: &mut Results<'_>) {
    let half = |which: usize| {
        let of = |scores: &[f64]| -> Vec<f64> { scores.iter().copied().skip(which).step_by(2).collect() };
        labelled(&of(normal), &of(attacks))
    };
    let ((fit, fit_labels), (test, labels)) = (half(0), half(1));
    let Ok(curve) = Platt::fit(&fit, &fit_labels) else {
        return;
    };
    let probabilities: Vec<f64> = test.iter().map(|&score| curve.probability(score)).collect();
    let drawn = Drawn {
        scores: &test,
        labels: &labels,
        probabilities: Some(&probabilities),
    };
    results.draw("adfa-ld", "every other distinct trace", &drawn);
}

/// Scores of normal traces and of attacks, and which are which.
fn labelled(normal: &[f64], attacks: &[f64]) -> (Vec<f64>, Vec<bool>) {
    let scores = [normal, attacks].concat();
    let labels = (0..scores.len()).map(|at| at >= normal.len()).collect();
    (scores, labels)
}

fn of_split<'a>(traces: &'a [Trace], split: &str) -> Vec<&'a [u32]> {
    calls(traces.iter().filter(|trace| trace.normal && trace.split == split))
}

fn calls<'a>(traces: impl Iterator<Item = &'a Trace>) -> Vec<&'a [u32]> {
    traces.map(|trace| trace.calls.as_slice()).collect()
}

fn score(model: &TraceModel, traces: &[&[u32]]) -> Vec<f64> {
    let mut scorer = model.scorer();
    traces.iter().map(|calls| scorer.score(calls).value).collect()
}

fn measure(normal: &[f64], attacks: &[f64], reference: impl Fn(&str) -> Option<f64>) -> Vec<Metric> {
    let (scores, labels) = labelled(normal, attacks);
    let metric = |name: &'static str, key: &str, value: f64| Metric {
        name,
        value,
        reference: reference(key),
    };
    let mut metrics = vec![
        metric("auroc", "auroc", auroc(&scores, &labels).unwrap_or(f64::NAN)),
        metric(
            "ap",
            "ap",
            average_precision(&scores, &labels).unwrap_or(f64::NAN),
        ),
    ];
    for (rate, name) in RATES {
        let found = Threshold::of_share(normal, rate).map_or(f64::NAN, |threshold| {
            attacks.iter().filter(|score| threshold.is_alarm(**score)).count() as f64 / attacks.len() as f64
        });
        metrics.push(metric(name, &name.replace("dr_", "dr_at_"), found));
    }
    metrics
}

/// Rates that thresholds are tried for.
const PROMISED: [f64; 5] = [0.01, 0.02, 0.05, 0.10, 0.15];
/// No trace, however often repeated, counts more than this share of those a threshold is set on.
const MOST_OF_ONE: f64 = 0.01;

/// Sets thresholds on one half of the normal traces, identical ones kept together, and counts alarms among the other half.
fn calibration(traces: &[Vec<u32>], scores: &[f64], halves: u32) {
    let mut groups: BTreeMap<&Vec<u32>, (f64, usize)> = BTreeMap::new();
    for (calls, score) in traces.iter().zip(scores) {
        groups.entry(calls).or_insert((*score, 0)).1 += 1;
    }
    let groups: Vec<(f64, usize)> = groups.into_values().collect();
    let Some(largest) = groups.iter().map(|(_, copies)| *copies).max() else {
        return;
    };
    if groups.len() < 2 || halves == 0 {
        return;
    }
    eprintln!(
        "thresholds set on one half of the {} distinct normal traces, alarms on the other half, over {halves} random halves:",
        groups.len()
    );
    let but_largest: Vec<(f64, usize)> = groups
        .iter()
        .map(|(score, copies)| (*score, if *copies == largest { 1 } else { *copies }))
        .collect();
    let once: Vec<(f64, usize)> = groups.iter().map(|(score, _)| (*score, 1)).collect();
    let largest = format!("all traces, but one repeated {largest} times once");
    for rate in PROMISED {
        for (what, groups) in [
            ("distinct traces", &once),
            (largest.as_str(), &but_largest),
            ("all traces", &groups),
        ] {
            let mut random = Random(1);
            let realised: Result<Vec<f64>, _> = (0..halves)
                .map(|_| tried(&shuffled(groups, &mut random), rate))
                .collect();
            match realised {
                Ok(realised) => summarise(rate, what, realised),
                Err(error) => eprintln!("  promised {rate:.2}: {error}"),
            }
        }
        if let Some((best, share)) = hindsight(&groups, rate, halves) {
            eprintln!(
                "  promised {rate:.2}, all traces, the best single threshold in hindsight ({best:.3}): within 3 points in {share:.1} %"
            );
        }
    }
}

fn shuffled(groups: &[(f64, usize)], random: &mut Random) -> Vec<(f64, usize)> {
    let mut order: Vec<(u64, (f64, usize))> = groups.iter().map(|group| (random.next(), *group)).collect();
    order.sort_unstable_by_key(|(key, _)| *key);
    order.into_iter().map(|(_, group)| group).collect()
}

/// The share of alarms among the second half of the traces, with the threshold from the first.
fn tried(order: &[(f64, usize)], rate: f64) -> Result<f64, Box<dyn Error>> {
    let (set, tried) = order.split_at(order.len() / 2);
    let threshold = Threshold::conformal_of_copies(set, rate, MOST_OF_ONE)?;
    Ok(share_of_alarms(tried, threshold))
}

fn share_of_alarms(traces: &[(f64, usize)], threshold: Threshold) -> f64 {
    let alarms = traces.iter().filter(|(score, _)| threshold.is_alarm(*score));
    let count = |copies: usize| copies as f64;
    let (alarms, all): (usize, usize) = (
        alarms.map(|(_, copies)| copies).sum(),
        traces.iter().map(|(_, copies)| copies).sum(),
    );
    count(alarms) / count(all)
}

/// What no way to set thresholds can be better than, if it always sets the same: the one that keeps the promise on most halves.
fn hindsight(groups: &[(f64, usize)], rate: f64, halves: u32) -> Option<(f64, f64)> {
    let mut random = Random(1);
    let tried: Vec<Vec<(f64, usize)>> = (0..halves)
        .map(|_| shuffled(groups, &mut random).split_off(groups.len() / 2))
        .collect();
    let mut scores: Vec<f64> = groups.iter().map(|(score, _)| *score).collect();
    scores.sort_by(f64::total_cmp);
    let held = |threshold: f64| {
        let kept =
            |half: &&Vec<(f64, usize)>| (share_of_alarms(half, Threshold(threshold)) - rate).abs() <= 0.03;
        100.0 * tried.iter().filter(kept).count() as f64 / tried.len() as f64
    };
    let candidates = scores.iter().skip(scores.len() / 2).step_by(4);
    candidates
        .map(|&threshold| (threshold, held(threshold)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

fn summarise(rate: f64, what: &str, mut realised: Vec<f64>) {
    realised.sort_by(f64::total_cmp);
    let share = |held: &dyn Fn(f64) -> bool| {
        100.0 * realised.iter().filter(|rate| held(**rate)).count() as f64 / realised.len() as f64
    };
    let mean = realised.iter().sum::<f64>() / realised.len() as f64;
    let (least, most) = (realised[0], realised[realised.len() - 1]);
    eprintln!(
        "  promised {rate:.2}, {what}: mean {mean:.4}, from {least:.4} to {most:.4}; within 3 points in {:.1} %, at most 3 points above in {:.1} %",
        share(&|realised| (realised - rate).abs() <= 0.03),
        share(&|realised| realised <= rate + 0.03),
    );
}

/// SplitMix64: the same halves in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn read(path: &Path) -> Result<Vec<Trace>, Box<dyn Error>> {
    let mut lines = Lines::open(path)?;
    let calls = lines.column("syscalls")?;
    let [label, family, split] = ["label", "family", "split"].map(|name| lines.column(name).ok());
    let mut traces = Vec::new();
    while let Some(line) = lines.next()? {
        let text = |at: Option<usize>| at.and_then(|at| line.get(at)).unwrap_or_default();
        let numbers: Result<Vec<u32>, _> = line[calls].split_ascii_whitespace().map(str::parse).collect();
        let normal = label.is_none() || text(label).eq_ignore_ascii_case("normal");
        let (family, split) = (text(family).to_owned(), text(split).to_ascii_lowercase());
        let numbers = numbers.map_err(|_| lines.wrong(calls, "a call is no number"))?;
        traces.push(Trace {
            normal,
            family,
            split,
            calls: numbers,
        });
    }
    Ok(traces)
}

/// The scores of the reference, by family and metric.
struct Reference(BTreeMap<(String, String), f64>);

impl Reference {
    /// From `reference.csv` beside the traces; none if it is not there.
    fn beside(file: &Path) -> Self {
        let mut values = BTreeMap::new();
        if let Ok(csv) = Csv::read(&file.with_file_name("reference.csv")) {
            for line in csv.lines.iter().filter(|line| line[0] == *REFERENCE) {
                for (name, value) in csv.header.iter().zip(line).skip(2) {
                    if let Ok(value) = value.parse() {
                        values.insert((line[1].to_owned(), name.clone()), value);
                    }
                }
            }
        }
        Self(values)
    }

    fn value(&self, family: &str, metric: &str) -> Option<f64> {
        self.0.get(&(family.to_owned(), metric.to_owned())).copied()
    }
}
