//! Many simulated agents in one process, each with its own connection, certificate and signing key: what a bus carries,
//! how long it takes until an event is durable there, and whether anything is lost.

#[path = "loadgen/local.rs"]
mod local;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amoskys_core::error::Chain;
use amoskys_transport::FileSigner;
use amoskys_transport::bus::ConnectOptions;
use amoskys_transport::identity::Credentials;
use amoskys_transport::testing::{Faults, Load, Outcome, SimulatedAgent};
use clap::{ArgGroup, Parser, Subcommand};
use local::Local;
use rustix::process::{Resource, getrlimit, setrlimit};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// How many agents connect at a time.
const AT_ONCE: usize = 32;
/// How long connecting may take, and the last acknowledgements.
const PATIENCE: Duration = Duration::from_secs(30);

/// Load a bus with many agents at a time, and measure.
///
/// The bus must know the agents agent-1 to agent-N, or those of another prefix. Each agent sends a batch about four times
/// a second, and an event waits no time in it: latency is from the moment a batch is due until the bus has said that it is
/// durable there. Exit status: 0 if nothing was lost; 1 if something was; 2 for wrong arguments, or if the load could not
/// be put on.
#[derive(Parser)]
#[command(version, subcommand_negates_reqs = true)]
#[command(group(ArgGroup::new("where").required(true).args(["bus", "local"])))]
struct Args {
    /// Number of agents.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    agents: u32,
    /// Events in a second, of each agent.
    #[arg(long, value_name = "EVENTS", default_value_t = 20.0)]
    rate: f64,
    /// Events in a batch. Default: a quarter of the rate.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    batch: Option<u64>,
    /// Bytes of random text in an event.
    #[arg(long, value_name = "BYTES", default_value_t = 300, value_parser = clap::value_parser!(u32).range(..=65_536))]
    size: u32,
    /// How long, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10)]
    duration: u64,
    /// The bus to load.
    #[arg(long, value_name = "HOST:PORT", requires = "cert_dir")]
    bus: Option<String>,
    /// Certificates and keys of the agents, as `pki` makes them.
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// What the agents' names begin with.
    #[arg(long, value_name = "PREFIX", default_value = "agent-")]
    prefix: String,
    /// Fault: each agent's connection breaks off about this often, in seconds.
    #[arg(long, value_name = "S")]
    disconnect_every: Option<f64>,
    /// Fault: this share of all batches is sent twice, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    repeat: f64,
    /// Fault: every tenth agent has a line that carries so many bytes a second.
    #[arg(long, value_name = "BYTES")]
    slow_line: Option<u64>,
    /// Fault: the bus is killed about this often, in seconds, and started again.
    #[arg(long, value_name = "S", requires = "local", value_parser = clap::value_parser!(u64).range(1..))]
    kill_every: Option<u64>,
    /// Before the load, leave the agents idle for so long, in seconds, and say what processor time that takes.
    #[arg(long, value_name = "S", requires = "local", default_value_t = 0)]
    idle: u64,
    /// Start a bus for this run, in a process of its own and a temporary directory, and say how much memory it takes.
    #[arg(long, conflicts_with = "cert_dir")]
    local: bool,
    #[command(subcommand)]
    child: Option<Bus>,
}

/// The bus of a local run: this program starts itself so.
#[derive(Subcommand)]
enum Bus {
    #[command(hide = true)]
    Serve { dir: PathBuf, agents: usize, port: u16 },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.child {
        Some(Bus::Serve { dir, agents, port }) => local::serve(dir, *agents, *port).await.map(|()| true),
        None => run(&args).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadgen: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

/// Puts on the load; whether nothing was lost.
async fn run(args: &Args) -> Result<bool, Failure> {
    if !(args.rate.is_finite() && args.rate > 0.0) {
        return Err("--rate must be more than 0".into());
    }
    if !(0.0..=1.0).contains(&args.repeat) {
        return Err("--repeat must be from 0 to 1".into());
    }
    allow_files(u64::from(args.agents) + 64)?;
    let names: Vec<_> = (1..=args.agents)
        .map(|number| format!("{}{number}", args.prefix))
        .collect();
    let mut local = match args.local {
        true => Some(Local::begin(&names)?),
        false => None,
    };
    let (address, certificates) = match (&local, &args.bus, &args.cert_dir) {
        (Some(local), ..) => (local.address.clone(), local.dir.path().join("pki")),
        (None, Some(bus), Some(dir)) => (bus.clone(), dir.clone()),
        _ => return Err("name a bus and the certificates, or --local".into()),
    };
    let before = local.as_ref().map(|local| local.memory("VmRSS:")).transpose()?;
    let begun = Instant::now();
    let agents = connect(&names, &address, &certificates).await?;
    println!(
        "{} agents connected in {:.1} s",
        agents.len(),
        begun.elapsed().as_secs_f64()
    );
    let idle = local.as_ref().map(|local| local.memory("VmRSS:")).transpose()?;
    let agents = match &local {
        Some(local) if args.idle > 0 => rest(agents, local, args.idle).await?,
        _ => agents,
    };

    let batch = args
        .batch
        .unwrap_or(((args.rate / 4.0).round() as u64).clamp(1, 65_536));
    let load = Load {
        batch,
        event_bytes: args.size as usize,
        interval: Duration::try_from_secs_f64(batch as f64 / args.rate)?,
        duration: Duration::from_secs(args.duration),
        patience: PATIENCE,
        faults: Faults {
            disconnect_every: args
                .disconnect_every
                .map(Duration::try_from_secs_f64)
                .transpose()?,
            repeated: args.repeat,
            line_bytes: None,
        },
    };
    let begun = Instant::now();
    let tasks: Vec<_> = agents
        .into_iter()
        .enumerate()
        .map(|(number, mut agent)| {
            let mut load = load;
            load.faults.line_bytes = args.slow_line.filter(|_| number % 10 == 0);
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let outcome = agent.run(load, |latency, _| latencies.push(latency)).await?;
                Ok::<_, Failure>((outcome, latencies, Instant::now()))
            })
        })
        .collect();
    let (mut outcomes, mut latencies, mut last) = (Vec::new(), Vec::new(), begun);
    let gathering = async {
        for task in tasks {
            let (outcome, times, ended) = task.await??;
            outcomes.push(outcome);
            latencies.extend(times);
            last = last.max(ended);
        }
        Ok::<_, Failure>(())
    };
    let killed = match (&mut local, args.kill_every) {
        (Some(local), Some(every)) => kill_and_start(local, every, args.duration, gathering).await?,
        _ => gathering.await.map(|()| 0)?,
    };
    let lost = report(&outcomes, latencies, last - begun, killed, args);
    let Some(local) = local else {
        return Ok(lost == 0);
    };
    let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (before, idle) = (before.unwrap_or_default(), idle.unwrap_or_default());
    println!(
        "memory of the bus: {:.0} MiB without agents, {:.1} KiB for each idle agent, {:.0} MiB at most",
        megabytes(before),
        idle.saturating_sub(before) as f64 / 1024.0 / f64::from(args.agents),
        megabytes(local.memory("VmHWM:")?)
    );
    let stored = local.end()?;
    let sealed: u64 = outcomes.iter().map(|outcome| outcome.sealed).sum();
    println!("the ledger of the bus: {stored} events stored");
    Ok(lost == 0 && stored == sealed)
}

/// Leaves the agents alone for a while: what an idle one costs, with its keepalive.
async fn rest(
    agents: Vec<SimulatedAgent>,
    local: &Local,
    seconds: u64,
) -> Result<Vec<SimulatedAgent>, Failure> {
    let (count, time) = (agents.len(), Duration::from_secs(seconds));
    let nothing = Load {
        batch: 1,
        event_bytes: 0,
        interval: Duration::from_secs(1 << 30),
        duration: time + Duration::from_secs(1),
        patience: PATIENCE,
        faults: Faults::default(),
    };
    let resting: Vec<_> = agents
        .into_iter()
        .map(|mut agent| tokio::spawn(async move { agent.run(nothing, |_, _| {}).await.map(|_| agent) }))
        .collect();
    let before = local.processor_time()?;
    tokio::time::sleep(time).await;
    let took = local.processor_time()?.saturating_sub(before);
    println!(
        "idle for {seconds} s: {:.1} ms of processor time a second, {:.1} µs for each agent",
        took.as_secs_f64() * 1e3 / time.as_secs_f64(),
        took.as_secs_f64() * 1e6 / time.as_secs_f64() / count as f64,
    );
    let mut agents = Vec::with_capacity(count);
    for agent in resting {
        let mut agent = agent.await??;
        agent.connect().await?;
        agents.push(agent);
    }
    Ok(agents)
}

/// Kills the bus again and again while the load is on, and starts it again; how often.
async fn kill_and_start(
    local: &mut Local,
    every: u64,
    duration: u64,
    load: impl Future<Output = Result<(), Failure>>,
) -> Result<u64, Failure> {
    let (mut killed, end) = (0, Instant::now() + Duration::from_secs(duration));
    let mut load = std::pin::pin!(load);
    loop {
        tokio::select! {
            ended = load.as_mut() => return ended.map(|()| killed),
            () = tokio::time::sleep(Duration::from_secs(every)), if Instant::now() < end => {
                local.kill_and_start()?;
                killed += 1;
            }
        }
    }
}

/// Makes the agents, and connects them.
async fn connect(names: &[String], address: &str, dir: &Path) -> Result<Vec<SimulatedAgent>, Failure> {
    let mut agents = Vec::with_capacity(names.len());
    let mut seed = 0;
    for names in names.chunks(AT_ONCE) {
        let mut connecting = Vec::new();
        for name in names {
            let files = Credentials::in_dir(dir, name);
            let connect = ConnectOptions::new(address, files.tls.client_config()?).connect_timeout(PATIENCE);
            let signer = Arc::new(FileSigner::open(&files.signing_key)?);
            let mut agent = SimulatedAgent::new(name.as_str(), signer, connect, seed)?;
            seed += 1;
            connecting.push(tokio::spawn(async move { agent.connect().await.map(|()| agent) }));
        }
        for agent in connecting {
            agents.push(agent.await??);
        }
    }
    Ok(agents)
}

/// Prints what was measured; events lost.
fn report(
    outcomes: &[Outcome],
    mut latencies: Vec<Duration>,
    took: Duration,
    killed: u64,
    args: &Args,
) -> u64 {
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let (sealed, acknowledged) = (sum(|it| it.sealed), sum(|it| it.acknowledged));
    println!(
        "{acknowledged} events of {} bytes acknowledged in {:.1} s: {:.0} events/s, of {:.0} offered",
        args.size,
        took.as_secs_f64(),
        acknowledged as f64 / took.as_secs_f64(),
        f64::from(args.agents) * args.rate,
    );
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        let latency = latencies.get(index.min(latencies.len().saturating_sub(1)));
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    println!(
        "latency to durable at the bus, ms: p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, longest {:.1}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    let lost = sealed - acknowledged;
    println!(
        "lost: {lost} events; connections lost: {}",
        sum(|it| it.reconnects)
    );
    let (broken, repeated, retries) = (
        sum(|it| it.disconnects),
        sum(|it| it.repeated),
        sum(|it| it.retries),
    );
    if broken + repeated + retries + killed > 0 {
        println!(
            "faults: {broken} connections broken off, {repeated} events sent twice, the bus killed {killed} times; it asked \
             {retries} times to wait"
        );
    }
    lost
}

/// A connection takes a file descriptor, here and at the bus, which inherits the limit.
fn allow_files(wanted: u64) -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    limit.current = Some(wanted);
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| format!("{wanted} files may not be open at a time: {error}; see ulimit -n").into())
}
