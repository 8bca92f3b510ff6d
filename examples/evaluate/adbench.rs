//! `adbench`: columns scaled to 0..1 over the whole set, a detector fitted on all rows without labels, the same rows scored.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use amoskys_analysis::detectors::{
    Copod, Ecod, Ensemble, ExtendedIsolationForest, FitScore, GaussianMixture, Hbos, Knn, Loda, Lof,
    NearestSample, OneClassSvm, Pca,
};
use amoskys_analysis::eval::{auroc, average_precision};
use amoskys_analysis::iforest::{IsolationForest, Rows};
use amoskys_analysis::model::Filling;
use ndarray::{Array2, ArrayView2};

use crate::output::{Format, Metric, Outcome, mean};
use crate::report::{Drawn, Report, Results};
use crate::table::{Csv, Failures, Lines, NO_LABEL, folder, label, number, table_name, tables};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `adbench/`, that folder, or one set: CSV whose column `label` is 1 for anomalies, all others numbers.
    #[arg(long)]
    data: PathBuf,
    /// Only these detectors.
    #[arg(long, value_delimiter = ',')]
    detectors: Vec<String>,
    /// Only these sets.
    #[arg(long, value_delimiter = ',')]
    sets: Vec<String>,
    /// Threads of each detector. No score depends on it.
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
}

type Scores = Result<Vec<f64>, Box<dyn Error>>;
/// Fits and scores: rows, threads, seed.
type Run = fn(ArrayView2<'_, f64>, NonZeroUsize, u64) -> Scores;

/// A detector with the parameters of the reference.
struct Entry {
    name: &'static str,
    /// Results of detectors that draw are means over so many seeds.
    seeds: u64,
    /// Larger sets are left out.
    most_rows: usize,
    /// Whether it compares every row with every other where a tree does not help.
    all_pairs: bool,
    run: Run,
}

const ENTRIES: &[Entry] = &[
    entry("IForest", 5, |rows, threads, seed| {
        let whole = rows.as_standard_layout();
        let rows = Rows::new(whole.as_slice().unwrap_or_default(), rows.ncols())?;
        let forest = IsolationForest::params()
            .seed(seed)
            .threads(threads)
            .validate()?
            .fit_rows(rows)?;
        Ok(forest.score_parallel(rows, threads)?)
    }),
    entry("HBOS", 1, |rows, threads, _| {
        scores(&Hbos::params().threads(threads), rows)
    }),
    entry("ECOD", 1, |rows, threads, _| {
        scores(&Ecod::params().threads(threads), rows)
    }),
    entry("COPOD", 1, |rows, threads, _| {
        scores(&Copod::params().threads(threads), rows)
    }),
    entry("LODA", 5, |rows, threads, seed| {
        scores(&Loda::params().threads(threads).seed(seed), rows)
    }),
    Entry {
        all_pairs: true,
        ..entry("KNN", 1, |rows, threads, _| {
            scores(&Knn::params().threads(threads), rows)
        })
    },
    Entry {
        all_pairs: true,
        ..entry("LOF", 1, |rows, threads, _| {
            scores(&Lof::params().threads(threads), rows)
        })
    },
    entry("PCA", 1, |rows, threads, _| {
        scores(&Pca::params().threads(threads), rows)
    }),
    Entry {
        // The reference has it on sets of up to so many rows.
        most_rows: 10_000,
        ..entry("OCSVM", 1, |rows, threads, _| {
            scores(&OneClassSvm::params().threads(threads), rows)
        })
    },
    entry("GMM", 1, |rows, threads, _| {
        scores(&GaussianMixture::params().threads(threads), rows)
    }),
    entry("EIF", 5, |rows, threads, seed| {
        scores(
            &ExtendedIsolationForest::params().threads(threads).seed(seed),
            rows,
        )
    }),
    entry("NearestSample", 5, |rows, threads, seed| {
        scores(&NearestSample::params().threads(threads).seed(seed), rows)
    }),
    entry("Ensemble", 5, |rows, threads, seed| {
        scores(&Ensemble::params().threads(threads).seed(seed), rows)
    }),
];

const fn entry(name: &'static str, seeds: u64, run: Run) -> Entry {
    Entry {
        name,
        seeds,
        most_rows: usize::MAX,
        all_pairs: false,
        run,
    }
}

fn scores(params: &impl FitScore, rows: ArrayView2<'_, f64>) -> Scores {
    Ok(params.fit_score(rows)?.1.to_vec())
}

pub(crate) fn run(options: &Options, format: Format, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let folder = folder(&options.data, "adbench");
    for name in &options.detectors {
        if !ENTRIES.iter().any(|entry| entry.name == *name) {
            let known: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
            return Err(format!("there is no detector {name}; there are {}", known.join(", ")).into());
        }
    }
    let chosen =
        |entry: &&Entry| options.detectors.is_empty() || options.detectors.iter().any(|n| n == entry.name);
    let reference = reference(&folder)?;
    let mut results = Results::new(format, report);
    let mut outcomes = Vec::new();
    let mut failures = Failures::default();
    for path in sets(&folder, &options.sets)? {
        let Some(set) = failures.note(Set::read(&path)) else {
            continue;
        };
        for entry in ENTRIES.iter().filter(chosen) {
            let known = reference.get(&(set.name.clone(), entry.name.to_owned()));
            let (outcome, scores) = match entry.suits(&set.rows) {
                Ok(()) => match measure(entry, &set, options.threads, known) {
                    Ok(measured) => measured,
                    Err(error) => {
                        say_left_out(&set.name, entry, &*error);
                        continue;
                    }
                },
                Err(why) => {
                    say_left_out(&set.name, entry, &*why);
                    continue;
                }
            };
            let drawn = Drawn {
                scores: &scores,
                labels: &set.labels,
                probabilities: None,
            };
            results.add(&outcome, Some(&drawn));
            outcomes.push(outcome);
        }
    }
    if format == Format::Table {
        for entry in ENTRIES.iter().filter(chosen) {
            print_means(entry, &outcomes, &mut results);
        }
    }
    failures.finish()
}

/// A result that is missing is said to be, with its reason, as in the reference.
fn say_left_out(set: &str, entry: &Entry, why: &dyn Error) {
    let mut because = why.to_string();
    let mut cause = why.source();
    while let Some(error) = cause {
        because.push_str(&format!(": {error}"));
        cause = error.source();
    }
    eprintln!("{set}: {} is left out: {because}", entry.name);
}

/// Distances, times columns, that are not worth waiting for: about ten minutes.
const MOST_WORK: f64 = 5e12;
/// With so many columns a tree still helps.
const TREE_COLUMNS: usize = 15;

impl Entry {
    /// Whether a set is not too large.
    fn suits(&self, rows: &Array2<f64>) -> Result<(), Box<dyn Error>> {
        let (count, columns) = rows.dim();
        if count > self.most_rows {
            return Err(format!("{count} rows, and it is measured on {} at most", self.most_rows).into());
        }
        let work = count as f64 * count as f64 * columns as f64;
        if self.all_pairs && columns > TREE_COLUMNS && work > MOST_WORK {
            let what = format!("all distances of {count} rows in {columns} columns would take too long");
            return Err(what.into());
        }
        Ok(())
    }
}

fn print_means(entry: &Entry, outcomes: &[Outcome], results: &mut Results<'_>) {
    let of: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.detector == entry.name)
        .collect();
    let compared: Vec<&Outcome> = of
        .iter()
        .copied()
        .filter(|outcome| outcome.metrics[0].reference.is_some())
        .collect();
    if !compared.is_empty() && compared.len() < of.len() {
        let name = format!("mean of {} with reference", compared.len());
        mean(&compared, &name)
            .iter()
            .for_each(|mean| results.add(mean, None));
    }
    // In order of their names without the number before: the halves by which a configuration is chosen and checked.
    let mut by_name = of.clone();
    by_name.sort_by_key(|outcome| {
        outcome
            .set
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == '_')
            .to_lowercase()
    });
    for (first, name) in [(0, "mean of half A"), (1, "mean of half B")] {
        let half: Vec<&Outcome> = by_name.iter().copied().skip(first).step_by(2).collect();
        mean(&half, name).iter().for_each(|mean| results.add(mean, None));
    }
    mean(&of, &format!("mean of {}", of.len()))
        .iter()
        .for_each(|mean| results.add(mean, None));
}

fn measure(
    entry: &Entry,
    set: &Set,
    threads: NonZeroUsize,
    reference: Option<&(f64, f64)>,
) -> Result<(Outcome, Vec<f64>), Box<dyn Error>> {
    let (mut area, mut precision, n) = (0.0, 0.0, entry.seeds as f64);
    let start = Instant::now();
    let mut runs = Vec::new();
    for seed in 0..entry.seeds {
        runs.push((entry.run)(set.rows.view(), threads, seed)?);
    }
    let seconds = start.elapsed().as_secs_f64() / n;
    for scores in &runs {
        area += auroc(scores, &set.labels).ok_or("both labels must occur")? / n;
        precision += average_precision(scores, &set.labels).ok_or("anomalies must occur")? / n;
    }
    let metric = |name, value, reference| Metric {
        name,
        value,
        reference,
    };
    let outcome = Outcome {
        detector: entry.name.to_owned(),
        set: set.name.clone(),
        metrics: vec![
            metric("auroc", area, reference.map(|reference| reference.0)),
            metric("ap", precision, reference.map(|reference| reference.1)),
        ],
        seconds,
    };
    // The curves drawn are those of the first seed.
    Ok((outcome, runs.swap_remove(0)))
}

/// The sets of the folder in order of their names.
fn sets(folder: &Path, wanted: &[String]) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths = tables(folder)?;
    for name in wanted {
        if !paths.iter().any(|path| table_name(path) == *name) {
            return Err(format!("{}: there is no set {name}", folder.display()).into());
        }
    }
    paths.retain(|path| wanted.is_empty() || wanted.contains(&table_name(path)));
    Ok(paths)
}

/// Rows with each column brought to 0..1, and their labels.
struct Set {
    name: String,
    rows: Array2<f64>,
    labels: Vec<bool>,
}

impl Set {
    /// Reads line by line: a large set is held once, as numbers.
    fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let mut lines = Lines::open(path)?;
        let answer = lines.column("label")?;
        let columns = lines.header.len() - 1;
        if columns == 0 {
            return Err(format!("{}: line 1: there is no column but label", path.display()).into());
        }
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        while let Some(line) = lines.next()? {
            let mut bad = None;
            for (column, field) in line.iter().enumerate() {
                if column == answer {
                    labels.extend(label(field));
                    if label(field).is_none() {
                        bad = Some((column, NO_LABEL));
                    }
                } else {
                    values.extend(number(field));
                    if number(field).is_none() {
                        bad = Some((column, "not a number"));
                    }
                }
                if bad.is_some() {
                    break;
                }
            }
            if let Some((column, what)) = bad {
                return Err(lines.wrong(column, what));
            }
        }
        if !labels.contains(&true) || !labels.contains(&false) {
            let what = format!("{} rows, and not both labels among them", labels.len());
            return Err(format!("{}: {what}", path.display()).into());
        }
        let mut rows = Array2::from_shape_vec((labels.len(), columns), values)?;
        fill(path, &mut rows);
        for mut column in rows.columns_mut() {
            let low = column.iter().copied().fold(f64::INFINITY, f64::min);
            let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if high - low < f64::INFINITY {
                let width = if high > low { high - low } else { 1.0 };
                column.mapv_inplace(|value| (value - low) / width);
            } else {
                // The difference of the two ends is beyond what a number holds.
                let width = high / 2.0 - low / 2.0;
                column.mapv_inplace(|value| (value / 2.0 - low / 2.0) / width);
            }
        }
        Ok(Self {
            name: table_name(path),
            rows,
            labels,
        })
    }
}

/// Where a value is missing, the middle one of its column stands; where it is infinite, the last finite one. Detectors need numbers.
fn fill(path: &Path, rows: &mut Array2<f64>) {
    let absent = rows.iter().filter(|value| !value.is_finite()).count();
    if absent == 0 {
        return;
    }
    let filling = Filling::fit(rows.view());
    for mut row in rows.rows_mut() {
        if let Some(row) = row.as_slice_mut() {
            filling.apply(row);
        }
    }
    eprintln!(
        "{}: {absent} of {} values are missing or infinite; the median or the last finite value of their column stands for them",
        path.display(),
        rows.len()
    );
}

/// AUROC and average precision of the reference, by set and detector.
type Reference = BTreeMap<(String, String), (f64, f64)>;

/// Empty if there is no such file.
fn reference(folder: &Path) -> Result<Reference, Box<dyn Error>> {
    let path = folder.join("reference_scores.csv");
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let csv = Csv::read(&path)?;
    let [set, detector, area, precision] =
        ["dataset", "detector", "auroc", "ap"].map(|name| csv.column(name));
    let [set, detector, area, precision] = [set?, detector?, area?, precision?];
    let known = csv.lines.iter().filter_map(|line| {
        let number = |at: usize| {
            line.get(at)?
                .parse::<f64>()
                .ok()
                .filter(|value| value.is_finite())
        };
        let key = (line.get(set)?.to_owned(), line.get(detector)?.to_owned());
        Some((key, (number(area)?, number(precision)?)))
    });
    Ok(known.collect())
}
