//! Watches network traffic, from capture files or an interface, and what happens on this machine, and says who attacks
//! whom, and why it thinks so.
//!
//! Packets become flow, DNS and ARP events, what processes do becomes events too; events become signed, durable batches
//! in a log; what is in the log becomes features, scores and alerts. Start it again on the same data directory and it
//! goes on where it was.

#[path = "sentinel/analysis.rs"]
mod analysis;
#[path = "sentinel/audit.rs"]
mod audit;
#[path = "sentinel/inputs.rs"]
mod inputs;
#[path = "sentinel/models.rs"]
mod models;

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use amoskys_analysis::correlation::correlation_schema;
use amoskys_analysis::report::Report;
use amoskys_analysis::{AlertFile, Review, evidence_schema};
use amoskys_collectors::flow::Progress;
use amoskys_core::config::{Config, ConfigErrors};
use amoskys_core::error::Chain;
use amoskys_core::pipeline::{BatchLimits, Pipeline, Retention};
use amoskys_core::seal::LogParts;
use amoskys_core::{Class, FeatureSchema, Shutdown, read_log};
use amoskys_transport::protect::{Protection, RevealingOpener};
use amoskys_transport::{Log, LogOptions};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Watch network traffic and this machine, and raise explained alerts.
///
/// Exit status: 0 if all went well, with or without alerts; 1 if a part failed while the others went on; 2 for wrong
/// arguments or settings, or if it could not go on.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    inputs: inputs::Inputs,
    #[command(flatten)]
    analysis: analysis::Analysis,
    #[command(flatten)]
    models: models::Models,
    /// Keep the log and its key here; by default, and without the setting log.path, in a temporary directory that is
    /// removed at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write alerts to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// Write a report to this file: one HTML page that needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Read settings from this YAML file; variables AMOSKYS_SECTION_KEY win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match watch(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sentinel: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

/// Does the work; says whether no part failed.
async fn watch(args: &Args) -> Result<bool, Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let config = settings(args, temporary.path())?;
    if let Some(path) = &args.report {
        // Better known now than after a day of watching.
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let live = args.inputs.read.is_empty();
    let (normal, changes) = args.analysis.normal(&config, live)?.unzip();
    let maker = models::Maker {
        analysis: args.analysis.clone(),
        config: config.clone(),
        normal,
    };
    let (mut analyzer, mut at_work) = args.models.start(maker).await?;
    let mut log = LogParts::from(Log::open(&config.log.path, LogOptions::from(&config))?);
    let protection = Protection::of_settings(&config.protect)?;
    if let Some(protection) = &protection {
        // What is protected in the log is seen by the detection.
        log.open = Arc::new(RevealingOpener::new(log.open, protection.reveal()));
    }
    let (wal, opener) = (log.wal.clone(), log.open.clone());
    let alerts = args.alerts.as_ref().map(AlertFile::open).transpose()?;
    let mut review = Review::new().with_report(report(args, at_work.schemas()));
    let mut failures = Vec::new();
    if args.inputs.replay {
        if let Some(file) = alerts {
            review = review.with_alert_file(file);
        }
        review.redraw(read_log(&*wal, &*opener), &mut analyzer)?;
    } else {
        let shutdown = stop_on_ctrl_c();
        let (pipeline, progress) = args.inputs.join(Pipeline::builder(), &config, &shutdown)?;
        let bar = progress.map(|progress| tokio::spawn(show_progress(progress)));
        let mut pipeline = pipeline
            .name(&config.agent.name)
            .limits(BatchLimits::from(&config.batch))
            .log(log)
            .retention(Retention::UntilFull)
            .analyzer(analyzer);
        let replacements = if live {
            at_work.watch(&config.agent.name)
        } else {
            Vec::new()
        };
        for decisions in changes.into_iter().chain(replacements) {
            pipeline = pipeline.collector(decisions);
        }
        if let Some(protection) = &protection {
            pipeline = pipeline.transform(protection.transform());
        }
        if let Some(file) = alerts {
            pipeline = pipeline.sink_of(Class::Alert, file);
        }
        let run = pipeline.build()?.run(shutdown).await?;
        if let Some(bar) = bar {
            bar.abort();
        }
        review.read(read_log(&*wal, &*opener))?;
        review.set_ledger(run.ledger);
        failures = run.failures;
    }
    let disagreement = at_work.disagreement();
    disagreement.iter().for_each(|told| review.set_disagreement(told));
    // Whoever reads may have seen enough, for example `sentinel ... | head`.
    writeln!(std::io::stdout(), "{review}").ok();
    if let Some(disagreement) = disagreement {
        writeln!(std::io::stdout(), "{disagreement}").ok();
    }
    if let (Some(path), Some(page)) = (&args.report, review.page()) {
        std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for (part, error) in &failures {
        eprintln!("sentinel: {part}: {}", Chain(&**error));
    }
    for error in review.damage() {
        eprintln!("sentinel: log: {}", Chain(&**error));
    }
    Ok(failures.is_empty() && review.damaged_records() == 0)
}

/// Defaults of this program, then the file, then the environment, then the arguments.
fn settings(args: &Args, temporary: &Path) -> Result<Config, ConfigErrors> {
    let temporary = temporary.to_string_lossy().replace('\'', "''");
    let defaults = format!("agent:\n  name: sentinel\nlog:\n  path: '{temporary}'\n");
    let mut loader = Config::loader().yaml(defaults, "sentinel").process_environment();
    if let Some(file) = &args.config {
        loader = loader.file(file);
    }
    if let Some(dir) = args.data_dir.clone() {
        loader = loader.adjust(move |config| config.log.path = dir);
    }
    let loaded = loader.load()?;
    for warning in &loaded.warnings {
        eprintln!("sentinel: {warning}");
    }
    Ok(loaded.config)
}

fn report(args: &Args, windows: &[FeatureSchema]) -> Report {
    let mut report = Report::new("Sentinel");
    report.schema(&evidence_schema());
    report.schema(&correlation_schema());
    windows.iter().for_each(|schema| report.schema(schema));
    args.inputs.names().iter().for_each(|name| report.input(name));
    report
}

fn stop_on_ctrl_c() -> Shutdown {
    let shutdown = Shutdown::new();
    let trigger = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            eprintln!("sentinel: draining; what was collected is kept");
            trigger.trigger();
        }
    });
    shutdown
}

async fn show_progress(progress: Progress) {
    let style = "{percent:>3}% {bar:40} {bytes}/{total_bytes} {eta}";
    let bar = ProgressBar::new(progress.bytes_total());
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        bar.set_position(progress.bytes_read());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
