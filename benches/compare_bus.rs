//! How many events a second go from agents' logs into the log of a bus, beside a stream without logs?
//!
//! Both sides are in this process and talk over the loopback with mutual TLS 1.3. We and the peers take turns; the
//! figure is the median of the rounds. Then: latency at a modest rate, and what real flow records cost.
//!
//! ```text
//! cargo bench -p amoskys-benches --bench compare_bus -- [--quick] [--dir DIR] [--agents N] [--only NAME]
//! cargo bench -p amoskys-benches --bench compare_bus -- --rounds 1 --seconds 60
//! ```
//!
//! `--seconds` and `--rounds` say how long a round of the throughput is, and how many there are.
//! `--only` measures one of them (`bus_512`, `tonic_no_log`, `tonic_digest`) and nothing else, for a profiler to look at.

#[path = "compare_bus/batches.rs"]
mod batches;
#[path = "compare_bus/fleet.rs"]
mod fleet;
#[path = "lab.rs"]
mod lab;
#[path = "compare_bus/latency.rs"]
mod latency;
#[path = "compare_bus/relay.rs"]
mod relay;
#[path = "compare_bus/round.rs"]
mod round;
#[path = "compare_bus/site.rs"]
mod site;
#[path = "compare_bus/tonic_peer.rs"]
mod tonic_peer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use amoskys_benches::rounds::{is_quick, option, print_ratio};
use amoskys_core::Event;
use amoskys_transport::Compression;

use self::batches::{EVENT_BYTES, EVENTS, events, flows, noise};
use self::fleet::Fleet;
use self::relay::Relay;
use self::round::{Failure, Round, cpu_per_million, events_per_second};
use self::site::Site;
use self::tonic_peer::{Signed, TonicPeer};

const OURS: &str = "bus_512";
const PEERS: [(&str, Signed, &str); 2] = [
    (
        "tonic_no_log",
        Signed::Message,
        "message signed, sent, verified, acknowledged",
    ),
    (
        "tonic_digest",
        Signed::Digest,
        "the same with the digest of the message signed",
    ),
];
const LATENCY_AGENT: &str = "paced";
/// How the flow records are compressed.
const FLOWS: [(&str, Compression); 3] = [
    ("flows", Compression::None),
    ("flows_zstd_1", Compression::Zstd(1)),
    ("flows_zstd_3", Compression::Zstd(3)),
];

/// How long everything takes.
struct Plan {
    rounds: usize,
    round: Duration,
    flows: Duration,
    latency: Duration,
}

fn main() -> Result<(), Failure> {
    let mut plan = match is_quick() {
        true => Plan {
            rounds: 3,
            round: Duration::from_secs(2),
            flows: Duration::from_secs(1),
            latency: Duration::from_secs(4),
        },
        false => Plan {
            rounds: 5,
            round: Duration::from_secs(12),
            flows: Duration::from_secs(5),
            latency: Duration::from_secs(20),
        },
    };
    if let Some(seconds) = option("--seconds") {
        plan.round = Duration::try_from_secs_f64(seconds.parse()?)?;
    }
    if let Some(rounds) = option("--rounds") {
        plan.rounds = rounds.parse::<usize>()?.max(1);
    }
    let agents = option("--agents").map_or(Ok(2), |agents| agents.parse())?;
    let scratch = match option("--dir") {
        Some(dir) => tempfile::tempdir_in(dir)?,
        // Not the default for temporary files, which may be in memory.
        None => tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"))
            .or_else(|_| tempfile::tempdir())?,
    };
    // Reading them needs a runtime of its own.
    let flows = Arc::new(flows());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism()?.get())
        .enable_all()
        .build()?;
    runtime.block_on(run(&plan, agents, scratch.path(), &flows))
}

async fn run(
    plan: &Plan,
    agents: usize,
    scratch: &Path,
    flows: &Arc<Vec<Vec<Event>>>,
) -> Result<(), Failure> {
    let named =
        |what: &str| -> Vec<String> { (0..agents).map(|number| format!("{what}-{number}")).collect() };
    let mut names = named(OURS);
    for (what, _) in FLOWS {
        names.extend(named(what));
        names.push(counted(what));
    }
    names.push(LATENCY_AGENT.to_owned());
    let site = Site::begin(scratch, &names)?;

    let only = option("--only");
    throughput(plan, &site, &named(OURS), only.as_deref()).await?;
    if only.is_some() {
        return site.end().await;
    }
    latency(plan, &site).await?;
    println!();
    for (what, compression) in FLOWS {
        flow_records(plan, &site, (what, compression), &named(what), flows).await?;
    }
    site.end().await
}

/// We and the peers in turns, with the same bytes.
async fn throughput(plan: &Plan, site: &Site, names: &[String], only: Option<&str>) -> Result<(), Failure> {
    let noise = Arc::new(noise());
    let batches: Arc<Vec<Vec<Event>>> = Arc::new(noise.iter().map(events).collect());
    let mut fleet = Fleet::connect(site, names, site.address, Compression::None, &batches)?;
    let (server, client) = (site.credentials("bus"), site.credentials(&names[0]));
    let mut peers = Vec::new();
    for (what, signed, does) in PEERS {
        let peer = TonicPeer::connect(&server, &client, names.len(), signed, &noise).await?;
        peers.push((what, does, peer, Vec::new()));
    }
    let mut ours = Vec::new();
    let wanted = |what| only.is_none_or(|only| only == what);
    for _ in 0..plan.rounds {
        if wanted(OURS) {
            ours.push(fleet.run(plan.round).await?);
        }
        for (what, _, peer, rounds) in &mut peers {
            if wanted(*what) {
                rounds.push(peer.run(plan.round).await?);
            }
        }
    }
    fleet.end().await?;
    println!(
        "\n{EVENTS} events of {EVENT_BYTES} incompressible bytes a batch; {} connections; median of {} rounds, in turns",
        names.len(),
        plan.rounds
    );
    println!("\n{:<14} {:>12} {:>18}", "", "events/s", "CPU s/M events");
    print_row(
        OURS,
        &ours,
        "sealed, logged, sent, verified, logged, acknowledged; both logs durable and trimmed",
    );
    let mut ratios = Vec::new();
    for (what, does, peer, rounds) in peers {
        peer.end().await?;
        print_row(what, &rounds, does);
        ratios.push((what, events_per_second(&ours) / events_per_second(&rounds)));
    }
    println!();
    if only.is_none() {
        for (what, ratio) in ratios {
            print_ratio(OURS, what, ratio);
        }
        println!();
    }
    Ok(())
}

async fn latency(plan: &Plan, site: &Site) -> Result<(), Failure> {
    let (mut durable, mut received) = latency::measure(site, LATENCY_AGENT, plan.latency).await?;
    println!(
        "from the collector, at {} events/s, batches linger 10 ms",
        latency::RATE
    );
    for (what, latencies) in [
        ("durable at the bus", &mut durable),
        ("at a subscriber", &mut received),
    ] {
        let mut millis = |percent| latencies.percentile(percent).as_secs_f64() * 1e3;
        println!(
            "{what:<20} p50 {:>6.1} ms   p99 {:>6.1} ms",
            millis(50),
            millis(99)
        );
    }
    Ok(())
}

/// Records of real flows: how fast, and how many bytes go over the wire.
async fn flow_records(
    plan: &Plan,
    site: &Site,
    (what, compression): (&str, Compression),
    names: &[String],
    batches: &Arc<Vec<Vec<Event>>>,
) -> Result<(), Failure> {
    let mut fleet = Fleet::connect(site, names, site.address, compression, batches)?;
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        rounds.push(fleet.run(plan.flows).await?);
    }
    fleet.end().await?;

    let relay = Relay::to(site.address).await?;
    let mut fleet = Fleet::connect(site, &[counted(what)], relay.address, compression, batches)?;
    let round = fleet.run(Duration::from_millis(500)).await?;
    fleet.end().await?;
    let does = format!(
        "flow records of a capture, {:.1} bytes an event on the wire",
        relay.bytes() as f64 / round.events as f64
    );
    print_row(what, &rounds, &does);
    Ok(())
}

/// The agent whose bytes are counted.
fn counted(what: &str) -> String {
    format!("{what}-counted")
}

fn print_row(what: &str, rounds: &[Round], does: &str) {
    if rounds.is_empty() {
        return;
    }
    println!(
        "{what:<14} {:>12.0} {:>18.2}  {does}",
        events_per_second(rounds),
        cpu_per_million(rounds)
    );
}
