//! Who watches.

use std::error::Error;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use amoskys_benches::rounds::print_skip;
use amoskys_collectors::ebpf::{
    CallStreams, EbpfCollector, EbpfConfig, EbpfError, EbpfHandle, EventKind, OfferState,
};
use amoskys_core::{Collector, Shutdown};

/// A sensor of default settings; `None`, having said so, where none can be had.
fn open() -> Result<Option<EbpfCollector>, Box<dyn Error>> {
    match EbpfCollector::open(EbpfConfig::default()) {
        Ok(collector) => Ok(Some(collector)),
        Err(error @ (EbpfError::Privileges { .. } | EbpfError::NoTypes(_) | EbpfError::Architecture(_))) => {
            eprintln!("{error}");
            print_skip("ebpf");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The system calls that programs are attached to; `None`, having said so, where none can be.
pub(crate) fn attached_calls() -> Result<Option<Vec<String>>, Box<dyn Error>> {
    let Some(collector) = open()? else {
        return Ok(None);
    };
    let on = collector
        .offers()
        .hooks
        .iter()
        .filter(|offer| offer.state == OfferState::On);
    let calls = on.filter_map(|offer| offer.hook.strip_prefix("call ").map(str::to_owned));
    Ok(Some(calls.collect()))
}

/// A sensor whose batches somebody takes.
pub(crate) struct Running {
    stop: Shutdown,
    reader: JoinHandle<Result<u64, EbpfError>>,
    pub(crate) handle: EbpfHandle,
}

impl Running {
    /// Records all system calls in this way; with none, the events of security.
    pub(crate) fn start(streams: CallStreams) -> Result<Self, Box<dyn Error>> {
        let mut config = EbpfConfig::default();
        config.streams = streams;
        config.governor = false;
        if streams != CallStreams::None {
            // Their own cost, without that of events.
            config.events = vec![EventKind::Exec, EventKind::Fork, EventKind::Exit];
        }
        Self::with(config)
    }

    pub(crate) fn with(config: EbpfConfig) -> Result<Self, Box<dyn Error>> {
        Self::read(EbpfCollector::open(config)?)
    }

    /// One with default settings, if any can be had.
    pub(crate) fn first() -> Result<Option<Self>, Box<dyn Error>> {
        open()?.map(Self::read).transpose()
    }

    fn read(collector: EbpfCollector) -> Result<Self, Box<dyn Error>> {
        let stop = Shutdown::new();
        let mut collector = collector.with_stop(stop.clone());
        let handle = collector.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let reader = std::thread::spawn(move || {
            runtime.block_on(async {
                let mut events = 0;
                while let Some(batch) = collector.next_batch().await? {
                    events += batch.events.len() as u64;
                }
                Ok(events)
            })
        });
        Ok(Self { stop, reader, handle })
    }

    /// System calls delivered, and all that was lost.
    pub(crate) fn stop(self) -> Result<(u64, u64), Box<dyn Error>> {
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
pub(crate) struct Bpftrace(Child);

impl Bpftrace {
    /// At their returns, where the sensor's programs are too.
    pub(crate) fn script(calls: &[String]) -> String {
        let probes: Vec<String> = calls
            .iter()
            .map(|call| format!("tracepoint:syscalls:sys_exit_{call}"))
            .collect();
        format!(
            "BEGIN {{ printf(\"ready\\n\"); }} {} {{ @[probe] = count(); }}",
            probes.join(",")
        )
    }

    pub(crate) fn is_there() -> bool {
        Command::new("bpftrace").arg("--version").output().is_ok()
    }

    pub(crate) fn start(script: &str) -> Result<Self, Box<dyn Error>> {
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
