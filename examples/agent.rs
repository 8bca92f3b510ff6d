//! Collects what happens on a network, and carries it to a bus: signed, chained, and kept on disk until the bus has it.
//!
//! Packets become flow, DNS and ARP events; events become signed, durable batches in a log; the batches go to the bus
//! over mutual TLS. Whatever dies in between, nothing is lost and nothing doubled.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use amoskys_collectors::capture::{LiveCapture, LiveConfig};
use amoskys_collectors::flow::{FlowCollector, FlowConfig};
use amoskys_core::Shutdown;
use amoskys_core::config::{Config, ConfigErrors};
use amoskys_core::error::Chain;
use amoskys_core::pipeline::{BatchLimits, Pipeline, PipelineBuilder};
use amoskys_transport::bus::{ConnectOptions, Publisher, PublisherOptions};
use amoskys_transport::check::{Checkup, Severity};
use amoskys_transport::health::{Health, HealthServer};
use amoskys_transport::identity::{Credentials, Reloader, Role};
use amoskys_transport::protect::{Protection, Subject};
use amoskys_transport::{Log, LogOptions};
use clap::{ArgGroup, Parser};
use metrics_exporter_prometheus::PrometheusBuilder;

/// Collect flows, DNS and ARP from capture files or an interface, and carry them to a bus.
///
/// With files, it ends when the bus has everything. Exit status: 0 if all went well; 1 if a part failed while the
/// others went on, or --check found an error; 2 for wrong arguments or settings, or if it could not go on.
#[derive(Parser)]
#[command(version, group(ArgGroup::new("input").required(true).multiple(true).args(["read", "interface", "check", "forget"])))]
struct Args {
    /// Read these capture files (pcap or pcapng), in this order.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    read: Vec<PathBuf>,
    /// Watch this interface until Ctrl-C (Linux; needs CAP_NET_RAW).
    #[arg(long, value_name = "NAME", conflicts_with = "read")]
    interface: Option<String>,
    /// Read settings from this YAML file; variables AMOSKYS_SECTION_KEY win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Forget the key of this subject in protect.key_file, so that nobody can read what was protected of it any more, and
    /// print the entry for the audit log. The agent must be stopped.
    #[arg(long, value_name = "SUBJECT")]
    forget: Option<String>,
    /// Only look whether settings, certificates, keys, log and bus address are fit for use, and print all problems.
    #[arg(long)]
    check: bool,
}

/// How long a stop waits for the bus. What it does not have by then is in the log, and goes to it the next time.
const DRAIN: Duration = Duration::from_secs(10);
/// How often it looks whether certificates and revocations are others.
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
            eprintln!("agent: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

/// Does the work; says whether no part failed.
async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let config = settings(args)?;
    if let Some(subject) = &args.forget {
        let protection = Protection::of_settings(&config.protect)?.ok_or("protect.rules is not set")?;
        let erased = protection.keys().forget(&Subject::new(subject))?;
        if erased.keys.is_empty() {
            eprintln!("agent: there is no key of {subject}");
            return Ok(false);
        }
        println!("{:#?}", erased.audit_entry(&config.agent.name, "agent --forget"));
        return Ok(true);
    }
    let problems = Checkup::new(&config, Role::Agent).run();
    problems.iter().for_each(|problem| eprintln!("agent: {problem}"));
    let closed = args
        .interface
        .as_ref()
        .and_then(|name| LiveCapture::open(name, &LiveConfig::default()).err());
    if let Some(error) = &closed {
        eprintln!("agent: error: --interface: {}", Chain(error));
    }
    let fit = problems.iter().all(|problem| problem.severity != Severity::Error) && closed.is_none();
    if args.check {
        if problems.is_empty() && fit {
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
    let protection = Protection::of_settings(&config.protect)?;
    let stop = stop_on_signal(&health)?;
    loop {
        // Triggered if the bus finds that the log is a copy, or was restored: then it is opened again, and goes on in
        // a new epoch.
        let fork = Shutdown::new();
        let shutdown = Shutdown::new();
        stop.also_trigger(&shutdown);
        fork.also_trigger(&shutdown);
        let mut pipeline = pipeline(args, &config, &health, &fork, &shutdown)?;
        if let Some(protection) = &protection {
            pipeline = pipeline.transform(protection.transform());
        }
        let pipeline = pipeline.build()?;
        health.ready(true);
        let report = pipeline.run(shutdown).await?;
        health.ready(false);
        if fork.is_triggered() && !stop.is_triggered() {
            continue;
        }
        stop.trigger();
        println!("{}", report.ledger);
        for (part, error) in &report.failures {
            eprintln!("agent: {part}: {}", Chain(&**error));
        }
        return Ok(report.failures.is_empty());
    }
}

fn pipeline(
    args: &Args,
    config: &Config,
    health: &Health,
    fork: &Shutdown,
    shutdown: &Shutdown,
) -> Result<PipelineBuilder, Box<dyn Error>> {
    let dir = config.bus.cert_dir.clone().unwrap_or_default();
    let files = Credentials::in_dir(dir, &config.agent.name);
    let log = Log::open(
        &config.log.path,
        LogOptions::from(config).key_file(&files.signing_key),
    )?;
    let credentials = Reloader::open_tls(&files.tls)?;
    let bus = ConnectOptions::new(&config.bus.address, credentials.tls())
        .settings(&config.bus)
        .watch(health.reporter("bus"));
    // New certificates and revocations are used as soon as the files say so.
    let stopped = shutdown.clone();
    tokio::spawn(async move { credentials.watch(LOOK_AT_FILES, stopped).await });
    // So is a new signing key that is put beside the old one.
    let (stopped, rotation) = (shutdown.clone(), log.key_rotation());
    tokio::spawn(async move { rotation.watch(LOOK_AT_FILES, stopped).await });
    let options = PublisherOptions::new(bus)
        .send_rate(config.bus.send_rate)
        .on_fork(fork.clone());
    let publisher = Publisher::for_log(&log, options);
    let collector = match &args.interface {
        Some(name) => FlowCollector::from_interface(name, LiveConfig::default()),
        None => FlowCollector::from_files(&args.read)?,
    };
    let collector = collector
        .with_config(FlowConfig::from(&config.flow))?
        .with_stop(shutdown.clone());
    // Files end when the bus has everything.
    let drain = args.interface.as_ref().map_or(Duration::MAX, |_| DRAIN);
    Ok(Pipeline::builder()
        .name(&config.agent.name)
        .collector(collector)
        .limits(BatchLimits::from(&config.batch))
        .drain_timeout(drain)
        .log(log)
        .record_sink(publisher))
}

/// Defaults, then the file, then the environment.
fn settings(args: &Args) -> Result<Config, ConfigErrors> {
    let mut loader = Config::loader().process_environment();
    if let Some(file) = &args.config {
        loader = loader.file(file);
    }
    let loaded = loader.load()?;
    for warning in &loaded.warnings {
        eprintln!("agent: {warning}");
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
        eprintln!("agent: draining; what the bus does not have yet is kept");
        health.ready(false);
        trigger.trigger();
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(2);
    });
    Ok(stop)
}
