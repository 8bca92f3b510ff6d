//! Kills an agent and a bus with SIGKILL at random moments under load, again and again, and checks after each time that
//! everything acknowledged is there, once and in order.
//!
//! It starts itself as the processes that are killed. They say on their output what they believe to be safe; the parent
//! remembers that and holds them to it: with the verifier on what a killed process left on disk, by what the log says
//! when it is opened again, and through a subscription that lasts all the time.

#[path = "crashtest/children.rs"]
mod children;
#[path = "crashtest/member.rs"]
mod member;
#[path = "crashtest/reader.rs"]
mod reader;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use amoskys_core::error::Chain;
use amoskys_transport::identity::{Credentials, pki};
use amoskys_transport::testing::Random;
use amoskys_transport::verify::Verifier;
use amoskys_transport::{Log, TrustMap};
use clap::{Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use member::{Heads, Member};
use reader::Reader;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The agent's name; the bus is called `bus`.
pub(crate) const AGENT: &str = "agent";
/// How long a process may live before it is killed.
const LIFE: Duration = Duration::from_millis(300);

/// Kill an agent, a bus, or both with SIGKILL at random moments under load, and check that nothing acknowledged is lost,
/// doubled or altered.
///
/// Exit status: 0 if everything was as promised; 1 if not, and then the directory is kept; 2 for wrong arguments.
#[derive(Parser)]
#[command(version, subcommand_negates_reqs = true)]
struct Args {
    /// How often to kill.
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: u64,
    /// Which process to kill; with `both`, one, the other or both at once, at random.
    #[arg(long, value_enum, default_value_t = Side::Both)]
    side: Side,
    /// Moments and victims follow from this number. Default: drawn, and printed.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Where logs and keys are put, which must not exist yet. Default: a temporary directory, kept after a failure.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Side {
    Agent,
    Bus,
    Both,
}

/// The processes that are killed: this program starts itself so.
#[derive(Subcommand)]
enum Child {
    #[command(hide = true)]
    ChildAgent { dir: PathBuf, port: u16 },
    #[command(hide = true)]
    ChildBus { dir: PathBuf, port: u16 },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.child {
        Some(Child::ChildAgent { dir, port }) => children::agent(dir, *port).await,
        Some(Child::ChildBus { dir, port }) => children::bus(dir, *port).await,
        None => return parent(&args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crashtest: a child: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn parent(args: &Args) -> ExitCode {
    let seed = args.seed.unwrap_or_else(|| {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::from(now.subsec_nanos())
    });
    println!("seed {seed}");
    let dir = match place(args) {
        Ok(dir) => dir,
        Err(error) => {
            eprintln!("crashtest: {}", Chain(&*error));
            return ExitCode::from(2);
        }
    };
    match run(args, seed, &dir).await {
        Ok(sums) => {
            println!("{sums}");
            // It was made for this run; a directory that was asked for is kept.
            if args.dir.is_none() {
                let _ = std::fs::remove_dir_all(&dir);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crashtest: {}", Chain(&*error));
            eprintln!("seed {seed}; everything is kept in {}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// The directory of the run, new and empty.
fn place(args: &Args) -> Result<PathBuf, Failure> {
    let Some(dir) = &args.dir else {
        return Ok(tempfile::Builder::new().prefix("crashtest-").tempdir()?.keep());
    };
    std::fs::create_dir(dir).map_err(|error| format!("{} cannot be made: {error}", dir.display()))?;
    Ok(dir.clone())
}

/// Kills and checks; what was done, in words.
async fn run(args: &Args, seed: u64, dir: &Path) -> Result<String, Failure> {
    let site = pki::Site::new(dir.join("pki")).bus("bus").host("localhost");
    site.agent(AGENT).analyzer("analyzer").make()?;
    let (mut bus, mut agent) = (Member::new("bus", dir), Member::new(AGENT, dir));
    bus.start(0)?;
    let port = bus.port().await?;
    agent.start(port)?;
    let reader = Reader::begin(dir, port)?;

    let (mut random, bar) = (Random::new(seed), progress(args.kills));
    for _ in 0..args.kills {
        // Sometimes before it has opened its log.
        if random.below(5) > 0 {
            bus.opened().await?;
            agent.opened().await?;
        }
        tokio::time::sleep(random.shorter(LIFE)).await;
        // Otherwise it is the next life that recovers the log, and it may be killed at that.
        let checks = random.below(4) > 0;
        let both = random.below(3);
        let kills_bus = args.side == Side::Bus || args.side == Side::Both && both != 0;
        let kills_agent = args.side == Side::Agent || args.side == Side::Both && both != 1;
        if kills_bus {
            bus.kill().await?;
        }
        if kills_agent {
            agent.kill().await?;
        }
        bus.is_alive(!kills_bus)?;
        agent.is_alive(!kills_agent)?;
        if kills_bus {
            if checks {
                check(dir, "bus", agent.acknowledged())?;
            }
            bus.owes(agent.acknowledged());
            bus.start(port)?;
        }
        if kills_agent {
            if checks {
                check(dir, AGENT, agent.durable())?;
            }
            agent.start(port)?;
        }
        // What the bus acknowledged comes to who reads it, also after this.
        reader.has(agent.acknowledged()).await?;
        bar.inc(1);
        bar.set_message(format!("{} events read", reader.heads().iter().sum::<u64>()));
    }
    bus.opened().await?;
    agent.opened().await?;
    agent.finish().await?;
    let all = agent.durable();
    if agent.acknowledged() != all {
        return Err(format!("{all:?} is durable, and {:?} acknowledged", agent.acknowledged()).into());
    }
    reader.has(all).await?;
    let read = reader.end().await?;
    bus.finish().await?;
    check(dir, AGENT, all)?;
    check(dir, "bus", all)?;
    bar.finish_and_clear();
    if read != all {
        return Err(format!("{read:?} was read, of {all:?}").into());
    }
    let events: u64 = all.iter().sum();
    Ok(format!(
        "{} kills; {events} events in two streams: acknowledged, stored and read once, in order; both logs verified",
        args.kills
    ))
}

/// Recovers and verifies the log of a process that is not there, and that the agent's streams in it go at least so far.
fn check(dir: &Path, name: &str, at_least: Heads) -> Result<(), Failure> {
    let path = dir.join(name);
    // What was written and never called durable is cut off.
    drop(Log::open(&path, children::options(dir, name).1)?);
    let trust = TrustMap::load(Credentials::in_dir(dir.join("pki"), name).trust)?;
    let report = Verifier::new(path).trust(trust).run()?;
    if !report.is_clean() || !report.gaps.is_empty() {
        return Err(format!("the log of {name} is not whole: {report}").into());
    }
    for (class, at_least) in children::CLASSES.into_iter().zip(at_least) {
        let start = format!("{AGENT}/{class}@");
        let streams = report.streams.iter().filter(|it| it.stream.starts_with(&start));
        let nexts: Vec<_> = streams.map(|stream| stream.next).collect();
        match nexts[..] {
            [next] if next >= at_least => {}
            [] if at_least == 0 => {}
            _ => return Err(format!("{name} has {class} up to {nexts:?}, and said {at_least}").into()),
        }
    }
    Ok(())
}

fn progress(kills: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} kills, {eta} left; {msg}");
    ProgressBar::new(kills).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
