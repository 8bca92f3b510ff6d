//! The program: arguments, the loop, and the lines it prints.

use std::error::Error;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use amoskys_collectors::ebpf::{CallStreams, EbpfCollector, EbpfConfig, EbpfHandle};
use amoskys_core::error::Chain;
use amoskys_core::event::{ActivityAction, ActivityEvent, Payload, ProcessEvent};
use amoskys_core::{Collector, Event};
use clap::Parser;

/// Print what processes do, seen from inside the Linux kernel, until Ctrl-C. Needs CAP_BPF and CAP_PERFMON.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Watch files whose path begins like this, instead of the usual ones.
    #[arg(long, value_name = "PATH")]
    watch: Vec<String>,
    /// Also count the system calls of each process by the second.
    #[arg(long)]
    histograms: bool,
    /// Also record every system call, in order.
    #[arg(long, conflicts_with = "histograms")]
    sequences: bool,
    /// Also print sequences and histograms, not only their rates.
    #[arg(long)]
    calls: bool,
    /// List the processes that are there already.
    #[arg(long)]
    present: bool,
    /// Only tell what this kernel offers.
    #[arg(long)]
    probe: bool,
    /// End after so many seconds.
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
}

pub(crate) fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has seen enough.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trace: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

#[tokio::main(flavor = "current_thread")]
async fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let limit = args
        .seconds
        .map_or(Ok(Duration::MAX), Duration::try_from_secs_f64)
        .map_err(|error| format!("--seconds: {error}"))?;
    let mut config = EbpfConfig::default();
    config.report_present = args.present;
    config.streams = match (args.sequences, args.histograms || args.probe) {
        (true, _) => CallStreams::Sequences,
        (_, true) => CallStreams::Histograms,
        _ => CallStreams::None,
    };
    if !args.watch.is_empty() {
        config.filters.watched.clone_from(&args.watch);
    }
    let mut collector = EbpfCollector::open(config)?;
    if args.probe {
        write!(stdout(), "{}", collector.offers())?;
        return Ok(());
    }
    let mut status = Status::new(collector.handle());
    let end = tokio::time::sleep(limit.min(Duration::from_secs(86_400 * 365)));
    tokio::pin!(end);
    let mut running = true;
    loop {
        tokio::select! {
            batch = collector.next_batch() => {
                let Some(batch) = batch? else { break };
                status.clear();
                for event in &batch.events {
                    if let Some(line) = line(event, args.calls) {
                        writeln!(stdout(), "{line}")?;
                    }
                }
                status.show()?;
            }
            _ = tokio::signal::ctrl_c(), if running => { running = false; collector.stop(); }
            () = &mut end, if running => { running = false; collector.stop(); }
        }
    }
    status.clear();
    eprintln!("{}", status.line()?);
    Ok(())
}

/// The line with rates and losses: only on a terminal.
struct Status {
    handle: EbpfHandle,
    is_live: bool,
    before: (Instant, u64),
    text: String,
}

impl Status {
    fn new(handle: EbpfHandle) -> Self {
        Self {
            handle,
            is_live: stderr().is_terminal(),
            before: (Instant::now(), 0),
            text: String::new(),
        }
    }

    fn line(&self) -> Result<String, Box<dyn Error>> {
        let total = self.handle.stats()?.total();
        Ok(format!(
            "seen {}, delivered {}, filtered {}, lost {}; {}",
            total.seen,
            total.delivered,
            total.filtered(),
            total.lost(),
            self.handle.streams().as_str()
        ))
    }

    fn show(&mut self) -> Result<(), Box<dyn Error>> {
        if !self.is_live {
            return Ok(());
        }
        let (then, before) = self.before;
        if then.elapsed() >= Duration::from_millis(500) {
            let seen = self.handle.stats()?.total().seen;
            #[expect(clippy::cast_precision_loss, reason = "it is shown without decimals")]
            let rate = (seen - before) as f64 / then.elapsed().as_secs_f64();
            self.text = format!("{rate:.0}/s; {}", self.line()?);
            self.before = (Instant::now(), seen);
        }
        eprint!("\r\x1b[K{}", self.text);
        Ok(())
    }

    fn clear(&self) {
        if self.is_live {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(event: &Event, calls: bool) -> Option<String> {
    let what = match &event.payload {
        Payload::Process(process) => describe_process(process),
        Payload::Activity(activity) => describe_activity(activity),
        Payload::Loss(loss) => format!("LOST {} {} ({})", loss.count, loss.unit, loss.reason),
        Payload::Alarm(alarm) => format!("{} {:?}: {}", alarm.code, alarm.state, alarm.message),
        Payload::Syscall(run) if calls => {
            format!("calls    {:>7} {}: {:?}", run.tid, run.command, run.numbers)
        }
        Payload::SyscallHistogram(sum) if calls => {
            let counts: Vec<String> = sum
                .counts
                .iter()
                .map(|one| format!("{}×{}", one.number, one.count))
                .collect();
            format!("calls    {:>7} {}: {}", sum.pid, sum.command, counts.join(" "))
        }
        _ => return None,
    };
    Some(format!("{:.6} {what}", event.time.as_secs_f64()))
}

fn describe_process(process: &ProcessEvent) -> String {
    let action = format!("{:?}", process.action).to_lowercase();
    let mut line = format!("{action:8} {:>7} {}", process.pid, process.command);
    if !process.arguments.is_empty() {
        line += &format!(" [{}]", process.arguments.join(" "));
    }
    if let Some(code) = process.exit_code {
        line += &format!(" status {code}");
    }
    if let Some(signal) = process.exit_signal {
        line += &format!(" signal {signal}");
    }
    if let Some(before) = process.previous {
        line += &format!(" uid {} -> {}", before.effective_uid, process.uid);
    }
    // The first process of all runs no file.
    let chain = process.ancestors.iter().map(|one| one.executable.as_str());
    for ancestor in chain.filter(|executable| !executable.is_empty()) {
        line += &format!(" < {ancestor}");
    }
    line
}

fn describe_activity(activity: &ActivityEvent) -> String {
    let mut line = format!("{:16} {:>7} {}", activity.action, activity.pid, activity.command);
    for text in [&activity.path, &activity.other_path, &activity.name] {
        if !text.is_empty() {
            line += &format!(" {text}");
        }
    }
    match activity.action {
        ActivityAction::CapabilityUse => line += &format!(" capability {}", activity.number),
        ActivityAction::FileMode => line += &format!(" mode {:o}", activity.number),
        ActivityAction::Signal => line += &format!(" signal {}", activity.number),
        _ => {}
    }
    if let Some(address) = activity.remote_address {
        line += &format!(" {address} port {}", activity.remote_port);
    }
    if activity.target_pid != 0 {
        line += &format!(" on {}", activity.target_pid);
    }
    match activity.result {
        Some(result) if result < 0 => line + &format!(" error {}", -result),
        _ => line,
    }
}
