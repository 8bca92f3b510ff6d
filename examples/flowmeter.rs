//! Packets to flow records: reads capture files or an interface, and writes one row per flow.
//!
//! It drives the flow meter itself, without pipeline or log. `sentinel` shows it as a collector in a pipeline.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use amoskys_collectors::capture::{CaptureError, CaptureReader, LiveCapture, LiveConfig, PacketBlock};
use amoskys_collectors::flow::{
    Columns, FlowConfig, FlowHandler, FlowMeter, RowFormat, RowWriter, TunnelMode,
};
use amoskys_core::error::Chain;
use amoskys_core::event::{FlowPhase, FlowRecord};
use amoskys_core::{Shutdown, Timestamp};
use clap::Parser;

/// Turn packets into flow records: one row per flow, with statistics of both directions.
///
/// A balance of the packets goes to standard error. Exit status: 0 if all was read; 1 on an error; 2 for wrong
/// arguments; 3 if a capture is damaged, and the rows show what came before the damage.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Read these capture files (pcap or pcapng), in this order.
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "interface")]
    read: Vec<PathBuf>,
    /// Capture from this interface until Ctrl-C (Linux; needs CAP_NET_RAW).
    #[arg(long, value_name = "NAME", conflicts_with = "read")]
    interface: Option<String>,
    /// Format of the rows: csv, or json (one object a line).
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: RowFormat,
    /// Columns of the rows: counts, statistics, or all (docs/flow.md defines them).
    #[arg(long, value_name = "SET", default_value = "statistics")]
    columns: Columns,
    /// Where packets carry packets, meter the outer ones, the inner ones, or both.
    #[arg(long, value_name = "WHICH", default_value = "outer")]
    tunnels: TunnelMode,
    /// Work out the entropy of so many payload bytes of each direction.
    #[arg(long, value_name = "N", default_value = "0")]
    entropy_bytes: u16,
    /// The packets are a sample, one in so many: scale the counts in columns of their own.
    #[arg(long, value_name = "N", default_value = "1")]
    sampling_rate: u32,
    /// Write to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// End a flow after so many seconds without a packet.
    #[arg(long, value_name = "S", default_value = "60")]
    idle_timeout: f64,
    /// End a flow that lasts longer than so many seconds; a new one goes on.
    #[arg(long, value_name = "S", default_value = "1800")]
    active_timeout: f64,
    /// One 5-tuple is one flow and one row: no time-outs, and FIN and RST do not end it.
    #[arg(long)]
    never_expire: bool,
    /// Keep so many flows at most, of about 850 bytes each; one more ends the one unused for longest.
    #[arg(long, value_name = "N", default_value = "4000000")]
    max_flows: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(damaged) => ExitCode::from(if damaged { 3 } else { 0 }),
        Err(error) => {
            eprintln!("flowmeter: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Meters everything; says whether a capture was damaged.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let config = FlowConfig {
        idle_timeout: Duration::try_from_secs_f64(args.idle_timeout)?,
        active_timeout: Duration::try_from_secs_f64(args.active_timeout)?,
        never_expire: args.never_expire,
        max_flows: args.max_flows,
        tunnels: args.tunnels,
        entropy_bytes: args.entropy_bytes,
        sampling_rate: args.sampling_rate,
        start_records: false,
        update_interval: None,
        ..FlowConfig::default()
    };
    // A mistake in what is read must not cost an output that is there already.
    let input = match (&args.interface, args.read.split_first()) {
        (Some(name), _) => Input::Interface(LiveCapture::open(name, &LiveConfig::default())?),
        (None, Some((first, others))) => Input::Files(Box::new(open(first)?), first, others),
        (None, None) => return Err("nothing to read".into()),
    };
    let mut job = Job {
        meter: FlowMeter::new(config)?,
        rows: Rows::new(args.output.as_deref(), args.format, args.columns)?,
        stop: stop_on_ctrl_c()?,
        lost: Vec::new(),
    };
    let read = match input {
        Input::Interface(live) => job.capture(live),
        Input::Files(capture, path, others) => job
            .read(*capture, path)
            .and_then(|()| others.iter().try_for_each(|path| job.read(open(path)?, path))),
    };
    // However reading ended, what was metered is written.
    job.meter.finish(&mut job.rows);
    eprint!("{}", job.meter.stats());
    job.lost
        .iter()
        .for_each(|(reason, count)| eprint!("; lost before: {count} {reason}"));
    eprintln!();
    job.rows.finish().map_err(|error| match &args.output {
        Some(path) => format!("{}: {error}", path.display()),
        None => format!("standard output: {error}"),
    })?;
    read.map(|()| args.interface.is_none() && !job.lost.is_empty())
}

enum Input<'a> {
    Interface(LiveCapture),
    /// The first file, open; its path, and those of the others.
    Files(Box<CaptureReader<File>>, &'a Path, &'a [PathBuf]),
}

fn open(path: &Path) -> Result<CaptureReader<File>, Box<dyn Error>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(CaptureReader::new(file).map_err(|error| about(path, &error))?)
}

fn about(path: &Path, error: &CaptureError) -> String {
    format!("{}: {}", path.display(), Chain(error))
}

struct Job {
    meter: FlowMeter,
    rows: Rows,
    stop: Shutdown,
    /// Packets that never reached the meter, by reason.
    lost: Vec<(String, u64)>,
}

impl Job {
    fn read(&mut self, mut capture: CaptureReader<File>, path: &Path) -> Result<(), Box<dyn Error>> {
        let mut block = PacketBlock::default();
        while capture
            .next_block(&mut block)
            .map_err(|error| about(path, &error))?
        {
            self.meter.push_block(&block, &mut self.rows);
            if self.rows.result.is_err() || self.stop.is_triggered() {
                break;
            }
        }
        for (kind, count) in &capture.damage().counts {
            let at = capture.damage().first_offset.unwrap_or_default();
            eprintln!(
                "flowmeter: {}: damaged: {count} {kind}, from byte {at}",
                path.display()
            );
            self.lost.push((kind.to_string(), *count));
        }
        Ok(())
    }

    fn capture(&mut self, mut live: LiveCapture) -> Result<(), Box<dyn Error>> {
        // The kernel hands packets over after up to 50 ms; the clock must not overtake them.
        const PATIENCE: Duration = Duration::from_millis(100);
        let mut drops = 0;
        while self.rows.result.is_ok() && !self.stop.is_triggered() {
            live.wait(PATIENCE)?;
            while let Some(packet) = live.next_packet() {
                self.meter.push(&packet, &mut self.rows);
            }
            self.meter
                .advance(Timestamp::now().minus(PATIENCE), &mut self.rows);
            drops += live.take_drops()?;
        }
        self.lost
            .extend((drops > 0).then(|| ("kernel".to_owned(), drops)));
        Ok(())
    }
}

/// Writes a row for each flow that ends.
struct Rows {
    writer: RowWriter<BufWriter<Box<dyn Write>>>,
    result: io::Result<()>,
}

impl Rows {
    fn new(path: Option<&Path>, format: RowFormat, columns: Columns) -> Result<Self, Box<dyn Error>> {
        let output: Box<dyn Write> = match path {
            Some(path) => {
                Box::new(File::create(path).map_err(|error| format!("{}: {error}", path.display()))?)
            }
            None => Box::new(io::stdout().lock()),
        };
        let writer = RowWriter::with_columns(BufWriter::with_capacity(1 << 16, output), format, columns)?;
        Ok(Self {
            writer,
            result: Ok(()),
        })
    }

    fn finish(self) -> io::Result<()> {
        match self.result.and_then(|()| self.writer.into_inner().map(drop)) {
            // Whoever read the rows has had enough of them.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

impl FlowHandler for Rows {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        if matches!(record.phase, FlowPhase::End(_)) && self.result.is_ok() {
            self.result = self.writer.write(record);
        }
    }
}

/// A signal that Ctrl-C gives.
fn stop_on_ctrl_c() -> io::Result<Shutdown> {
    let stop = Shutdown::new();
    let given = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async { tokio::signal::ctrl_c().await.map(|()| given.trigger()) })
    });
    Ok(stop)
}
