//! How many packets a second do our flow meter, softflowd and NFStream turn into flows?
//!
//! All read the same capture file from the page cache, each as a whole process on the same core, in turns, so that
//! whatever else the machine does meets all of them. The figure is the median of the rounds. What a second core adds is measured
//! without the start of the processes, by the median and by the fastest runs, and stands beside what it adds for two programs that
//! share nothing.
//!
//! ```text
//! cargo bench -p amoskys-benches --bench compare_flow -- [--quick] [--capture FILE] [--packets N]
//! ```

#[path = "compare_flow/meters.rs"]
mod meters;
#[path = "compare_flow/repeat.rs"]
mod repeat;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use amoskys_benches::rounds::{is_quick, median, option, print_ratio, print_skip};

use self::meters::{METER, METER_IN_PARALLEL, Meter, NfStream, Ours, Softflowd, Twice};
use self::repeat::Source;

/// How often in a round our meters run that write nothing.
const TURNS: usize = 5;

/// A meter with the file it reads and what came of it.
struct Entry {
    meter: Box<dyn Meter>,
    capture: PathBuf,
    packets: u64,
    times: Vec<Duration>,
    /// Without the start of a process, where that is known.
    metering: Vec<Duration>,
    flows: u64,
}

impl Entry {
    fn new(meter: impl Meter + 'static, (capture, packets): &(PathBuf, u64)) -> Self {
        Self {
            meter: Box::new(meter),
            capture: capture.clone(),
            packets: *packets,
            times: Vec::new(),
            metering: Vec::new(),
            flows: 0,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn packets_per_second(&self) -> f64 {
        self.packets as f64 / median(&self.times).as_secs_f64()
    }

    /// The same, without the start of a process: the median, and the fastest run.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn metered_per_second(&self) -> [f64; 2] {
        let fastest = self.metering.iter().copied().min().unwrap_or_default();
        [median(&self.metering), fastest].map(|time| self.packets as f64 / time.as_secs_f64())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == METER_IN_PARALLEL {
        let capture = PathBuf::from(arguments.next().ok_or("which capture?")?);
        let threads = arguments.next().ok_or("how many threads?")?;
        let threads = threads.to_str().ok_or("a number")?.parse()?;
        return Ours::meter_in_parallel(&capture, threads);
    }
    if first == METER {
        let capture = PathBuf::from(arguments.next().ok_or("which capture?")?);
        return Ours::meter(&capture, arguments.next().as_deref().map(Path::new));
    }
    compare()
}

fn compare() -> Result<(), Box<dyn Error>> {
    let (packets, rounds) = if is_quick() { (500_000, 3) } else { (2_000_000, 7) };
    let packets = option("--packets").map_or(Ok(packets), |number| number.parse())?;
    let lab = || concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/lab.pcap").to_owned();
    let capture = option("--capture").unwrap_or_else(lab);

    let scratch = tempfile::tempdir()?;
    let source = Source::read(Path::new(&capture)).map_err(|error| format!("{capture}: {error}"))?;
    let repeated = |name: &str, packets| -> std::io::Result<(PathBuf, u64)> {
        let path = scratch.path().join(name);
        let written = source.repeat(packets, &path)?;
        Ok((path, written))
    };
    let large = repeated("large.pcap", packets)?;

    let ours = |threads, csv| Entry::new(Ours { csv, threads }, &large);
    let mut entries = vec![ours(1, None)];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let parallel = (cores > 1).then_some(entries.len());
    if parallel.is_some() {
        entries.push(ours(2, None));
        let (capture, packets) = &large;
        entries.push(Entry::new(Twice, &(capture.clone(), packets * 2)));
    }
    // What it writes goes to the disk while peers run that take longer.
    entries.push(ours(1, Some(scratch.path().join("flows.csv"))));
    let peers = entries.len();
    let mut missing = Vec::new();
    match Softflowd::find() {
        Some(meter) => entries.push(Entry::new(meter, &large)),
        None => missing.push("softflowd"),
    }
    match NfStream::find() {
        // A tenth as fast, so it gets a fifth of the packets.
        Some(meter) => entries.push(Entry::new(meter, &repeated("small.pcap", packets / 5)?)),
        None => missing.push("nfstream"),
    }

    // One round more than counted: the first warms the page cache. What takes a tenth of a second, and is compared by a few
    // hundredths, has more than one turn in a round.
    let quick = peers - 1;
    for round in 0..=rounds {
        for turn in 0..TURNS {
            let entries = entries.iter_mut().enumerate();
            for (_, entry) in entries.filter(|(place, _)| turn == 0 || *place < quick) {
                let run = entry.meter.run(&entry.capture)?;
                if round > 0 {
                    entry.times.push(run.time);
                    entry.metering.extend(run.metering);
                }
                entry.flows = run.flows;
            }
        }
    }

    println!(
        "\n{capture}, repeated; one core where nothing else is said; median of {rounds} rounds, in turns"
    );
    println!(
        "{:<12} {:>12} {:>10} {:>10} {:>10}  what it does",
        "meter", "packets/s", "packets", "flows", "seconds"
    );
    for entry in &entries {
        println!(
            "{:<12} {:>12.0} {:>10} {:>10} {:>10.3}  {}",
            entry.meter.name(),
            entry.packets_per_second(),
            entry.packets,
            entry.flows,
            median(&entry.times).as_secs_f64(),
            entry.meter.does(),
        );
    }
    println!();
    for peer in &entries[peers..] {
        let ratio = entries[0].packets_per_second() / peer.packets_per_second();
        print_ratio(entries[0].meter.name(), peer.meter.name(), ratio);
    }
    for two_cores in parallel.iter().flat_map(|&first| &entries[first..first + 2]) {
        // Not of whole processes: their start, a hundredth of the time, is no part of what two threads can share.
        let ([one, fastest], [two, fastest_two]) =
            (entries[0].metered_per_second(), two_cores.metered_per_second());
        print_ratio(two_cores.meter.name(), entries[0].meter.name(), two / one);
        // Where cores are shared with other machines, one is at times slower than the other. The fastest runs had both.
        println!("of the fastest runs {:.3}", fastest_two / fastest);
    }
    missing.into_iter().for_each(print_skip);
    Ok(())
}
