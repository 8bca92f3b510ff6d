//! `graph`: a stream of edges with labels. Each edge is scored from those before it and from itself; labels are used for the
//! figures alone.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use amoskys_analysis::calibrate::Platt;
use amoskys_analysis::eval::auroc;
use amoskys_analysis::graph::{EdgeParams, EdgeScorer, Nodes, Role};

use crate::output::{Format, Metric, Outcome};
use crate::report::{Drawn, Report, Results};
use crate::table::{Failures, Lines, folder, table_name, tables};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `graph/`, that folder, or a file: CSV with columns `src`, `dst`, `minute` and `attack`, in order of time,
    /// `attack` being `-` for honest edges. Instead of `minute` there may be `second` or `timestamp`, in seconds.
    #[arg(long)]
    data: PathBuf,
    /// Which end of an edge is judged by its rarity.
    #[arg(long, value_enum, default_value_t = End::Source)]
    role: End,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum End {
    Source,
    Destination,
    Either,
}

/// Types with fewer edges have no figure of their own, and of fewer than this many no curve is drawn.
const FEWEST: usize = 10;
const DRAWN: usize = 100;
/// Types that are most of the edges of the stream the reference is for.
const VOLUME: [&str; 2] = ["neptune", "smurf"];
/// What is said of honest edges.
const HONEST: [&str; 5] = ["-", "", "0", "benign", "normal"];
/// What the better of MIDAS-R and MIDAS-F reaches on `darpa98_june`; per type, MIDAS-F where it is known.
const REFERENCE_SET: &str = "darpa98_june";
const REFERENCE: [(&str, f64); 9] = [
    ("all", 0.9923),
    ("macro average", 0.804),
    ("without volume", 0.871),
    ("land", 0.27),
    ("warezclient", 0.38),
    ("guest", 0.58),
    ("portsweep", 0.68),
    ("nmap", 0.74),
    ("ipsweep", 0.78),
];

pub(crate) fn run(options: &Options, format: Format, page: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut results = Results::new(format, page);
    let mut failures = Failures::default();
    for file in tables(&folder(&options.data, "graph"))? {
        let Some(stream) = failures.note(Stream::read(&file)) else {
            continue;
        };
        let set = table_name(&file);
        let begun = Instant::now();
        let scores = stream.score(options.role)?;
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!(
            "{set}: {} edges, {:.1} M edges/s",
            scores.len(),
            scores.len() as f64 / seconds / 1e6
        );
        results.group(&set);
        report(&stream, &scores, &set, seconds, &mut results);
        reliability(&stream, &scores, &set, &mut results);
    }
    failures.finish()
}

/// Edges, and for each the number of its type; type 0 is honest.
struct Stream {
    edges: Vec<(u64, u64, u64)>,
    types: Vec<u16>,
    names: Vec<String>,
}

impl Stream {
    fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let mut lines = Lines::open(path)?;
        let [src, dst, attack] = ["src", "dst", "attack"].map(|name| lines.column(name));
        let (src, dst, attack) = (src?, dst?, attack?);
        let (time, per_minute) = time_column(&lines)?;
        let mut stream = Self {
            edges: Vec::new(),
            types: Vec::new(),
            names: vec![HONEST[0].to_owned()],
        };
        let mut numbers: BTreeMap<String, u16> = BTreeMap::new();
        let (mut latest, mut late) = (0, 0_usize);
        while let Some(line) = lines.next()? {
            let kind = &line[attack];
            let known = if HONEST.iter().any(|honest| kind.eq_ignore_ascii_case(honest)) {
                Some(0)
            } else {
                numbers.get(kind).copied()
            };
            let minute = minute(&line[time], per_minute);
            let edge = (node(&line[src]), node(&line[dst]));
            let kind = match known {
                Some(kind) => kind,
                None => {
                    let (name, next) = (kind.to_owned(), u16::try_from(stream.names.len()));
                    let next = next.map_err(|_| lines.wrong(attack, "more than 65,535 types of attack"))?;
                    stream.names.push(name.clone());
                    numbers.insert(name, next);
                    next
                }
            };
            let minute = minute.ok_or_else(|| lines.wrong(time, "not a time from 0 on"))?;
            late += usize::from(minute < latest);
            latest = latest.max(minute);
            stream.edges.push((edge.0, edge.1, minute));
            stream.types.push(kind);
        }
        let attacks = stream.types.iter().filter(|kind| **kind != 0).count();
        if attacks == 0 || attacks == stream.types.len() {
            let edges = stream.types.len();
            let what = format!("{edges} edges, {attacks} of them attacks; both kinds are needed");
            return Err(format!("{}: {what}", path.display()).into());
        }
        let first = stream.edges.iter().map(|edge| edge.2).min().unwrap_or_default();
        if u32::try_from(latest - first).is_err() {
            let what = "the times span more than 2^32 minutes; for seconds the column is called `second` or `timestamp`";
            return Err(format!("{}: {what}", path.display()).into());
        }
        if late > 0 {
            // Edges of a minute keep their order.
            let mut order: Vec<usize> = (0..stream.edges.len()).collect();
            order.sort_by_key(|&at| stream.edges[at].2);
            stream.edges = order.iter().map(|&at| stream.edges[at]).collect();
            stream.types = order.iter().map(|&at| stream.types[at]).collect();
            eprintln!(
                "{}: {late} edges are earlier than one before them; the edges were put in order of time",
                path.display()
            );
        }
        Ok(stream)
    }

    fn score(&self, role: End) -> Result<Vec<f64>, Box<dyn Error>> {
        let role = match role {
            End::Source => Role::Source,
            End::Destination => Role::Destination,
            End::Either => Role::Either,
        };
        let mut scorer = EdgeScorer::new(&EdgeParams {
            role,
            ..EdgeParams::default()
        })?;
        let score = |&(source, destination, minute): &(u64, u64, u64)| {
            f64::from(scorer.score(source, destination, minute).value)
        };
        Ok(self.edges.iter().map(score).collect())
    }
}

/// The column with the time, and how many of its units are a minute.
fn time_column(lines: &Lines) -> Result<(usize, f64), Box<dyn Error>> {
    for (name, per_minute) in [("minute", 1.0), ("second", 60.0), ("timestamp", 60.0)] {
        if let Ok(place) = lines.column(name) {
            return Ok((place, per_minute));
        }
    }
    Ok((lines.column("minute")?, 1.0))
}

/// The minute of a time.
fn minute(text: &str, per_minute: f64) -> Option<u64> {
    if per_minute == 1.0
        && let Ok(minute) = text.parse()
    {
        return Some(minute);
    }
    let minute = (text.parse::<f64>().ok()? / per_minute).floor();
    (0.0..1e18).contains(&minute).then_some(minute as u64)
}

/// Nodes are numbers as a rule; names will do.
fn node(name: &str) -> u64 {
    name.parse()
        .unwrap_or_else(|_| Nodes::new(0).other(0, name.as_bytes()))
}

/// What is measured of some of the attacks, against all honest edges.
struct Measured {
    auroc: f64,
    recall: f64,
    edges: usize,
    /// What was measured, for the curves.
    scores: Vec<f64>,
    labels: Vec<bool>,
}

fn report(stream: &Stream, scores: &[f64], set: &str, seconds: f64, results: &mut Results<'_>) {
    let honest = |kind: u16| kind == 0;
    let measure = |range: std::ops::Range<usize>, wanted: &dyn Fn(u16) -> bool| {
        let of_range = range.clone().zip(&stream.types[range]);
        let chosen = of_range.filter(|(_, kind)| honest(**kind) || wanted(**kind));
        let (scores, labels): (Vec<f64>, Vec<bool>) =
            chosen.map(|(at, kind)| (scores[at], !honest(*kind))).unzip();
        Some(Measured {
            auroc: auroc(&scores, &labels)?,
            recall: recall_at(&scores, &labels, 0.01),
            edges: labels.iter().filter(|label| **label).count(),
            scores,
            labels,
        })
    };
    let mut print = |what: &str, measured: &Measured, seconds: f64| {
        let reference = REFERENCE
            .iter()
            .find(|(name, _)| *name == what && set == REFERENCE_SET);
        let metric = |name, value, reference| Metric {
            name,
            value,
            reference,
        };
        let outcome = Outcome {
            detector: "edges".to_owned(),
            set: format!("{set}: {what}"),
            metrics: vec![
                metric("auroc", measured.auroc, reference.map(|(_, value)| *value)),
                metric("recall_at_fpr01", measured.recall, None),
                metric("attack_edges", measured.edges as f64, None),
            ],
            seconds,
        };
        let drawn = Drawn {
            scores: &measured.scores,
            labels: &measured.labels,
            probabilities: None,
        };
        // A mean has no curve, and of rare types a curve is a few steps.
        if measured.scores.is_empty() || (seconds == 0.0 && measured.edges < DRAWN) {
            results.add(&outcome, None);
        } else {
            results.add_named(&outcome, what, &drawn);
        }
    };
    let whole = || 0..scores.len();
    if let Some(measured) = measure(whole(), &|_| true) {
        print("all", &measured, seconds);
    }
    let mut types: Vec<(u16, &str, Measured)> = Vec::new();
    for (kind, name) in (0..).zip(&stream.names).skip(1) {
        let edges = stream.types.iter().filter(|other| **other == kind).count();
        if edges < FEWEST {
            continue;
        }
        types
            .extend(measure(whole(), &|other| other == kind).map(|measured| (kind, name.as_str(), measured)));
    }
    if !types.is_empty() {
        let mean = |value: fn(&Measured) -> f64| {
            types.iter().map(|(.., measured)| value(measured)).sum::<f64>() / types.len() as f64
        };
        let measured = Measured {
            auroc: mean(|measured| measured.auroc),
            recall: mean(|measured| measured.recall),
            edges: types.iter().map(|(.., measured)| measured.edges).sum(),
            scores: Vec::new(),
            labels: Vec::new(),
        };
        print("macro average", &measured, 0.0);
    }
    let volume = |kind: u16| VOLUME.contains(&stream.names[kind as usize].as_str());
    if let Some(measured) = measure(whole(), &|kind| !volume(kind)) {
        print("without volume", &measured, 0.0);
    }
    // The beginning, when nothing is known yet, and what comes after it.
    let fifth = scores.len() / 5;
    for (what, range) in [("first fifth", 0..fifth), ("after it", fifth..scores.len())] {
        if let Some(measured) = measure(range, &|_| true) {
            print(what, &measured, 0.0);
        }
    }
    types.sort_by(|a, b| b.2.edges.cmp(&a.2.edges).then(a.0.cmp(&b.0)));
    for (_, name, measured) in &types {
        print(name, measured, 0.0);
    }
}

/// How far scores are probabilities: a logistic curve is fitted on every other edge with its label, and looked at on the others.
fn reliability(stream: &Stream, scores: &[f64], set: &str, results: &mut Results<'_>) {
    let half = |which: usize| -> (Vec<f64>, Vec<bool>) {
        let edges = scores.iter().zip(&stream.types).skip(which).step_by(2);
        edges.map(|(score, kind)| (*score, *kind != 0)).unzip()
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
    results.draw(set, "all, every other edge", &drawn);
}

/// The share of attacks that score above all but this share of the honest edges.
fn recall_at(scores: &[f64], labels: &[bool], rate: f64) -> f64 {
    let of = |label: bool| {
        let chosen = scores.iter().zip(labels).filter(move |(_, is)| **is == label);
        chosen.map(|(score, _)| *score)
    };
    let mut honest: Vec<f64> = of(false).collect();
    honest.sort_by(f64::total_cmp);
    let allowed = (rate * honest.len() as f64) as usize;
    let Some(threshold) = honest.len().checked_sub(allowed + 1).map(|at| honest[at]) else {
        return 0.0;
    };
    let attacks = of(true).count();
    of(true).filter(|score| *score > threshold).count() as f64 / attacks.max(1) as f64
}
