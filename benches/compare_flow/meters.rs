//! The three flow meters, each as a program that reads a capture file.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One run of a meter over a file.
pub(crate) struct Run {
    /// How long it took.
    pub(crate) time: Duration,
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

/// Ours: the `flowmeter` example, all statistics, CSV to a file.
pub(crate) struct Flowmeter {
    program: PathBuf,
    output: PathBuf,
}

impl Flowmeter {
    /// Builds the example with the profile of this bench.
    pub(crate) fn build(scratch: &Path) -> Result<Self, Box<dyn Error>> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--release",
                "-p",
                "amoskys-examples",
                "--example",
                "flowmeter",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .status()?;
        if !status.success() {
            return Err("the flowmeter example does not build".into());
        }
        // This bench lies in `deps`, beside `examples`.
        let bench = std::env::current_exe()?;
        let profile = bench
            .parent()
            .and_then(Path::parent)
            .ok_or("a bench lies in a target folder")?;
        let program = profile.join("examples/flowmeter");
        Ok(Self {
            program,
            output: scratch.join("flows.csv"),
        })
    }
}

impl Meter for Flowmeter {
    fn name(&self) -> &'static str {
        "flow"
    }

    fn does(&self) -> &'static str {
        "all statistics, written as CSV"
    }

    fn run(&self, capture: &Path) -> Result<Run, Box<dyn Error>> {
        let mut command = on_one_core(&self.program);
        command
            .arg("--read")
            .arg(capture)
            .args(["--format", "csv", "--output"])
            .arg(&self.output);
        let started = Instant::now();
        output_of(&mut command)?;
        let time = started.elapsed();
        let rows = std::fs::read(&self.output)?
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        Ok(Run {
            time,
            flows: u64::try_from(rows)?.saturating_sub(1),
        })
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
