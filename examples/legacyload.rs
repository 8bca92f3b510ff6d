//! Agents of the predecessor in one process, each with its own connection, certificate and signing key, against a bus in
//! another: how many envelopes it acknowledges in a second, and how long each takes until it is durable there.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use amoskys_core::Shutdown;
use amoskys_core::error::Chain;
use amoskys_transport::bus::{Bus, BusOptions};
use amoskys_transport::identity::{Credentials, TlsFiles, pki};
use amoskys_transport::legacy::{LegacyAgent, LegacyAnswer, LegacyOptions, LegacyTrust};
use amoskys_transport::{LogOptions, PublicKey, TrustMap};
use clap::{Parser, Subcommand};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

type Failure = Box<dyn Error + Send + Sync>;

/// Load a bus with agents of the predecessor, and measure.
///
/// The bus is started for this run, in a process of its own and a temporary directory. Exit status: 0 if every envelope
/// was acknowledged; 1 if one was not; 2 for wrong arguments, or if the load could not be put on.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Number of agents, each with one connection.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=250))]
    connections: u32,
    /// Envelopes of one agent that wait for an answer at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100))]
    in_flight: u32,
    /// How long, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10)]
    duration: u64,
    #[command(subcommand)]
    child: Option<Role>,
}

/// The bus: this program starts itself so.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Serve { dir: PathBuf },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.child {
        Some(Role::Serve { dir }) => serve(dir).await.map(|()| true),
        None => run(&args).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("legacyload: {}", Chain(&*error));
            ExitCode::from(2)
        }
    }
}

/// Puts on the load; whether everything was acknowledged.
async fn run(args: &Args) -> Result<bool, Failure> {
    let dir = tempfile::tempdir()?;
    let names: Vec<_> = (1..=args.connections)
        .map(|number| format!("flowagent-{number}"))
        .collect();
    make_site(dir.path(), &names)?;
    let (bus, address) = start(dir.path())?;
    let mut agents = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let tls = TlsFiles::in_dir(dir.path().join("pki"), name).client_config()?;
        agents.push(LegacyAgent::connect(&address, tls, Some(&seed(number))).await?);
    }
    let began = Instant::now();
    let until = began + Duration::from_secs(args.duration);
    let mut workers = tokio::task::JoinSet::new();
    for agent in agents {
        for worker in 0..args.in_flight {
            workers.spawn(work(agent.clone(), worker, until));
        }
    }
    let (mut times, mut others) = (Vec::new(), Vec::new());
    while let Some(done) = workers.join_next().await {
        let (taken, failed) = done?;
        times.extend(taken);
        others.extend(failed);
    }
    let took = began.elapsed().as_secs_f64();
    let processor = processor_seconds(bus.0.id())?;
    times.sort_unstable();
    let at = |share: f64| {
        times
            .get((times.len() as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{} envelopes acknowledged on {} connections in {took:.1} s: {:.0}/s; until durable: p50 {:.1} ms, p99 {:.1} ms",
        times.len(),
        args.connections,
        times.len() as f64 / took,
        at(0.5).as_secs_f64() * 1e3,
        at(0.99).as_secs_f64() * 1e3
    );
    println!(
        "the bus took {:.1} processor seconds for a million",
        processor * 1e6 / times.len().max(1) as f64
    );
    for answer in others.iter().take(10) {
        println!("not acknowledged: {answer}");
    }
    let stored = end(bus)?;
    println!("{stored} envelopes in the log");
    Ok(others.is_empty() && stored == times.len() as u64)
}

/// One envelope after the other; how long each took, and what was said otherwise.
async fn work(agent: LegacyAgent, worker: u32, until: Instant) -> (Vec<Duration>, Vec<String>) {
    let (mut times, mut others) = (Vec::new(), Vec::new());
    let mut number = 0_u64;
    while Instant::now() < until {
        number += 1;
        let envelope = agent.envelope(&format!("{worker}-{number}"), number);
        let began = Instant::now();
        loop {
            match agent.publish(envelope.clone()).await {
                Ok(LegacyAnswer::Ok) => times.push(began.elapsed()),
                Ok(LegacyAnswer::Retry { after, .. }) => {
                    tokio::time::sleep(after).await;
                    continue;
                }
                Ok(other) => others.push(format!("{other:?}")),
                Err(error) => others.push(Chain(&*error).to_string()),
            }
            break;
        }
        if others.len() > 10 {
            break;
        }
    }
    (times, others)
}

fn seed(number: usize) -> [u8; 32] {
    [u8::try_from(number).unwrap_or(u8::MAX); 32]
}

/// Certificates, keys, and the predecessor's trust map.
fn make_site(dir: &Path, names: &[String]) -> Result<(), Failure> {
    let pki = dir.join("pki");
    let site = pki::Site::new(&pki).bus("bus").host("localhost");
    names
        .iter()
        .fold(site, |site, name| site.agent(name.as_str()))
        .make()?;
    let mut map = String::from("agents:\n");
    for (number, name) in names.iter().enumerate() {
        let key = Ed25519KeyPair::from_seed_unchecked(&seed(number)).map_err(|error| error.to_string())?;
        let public = PublicKey::from_bytes(key.public_key().as_ref().try_into()?);
        std::fs::write(pki.join(format!("{name}.ed25519.pub")), public.to_pem())?;
        map.push_str(&format!("  {name}: {name}.ed25519.pub\n"));
    }
    Ok(std::fs::write(pki.join("trust_map.yaml"), map)?)
}

/// The bus as a process, which ends with this.
struct Bound(Child);

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path) -> Result<(Bound, String), Failure> {
    let child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut bus = Bound(child);
    let output = bus.0.stdout.as_mut().ok_or("a bus without output")?;
    // One line, so nothing behind it is lost with the buffer.
    let mut address = String::new();
    BufReader::new(output).read_line(&mut address)?;
    match address.trim() {
        "" => Err("the bus did not start".into()),
        address => Ok((bus, address.to_owned())),
    }
}

/// Ends the bus; how many envelopes its ledger has.
fn end(mut bus: Bound) -> Result<u64, Failure> {
    drop(bus.0.stdin.take());
    let mut stored = String::new();
    let output = bus.0.stdout.as_mut().ok_or("a bus without output")?;
    output.read_to_string(&mut stored)?;
    Ok(stored.trim().parse()?)
}

/// Time the processors have spent on a process.
fn processor_seconds(process: u32) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Behind the name, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Serves until the end of the input.
async fn serve(dir: &Path) -> Result<(), Failure> {
    let files = Credentials::in_dir(dir.join("pki"), "bus");
    let legacy = LegacyOptions::new(LegacyTrust::load(dir.join("pki/trust_map.yaml"))?);
    let options = BusOptions::new(
        dir.join("bus"),
        files.tls.server_config()?,
        TrustMap::load(&files.trust)?,
    )
    .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    .log(LogOptions::new().key_file(&files.signing_key))
    .legacy(legacy);
    let (bus, stop) = (Bus::open(options)?, Shutdown::new());
    writeln!(std::io::stdout(), "localhost:{}", bus.local_addr().port())?;
    let told = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.trigger();
    });
    let ledger = bus.serve(stop).await?.ledger;
    let stored = ledger
        .accounts
        .get("bus/bus-gateway")
        .map_or(0, |account| account.delivered);
    writeln!(std::io::stdout(), "{stored}")?;
    Ok(())
}
