//! What metering costs a packet, in the kernel and in user space: a flood over a pair of virtual interfaces. With
//! `--flows N` of so many flows.

use std::error::Error;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use amoskys_benches::rounds::{is_quick, option, print_ratio, print_skip};
use amoskys_collectors::capture::{LiveCapture, LiveConfig};
use amoskys_collectors::ebpf::flows::{FlowHook, KernelFlowCollector, KernelFlowConfig};
use amoskys_collectors::flow::{FlowCollector, FlowConfig, FlowHandler, FlowMeter};
use amoskys_core::event::{FlowPhase, FlowRecord, Payload};
use amoskys_core::{Collector, Shutdown, Timestamp};

use super::rate::processor_time;
use super::workload::{Generator, Made};

/// Two interfaces, the far one in a namespace; removed when dropped.
struct Pair(String);

impl Pair {
    fn new() -> Option<Self> {
        let pair = Self(format!("akb{}", std::process::id() % 100_000));
        let name = &pair.0;
        let made = [
            format!("ip netns add {name}"),
            format!("ip link add {name} type veth peer name inside netns {name}"),
            format!("ip link set {name} addrgenmode none up"),
            format!("ip -n {name} link set inside addrgenmode none up"),
        ];
        made.iter().all(|line| run(line)).then_some(pair)
    }

    fn flood(&self, generator: &Generator, count: u64, flows: u64) -> Result<Made, Box<dyn Error>> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.0])
            .arg(&generator.path)
            .args(["flood", "inside"])
            .args([count.to_string(), flows.to_string()]);
        Made::of(&mut command)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        run(&format!("ip link del {}", self.0));
        run(&format!("ip netns del {}", self.0));
    }
}

fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let status = Command::new(program).args(words).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[derive(Clone, Copy)]
enum Meter {
    Traffic,
    Express,
    Packets,
    /// The ring and the meter alone, packet by packet and by the block.
    OneByOne,
    Blocks,
}

const METERS: [(Meter, &str); 5] = [
    (Meter::Traffic, "kernel, TC"),
    (Meter::Express, "kernel, XDP"),
    (Meter::Packets, "AF_PACKET"),
    (Meter::OneByOne, " one by one"),
    (Meter::Blocks, " by the block"),
];

/// Nanoseconds of processor time for a packet, of the sender (in whose time the kernel receives) and the reader, without
/// what the sending costs when nobody looks.
pub(crate) fn measure() -> Result<(), Box<dyn Error>> {
    let Some(generator) = Generator::build()? else {
        print_skip("cc");
        return Ok(());
    };
    let Some(pair) = Pair::new() else {
        print_skip("veth");
        return Ok(());
    };
    let (count, rounds) = if is_quick() { (500_000, 3) } else { (2_000_000, 11) };
    let flows = option("--flows").map_or(Ok(1024), |flows| flows.parse())?;
    let mut costs = [const { Vec::new() }; METERS.len()];
    let mut lost = [0; METERS.len()];
    let mut base = Vec::new();
    for _ in 0..rounds {
        for (n, (meter, _)) in METERS.into_iter().enumerate() {
            let alone = pair.flood(&generator, count, flows)?;
            let stop = Shutdown::new();
            let reader = begin(meter, &pair.0, &stop)?;
            std::thread::sleep(Duration::from_millis(300));
            // Loading a program, or mapping a ring, is done once.
            let before = processor_time()?;
            let made = pair.flood(&generator, count, flows)?;
            std::thread::sleep(Duration::from_millis(200));
            let cost = processor_time()? - before + made.processor;
            stop.trigger();
            let metered = reader.join().map_err(|_| "the reader panicked")?;
            costs[n].push((cost.as_nanos() as f64 - alone.processor.as_nanos() as f64) / count as f64);
            base.push(alone.processor.as_nanos() as f64 / count as f64);
            lost[n] += count.saturating_sub(metered);
        }
    }
    println!(
        "\nmetering {count} packets of {flows} flows over veth; nanoseconds of processor time for one, median of {rounds}"
    );
    println!("{:<22} {:>8} {:>10}", "meter", "ns", "lost");
    println!("{:<22} {:>8.0}", "none (sending)", middle(&mut base));
    let medians = costs.each_mut().map(|costs| middle(costs));
    for (((_, name), median), lost) in METERS.iter().zip(medians).zip(lost) {
        println!("{name:<22} {median:>8.0} {lost:>10}");
    }
    print_ratio("flow_in_kernel", "af_packet", medians[2] / medians[0]);
    print_ratio("flow_at_xdp", "af_packet", medians[2] / medians[1]);
    print_ratio("live_blocks", "live_packets", medians[3] / medians[4]);
    Ok(())
}

fn middle(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Packets in the last records of flows, once it has stopped.
fn begin(meter: Meter, name: &str, stop: &Shutdown) -> Result<JoinHandle<u64>, Box<dyn Error>> {
    let hook = match meter {
        Meter::Traffic => FlowHook::Traffic,
        Meter::Express => FlowHook::Express,
        Meter::Packets => {
            let flows = FlowCollector::from_interface(name, LiveConfig::default())
                .with_config(FlowConfig::default())?
                .with_stop(stop.clone());
            return Ok(read(flows));
        }
        Meter::OneByOne => return read_ring(name, stop, false),
        Meter::Blocks => return read_ring(name, stop, true),
    };
    let mut config = KernelFlowConfig::new(name);
    config.hook = hook;
    Ok(read(KernelFlowCollector::open(config)?.with_stop(stop.clone())))
}

/// Counts packets in last records.
#[derive(Default)]
struct Ended(u64);

impl FlowHandler for Ended {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        if matches!(record.phase, FlowPhase::End(_)) {
            self.0 += record.packets();
        }
    }
}

fn read_ring(name: &str, stop: &Shutdown, by_block: bool) -> Result<JoinHandle<u64>, Box<dyn Error>> {
    let mut ring = LiveCapture::open(name, &LiveConfig::default())?;
    let mut meter = FlowMeter::new(FlowConfig::default())?;
    let stop = stop.clone();
    Ok(std::thread::spawn(move || {
        let mut ended = Ended::default();
        while !stop.is_triggered() {
            if !ring.wait(Duration::from_millis(100)).unwrap_or(false) {
                continue;
            }
            if by_block {
                while let Some(packets) = ring.next_packets() {
                    meter.push_packets(packets, &mut ended);
                }
            } else {
                while let Some(packet) = ring.next_packet() {
                    meter.push(&packet, &mut ended);
                }
            }
        }
        meter.finish(&mut ended);
        ended.0
    }))
}

fn read<C: Collector + 'static>(mut collector: C) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
            return 0;
        };
        runtime.block_on(async {
            let mut packets = 0;
            while let Ok(Some(batch)) = collector.next_batch().await {
                for event in batch.events {
                    if let Payload::Flow(flow) = event.payload
                        && matches!(flow.phase, FlowPhase::End(_))
                    {
                        packets += flow.packets();
                    }
                }
            }
            packets
        })
    })
}
