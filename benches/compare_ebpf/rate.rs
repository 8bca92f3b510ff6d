//! How many events a second come through, and what each costs.

use std::error::Error;
use std::fs;
use std::time::Duration;

use amoskys_benches::rounds::{is_quick, print_skip};
use amoskys_collectors::ebpf::{CallStreams, EbpfConfig, EventKind};

use super::watcher::Running;
use super::workload::Generator;

/// A process that asks again and again for memory that is writable and executable: each is an event, with the process,
/// its ancestors and its container, and costs the process itself less than half a microsecond.
pub(crate) fn measure() -> Result<(), Box<dyn Error>> {
    let Some(generator) = Generator::build()? else {
        print_skip("cc");
        return Ok(());
    };
    let seconds = if is_quick() { 1 } else { 10 };
    let alone = generator.protect(500_000, 0)?;
    println!("\nevents of one generator, for {seconds} s each; nanoseconds of processor time for one");
    println!(
        "{:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8}",
        "asked/s", "came/s", "events", "lost", "reader", "kernel", "total"
    );
    let each = |time: Duration, count: u64| time.as_nanos() as f64 / count.max(1) as f64;
    let mut best = 0.0f64;
    for rate in [100_000, 250_000, 500_000, 0] {
        let mut config = EbpfConfig::default();
        config.streams = CallStreams::None;
        let sensor = Running::with(config)?;
        let before = processor_time()?;
        let count = if rate == 0 { 500_000 } else { rate } * seconds;
        let made = generator.protect(count, rate)?;
        // What is in the ring is read, too.
        std::thread::sleep(Duration::from_millis(100));
        let reader = processor_time()? - before;
        let handle = sensor.handle.clone();
        let (_, lost) = sensor.stop()?;
        let delivered = handle
            .stats()?
            .kinds()
            .get(&EventKind::WritableProtect)
            .map_or(0, |counts| counts.delivered);
        let came = delivered as f64 / made.time.as_secs_f64();
        let reader = each(reader, delivered);
        let kernel = each(made.processor, made.count) - each(alone.processor, alone.count);
        let asked = if rate == 0 {
            "all".to_owned()
        } else {
            rate.to_string()
        };
        println!(
            "{asked:>10} {came:>10.0} {delivered:>10} {lost:>10} {reader:>8.0} {kernel:>8.0} {:>8.0}",
            reader + kernel
        );
        if lost == 0 {
            best = best.max(came);
        }
    }
    println!("rate events_without_loss {best:.0}");
    Ok(())
}

/// The resident memory of this process, now and at most, in megabytes, with a sensor of default settings that has run for
/// a second; and before. False, having said so, where none can be had.
pub(crate) fn memory() -> Result<bool, Box<dyn Error>> {
    let before = status("VmRSS")?;
    let Some(sensor) = Running::first()? else {
        return Ok(false);
    };
    std::thread::sleep(Duration::from_secs(1));
    println!(
        "memory with the default sensor: {:.1} MB resident ({:.1} without), {:.1} MB at most",
        status("VmRSS")?,
        before,
        status("VmHWM")?
    );
    sensor.stop()?;
    Ok(true)
}

fn status(name: &str) -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim_start_matches(':').split_ascii_whitespace().next());
    Ok(number.ok_or("no such line")?.parse::<f64>()? / 1024.0)
}

/// Of all threads of this process.
pub(crate) fn processor_time() -> Result<Duration, Box<dyn Error>> {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}
