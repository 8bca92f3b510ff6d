//! Flows that routers and probes export (NetFlow v5, v9, IPFIX), or packets that they sample (sFlow v5), as JSON lines.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use amoskys_collectors::flow::Progress;
use amoskys_collectors::netflow::{NetflowCollector, NetflowConfig};
use amoskys_collectors::sflow::{SflowCollector, SflowConfig};
use amoskys_core::error::Chain;
use amoskys_core::event::{Event, FlowRecord, Payload};
use amoskys_core::{BoxCollector, Collector, Shutdown, Tally};
use clap::Parser;
use serde_json::json;

/// Receive flow exports, and print each flow as a line of JSON.
///
/// Losses, and a balance of the records at the end, go to standard error. Ctrl-C ends it.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Listen on this UDP address; all versions come to one port. Port 0 is any free one. [default: [::]:2055, with --sflow
    /// [::]:6343]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Read these capture files instead.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "listen")]
    read: Vec<PathBuf>,
    /// UDP ports to which exports go in the files. [default: 2055 4739 9995 9996, with --sflow 6343]
    #[arg(long, value_name = "PORT", num_args = 1.., requires = "read")]
    port: Vec<u16>,
    /// Take sFlow instead. Counts are those of the samples; ARP messages and the counters of interfaces are not printed.
    #[arg(long)]
    sflow: bool,
    /// Leave out what has no place in a flow record: routing, address translation, vendors' fields.
    #[arg(long)]
    no_attributes: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netflow: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let stop = Shutdown::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.trigger();
        }
    });
    // Lets that task begin: Ctrl-C is heard from now on.
    tokio::task::yield_now().await;
    let (mut exports, progress) = if args.sflow {
        samples(args, stop)?
    } else {
        flows(args, stop)?
    };
    let mut tally = Tally::default();
    let printed = print(&mut exports, &mut tally).await;
    // However it ended, what there was is said. Where it failed, the reader may be further than it has told.
    if printed.is_ok() {
        eprintln!("netflow: {} datagrams", progress.packets());
    }
    eprintln!("netflow: {} records used", tally.used);
    for (reason, count) in &tally.dropped {
        eprintln!("netflow: {count} {reason}");
    }
    let Err(error) = printed else {
        return Ok(());
    };
    match error.downcast::<std::io::Error>() {
        // Whoever read the lines has had enough of them.
        Ok(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Ok(error) => Err(format!("standard output: {error}").into()),
        Err(other) => Err(other),
    }
}

async fn print(exports: &mut BoxCollector, tally: &mut Tally) -> Result<(), Box<dyn Error>> {
    let mut output = std::io::stdout().lock();
    while let Some(batch) = exports.next_batch().await? {
        tally.add(&batch.tally);
        for event in &batch.events {
            match &event.payload {
                Payload::Flow(flow) => writeln!(output, "{}", row(event, flow))?,
                Payload::Loss(loss) => {
                    let about = match event.device.as_str() {
                        "" => "here",
                        exporter => exporter,
                    };
                    eprintln!(
                        "netflow: {about}: lost {} {}: {}",
                        loss.count, loss.unit, loss.reason
                    );
                }
                _ => {}
            }
        }
        output.flush()?;
    }
    Ok(())
}

fn flows(args: &Args, stop: Shutdown) -> Result<(BoxCollector, Progress), Box<dyn Error>> {
    let mut config = NetflowConfig {
        attributes: !args.no_attributes,
        ..NetflowConfig::default()
    };
    if !args.port.is_empty() {
        config.capture_ports.clone_from(&args.port);
    }
    let exports = if args.read.is_empty() {
        NetflowCollector::bind(args.listen.as_deref().unwrap_or("[::]:2055"), config)?
    } else {
        NetflowCollector::from_files(&args.read, config)?
    };
    say_where(exports.local_addr());
    let progress = exports.progress();
    Ok((BoxCollector::new(exports.with_stop(stop)), progress))
}

fn samples(args: &Args, stop: Shutdown) -> Result<(BoxCollector, Progress), Box<dyn Error>> {
    let mut config = SflowConfig {
        attributes: !args.no_attributes,
        ..SflowConfig::default()
    };
    if !args.port.is_empty() {
        config.capture_ports.clone_from(&args.port);
    }
    let exports = if args.read.is_empty() {
        SflowCollector::bind(args.listen.as_deref().unwrap_or("[::]:6343"), config)?
    } else {
        SflowCollector::from_files(&args.read, config)?
    };
    say_where(exports.local_addr());
    let progress = exports.progress();
    Ok((BoxCollector::new(exports.with_stop(stop)), progress))
}

fn say_where(address: Option<SocketAddr>) {
    if let Some(address) = address {
        eprintln!("netflow: listening on {address}");
    }
}

fn row(event: &Event, flow: &FlowRecord) -> serde_json::Value {
    json!({
        "exporter": event.device.as_str(),
        "source": flow.key.source, "source_port": flow.key.source_port,
        "destination": flow.key.destination, "destination_port": flow.key.destination_port,
        "protocol": flow.key.protocol,
        "first_ns": flow.first.nanos(), "last_ns": flow.last.nanos(),
        "packets": flow.forward.packets, "bytes": flow.forward.bytes(),
        "sampling_rate": flow.sampling_rate.max(1),
        "reverse_packets": flow.backward.packets, "reverse_bytes": flow.backward.bytes(),
        "attributes": event.attributes,
    })
}
