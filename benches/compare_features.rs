//! How many events a second go into windows of many entities, ten aggregates each?
//!
//! Events of 100,000 hosts, in no order of hosts, each counted by ten aggregates: four sums or counts, two distinct counts, two
//! quantiles, an entropy and a damped rate. One core. Windows are full before the time counts: what enters then leaves in
//! its turn. The peer is Polars, which is given all events at once in columns, and
//! computes the same windows with exact aggregates in place of sketches; one thread as well. Each side's time ends when it has the
//! values of the windows. It is the processor's time of the process, which what else runs on the core does not lengthen.
//!
//! ```text
//! cargo bench -p amoskys-benches --bench compare_features -- [--quick] [--python PROGRAM] [--rounds N] [--only LENGTH/SLIDE]
//! ```
//!
//! `PROGRAM` is `python3` unless said: that of a virtual environment with `polars` will do.

#[path = "compare_features/load.rs"]
mod load;
#[path = "compare_features/peer.rs"]
mod peer;

use std::error::Error;
use std::time::Duration;

use amoskys_benches::rounds::{is_quick, option, print_ratio, print_skip};
use amoskys_core::event::Entity;
use amoskys_core::{Seq, Timestamp};
use amoskys_features::aggregate::{Damped, Distinct, Frequencies, Quantiles};
use amoskys_features::hash::KeyHash;
use amoskys_features::window::{Emit, KeyedWindows, Limits, WindowSpec};
use rustix::time::{ClockId, clock_gettime};

use self::load::{Happening, Load};
use self::peer::Polars;

/// Events, bytes, packets, failures; destinations, ports; sizes, durations; services; rate.
type Ten = (
    u64,
    u64,
    u64,
    u64,
    Distinct,
    Distinct,
    Quantiles,
    Quantiles,
    Frequencies,
    Damped<100>,
);

/// The length of a window in seconds, and how often one ends: by tens, twos and ones, each without overlap, and with up to sixtyfold.
const WINDOWS: [(u64, u64); 12] = [
    (10, 10),
    (20, 10),
    (40, 10),
    (160, 10),
    (2, 2),
    (8, 2),
    (24, 2),
    (60, 2),
    (1, 1),
    (4, 1),
    (12, 1),
    (60, 1),
];
/// What the peer computes too.
const COMPARED: [(u64, u64); 2] = [(10, 10), (20, 10)];

fn main() -> Result<(), Box<dyn Error>> {
    let (events, rounds) = if is_quick() {
        (1_000_000, 1)
    } else {
        (4_000_000, 3)
    };
    let rounds = option("--rounds").map_or(Ok(rounds), |number| number.parse())?;
    peer::stay_on_one_core()?;
    let load = Load::new(events, 100_000, 100_000);
    println!(
        "{:<22} {:>12} {:>9} {:>10} {:>10} {:>9} {:>13}",
        "windows", "events/s", "ns/event", "closed", "ns/closed", "entities", "bytes/entity"
    );
    let mut ours = Vec::new();
    let only = option("--only");
    for (length, slide) in WINDOWS {
        if only
            .as_deref()
            .is_some_and(|only| only != format!("{length}/{slide}"))
        {
            continue;
        }
        let spec = WindowSpec::sliding(Duration::from_secs(length), Duration::from_secs(slide))?;
        let mut best = f64::INFINITY;
        let mut last = Run::default();
        for _ in 0..rounds {
            let run = run(&load, spec);
            best = best.min(run.seconds);
            last = run;
        }
        ours.push(((length, slide), best));
        #[expect(clippy::cast_precision_loss, reason = "a few million")]
        let (rate, closed) = (load.happenings.len() as f64 / best, last.closed.max(1) as f64);
        println!(
            "{:<22} {rate:>12.0} {:>9.0} {:>10} {:>10.0} {:>9} {:>13}",
            format!("{length} s every {slide} s"),
            1e9 / rate,
            last.closed,
            1e9 * best / closed,
            last.entities,
            last.bytes_per_entity
        );
    }
    let python = option("--python").unwrap_or_else(|| "python3".to_owned());
    let scratch = tempfile::tempdir()?;
    let Some(mut polars) = Polars::start(&python, &load, scratch.path())? else {
        print_skip("polars");
        return Ok(());
    };
    for (length, slide) in COMPARED {
        let mine = ours.iter().find(|(window, _)| *window == (length, slide));
        let Some((_, mine)) = mine else { continue };
        let mut theirs = f64::INFINITY;
        for _ in 0..rounds {
            theirs = theirs.min(polars.windows(length, slide)?);
        }
        println!("polars {length} s every {slide} s: {theirs:.2} s; ours {mine:.2} s");
        print_ratio(&format!("windows_{length}_{slide}"), "polars", theirs / mine);
    }
    Ok(())
}

#[derive(Default)]
struct Run {
    seconds: f64,
    closed: u64,
    entities: usize,
    bytes_per_entity: usize,
}

fn run(load: &Load, spec: WindowSpec) -> Run {
    let limits = Limits {
        max_entities: 200_000,
        ..Limits::default()
    };
    let mut windows: KeyedWindows<Entity, Ten> = KeyedWindows::new(spec, limits).emitting(Emit::Changed);
    let mut sum = 0.0;
    let before = resident();
    // The events come again and again, each time as much later as they last, until the windows are full; the next time counts.
    let passes = passes_to_fill(load, spec);
    for pass in 0..passes {
        feed(&mut windows, load, pass, &mut sum);
    }
    let entities = windows.entities();
    let bytes_per_entity = resident().saturating_sub(before) / entities.max(1);
    let closed = windows.counters().closed;
    let start = processor_seconds();
    feed(&mut windows, load, passes, &mut sum);
    let seconds = processor_seconds() - start;
    std::hint::black_box(sum);
    Run {
        seconds,
        closed: windows.counters().closed - closed,
        entities,
        bytes_per_entity,
    }
}

/// How many times all events have to come for a window to be full.
fn passes_to_fill(load: &Load, spec: WindowSpec) -> u32 {
    let passes = spec.length().as_nanos().div_ceil(load.duration().as_nanos());
    u32::try_from(passes).unwrap_or(u32::MAX)
}

/// Gives all events to the windows, as they come the first time or so many times later, and reads the windows that they close.
fn feed(windows: &mut KeyedWindows<Entity, Ten>, load: &Load, pass: u32, sum: &mut f64) {
    let later = load.duration() * pass;
    // As a stream's events come: some at once, and then its clock.
    for events in load.happenings.chunks(64) {
        let of = |event: &Happening| event.time.plus(later);
        windows.update_all(
            events,
            |event| (&event.host, of(event), Seq(0)),
            |ten, event| add(ten, event, of(event)),
        );
        if let Some(last) = events.last() {
            windows.advance(of(last), |closed| *sum += read(closed.aggregate));
        }
    }
}

fn add(ten: &mut Ten, event: &Happening, time: Timestamp) {
    let (events, bytes, packets, failed, destinations, ports, sizes, durations, services, rate) = ten;
    *events += 1;
    *bytes += u64::from(event.bytes);
    *packets += u64::from(event.packets);
    *failed += u64::from(event.failed);
    destinations.add(KeyHash::of_number(u64::from(event.destination)));
    ports.add(KeyHash::of_number(u64::from(event.port)));
    sizes.add(f64::from(event.bytes));
    durations.add(event.duration);
    services.add(KeyHash::of_number(u64::from(event.service)));
    rate.add(time, 1.0);
}

/// What a feature vector would take from it.
fn read(ten: &Ten) -> f64 {
    let (events, bytes, packets, failed, destinations, ports, sizes, durations, services, rate) = ten;
    #[expect(clippy::cast_precision_loss, reason = "sums of a few thousand")]
    let sums = (events + bytes + packets + failed) as f64;
    sums + destinations.count()
        + ports.count()
        + sizes.quantile(0.5)
        + durations.quantile(0.9)
        + services.entropy()
        + rate.sums().weight()
}

/// Seconds of the processor that this process has had.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "hours at most")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}

/// Bytes of memory this process holds; 0 where the system does not say.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * 4096
}
