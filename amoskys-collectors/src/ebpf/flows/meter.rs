//! The program in the kernel: loaded, attached, swept.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, TestRun, TestRunOptions, Xdp, XdpMode, tc};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};

use super::config::{FlowHook, KernelFlowConfig};
use super::stats::{KernelFlowCounts, KernelFlowStats, WORDS};
use crate::capture::LinkType;
use crate::ebpf::error::EbpfError;
use crate::ebpf::privileges;
use crate::flow::{FlowConfig, TunnelMode};

/// It reads nothing whose place or meaning depends on the processor but the order of bytes.
#[cfg(target_endian = "little")]
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/flows.bpfel.o");
#[cfg(not(target_endian = "little"))]
static OBJECT: &[u8] = &[];

/// `struct flow_settings`.
const SETTINGS_BYTES: usize = 104;
/// Eight-byte words of `struct flow_census`.
const CENSUS_WORDS: usize = 20;
/// As many classes of age as `struct flow_census` has.
const AGES: usize = 16;

pub(super) type Counters = Arc<PerCpuArray<MapData, [u64; WORDS]>>;

/// The meter in the kernel. Dropping it detaches it.
pub(super) struct Meter {
    programs: Ebpf,
    settings: Array<MapData, [u8; SETTINGS_BYTES]>,
    census: Array<MapData, [u64; CENSUS_WORDS]>,
    pub(super) counters: Counters,
    limits: FlowConfig,
    hook: FlowHook,
    wake_bytes: u32,
    snap_bytes: u32,
    is_bare: bool,
}

/// What a sweep is to do beyond looking for what is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orders {
    /// End all flows.
    pub(super) finish: bool,
    /// End those without a packet since then, nanoseconds since boot; 0 for none.
    pub(super) evict_before: u64,
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    pub(super) live: u64,
    pub(super) dormant: u64,
    /// How many were silent for less than a second, then less than 2, 4, 8...
    pub(super) ages: [u64; AGES],
    /// Due, but the ring is nearly full.
    pub(super) waiting: u64,
    pub(super) evicted: u64,
}

impl Meter {
    /// Loads the program. It sees nothing before [`attach`](Self::attach).
    pub(super) fn load(config: &KernelFlowConfig) -> Result<Self, EbpfError> {
        config.validate()?;
        if OBJECT.is_empty() {
            return Err(EbpfError::Architecture(std::env::consts::ARCH));
        }
        privileges::check(privileges::NETWORK)?;
        let is_bare = is_bare(&config.interface)?;
        if is_bare && config.hook == FlowHook::Express {
            return Err(EbpfError::NotInKernel(
                "meter links without Ethernet headers at the XDP hook",
            ));
        }
        let failed = |source| refused("the flow meter", source);
        // It reads no structure of the kernel, so the kernel's types are not needed.
        let mut programs = EbpfLoader::new()
            .btf(None)
            .map_max_entries("FLOWS", config.flow.max_flows)
            .map_max_entries("FLOW_RING", config.ring_bytes)
            .load(OBJECT)
            .map_err(failed)?;
        let settings =
            Array::try_from(take(&mut programs, "FLOW_SETTINGS")?).map_err(EbpfError::map("settings"))?;
        let census =
            Array::try_from(take(&mut programs, "FLOW_CENSUS")?).map_err(EbpfError::map("census"))?;
        let counters =
            PerCpuArray::try_from(take(&mut programs, "FLOW_COUNTS")?).map_err(EbpfError::map("counters"))?;
        let mut meter = Self {
            programs,
            settings,
            census,
            counters: Arc::new(counters),
            limits: config.flow.clone(),
            hook: config.hook,
            wake_bytes: config.ring_bytes / 4,
            snap_bytes: config.snap_bytes,
            is_bare,
        };
        meter.set(Orders::default())?;
        classifier(&mut meter.programs, "sweep_flows")?
            .load()
            .map_err(|source| refused("the sweep over flows", source))?;
        Ok(meter)
    }

    /// The ring of records.
    pub(super) fn ring(&mut self) -> Result<RingBuf<MapData>, EbpfError> {
        RingBuf::try_from(take(&mut self.programs, "FLOW_RING")?).map_err(EbpfError::map("ring"))
    }

    /// What packets of the interface begin with.
    pub(super) fn link(&self) -> LinkType {
        match self.is_bare {
            true => LinkType::RAW,
            false => LinkType::ETHERNET,
        }
    }

    /// From here on packets are counted.
    pub(super) fn attach(&mut self, interface: &str) -> Result<(), EbpfError> {
        match self.hook {
            FlowHook::Traffic => self.attach_traffic(interface),
            FlowHook::Express => self.attach_express(interface),
        }
    }

    fn attach_traffic(&mut self, interface: &str) -> Result<(), EbpfError> {
        let failed = |source: ProgramError| EbpfError::Attach {
            name: interface.to_owned(),
            hook: "TC",
            source: Box::new(source),
        };
        let program = classifier(&mut self.programs, "meter_packet")?;
        program
            .load()
            .map_err(|source| refused("the flow meter", source))?;
        // Where both kinds of attachment are there, neither needs the other.
        if !has_tcx() {
            match tc::qdisc_add_clsact(interface) {
                Ok(()) | Err(tc::TcError::AlreadyAttached) => {}
                Err(source) => return Err(failed(source.into())),
            }
        }
        program.attach(interface, TcAttachType::Ingress).map_err(failed)?;
        // What leaves the loopback interface enters it.
        if !is_loopback(interface) {
            program.attach(interface, TcAttachType::Egress).map_err(failed)?;
        }
        Ok(())
    }

    fn attach_express(&mut self, interface: &str) -> Result<(), EbpfError> {
        let program: &mut Xdp = self
            .programs
            .program_mut("meter_received")
            .ok_or_else(|| no_program("meter_received"))?
            .try_into()
            .map_err(|source| EbpfError::load("the flow meter", source))?;
        program
            .load()
            .map_err(|source| refused("the flow meter", source))?;
        match program.attach(interface, XdpMode::Default) {
            Ok(_) => Ok(()),
            Err(error) if is_busy(&error) => Err(EbpfError::Occupied {
                name: interface.to_owned(),
                hook: "XDP",
            }),
            Err(source) => Err(EbpfError::Attach {
                name: interface.to_owned(),
                hook: "XDP",
                source: Box::new(source),
            }),
        }
    }

    /// No more packets are counted. The flows stay.
    pub(super) fn detach(&mut self) {
        // What is not loaded cannot be unloaded.
        match self.hook {
            FlowHook::Traffic => {
                let _ =
                    classifier(&mut self.programs, "meter_packet").map(|program| program.unload().is_ok());
            }
            FlowHook::Express => {
                if let Some(program) = self.programs.program_mut("meter_received") {
                    let _ = <&mut Xdp>::try_from(program).map(|program| program.unload().is_ok());
                }
            }
        }
    }

    /// Hands over what is due.
    pub(super) fn sweep(&mut self, orders: Orders) -> Result<Census, EbpfError> {
        self.set(orders)?;
        let map = |source| EbpfError::map("census")(source);
        self.census.set(0, [0; CENSUS_WORDS], 0).map_err(map)?;
        let program = classifier(&mut self.programs, "sweep_flows")?;
        let packet = [0; 64];
        let options = TestRunOptions {
            data_in: Some(&packet),
            ..TestRunOptions::new()
        };
        program
            .test_run(options)
            .map_err(|source| EbpfError::load("a sweep over flows", source))?;
        let words = self.census.get(&0, 0).map_err(map)?;
        Ok(Census::of_words(&words))
    }

    fn set(&mut self, orders: Orders) -> Result<(), EbpfError> {
        let bytes = self.encode(orders);
        self.settings.set(0, bytes, 0).map_err(EbpfError::map("settings"))
    }

    /// `struct flow_settings`.
    fn encode(&self, orders: Orders) -> [u8; SETTINGS_BYTES] {
        let limits = &self.limits;
        let words = [
            nanos(limits.idle_timeout),
            nanos(limits.active_timeout),
            nanos(limits.linger),
            limits.update_interval.map_or(0, nanos),
            nanos(limits.activity_threshold),
            orders.evict_before,
            self.wake_bytes.into(),
        ];
        let halves = [
            limits.start_records.into(),
            limits.never_expire.into(),
            limits.sequence_length.into(),
            self.is_bare.into(),
            u32::from(orders.finish),
            limits.read_payloads.into(),
            cfg!(feature = "quic").into(),
            limits.entropy_bytes.into(),
            (limits.tunnels != TunnelMode::Outer).into(),
            limits.follow_fragments.into(),
            self.snap_bytes,
        ];
        let mut bytes = [0; SETTINGS_BYTES];
        let values = words
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .chain(halves.iter().flat_map(|half: &u32| half.to_ne_bytes()));
        for (byte, value) in bytes.iter_mut().zip(values) {
            *byte = value;
        }
        bytes
    }
}

impl Census {
    fn of_words(words: &[u64; CENSUS_WORDS]) -> Self {
        let [live, dormant, ages @ .., waiting, evicted] = *words;
        Self {
            live,
            dormant,
            ages,
            waiting,
            evicted,
        }
    }

    /// Before which time, now being `now`, flows have to be without a packet so that ending those makes room for a
    /// quarter of the table. 0 if there is room enough.
    pub(super) fn evict_before(&self, max_flows: u32, now: u64) -> u64 {
        let max = u64::from(max_flows);
        if self.live + self.dormant <= max - max / 8 {
            return 0;
        }
        // Connections of which only the direction is remembered go first, and all at once.
        let mut excess = self.live.saturating_sub(max - max / 4);
        if excess == 0 {
            return 1;
        }
        for (class, count) in self.ages.iter().enumerate().skip(1).rev() {
            excess = excess.saturating_sub(*count);
            if excess == 0 {
                let seconds = 1u64 << (class - 1);
                return now.saturating_sub(seconds * 1_000_000_000).max(1);
            }
        }
        // Most had a packet within the last second.
        now.saturating_sub(250_000_000).max(1)
    }
}

/// What all processors counted.
pub(super) fn stats(counters: &Counters) -> Result<KernelFlowStats, EbpfError> {
    let by_processor = counters.get(&0, 0).map_err(EbpfError::map("counters"))?;
    let processors = by_processor.iter().map(KernelFlowCounts::of_words).collect();
    Ok(KernelFlowStats { processors })
}

fn take(programs: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, EbpfError> {
    programs.take_map(name).ok_or_else(|| EbpfError::Map {
        what: name,
        source: "the object has no such map".into(),
    })
}

fn no_program(name: &'static str) -> EbpfError {
    EbpfError::load(
        "the flow meter",
        io::Error::other(format!("the object has no program {name}")),
    )
}

fn classifier<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, EbpfError> {
    programs
        .program_mut(name)
        .ok_or_else(|| no_program(name))?
        .try_into()
        .map_err(|source| EbpfError::load("the flow meter", source))
}

/// The kernel refused a map or a program. In a user namespace of its own the process has capabilities that the kernel does
/// not take for those it asks for.
fn refused(what: &'static str, source: impl Error + Send + Sync + 'static) -> EbpfError {
    if !is_permitted(&source) && !privileges::are_initial() {
        let missing = privileges::NETWORK.iter().map(|(name, _)| *name).collect();
        return EbpfError::Privileges { missing };
    }
    EbpfError::load(what, source)
}

fn is_permitted(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .all(|error| error.raw_os_error() != Some(libc::EPERM))
}

fn nanos(period: Duration) -> u64 {
    u64::try_from(period.as_nanos()).unwrap_or(u64::MAX)
}

fn is_busy(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error)
        if matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)))
}

/// Linux 6.6, as the library decides it.
fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// What the kernel says of the interface's link: `ARPHRD_…`.
fn hardware(interface: &str) -> Option<u16> {
    // A name is no path.
    if interface.is_empty() || interface.contains('/') || interface.starts_with('.') {
        return None;
    }
    let folder = Path::new("/sys/class/net").join(interface);
    fs::read_to_string(folder.join("type")).ok()?.trim().parse().ok()
}

fn is_loopback(interface: &str) -> bool {
    hardware(interface) == Some(libc::ARPHRD_LOOPBACK)
}

/// Whether packets of the interface have no header of the link.
fn is_bare(interface: &str) -> Result<bool, EbpfError> {
    match hardware(interface) {
        Some(libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK) => Ok(false),
        Some(_) => Ok(true),
        None => Err(EbpfError::NoInterface {
            name: interface.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000_000;

    fn census(live: u64, dormant: u64, ages: &[(usize, u64)]) -> Census {
        let mut census = Census {
            live,
            dormant,
            ..Census::default()
        };
        for (class, count) in ages {
            census.ages[*class] = *count;
        }
        census
    }

    #[test]
    fn the_longest_unused_make_room() {
        assert_eq!(census(870, 5, &[(0, 870)]).evict_before(1000, NOW), 0);
        // Enough are dormant.
        assert_eq!(census(700, 200, &[(0, 700)]).evict_before(1000, NOW), 1);
        // 150 have to go: the class of 8 to 16 s has 100, that of 4 to 8 s has the others.
        let crowded = census(900, 0, &[(0, 700), (3, 100), (4, 100)]);
        assert_eq!(crowded.evict_before(1000, NOW), NOW - 4_000_000_000);
        let busy = census(990, 0, &[(0, 990)]);
        assert_eq!(busy.evict_before(1000, NOW), NOW - 250_000_000);
    }

    #[test]
    fn names_of_interfaces_are_no_paths() {
        for name in ["", "..", "../lo", "a/b", "no such thing"] {
            assert!(
                matches!(is_bare(name), Err(EbpfError::NoInterface { .. })),
                "{name}"
            );
        }
    }
}
