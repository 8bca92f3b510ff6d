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
use ndarray::{Array2, ArrayView2};

use crate::output::{Format, Metric, Outcome, mean};
use crate::report::{Drawn, Report, Results};
use crate::table::{Csv, folder};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `adbench/`, or that folder.
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
    entry("KNN", 1, |rows, threads, _| {
        scores(&Knn::params().threads(threads), rows)
    }),
    entry("LOF", 1, |rows, threads, _| {
        scores(&Lof::params().threads(threads), rows)
    }),
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
    for path in sets(&folder, &options.sets)? {
        let (name, rows, labels) = read(&path)?;
        for entry in ENTRIES
            .iter()
            .filter(chosen)
            .filter(|entry| rows.nrows() <= entry.most_rows)
        {
            let known = reference.get(&(name.clone(), entry.name.to_owned()));
            let (outcome, scores) = measure(entry, &name, &rows, &labels, options.threads, known)?;
            let drawn = Drawn {
                scores: &scores,
                labels: &labels,
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
    Ok(())
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
    set: &str,
    rows: &Array2<f64>,
    labels: &[bool],
    threads: NonZeroUsize,
    reference: Option<&(f64, f64)>,
) -> Result<(Outcome, Vec<f64>), Box<dyn Error>> {
    let (mut area, mut precision, n) = (0.0, 0.0, entry.seeds as f64);
    let start = Instant::now();
    let mut runs = Vec::new();
    for seed in 0..entry.seeds {
        runs.push((entry.run)(rows.view(), threads, seed)?);
    }
    let seconds = start.elapsed().as_secs_f64() / n;
    for scores in &runs {
        area += auroc(scores, labels).ok_or("both labels must occur")? / n;
        precision += average_precision(scores, labels).ok_or("anomalies must occur")? / n;
    }
    let metric = |name, value, reference| Metric {
        name,
        value,
        reference,
    };
    let outcome = Outcome {
        detector: entry.name.to_owned(),
        set: set.to_owned(),
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
    let fail = |error| format!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let is_set = path.to_str().is_some_and(|path| path.ends_with(".csv.gz"));
        if is_set && (wanted.is_empty() || wanted.contains(&set_name(&path))) {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{}: there is no such set", folder.display()).into());
    }
    Ok(paths)
}

fn set_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".csv.gz").to_owned()
}

/// Name, rows with each column brought to 0..1, labels.
type Set = (String, Array2<f64>, Vec<bool>);

fn read(path: &Path) -> Result<Set, Box<dyn Error>> {
    let csv = Csv::read(path)?;
    let labels = csv.labels()?;
    let label = csv.column("label")?;
    let mut values = Vec::with_capacity(csv.lines.len() * (csv.header.len() - 1));
    for (number, line) in csv.lines.iter().enumerate() {
        for (_, field) in line.iter().enumerate().filter(|(column, _)| *column != label) {
            let fail = |error| format!("{}: line {}: {field}: {error}", path.display(), number + 2);
            values.push(field.parse::<f64>().map_err(fail)?);
        }
    }
    let mut rows = Array2::from_shape_vec((csv.lines.len(), csv.header.len() - 1), values)?;
    for mut column in rows.columns_mut() {
        let low = column.iter().copied().fold(f64::INFINITY, f64::min);
        let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let width = if high > low { high - low } else { 1.0 };
        column.mapv_inplace(|value| (value - low) / width);
    }
    Ok((set_name(path), rows, labels))
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
        ["dataset", "detector", "auroc", "ap"].map(|name| csv.column(name).unwrap_or(usize::MAX));
    let known = csv.lines.iter().filter_map(|line| {
        let number = |at: usize| {
            line.get(at)?
                .parse::<f64>()
                .ok()
                .filter(|value| value.is_finite())
        };
        let key = (line.get(set)?.clone(), line.get(detector)?.clone());
        Some((key, (number(area)?, number(precision)?)))
    });
    Ok(known.collect())
}
