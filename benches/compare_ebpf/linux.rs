//! The rounds, and the programs that are watched.

use std::error::Error;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use amoskys_benches::rounds::{is_quick, option, print_skip};
use amoskys_collectors::ebpf::{CallStreams, EbpfCollector, EbpfConfig, EbpfError, EventKind, OfferState};
use amoskys_core::{Collector, Shutdown};

/// What is measured, and how each pair of rounds came out.
struct Entry {
    name: &'static str,
    watcher: Watcher,
    ratios: Vec<f64>,
    calls: u64,
    lost: u64,
}

#[derive(Clone)]
enum Watcher {
    Sensor(CallStreams),
    Bpftrace(String),
}

pub(crate) fn compare() -> Result<(), Box<dyn Error>> {
    let (count, pairs) = if is_quick() { (400_000, 5) } else { (4_000_000, 11) };
    let count: u64 = option("--count").map_or(Ok(count), |number| number.parse())?;
    let Some(calls) = attached_calls()? else {
        return Ok(());
    };
    let mut entries: Vec<Entry> = [
        ("dd_security", CallStreams::None),
        ("dd_histograms", CallStreams::Histograms),
        ("dd_sequences", CallStreams::Sequences),
    ]
    .map(|(name, streams)| Entry {
        name,
        watcher: Watcher::Sensor(streams),
        ratios: Vec::new(),
        calls: 0,
        lost: 0,
    })
    .into();
    let script = Bpftrace::script(&calls);
    if Bpftrace::is_there() {
        entries.push(Entry {
            name: "dd_bpftrace",
            watcher: Watcher::Bpftrace(script),
            ratios: Vec::new(),
            calls: 0,
            lost: 0,
        });
    }
    dd(count)?;
    for _ in 0..pairs {
        for entry in &mut entries {
            let alone = dd(count)?;
            let watched = match &entry.watcher {
                Watcher::Sensor(streams) => {
                    let sensor = Running::start(*streams)?;
                    let watched = dd(count)?;
                    let (calls, lost) = sensor.stop()?;
                    (entry.calls, entry.lost) = (entry.calls + calls, entry.lost + lost);
                    watched
                }
                Watcher::Bpftrace(script) => {
                    let bpftrace = Bpftrace::start(script)?;
                    let watched = dd(count)?;
                    drop(bpftrace);
                    watched
                }
            };
            entry.ratios.push(watched.as_secs_f64() / alone.as_secs_f64());
        }
    }

    println!("\ndd bs=1 count={count}; median of {pairs} pairs, in turns");
    println!(
        "{:<14} {:>8} {:>8} {:>8} {:>12} {:>10}",
        "watched by", "median", "least", "most", "calls", "lost"
    );
    for entry in &mut entries {
        entry.ratios.sort_by(f64::total_cmp);
        let (least, most) = (entry.ratios[0], entry.ratios[entry.ratios.len() - 1]);
        println!(
            "{:<14} {:>8.3} {least:>8.3} {most:>8.3} {:>12} {:>10}",
            entry.name,
            middle(&entry.ratios),
            entry.calls,
            entry.lost
        );
    }
    println!();
    for entry in &entries {
        println!("overhead {} {:.3}", entry.name, middle(&entry.ratios));
    }
    if !entries.iter().any(|entry| entry.name == "dd_bpftrace") {
        print_skip("bpftrace");
    }
    Ok(())
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// The system calls that programs are attached to; `None`, having said so, where none can be.
fn attached_calls() -> Result<Option<Vec<String>>, Box<dyn Error>> {
    let collector = match EbpfCollector::open(EbpfConfig::default()) {
        Ok(collector) => collector,
        Err(error @ (EbpfError::Privileges { .. } | EbpfError::NoTypes(_) | EbpfError::Architecture(_))) => {
            eprintln!("{error}");
            print_skip("ebpf");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let on = collector
        .offers()
        .hooks
        .iter()
        .filter(|offer| offer.state == OfferState::On);
    let calls = on.filter_map(|offer| offer.hook.strip_prefix("call ").map(str::to_owned));
    Ok(Some(calls.collect()))
}

fn dd(count: u64) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let status = Command::new("dd")
        .args(["if=/dev/zero", "of=/dev/null", "bs=1"])
        .arg(format!("count={count}"))
        .stderr(Stdio::null())
        .status()?;
    let time = start.elapsed();
    if status.success() {
        Ok(time)
    } else {
        Err("dd failed".into())
    }
}

/// A sensor whose batches somebody takes.
struct Running {
    stop: Shutdown,
    reader: JoinHandle<Result<(), EbpfError>>,
    handle: amoskys_collectors::ebpf::EbpfHandle,
}

impl Running {
    fn start(streams: CallStreams) -> Result<Self, Box<dyn Error>> {
        let mut config = EbpfConfig::default();
        config.streams = streams;
        config.governor = false;
        if streams != CallStreams::None {
            // Their own cost, without that of events.
            config.events = vec![EventKind::Exec, EventKind::Fork, EventKind::Exit];
        }
        let stop = Shutdown::new();
        let mut collector = EbpfCollector::open(config)?.with_stop(stop.clone());
        let handle = collector.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let reader = std::thread::spawn(move || {
            runtime.block_on(async {
                while collector.next_batch().await?.is_some() {}
                Ok(())
            })
        });
        Ok(Self { stop, reader, handle })
    }

    /// System calls delivered, and all that was lost.
    fn stop(self) -> Result<(u64, u64), Box<dyn Error>> {
        self.stop.trigger();
        self.reader.join().map_err(|_| "the reader panicked")??;
        let stats = self.handle.stats()?;
        let kinds = stats.kinds();
        let calls = [EventKind::Sequence, EventKind::Histogram]
            .iter()
            .filter_map(|kind| kinds.get(kind))
            .map(|counts| counts.delivered)
            .sum();
        Ok((calls, stats.total().lost()))
    }
}

/// bpftrace, which counts.
struct Bpftrace(Child);

impl Bpftrace {
    /// At their returns, where the sensor's programs are too.
    fn script(calls: &[String]) -> String {
        let probes: Vec<String> = calls
            .iter()
            .map(|call| format!("tracepoint:syscalls:sys_exit_{call}"))
            .collect();
        format!(
            "BEGIN {{ printf(\"ready\\n\"); }} {} {{ @[probe] = count(); }}",
            probes.join(",")
        )
    }

    fn is_there() -> bool {
        Command::new("bpftrace").arg("--version").output().is_ok()
    }

    fn start(script: &str) -> Result<Self, Box<dyn Error>> {
        use std::io::{BufRead, BufReader};
        // It wants a mounted tracefs, which nobody else need see.
        let command = "[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing
exec bpftrace -B line -e \"$0\"";
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", command, script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut ready = false;
        for line in BufReader::new(output).lines() {
            if line? == "ready" {
                ready = true;
                break;
            }
        }
        // It says so when its first probe is attached; the others follow.
        std::thread::sleep(Duration::from_secs(1));
        if ready {
            Ok(Self(child))
        } else {
            Err("bpftrace did not start".into())
        }
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        // It ends by itself if it has not, so nothing is to be done about an error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
