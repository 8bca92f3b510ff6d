//! Flows that routers and probes export (NetFlow v5, v9, IPFIX), or packets that they sample (sFlow v5), as JSON lines.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

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
    /// Listen on this UDP address; all versions come to one port.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:2055")]
    listen: String,
    /// Read these capture files instead.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "listen")]
    read: Vec<PathBuf>,
    /// Take sFlow instead, whose usual port is 6343. Counts are those of the samples.
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
    let mut exports = if args.sflow {
        samples(args, stop)?
    } else {
        flows(args, stop)?
    };
    let mut output = std::io::stdout().lock();
    let mut tally = Tally::default();
    while let Some(batch) = exports.next_batch().await? {
        tally.add(&batch.tally);
        for event in &batch.events {
            match &event.payload {
                Payload::Flow(flow) => writeln!(output, "{}", row(event, flow))?,
                Payload::Loss(loss) => {
                    eprintln!(
                        "netflow: {}: {} {} {}",
                        event.device, loss.count, loss.unit, loss.reason
                    );
                }
                _ => {}
            }
        }
        output.flush()?;
    }
    eprintln!("netflow: {} records used", tally.used);
    for (reason, count) in &tally.dropped {
        eprintln!("netflow: {count} {reason}");
    }
    Ok(())
}

fn flows(args: &Args, stop: Shutdown) -> Result<BoxCollector, Box<dyn Error>> {
    let config = NetflowConfig {
        attributes: !args.no_attributes,
        ..NetflowConfig::default()
    };
    let exports = if args.read.is_empty() {
        NetflowCollector::bind(args.listen.as_str(), config)?
    } else {
        NetflowCollector::from_files(&args.read, config)?
    };
    Ok(BoxCollector::new(exports.with_stop(stop)))
}

fn samples(args: &Args, stop: Shutdown) -> Result<BoxCollector, Box<dyn Error>> {
    let config = SflowConfig {
        attributes: !args.no_attributes,
        ..SflowConfig::default()
    };
    let exports = if args.read.is_empty() {
        SflowCollector::bind(args.listen.as_str(), config)?
    } else {
        SflowCollector::from_files(&args.read, config)?
    };
    Ok(BoxCollector::new(exports.with_stop(stop)))
}

fn row(event: &Event, flow: &FlowRecord) -> serde_json::Value {
    json!({
        "exporter": event.device.as_str(),
        "source": flow.key.source, "source_port": flow.key.source_port,
        "destination": flow.key.destination, "destination_port": flow.key.destination_port,
        "protocol": flow.key.protocol,
        "first_ns": flow.first.nanos(), "last_ns": flow.last.nanos(),
        "packets": flow.forward.packets, "bytes": flow.forward.bytes(),
        "reverse_packets": flow.backward.packets, "reverse_bytes": flow.backward.bytes(),
        "attributes": event.attributes,
    })
}
