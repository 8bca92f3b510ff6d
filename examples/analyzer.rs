//! Reads what agents sent to a bus, says who attacks whom, and sends its verdicts back to the bus, where consoles and
//! others can read them.
//!
//! The agents' events are brought into one order, that of their times. Where it has come to, and what it knows, is
//! written down regularly: killed and started again, it draws the same verdicts, each once.

#[path = "sentinel/analysis.rs"]
mod analysis;
#[path = "sentinel/audit.rs"]
mod audit;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use amoskys_analysis::AlertFile;
use amoskys_core::config::{Config, ConfigErrors};
use amoskys_core::error::Chain;
use amoskys_core::pipeline::{BatchLimits, MergeOptions, Pipeline};
use amoskys_core::{Class, Offset, Shutdown};
use amoskys_transport::bus::{
    ConnectOptions, Publisher, PublisherOptions, Start, SubscribeOptions, Subscription,
};
use amoskys_transport::check::{Checkup, Severity};
use amoskys_transport::health::{Health, HealthServer};
use amoskys_transport::identity::{Credentials, Reloader, Role};
use amoskys_transport::{Check, Log, LogOptions};
use analysis::Trained;
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;

/// Analyze what agents sent to a bus, until Ctrl-C.
///
/// Exit status: 0 if all went well, with or without alerts; 1 if a part failed while the others went on, or --check
/// found an error; 2 for wrong arguments or settings, or if it could not go on.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Write alerts to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    #[command(flatten)]
    analysis: analysis::Analysis,
    /// Wait for these agents to be heard of before anything is analyzed.
    #[arg(long, value_name = "AGENT", num_args = 1..)]
    expect: Vec<String>,
    /// End when all agents that were heard of or expected have ended, as agents of capture files do.
    #[arg(long)]
    until_end: bool,
    /// Read settings from this YAML file; variables AMOSKYS_SECTION_KEY win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only look whether settings, certificates, keys, log and bus address are fit for use, and print all problems.
    #[arg(long)]
    check: bool,
}

/// How long a stop waits for the bus. What it does not have by then is in the log, and goes to it the next time.
const DRAIN: Duration = Duration::from_secs(10);
/// How often it looks whether certificates, revocations and the keys of agents are others.
const LOOK_AT_FILES: Duration = Duration::from_millis(250);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match run(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("analyzer: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

/// Does the work; says whether no part failed.
async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let config = settings(args)?;
    let problems = Checkup::new(&config, Role::Analyzer).run();
    problems
        .iter()
        .for_each(|problem| eprintln!("analyzer: {problem}"));
    let fit = problems.iter().all(|problem| problem.severity != Severity::Error);
    if args.check {
        if problems.is_empty() {
            println!("nothing is wrong");
        }
        return Ok(fit);
    }
    if !fit {
        return Err("it cannot start before this is put right".into());
    }
    let (health, metrics) = (Health::new(), PrometheusBuilder::new().install_recorder()?);
    for server in HealthServer::bind_settings(&config, move || metrics.render()).await? {
        // To the end of the process: it lives as long as it drains.
        tokio::spawn(server.serve(health.clone(), Shutdown::new()));
    }
    let stop = stop_on_signal(&health)?;
    let pipeline = pipeline(args, &config, &health, &stop).await?;
    health.ready(true);
    let report = pipeline.run(stop).await?;
    println!("{}", report.ledger);
    for (part, error) in &report.failures {
        eprintln!("analyzer: {part}: {}", Chain(&**error));
    }
    Ok(report.failures.is_empty())
}

async fn pipeline(
    args: &Args,
    config: &Config,
    health: &Health,
    stop: &Shutdown,
) -> Result<Pipeline, Box<dyn Error>> {
    let dir = config.bus.cert_dir.clone().unwrap_or_default();
    let files = Credentials::in_dir(dir, &config.agent.name);
    let credentials = Reloader::open(&files)?;
    // Believes the agents, not the bus: whose signature is not trusted is not analyzed.
    let options = LogOptions::from(config)
        .key_file(&files.signing_key)
        .trust(credentials.trust().clone())
        .check(Check::Signature);
    let log = Log::open(&config.log.path, options)?;
    let bus = ConnectOptions::new(&config.bus.address, credentials.tls()).settings(&config.bus);
    let stopped = stop.clone();
    tokio::spawn(async move { credentials.watch(LOOK_AT_FILES, stopped).await });
    let events = SubscribeOptions::new(bus.clone().watch(health.reporter("bus/events")))
        .position("analysis")
        // Without a checkpoint of its own, what the bus remembers of it is no use.
        .start(Start::At(Offset(0)))
        .classes([Class::Bulk, Class::Telemetry, Class::Alert]);
    let bus = bus.watch(health.reporter("bus/verdicts"));
    let publisher = Publisher::for_log(&log, PublisherOptions::new(bus).send_rate(config.bus.send_rate));
    let mut analyzer = args.analysis.analyzer(config, Trained::default()).await?;
    // Whoever waits for the end of all agents does not wait for a change of the list.
    let (normal, changes) = args.analysis.normal(config, !args.until_end)?.unzip();
    if let Some(normal) = normal {
        analyzer = analyzer.with_suppressions(normal);
    }
    let drain = if args.until_end { Duration::MAX } else { DRAIN };
    let mut pipeline = Pipeline::builder()
        .name(&config.agent.name)
        .record_source(Subscription::new(events))
        .merge(MergeOptions {
            expect: args.expect.iter().map(|name| name.as_str().into()).collect(),
            ..MergeOptions::from(&config.analysis)
        })
        .until_end(args.until_end)
        .analyzer(analyzer)
        .checkpoint_every(config.analysis.checkpoint_interval)
        .watch_checkpoints(health.reporter("analysis/checkpoint"))
        .limits(BatchLimits::from(&config.batch))
        .drain_timeout(drain)
        .log(log)
        .record_sink(publisher);
    if let Some(changes) = changes {
        pipeline = pipeline.collector(changes);
    }
    if let Some(path) = &args.alerts {
        pipeline = pipeline.sink_of(Class::Alert, AlertFile::open(path)?);
    }
    Ok(pipeline.build()?)
}

/// Defaults, then the file, then the environment.
fn settings(args: &Args) -> Result<Config, ConfigErrors> {
    let mut loader = Config::loader()
        .yaml("agent:\n  name: analyzer\n", "analyzer")
        .process_environment();
    if let Some(file) = &args.config {
        loader = loader.file(file);
    }
    let loaded = loader.load()?;
    for warning in &loaded.warnings {
        eprintln!("analyzer: {warning}");
    }
    Ok(loaded.config)
}

/// Triggered by Ctrl-C and by the signal to terminate; the second of them ends the process at once.
#[expect(clippy::exit, reason = "what is durable is safe however the process ends")]
fn stop_on_signal(health: &Health) -> std::io::Result<Shutdown> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, health) = (Shutdown::new(), health.clone());
    let trigger = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        eprintln!("analyzer: draining; what the bus does not have yet is kept");
        health.ready(false);
        trigger.trigger();
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(2);
    });
    Ok(stop)
}
