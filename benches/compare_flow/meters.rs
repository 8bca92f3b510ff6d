//! The three flow meters, each as a program that reads a capture file.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use amoskys_collectors::capture::{CaptureReader, PacketBlock};
use amoskys_collectors::flow::{FlowConfig, FlowHandler, FlowMeter, RowFormat, RowWriter, meter_in_parallel};
use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;

/// One run of a meter over a file.
pub(crate) struct Run {
    /// How long it took, from the start of its process to the end.
    pub(crate) time: Duration,
    /// How long it took from the opening of the file on, if the program says so.
    pub(crate) metering: Option<Duration>,
    /// How many flows it reported.
    pub(crate) flows: u64,
}

/// A program that meters flows.
pub(crate) trait Meter {
    /// Its name in the ratios.
    fn name(&self) -> &'static str;

    /// What it does that the others may not.
    fn does(&self) -> &'static str;

    /// Meters a file, on one core.
    fn run(&self, capture: &Path) -> Result<Run, Box<dyn Error>>;
}

/// Ours: the library's meter with all statistics, in a process of its own.
pub(crate) struct Ours {
    /// Write the records as CSV to this file; without, they are counted and dropped, as the peers do.
    pub(crate) csv: Option<PathBuf>,
    /// Meter with so many threads, on as many cores.
    pub(crate) threads: usize,
}

/// First argument of the process that meters, which is this program.
pub(crate) const METER: &str = "--meter";
/// The same for one that meters with several threads.
pub(crate) const METER_IN_PARALLEL: &str = "--meter-in-parallel";

impl Ours {
    /// What the process does: meters the file of its second argument, and writes to that of its third. Prints how many flows
    /// there were, and how many seconds it took.
    pub(crate) fn meter(capture: &Path, csv: Option<&Path>) -> Result<(), Box<dyn Error>> {
        let started = Instant::now();
        let mut meter = FlowMeter::new(ends_only())?;
        let writer = csv.map(|path| RowWriter::new(BufWriter::new(File::create(path)?), RowFormat::Csv));
        let mut flows = Flows {
            count: 0,
            writer: writer.transpose()?,
            result: Ok(()),
        };
        let mut reader = CaptureReader::new(File::open(capture)?)?;
        let mut block = PacketBlock::default();
        while reader.next_block(&mut block)? {
            meter.push_block(&block, &mut flows);
        }
        meter.finish(&mut flows);
        flows.result?;
        flows.writer.map(RowWriter::into_inner).transpose()?;
        println!("{} {}", flows.count, started.elapsed().as_secs_f64());
        Ok(())
    }

    /// The same with several threads.
    pub(crate) fn meter_in_parallel(capture: &Path, threads: usize) -> Result<(), Box<dyn Error>> {
        let started = Instant::now();
        let handlers = (0..threads).map(|_| Flows {
            count: 0,
            writer: None,
            result: Ok(()),
        });
        let mut reader = CaptureReader::new(File::open(capture)?)?;
        let (handlers, _) = meter_in_parallel(&mut reader, &ends_only(), handlers.collect())?;
        let flows: u64 = handlers.iter().map(|flows| flows.count).sum();
        println!("{flows} {}", started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// One record for each flow, when it ends.
fn ends_only() -> FlowConfig {
    FlowConfig {
        start_records: false,
        update_interval: None,
        ..FlowConfig::default()
    }
}

impl Meter for Ours {
    fn name(&self) -> &'static str {
        if self.threads > 1 {
            "flow_2_cores"
        } else if self.csv.is_some() {
            "flow, as CSV"
        } else {
            "flow"
        }
    }

    fn does(&self) -> &'static str {
        if self.threads > 1 {
            "the same with two threads, on two cores"
        } else if self.csv.is_some() {
            "all statistics, a row of text for each flow"
        } else {
            "all statistics, a record for each flow"
        }
    }

    fn run(&self, capture: &Path) -> Result<Run, Box<dyn Error>> {
        let program = std::env::current_exe()?;
        let mut command = if self.threads > 1 {
            let mut command = Command::new(program);
            command
                .arg(METER_IN_PARALLEL)
                .arg(capture)
                .arg(self.threads.to_string());
            command
        } else {
            let mut command = on_one_core(&program);
            command.arg(METER).arg(capture).args(&self.csv);
            command
        };
        let started = Instant::now();
        let printed = output_of(&mut command)?;
        let time = started.elapsed();
        let (flows, metering) = result(&printed)?;
        Ok(Run {
            time,
            metering: Some(metering),
            flows,
        })
    }
}

/// Two of ours at once, each with a core and a table of its own: as much as two cores of this machine can do, which may be less
/// than twice one.
pub(crate) struct Twice;

impl Meter for Twice {
    fn name(&self) -> &'static str {
        "flow, twice"
    }

    fn does(&self) -> &'static str {
        "two programs, each meters the whole file: what two cores allow"
    }

    fn run(&self, capture: &Path) -> Result<Run, Box<dyn Error>> {
        let program = std::env::current_exe()?;
        let started = Instant::now();
        let (mut flows, mut metering) = (0, Duration::ZERO);
        let start = || {
            let mut command = Command::new(&program);
            command.arg(METER).arg(capture);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
        };
        for child in [start()?, start()?] {
            let output = child.wait_with_output()?;
            let one = result(&String::from_utf8(output.stdout)?)?;
            flows += one.0;
            metering = metering.max(one.1);
        }
        Ok(Run {
            time: started.elapsed(),
            metering: Some(metering),
            flows,
        })
    }
}

/// What a process of ours printed: flows, and the time it took to meter them.
fn result(printed: &str) -> Result<(u64, Duration), Box<dyn Error>> {
    let (flows, seconds) = printed.trim().split_once(' ').ok_or("a run printed no result")?;
    Ok((flows.parse()?, Duration::try_from_secs_f64(seconds.parse()?)?))
}

struct Flows {
    count: u64,
    writer: Option<RowWriter<BufWriter<File>>>,
    result: std::io::Result<()>,
}

impl FlowHandler for Flows {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        self.count += 1;
        if let Some(writer) = self.writer.as_mut().filter(|_| self.result.is_ok()) {
            self.result = writer.write(record);
        }
        // Nothing of the record may be left out because nobody looks at it.
        std::hint::black_box(record);
    }
}

/// softflowd: basic counters, nothing exported.
pub(crate) struct Softflowd;

impl Softflowd {
    /// `None` if it is not installed.
    pub(crate) fn find() -> Option<Self> {
        installed(Command::new("softflowd").arg("-h")).then_some(Self)
    }
}

impl Meter for Softflowd {
    fn name(&self) -> &'static str {
        "softflowd"
    }

    fn does(&self) -> &'static str {
        "packets, bytes and flags; nothing written"
    }

    fn run(&self, capture: &Path) -> Result<Run, Box<dyn Error>> {
        let mut command = on_one_core(Path::new("softflowd"));
        command.arg("-r").arg(capture);
        let started = Instant::now();
        let printed = output_of(&mut command)?;
        let time = started.elapsed();
        let flows = printed
            .lines()
            .find_map(|line| line.strip_prefix("Flows expired: "));
        let flows = flows.and_then(|rest| rest.split(' ').next()?.parse().ok());
        Ok(Run {
            time,
            metering: None,
            flows: flows.ok_or("softflowd did not say how many flows there were")?,
        })
    }
}

/// NFStream with its statistical features, without guessing applications.
pub(crate) struct NfStream;

const NFSTREAM: &str = "
import sys, time
from nfstream import NFStreamer
started = time.perf_counter()
streamer = NFStreamer(source=sys.argv[1], statistical_analysis=True, n_dissections=0, n_meters=1)
flows = sum(1 for _ in streamer)
print('result', time.perf_counter() - started, flows)
";

impl NfStream {
    /// `None` if the Python package cannot be imported.
    pub(crate) fn find() -> Option<Self> {
        installed(Command::new("python3").args(["-c", "import nfstream"])).then_some(Self)
    }
}

impl Meter for NfStream {
    fn name(&self) -> &'static str {
        "nfstream"
    }

    fn does(&self) -> &'static str {
        "statistical features; start of Python not counted"
    }

    fn run(&self, capture: &Path) -> Result<Run, Box<dyn Error>> {
        let mut command = on_one_core(Path::new("python3"));
        command.args(["-c", NFSTREAM]).arg(capture);
        let printed = output_of(&mut command)?;
        let mut words = printed
            .lines()
            .find_map(|line| line.strip_prefix("result "))
            .unwrap_or("")
            .split(' ');
        let mut word = || words.next().ok_or("NFStream printed no result");
        Ok(Run {
            time: Duration::try_from_secs_f64(word()?.parse()?)?,
            metering: None,
            flows: word()?.parse()?,
        })
    }
}

fn installed(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A command bound to the last core this process may use, where `taskset` can do so.
fn on_one_core(program: &Path) -> Command {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let last = allowed.and_then(|list| list.trim().rsplit([',', '-']).next());
    match last {
        Some(core) if installed(Command::new("taskset").args(["-c", core, "true"])) => {
            let mut command = Command::new("taskset");
            command.args(["-c", core]).arg(program);
            command
        }
        _ => Command::new(program),
    }
}

/// What a command printed, if it succeeded.
fn output_of(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.stdin(Stdio::null()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", errors.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &errors)
}
