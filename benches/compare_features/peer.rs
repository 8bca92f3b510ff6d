//! Polars, in a Python process that is asked over a pipe.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use amoskys_core::event::Entity;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::load::Load;

/// Reads the events once, and answers `LENGTH SLIDE` with the seconds the windows took.
const PROGRAM: &str = "
import sys, time
import polars as pl
events = pl.read_csv(sys.argv[1]).with_columns(
    pl.col('time').cast(pl.Datetime('ns')), pl.col('host').cast(pl.UInt32)).sort('time')
def windows(length, slide):
    seconds = (pl.col('time').max() - pl.col('time')).dt.total_nanoseconds() / 1e9
    ten = [
        pl.len(), pl.col('bytes').sum(), pl.col('packets').sum(), pl.col('failed').sum(),
        pl.col('destination').n_unique(), pl.col('port').n_unique(),
        pl.col('bytes').quantile(0.5, 'lower').alias('size'), pl.col('duration').quantile(0.9, 'lower').alias('long'),
        pl.col('service').unique_counts().entropy(base=2, normalize=True).alias('entropy'),
        (2.0 ** (-0.1 * seconds)).sum().alias('rate'),
    ]
    if length == slide:
        return events.group_by('host', pl.col('time').dt.truncate(f'{slide}s')).agg(ten)
    return events.group_by_dynamic(
        'time', every=f'{slide}s', period=f'{length}s', closed='left', label='right', group_by='host').agg(ten)
print('ready', flush=True)
for line in sys.stdin:
    length, slide = map(int, line.split())
    started = time.process_time()
    closed = windows(length, slide)
    print('seconds', time.process_time() - started, len(closed), flush=True)
";

pub(crate) struct Polars {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Polars {
    /// `None` if the package cannot be imported.
    pub(crate) fn start(program: &str, load: &Load, scratch: &Path) -> Result<Option<Self>, Box<dyn Error>> {
        let known = Command::new(program)
            .args(["-c", "import polars"])
            .stderr(Stdio::null())
            .status();
        if !known.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let file = scratch.join("events.csv");
        std::fs::write(&file, csv(load)?)?;
        let mut child = Command::new(program)
            .args(["-c", PROGRAM])
            .arg(&file)
            .env("POLARS_MAX_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("Python has no pipes".into());
        };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line.trim() != "ready" {
            return Err("Polars could not read the events".into());
        }
        Ok(Some(Self { child, input, output }))
    }

    /// Computes the windows, and says how many seconds that took.
    pub(crate) fn windows(&mut self, length: u64, slide: u64) -> Result<f64, Box<dyn Error>> {
        writeln!(self.input, "{length} {slide}")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let seconds = line.split(' ').nth(1).ok_or("Polars gave no answer")?;
        Ok(seconds.trim().parse()?)
    }
}

impl Drop for Polars {
    fn drop(&mut self) {
        // It ends with its input; whether it has ended already does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn csv(load: &Load) -> Result<String, Box<dyn Error>> {
    let mut text = "host,time,bytes,packets,failed,destination,port,duration,service\n".to_owned();
    for event in &load.happenings {
        let Entity::Host(std::net::IpAddr::V4(host)) = event.host else {
            return Err("a host of another kind".into());
        };
        writeln!(
            text,
            "{},{},{},{},{},{},{},{},{}",
            u32::from(host),
            event.time.nanos(),
            event.bytes,
            event.packets,
            u8::from(event.failed),
            event.destination,
            event.port,
            event.duration,
            event.service
        )?;
    }
    Ok(text)
}

/// Binds this process, and those it starts, to one of the cores it may use.
pub(crate) fn stay_on_one_core() -> Result<(), Box<dyn Error>> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU)
        .rev()
        .find(|&cpu| allowed.is_set(cpu))
        .ok_or("there is no core")?;
    let mut one = CpuSet::new();
    one.set(last);
    Ok(sched_setaffinity(None, &one)?)
}
