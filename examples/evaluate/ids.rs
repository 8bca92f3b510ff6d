//! `ids`: flow records with labels. Detectors without labels see the honest rows of the training part only, and alarm above the 95th
//! percentile of their scores; boosted trees see all rows of it with their labels, and alarm above one half. All are measured on the test
//! part, and so is whether probabilities made of their scores hold what they say. Without `--test`, 30 % of the training file, stratified by
//! label, are the test.

#[path = "ids/calibrated.rs"]
mod calibrated;
#[path = "ids/encoding.rs"]
mod encoding;
#[path = "ids/families.rs"]
mod families;
#[path = "ids/open_set.rs"]
mod open_set;

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use amoskys_analysis::boost::BoostedTrees;
use amoskys_analysis::detectors::{Detector as _, Ensemble, FitScore, Novelty};
use amoskys_analysis::eval::{Alarms, auroc, average_precision, false_positive_rate_at, stratified_split};
use amoskys_analysis::iforest::{IsolationForest, Rows};
use amoskys_analysis::odds::probability;
use csv::StringRecord;
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use ndarray::{Array1, Array2};

use self::calibrated::Part;
use self::encoding::Encoding;
use crate::output::{Format, Metric, Outcome};
use crate::report::{Drawn, Report, Results};
use crate::table::{Csv, Failures, folder, table_name, tables};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `ids/`, that folder, or one set: an internal split of each.
    #[arg(long, required_unless_present = "train")]
    data: Option<PathBuf>,
    /// A file to train on. Its column `label` is 1 for attacks.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    train: Option<PathBuf>,
    /// A file to test on.
    #[arg(long, value_name = "FILE", requires = "train")]
    test: Option<PathBuf>,
    /// Leave each attack family in turn out of training, and measure how it is found.
    #[arg(long)]
    open_set: bool,
    /// Tell the families of attacks apart, in place of attacks from honest rows.
    #[arg(long, conflicts_with = "open_set")]
    families: bool,
    /// Threads of each detector. No score depends on it.
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
}

/// The sets of the folder, and what the reference calls them.
const SETS: [(&str, &str); 3] = [
    ("nsl_kdd_train20", "nsl_kdd:train20 70/30 internal"),
    ("unsw_nb15_part_a", "unsw_nb15:part_a 70/30 internal"),
    ("cic_ids2017_part_a", "cic_ids2017:part_a 70/30 internal"),
];
const SPLIT_SEED: u64 = 0;

type Scores = Result<(Vec<f64>, Vec<f64>), Box<dyn Error>>;
/// Fits on honest rows, and scores these and others.
type Run = fn(&Array2<f64>, &Array2<f64>, NonZeroUsize, u64) -> Scores;

struct Entry {
    name: &'static str,
    reference: Option<&'static str>,
    /// The result shown is that of the median AUROC among so many seeds.
    seeds: u64,
    run: Run,
}

const ENTRIES: [Entry; 3] = [
    Entry {
        name: "IForest",
        reference: Some("IsolationForest_benign_only(median seed)"),
        seeds: 5,
        run: |honest, test, threads, seed| {
            let rows = |rows: &Array2<f64>| rows.as_slice().map(<[f64]>::to_vec).unwrap_or_default();
            let (honest, test, columns) = (rows(honest), rows(test), honest.ncols());
            let (honest, test) = (Rows::new(&honest, columns)?, Rows::new(&test, columns)?);
            let forest = IsolationForest::params()
                .seed(seed)
                .threads(threads)
                .validate()?
                .fit_rows(honest)?;
            Ok((
                forest.score_parallel(honest, threads)?,
                forest.score_parallel(test, threads)?,
            ))
        },
    },
    Entry {
        name: "Ensemble",
        reference: None,
        seeds: 5,
        run: |honest, test, threads, seed| {
            scores(
                &Ensemble::params().threads(threads).seed(seed),
                honest,
                test,
                threads,
            )
        },
    },
    Entry {
        name: "Novelty",
        reference: None,
        seeds: 1,
        run: |honest, test, threads, _| scores(&Novelty::params().threads(threads), honest, test, threads),
    },
];

fn scores(params: &impl FitScore, honest: &Array2<f64>, test: &Array2<f64>, threads: NonZeroUsize) -> Scores {
    let (model, trained) = params.fit_score(honest.view())?;
    Ok((
        trained.to_vec(),
        model.score_parallel(test.view(), threads)?.to_vec(),
    ))
}

pub(crate) fn run(options: &Options, format: Format, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut results = Results::new(format, report);
    if let Some(train) = &options.train {
        let name = table_name(train);
        let (train, test) = (Csv::read(train)?, options.test.as_deref().map(Csv::read));
        let test = test
            .transpose()?
            .map(|test| in_order_of(&train, test))
            .transpose()?;
        let none = BTreeMap::new();
        return evaluate(&name, &train, test.as_ref(), &none, options, &mut results)
            .map_err(|error| said_of(&train, test.as_ref(), &*error));
    }
    let data = options.data.as_deref().unwrap_or(Path::new("."));
    let folder = folder(data, "ids");
    let reference = reference(&folder)?;
    let task = |path: &PathBuf| SETS.iter().position(|(file, _)| *file == table_name(path));
    let mut paths = tables(&folder)?;
    // The known ones first, in the order of the reference.
    paths.sort_by_key(|path| task(path).unwrap_or(SETS.len()));
    let mut failures = Failures::default();
    for path in paths {
        let of_task = task(&path).and_then(|at| reference.get(SETS[at].1)).cloned();
        let done = Csv::read(&path).and_then(|set| {
            let of_task = of_task.unwrap_or_default();
            evaluate(&table_name(&path), &set, None, &of_task, options, &mut results)
                .map_err(|error| said_of(&set, None, &*error))
        });
        failures.note(done);
    }
    failures.finish()
}

/// Names the file, if that was not done.
fn said_of(set: &Csv, test: Option<&Csv>, error: &dyn Error) -> Box<dyn Error> {
    let (path, text) = (set.path.display().to_string(), error.to_string());
    let cause = error
        .source()
        .map_or_else(String::new, |cause| format!(": {cause}"));
    let is_named = |file: &Csv| text.starts_with(&file.path.display().to_string());
    if is_named(set) || test.is_some_and(is_named) {
        text.into()
    } else {
        format!("{path}: {text}{cause}").into()
    }
}

/// The test with the columns of the training file, found by their names. What is no feature may be absent, but for the label.
fn in_order_of(train: &Csv, mut test: Csv) -> Result<Csv, Box<dyn Error>> {
    if test.header == train.header {
        return Ok(test);
    }
    let mut places = Vec::with_capacity(train.header.len());
    for (at, name) in train.header.iter().enumerate() {
        // Of several columns of one name, the first is the first.
        let before = train.header[..at].iter().filter(|other| *other == name).count();
        let alike = test
            .header
            .iter()
            .enumerate()
            .filter(|(_, other)| other.eq_ignore_ascii_case(name));
        match alike.map(|(place, _)| place).nth(before) {
            None if encoding::is_feature(name) || name.eq_ignore_ascii_case("label") => {
                let (test, train) = (test.path.display(), train.path.display());
                return Err(format!("{test}: line 1: there is no column {name}, and {train} has one").into());
            }
            place => places.push(place),
        }
    }
    for line in &mut test.lines {
        let mut ordered: StringRecord = places
            .iter()
            .map(|place| place.map_or("", |place| &line[place]))
            .collect();
        ordered.set_position(line.position().cloned());
        *line = ordered;
    }
    test.header.clone_from(&train.header);
    Ok(test)
}

/// Metrics of the reference, by detector and name.
type Reference = BTreeMap<String, BTreeMap<String, f64>>;

fn evaluate(
    name: &str,
    train: &Csv,
    test: Option<&Csv>,
    reference: &Reference,
    options: &Options,
    results: &mut Results<'_>,
) -> Result<(), Box<dyn Error>> {
    let threads = options.threads;
    let labels = train.labels()?;
    let (train_lines, test_lines, test_labels): (Vec<usize>, Vec<usize>, Vec<bool>) = match test {
        Some(test) => (
            (0..labels.len()).collect(),
            (0..test.lines.len()).collect(),
            test.labels()?,
        ),
        None => {
            let (kept, held) = stratified_split(&labels, 0.3, SPLIT_SEED);
            let held_labels = held.iter().map(|&at| labels[at]).collect();
            (kept, held, held_labels)
        }
    };
    let of_test = test.unwrap_or(train);
    for (what, csv, labels) in [("training", train, &labels), ("test", of_test, &test_labels)] {
        if !labels.contains(&true) || !labels.contains(&false) {
            let (path, rows) = (csv.path.display(), labels.len());
            return Err(format!("{path}: {rows} {what} rows, and not both labels among them").into());
        }
    }
    let seen: Vec<&StringRecord> = train_lines.iter().map(|&at| &train.lines[at]).collect();
    let seen_labels: Vec<bool> = train_lines.iter().map(|&at| labels[at]).collect();
    let tested: Vec<&StringRecord> = test_lines.iter().map(|&at| &of_test.lines[at]).collect();
    if options.open_set || options.families {
        let family = open_set::family_column(&train.header).ok_or_else(|| {
            format!(
                "{}: no column tells the family of an attack",
                train.path.display()
            )
        })?;
        let of = |lines: &[&StringRecord], labels: &[bool]| {
            let family = |line: &StringRecord, label: bool| {
                if label {
                    line[family].to_owned()
                } else {
                    String::new()
                }
            };
            lines
                .iter()
                .zip(labels)
                .map(|(line, label)| family(line, *label))
                .collect::<Vec<_>>()
        };
        let families = [of(&seen, &seen_labels), of(&tested, &test_labels)];
        let parts = open_set::Parts {
            header: &train.header,
            train: seen
                .iter()
                .copied()
                .zip(families[0].iter().map(String::as_str))
                .collect(),
            test: tested
                .iter()
                .copied()
                .zip(families[1].iter().map(String::as_str))
                .collect(),
            threads,
        };
        if options.families {
            let outcome = families::run(name, parts.header, &parts.train, &parts.test, threads)?;
            results.add(&outcome, None);
            return Ok(());
        }
        return print_open_set(name, &open_set::run(&parts)?, results);
    }
    let (seen_part, tested_part) = (
        Part {
            lines: &seen,
            labels: &seen_labels,
        },
        Part {
            lines: &tested,
            labels: &test_labels,
        },
    );
    let (mut outcome, scores) = supervised(
        name,
        &train.header,
        (&seen, &seen_labels),
        (&tested, &test_labels),
        threads,
        reference.get("HistGradientBoosting"),
    )?;
    let probabilities: Vec<f64> = scores.iter().map(|&score| probability(score)).collect();
    let drawn = Drawn {
        scores: &scores,
        labels: &test_labels,
        probabilities: Some(&probabilities),
    };
    let bins = calibrated::bins(seen_part, tested_part, |fitted, rows| {
        let encoding = Encoding::fit(&train.header, fitted.lines)?;
        let (seen, rows) = (encoding.apply(fitted.lines)?, encoding.apply(rows)?);
        boosted(seen, fitted.labels, &rows, threads)
    })?;
    outcome.metrics.extend(calibrated::metrics(&bins));
    let mut reliability = calibrated::lines("Boosting", &bins);
    results.add(&outcome, Some(&drawn));
    let honest = seen_part.honest();
    let encoding = Encoding::fit(&train.header, &honest)?;
    if let Some((count, row, column)) = encoding.words(&tested) {
        let what = format!(
            "not a number, as in the honest training rows; 0 stands for it and {} more",
            count - 1
        );
        // The columns may stand elsewhere in the test file, so this one has its name alone.
        let line = &of_test.lines[test_lines[row]];
        let number = line.position().map_or(0, csv::Position::line);
        let (path, name, field) = (of_test.path.display(), &train.header[column], &line[column]);
        eprintln!("{path}: line {number}, column {name}: {field:?}: {what}");
    }
    let (honest, rows) = (encoding.apply(&honest)?, encoding.apply(&tested)?);
    for entry in &ENTRIES {
        let known = entry.reference.and_then(|name| reference.get(name));
        let (mut outcome, scores) = measure(entry, name, &honest, &rows, &test_labels, threads, known)?;
        let bins = calibrated::bins(seen_part, tested_part, |fitted, rows| {
            let honest = fitted.honest();
            let encoding = Encoding::fit(&train.header, &honest)?;
            let (honest, rows) = (encoding.apply(&honest)?, encoding.apply(rows)?);
            Ok((entry.run)(&honest, &rows, threads, 0)?.1)
        })?;
        outcome.metrics.extend(calibrated::metrics(&bins));
        reliability.extend(calibrated::lines(entry.name, &bins));
        let drawn = Drawn {
            scores: &scores,
            labels: &test_labels,
            probabilities: None,
        };
        results.add(&outcome, Some(&drawn));
    }
    results.folded_listing(name, "Reliability with bounds", &calibrated::HEADS, reliability);
    Ok(())
}

fn print_open_set(
    name: &str,
    found: &[open_set::Found],
    results: &mut Results<'_>,
) -> Result<(), Box<dyn Error>> {
    type Column = fn(&open_set::Found) -> &[f64];
    let columns: [(&str, Column); 3] = [
        ("Boosting", |found| &found.supervised),
        ("Novelty", |found| &found.unsupervised),
        ("Stacking", |found| &found.fused),
    ];
    for (detector, scores) in columns {
        let mut outcomes = Vec::new();
        for family in found {
            let (scores, labels) = (scores(family), &family.labels);
            let mut honest: Vec<f64> = scores
                .iter()
                .zip(labels)
                .filter(|(_, label)| !**label)
                .map(|(score, _)| *score)
                .collect();
            honest.sort_by(f64::total_cmp);
            // An alarm for one honest row in twenty.
            let threshold = honest[(honest.len() * 95 / 100).min(honest.len() - 1)];
            let set = format!("{name}/{}", family.family);
            let outcome = outcome(detector, &set, scores, labels, threshold, 0.0, None)?;
            let drawn = Drawn {
                scores,
                labels,
                probabilities: None,
            };
            results.add(&outcome, Some(&drawn));
            outcomes.push(outcome);
        }
        let all: Vec<&Outcome> = outcomes.iter().collect();
        if let Some(mean) = crate::output::mean(&all, &format!("{name}: mean")) {
            results.add(&mean, None);
        }
    }
    Ok(())
}

/// Boosted trees on all training rows with their labels.
fn supervised(
    set: &str,
    header: &[String],
    (seen, seen_labels): (&[&StringRecord], &[bool]),
    (tested, labels): (&[&StringRecord], &[bool]),
    threads: NonZeroUsize,
    reference: Option<&BTreeMap<String, f64>>,
) -> Result<(Outcome, Vec<f64>), Box<dyn Error>> {
    let encoding = Encoding::fit(header, seen)?;
    let (seen, tested) = (encoding.apply(seen)?, encoding.apply(tested)?);
    let start = Instant::now();
    let scores = boosted(seen, seen_labels, &tested, threads)?;
    let seconds = start.elapsed().as_secs_f64();
    let outcome = outcome("Boosting", set, &scores, labels, 0.0, seconds, reference)?;
    Ok((outcome, scores))
}

/// Scores of boosted trees that were fitted on labelled rows.
fn boosted(
    seen: Array2<f64>,
    labels: &[bool],
    tested: &Array2<f64>,
    threads: NonZeroUsize,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let dataset = DatasetBase::new(seen, Array1::from(labels.to_vec()));
    let model = BoostedTrees::params().threads(threads).fit(&dataset)?;
    Ok(model.score_parallel(tested.view(), threads)?.to_vec())
}

fn measure(
    entry: &Entry,
    set: &str,
    honest: &Array2<f64>,
    tested: &Array2<f64>,
    labels: &[bool],
    threads: NonZeroUsize,
    reference: Option<&BTreeMap<String, f64>>,
) -> Result<(Outcome, Vec<f64>), Box<dyn Error>> {
    let mut runs = Vec::new();
    let start = Instant::now();
    for seed in 0..entry.seeds {
        let (trained, scores) = (entry.run)(honest, tested, threads, seed)?;
        let area = auroc(&scores, labels).ok_or("the test needs attacks and honest rows")?;
        runs.push((area, trained, scores));
    }
    let seconds = start.elapsed().as_secs_f64() / entry.seeds as f64;
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (_, mut trained, scores) = runs.swap_remove(runs.len() / 2);
    trained.sort_by(f64::total_cmp);
    let threshold = trained[(trained.len() * 95 / 100).min(trained.len() - 1)];
    let outcome = outcome(entry.name, set, &scores, labels, threshold, seconds, reference)?;
    Ok((outcome, scores))
}

/// The metrics of scores with alarms above a threshold.
fn outcome(
    detector: &str,
    set: &str,
    scores: &[f64],
    labels: &[bool],
    threshold: f64,
    seconds: f64,
    reference: Option<&BTreeMap<String, f64>>,
) -> Result<Outcome, Box<dyn Error>> {
    let area = auroc(scores, labels).ok_or("the test needs attacks and honest rows")?;
    let alarms = Alarms::count(scores, labels, threshold);
    let metric = |name: &'static str, value: Option<f64>| Metric {
        name,
        value: value.unwrap_or(f64::NAN),
        reference: reference.and_then(|known| known.get(name).copied()),
    };
    Ok(Outcome {
        detector: detector.to_owned(),
        set: set.to_owned(),
        metrics: vec![
            metric("auroc", Some(area)),
            metric("ap", average_precision(scores, labels)),
            metric("f1", alarms.f1()),
            metric("recall", alarms.recall()),
            metric("fpr", alarms.false_positive_rate()),
            metric("fpr_at_95_recall", false_positive_rate_at(scores, labels, 0.95)),
        ],
        seconds,
    })
}

fn reference(folder: &Path) -> Result<BTreeMap<String, Reference>, Box<dyn Error>> {
    let path = folder.join("reference_scores.csv");
    let mut tasks: BTreeMap<String, Reference> = BTreeMap::new();
    if !path.exists() {
        return Ok(tasks);
    }
    let csv = Csv::read(&path)?;
    let (task, detector) = (csv.column("task")?, csv.column("detector")?);
    for line in &csv.lines {
        let numbers = csv
            .header
            .iter()
            .zip(line)
            .filter_map(|(name, field)| Some((name.clone(), field.parse().ok()?)));
        tasks
            .entry(line[task].to_owned())
            .or_default()
            .insert(line[detector].to_owned(), numbers.collect());
    }
    Ok(tasks)
}
