//! `ids`: flow records with labels. Detectors see the honest rows of the training part only, alarm above the 95th percentile of their
//! scores, and are measured on the test part. Without `--test`, 30 % of the training file, stratified by label, are the test.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use amoskys_analysis::detectors::{Detector as _, Ensemble, FitScore, Novelty};
use amoskys_analysis::eval::{Alarms, auroc, average_precision, false_positive_rate_at, stratified_split};
use amoskys_analysis::iforest::{IsolationForest, Rows};
use ndarray::Array2;

use crate::output::{Format, Metric, Outcome, Printer};
use crate::table::{Csv, folder};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `ids/`, or that folder: an internal split of each set.
    #[arg(long, required_unless_present = "train")]
    data: Option<PathBuf>,
    /// A file to train on. Its column `label` is 1 for attacks.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    train: Option<PathBuf>,
    /// A file to test on.
    #[arg(long, value_name = "FILE", requires = "train")]
    test: Option<PathBuf>,
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
/// Columns that tell the answer, or where a row comes from.
const NOT_FEATURES: [&str; 7] = [
    "label",
    "attack",
    "attack_cat",
    "family",
    "difficulty",
    "id",
    "source",
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

pub(crate) fn run(options: &Options, format: Format) -> Result<(), Box<dyn Error>> {
    let mut printer = Printer::new(format);
    if let Some(train) = &options.train {
        let name = train
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (train, test) = match &options.test {
            Some(test) => (Csv::read(train)?, Some(Csv::read(test)?)),
            None => (Csv::read(train)?, None),
        };
        return evaluate(
            &name,
            &train,
            test.as_ref(),
            &BTreeMap::new(),
            options.threads,
            &mut printer,
        );
    }
    let data = options.data.as_deref().unwrap_or(Path::new("."));
    let folder = folder(data, "ids");
    let reference = reference(&folder)?;
    for (file, task) in SETS {
        let train = Csv::read(&folder.join(format!("{file}.csv.gz")))?;
        let of_task = reference.get(task).cloned().unwrap_or_default();
        evaluate(file, &train, None, &of_task, options.threads, &mut printer)?;
    }
    Ok(())
}

/// Metrics of the reference, by detector and name.
type Reference = BTreeMap<String, BTreeMap<String, f64>>;

fn evaluate(
    name: &str,
    train: &Csv,
    test: Option<&Csv>,
    reference: &Reference,
    threads: NonZeroUsize,
    printer: &mut Printer,
) -> Result<(), Box<dyn Error>> {
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
    let honest: Vec<&[String]> = train_lines
        .iter()
        .filter(|&&at| !labels[at])
        .map(|&at| train.lines[at].as_slice())
        .collect();
    let tested: Vec<&[String]> = test_lines
        .iter()
        .map(|&at| test.unwrap_or(train).lines[at].as_slice())
        .collect();
    if let Some(test) = test.filter(|test| test.header != train.header) {
        return Err(format!("{}: other columns than in the training file", test.path.display()).into());
    }
    let encoding = Encoding::fit(&train.header, &honest);
    let (honest, tested) = (encoding.apply(&honest)?, encoding.apply(&tested)?);
    for entry in &ENTRIES {
        let known = entry.reference.and_then(|name| reference.get(name));
        printer.print(&measure(
            entry,
            name,
            &honest,
            &tested,
            &test_labels,
            threads,
            known,
        )?);
    }
    Ok(())
}

fn measure(
    entry: &Entry,
    set: &str,
    honest: &Array2<f64>,
    tested: &Array2<f64>,
    labels: &[bool],
    threads: NonZeroUsize,
    reference: Option<&BTreeMap<String, f64>>,
) -> Result<Outcome, Box<dyn Error>> {
    let mut runs = Vec::new();
    let start = Instant::now();
    for seed in 0..entry.seeds {
        let (trained, scores) = (entry.run)(honest, tested, threads, seed)?;
        let area = auroc(&scores, labels).ok_or("the test needs attacks and honest rows")?;
        runs.push((area, trained, scores));
    }
    let seconds = start.elapsed().as_secs_f64() / entry.seeds as f64;
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (area, mut trained, scores) = runs.swap_remove(runs.len() / 2);
    trained.sort_by(f64::total_cmp);
    let threshold = trained[(trained.len() * 95 / 100).min(trained.len() - 1)];
    let alarms = Alarms::count(&scores, labels, threshold);
    let metric = |name: &'static str, value: Option<f64>| Metric {
        name,
        value: value.unwrap_or(f64::NAN),
        reference: reference.and_then(|known| known.get(name).copied()),
    };
    Ok(Outcome {
        detector: entry.name.to_owned(),
        set: set.to_owned(),
        metrics: vec![
            metric("auroc", Some(area)),
            metric("ap", average_precision(&scores, labels)),
            metric("f1", alarms.f1()),
            metric("recall", alarms.recall()),
            metric("fpr", alarms.false_positive_rate()),
            metric("fpr_at_95_recall", false_positive_rate_at(&scores, labels, 0.95)),
        ],
        seconds,
    })
}

/// How the fields of a line become numbers.
struct Encoding {
    columns: Vec<Column>,
}

enum Column {
    /// What the field says; if that is not finite, the last number.
    Number(usize, f64),
    /// 1 where the field is this category.
    Category(usize, String),
}

impl Encoding {
    /// From training lines: a column is a number if every field is one. A category the training lines lack is none of them.
    fn fit(header: &[String], lines: &[&[String]]) -> Self {
        let mut columns = Vec::new();
        for (at, _) in header
            .iter()
            .enumerate()
            .filter(|(_, name)| !NOT_FEATURES.contains(&name.as_str()))
        {
            let numbers: Option<Vec<f64>> = lines.iter().map(|line| line[at].parse().ok()).collect();
            match numbers {
                Some(numbers) => {
                    let most = numbers
                        .into_iter()
                        .filter(|number| number.is_finite())
                        .fold(0.0, f64::max);
                    columns.push(Column::Number(at, most));
                }
                None => {
                    let mut known: Vec<&String> = lines.iter().map(|line| &line[at]).collect();
                    known.sort_unstable();
                    known.dedup();
                    columns.extend(known.into_iter().map(|known| Column::Category(at, known.clone())));
                }
            }
        }
        Self { columns }
    }

    fn apply(&self, lines: &[&[String]]) -> Result<Array2<f64>, Box<dyn Error>> {
        let mut values = Vec::with_capacity(lines.len() * self.columns.len());
        for line in lines {
            for column in &self.columns {
                values.push(match column {
                    Column::Number(at, most) => match line[*at].parse::<f64>() {
                        // An infinite rate is that of a flow without duration.
                        Ok(number) if number.is_finite() => number,
                        Ok(number) if number > 0.0 => *most,
                        _ => 0.0,
                    },
                    Column::Category(at, category) => f64::from(u8::from(line[*at] == *category)),
                });
            }
        }
        Ok(Array2::from_shape_vec((lines.len(), self.columns.len()), values)?)
    }
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
            .entry(line[task].clone())
            .or_default()
            .insert(line[detector].clone(), numbers.collect());
    }
    Ok(tasks)
}
