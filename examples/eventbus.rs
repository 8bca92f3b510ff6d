//! The bus of a site: takes signed batches of agents over mutual TLS, keeps them in a log of its own, and gives them to
//! analyzers.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::Shutdown;
use amoskys_core::config::{Config, ConfigErrors};
use amoskys_core::error::Chain;
use amoskys_transport::LogOptions;
use amoskys_transport::audit::AuditLog;
use amoskys_transport::bus::{Bus, BusOptions, Limits, Reconfigurer, Retention};
use amoskys_transport::check::{Checkup, Severity};
use amoskys_transport::health::{Health, HealthServer};
use amoskys_transport::identity::{Credentials, Reloader, Role};
use amoskys_transport::legacy::LegacyOptions;
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use rustix::process::{Resource, getrlimit, setrlimit};

/// How often it looks whether certificates, revocations and the trust map are others.
const LOOK_AT_FILES: Duration = Duration::from_millis(250);

/// Run a bus until Ctrl-C.
///
/// Exit status: 0 if all went well; 1 if --check found an error; 2 for wrong arguments or settings, or if it could not
/// go on.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Read settings from this YAML file; variables AMOSKYS_SECTION_KEY win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here instead of on all addresses at the port bus.server_port; with port 0 the system chooses one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Only look whether settings, certificates, keys and log are fit for use, and print all problems.
    #[arg(long)]
    check: bool,
}

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
            eprintln!("eventbus: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

/// Serves until it is stopped; says whether everything it needs was fit for use.
async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let config = settings(args.config.as_ref())?;
    let everywhere = SocketAddr::from(([0, 0, 0, 0], config.bus.server_port));
    let listen = args.listen.unwrap_or(everywhere);
    let problems = Checkup::new(&config, Role::Bus).listen(listen).run();
    problems
        .iter()
        .for_each(|problem| eprintln!("eventbus: {problem}"));
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
    let limits = Limits::of_settings(&config.bus)?;
    allow_files(&limits);
    let dir = config.bus.cert_dir.clone().unwrap_or_default();
    let files = Credentials::in_dir(dir, &config.bus.name);
    let credentials = Reloader::open(&files)?;
    let mut options = BusOptions::new(&config.log.path, credentials.tls(), credentials.trust().clone())
        .name(config.bus.name.as_str())
        .listen(listen)
        .limits(limits)
        .watch(health.reporter("log"))
        .heads_interval(config.bus.heads_interval)
        .clock_ahead(config.bus.clock_ahead)
        .handshake_timeout(config.bus.handshake_timeout)
        .idle_timeout(config.bus.idle_timeout)
        .window_bytes(config.bus.window_bytes)
        .max_streams(config.bus.max_streams)
        .retention(Retention::from(&config.bus))
        .log(LogOptions::from(&config).key_file(&files.signing_key));
    if let Some(audit) = AuditLog::of_settings(&config.audit)? {
        options = options.audit(Arc::new(audit));
    }
    if let Some(legacy) = LegacyOptions::from_settings(&config.legacy)? {
        if let (Some(trust), Some(file)) = (legacy.trust().cloned(), config.legacy.trust_map.clone()) {
            let stopped = stop.clone();
            tokio::spawn(async move { trust.watch(file, LOOK_AT_FILES, stopped).await });
        }
        options = options.legacy(legacy);
    }
    let bus = Arc::new(Bus::open(options)?);
    println!("listening on {}", bus.local_addr());
    health.ready(true);
    // New certificates, revocations and keys are used as soon as the files say so.
    let (stopped, watched) = (stop.clone(), credentials.clone());
    tokio::spawn(async move { watched.watch(LOOK_AT_FILES, stopped).await });
    // So is a new signing key that is put beside the old one.
    let (stopped, rotation) = (stop.clone(), bus.key_rotation());
    tokio::spawn(async move { rotation.watch(LOOK_AT_FILES, stopped).await });
    reconfigure_on_signal(args, Reconfigurer::new(bus.clone(), credentials, config))?;
    let report = bus.serve(stop).await?;
    println!("{}", report.ledger);
    Ok(true)
}

/// Defaults, then the file, then the environment.
fn settings(file: Option<&PathBuf>) -> Result<Config, ConfigErrors> {
    let mut loader = Config::loader().process_environment();
    if let Some(file) = file {
        loader = loader.file(file);
    }
    let loaded = loader.load()?;
    for warning in &loaded.warnings {
        eprintln!("eventbus: {warning}");
    }
    Ok(loaded.config)
}

/// With SIGHUP the settings are read again, and taken into use if nothing is wrong with them.
fn reconfigure_on_signal(args: &Args, reconfigurer: Reconfigurer) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut hangup, reconfigurer) = (signal(SignalKind::hangup())?, Arc::new(reconfigurer));
    let file = args.config.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (file, reconfigurer) = (file.clone(), reconfigurer.clone());
            // It reads files, and writes to the log.
            let applied = tokio::task::spawn_blocking(move || reconfigurer.apply(settings(file.as_ref())));
            match applied.await {
                Ok(Ok(done)) => eprintln!("eventbus: settings are in use: {done}"),
                Ok(Err(error)) => eprintln!("eventbus: nothing was changed: {}", Chain(&error)),
                Err(error) => eprintln!("eventbus: {error}"),
            }
        }
    });
    Ok(())
}

/// Each connection takes a file descriptor; the log and the rest a few.
fn allow_files(limits: &Limits) {
    let wanted = (limits.connections + limits.strangers + 256) as u64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    if setrlimit(Resource::Nofile, limit).is_err() || limit.current.is_some_and(|current| current < wanted) {
        eprintln!(
            "eventbus: warning: fewer than {wanted} files may be open; raise the limit, or lower bus.max_connections"
        );
    }
}

/// Triggered by Ctrl-C and by the signal to terminate.
fn stop_on_signal(health: &Health) -> std::io::Result<Shutdown> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, stop) = (signal(SignalKind::terminate())?, Shutdown::new());
    let (trigger, health) = (stop.clone(), health.clone());
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        health.ready(false);
        trigger.trigger();
    });
    Ok(stop)
}
