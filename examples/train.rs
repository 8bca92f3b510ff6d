//! Trains models, says what is inside them, and applies them to tables.
//!
//! ```text
//! cargo run --release --example train -- --csv FILE [--label COLUMN] [--detector NAME] -o MODEL
//! cargo run --release --example train -- --log DIR -o MODEL
//! cargo run --release --example train -- --describe MODEL
//! cargo run --release --example train -- --score MODEL --csv FILE [-o SCORES.csv]
//! ```
//!
//! A model file holds all that is needed to use the model and to account for it: the schema of its features, encoders and
//! normalizers, detector, calibration, threshold, parameters, seed, the digest of the data, and figures measured on a part of it that
//! was held out. The same data and the same seed give the same file, byte for byte, on any number of threads.

#[path = "train/describe.rs"]
mod describe;
#[path = "train/fit.rs"]
mod fit;
#[path = "train/left_out.rs"]
mod left_out;
#[path = "train/log.rs"]
mod log;
#[path = "train/score.rs"]
mod score;
#[path = "train/table.rs"]
mod table;

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use amoskys_analysis::model::{DetectorKind, ModelFile};
use amoskys_core::error::Chain;
use clap::{ArgGroup, Parser};

/// Train a model on a table or a recorded log; describe one; score a table with one.
///
/// Exit status: 0 if all went well, 1 otherwise.
#[derive(Parser)]
#[command(version, group(ArgGroup::new("what").required(true).multiple(true).args(["csv", "log", "describe"])))]
struct Options {
    /// A table: CSV with a header, packed with gzip if its name ends in `.gz`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["log", "describe"])]
    csv: Option<PathBuf>,
    /// The data directory of a recorded log, taken to be honest: what is in it will be normal.
    #[arg(long, value_name = "DIR", conflicts_with = "describe")]
    log: Option<PathBuf>,
    /// Print what is in this model file.
    #[arg(long, value_name = "MODEL")]
    describe: Option<PathBuf>,
    /// Score the table with this model instead of training one.
    #[arg(long, value_name = "MODEL", requires = "csv")]
    score: Option<PathBuf>,
    /// Where the model goes; with --score the scores, by default to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// How a model is trained.
#[derive(Clone, Debug, clap::Args)]
struct Settings {
    /// The column that says which rows are attacks: 0 or 1, or words; `normal` and `benign` are honest, other words are not.
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The detector; `auto` is boosted trees for a table with labels, and the ensemble otherwise. Detectors without labels are
    /// fitted on the honest rows of a table with labels.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = detector)]
    detector: Detector,
    /// Columns that are no features: answers, numbers of rows.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Columns that are categories though they look like numbers.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    categorical: Vec<String>,
    /// Windows to learn from a log, by their names.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_values = ["host.60s", "service.60s", "dns_client.60s"])]
    windows: Vec<String>,
    /// Whose log it is: the name of the agent that recorded it; by default that of the settings, or `sentinel`.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Settings the log was recorded with, if some of it is protected.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Share of honest rows that may be called an alarm.
    #[arg(long, value_name = "SHARE", default_value = "0.01")]
    false_alarms: f64,
    /// Seed of all random choices.
    #[arg(long, default_value = "0")]
    seed: u64,
    /// What the model is called; by default as its file.
    #[arg(long)]
    name: Option<String>,
    /// Threads. The model does not depend on it.
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
}

/// A detector that was asked for; `None` leaves the choice to the data.
type Detector = Option<DetectorKind>;

fn detector(name: &str) -> Result<Detector, String> {
    if name == "auto" {
        return Ok(None);
    }
    match DetectorKind::of_name(name) {
        Some(kind) => Ok(Some(kind)),
        None => {
            let known: Vec<&str> = DetectorKind::ALL.iter().map(|kind| kind.name()).collect();
            Err(format!("there are auto, {}", known.join(", ")))
        }
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("train: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    if let Some(path) = &options.describe {
        return describe::print(&load(path)?);
    }
    if let (Some(model), Some(csv)) = (&options.score, &options.csv) {
        return score::run(model, csv, options.output.as_deref(), options.settings.threads);
    }
    let output = options
        .output
        .as_deref()
        .ok_or("where is the model to go? -o FILE says it")?;
    let mut settings = options.settings.clone();
    if !(settings.false_alarms > 0.0 && settings.false_alarms < 1.0) {
        return Err("--false-alarms must be above 0 and below 1".into());
    }
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    settings.name.get_or_insert_with(|| stem.into_owned());
    let file = match (&options.csv, &options.log) {
        (Some(csv), _) => fit::table(csv, &settings)?,
        (None, Some(log)) => log::learn(log, &settings)?,
        (None, None) => return Err("there is nothing to train on".into()),
    };
    file.save(output)?;
    println!("{}: {} bytes", output.display(), std::fs::metadata(output)?.len());
    describe::print(&file)
}

fn load(path: &Path) -> Result<ModelFile, Box<dyn Error>> {
    Ok(ModelFile::load(path).map_err(|error| format!("{}: {}", path.display(), Chain(&error)))?)
}
