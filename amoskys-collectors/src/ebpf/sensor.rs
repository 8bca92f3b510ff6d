//! The programs in the kernel: loaded, attached, and their maps taken out to be read and written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::programs::{BtfTracePoint, Iter};
use aya::{Btf, Ebpf, EbpfLoader};
use rustix::thread::{MembarrierCommand, membarrier};

use super::config::{CallStreams, EbpfConfig};
use super::counters::{KernelCounts, KernelStats, WORDS};
use super::error::EbpfError;
use super::hooks::{HOOKS, Hook};
use super::offers::{OfferState, Offers};
use super::record::{EventKind, PRESENT_BYTES, Present, read_present};
use super::tracefs::Tracefs;
use super::{attachment, enforce, privileges};

// What reads the registers of system calls is the processor's; the numbers of calls are in a tracepoint's arguments.
#[cfg(target_arch = "x86_64")]
static EVENTS: &[u8] = aya::include_bytes_aligned!("../../bpf/events.x86_64.o");
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
static EVENTS: &[u8] = aya::include_bytes_aligned!("../../bpf/events.aarch64.o");
#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_endian = "little")
)))]
static EVENTS: &[u8] = &[];
#[cfg(target_endian = "little")]
static CALLS: &[u8] = aya::include_bytes_aligned!("../../bpf/calls.bpfel.o");
/// For kernels without storage by task.
#[cfg(target_endian = "little")]
static CALLS_BEFORE_5_11: &[u8] = aya::include_bytes_aligned!("../../bpf/calls_before_5_11.bpfel.o");
#[cfg(not(target_endian = "little"))]
static CALLS: &[u8] = &[];
#[cfg(not(target_endian = "little"))]
static CALLS_BEFORE_5_11: &[u8] = &[];

const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Settings of the programs, as `struct settings`.
pub(super) type SettingsBytes = [u8; 56];

pub(super) type Counters = PerCpuArray<MapData, [u64; WORDS]>;

/// The loaded programs. Dropping it detaches all of them.
pub(super) struct Sensor {
    events: Ebpf,
    calls: Option<Calls>,
    tracepoints: Vec<OwnedFd>,
    /// The kernel's types, some megabytes: given up once all programs are loaded.
    btf: Option<Btf>,
    pub(super) offers: Offers,
}

/// The programs that see every system call.
struct Calls {
    programs: Ebpf,
    links: Option<[BtfTracePointLinkId; 2]>,
}

impl Sensor {
    /// Finds what would keep the programs from being loaded, before the kernel says less clearly that it did.
    pub(super) fn check(config: &EbpfConfig) -> Result<(), EbpfError> {
        config.validate()?;
        if EVENTS.is_empty() {
            return Err(EbpfError::Architecture(std::env::consts::ARCH));
        }
        privileges::check(privileges::TRACING)?;
        fs::metadata(TYPES).map_err(|source| EbpfError::NoTypes(Box::new(source)))?;
        Ok(())
    }

    /// Loads the programs, after [`check`](Self::check). They see nothing before [`attach`](Self::attach).
    pub(super) fn load(config: &EbpfConfig) -> Result<Self, EbpfError> {
        // Each loader reads the kernel's types itself. So that they are not in memory twice, ours come after.
        let events = EbpfLoader::new()
            .map_max_entries("EVENTS", config.event_ring_bytes)
            .load(EVENTS)
            .map_err(|source| EbpfError::load("the programs for events", source))?;
        let mut offers = Offers::default();
        let mut calls = None;
        if config.streams == CallStreams::None {
            offers.add(
                "tracepoint sys_enter",
                OfferState::Off("no sequences or histograms wanted"),
            );
        } else {
            let load = |object| {
                EbpfLoader::new()
                    .allow_unsupported_maps()
                    .map_max_entries("CALL_RING", config.call_ring_bytes)
                    .load(object)
            };
            // What the kernel says of the better one is told if it takes neither.
            let programs = load(CALLS)
                .or_else(|better| load(CALLS_BEFORE_5_11).map_err(|_| better))
                .map_err(|source| EbpfError::load("the programs for system calls", source))?;
            offers.add("tracepoint sys_enter", OfferState::On);
            calls = Some(Calls {
                programs,
                links: None,
            });
        }
        let btf = Btf::from_sys_fs().map_err(|source| EbpfError::NoTypes(Box::new(source)))?;
        if let Some(calls) = &mut calls {
            calls.load(&btf)?;
        }
        Ok(Self {
            events,
            calls,
            tracepoints: Vec::new(),
            btf: Some(btf),
            offers,
        })
    }

    /// Attaches the programs of the events that are wanted. What the kernel does not offer is noted.
    pub(super) fn attach(&mut self, config: &EbpfConfig) -> Result<(), EbpfError> {
        let wanted = &config.events;
        let tracefs = Tracefs::open();
        let mut attached = BTreeSet::new();
        for hook in HOOKS {
            let state = if !hook.kinds.iter().any(|kind| wanted.contains(kind)) {
                OfferState::Off("not wanted")
            } else if config.left_out.contains(&hook.place.name()) {
                OfferState::Off("left out by the settings")
            } else if hook.unless.is_some_and(|other| attached.contains(other)) {
                OfferState::Off("another hook sees the same")
            } else {
                match self.attach_one(hook, &tracefs) {
                    Ok(()) => {
                        attached.insert(hook.program);
                        OfferState::On
                    }
                    Err(why) => OfferState::Missing(why),
                }
            };
            self.offers.add(hook.place.name(), state);
        }
        let denies = config.enforcement.cgroup.is_some();
        enforce::attach(&mut self.events, &config.enforcement)?;
        let state = if denies {
            OfferState::On
        } else {
            OfferState::Off("nothing is denied")
        };
        self.offers.add("cgroup connect4, connect6", state);
        let nothing = !wanted.is_empty()
            && !self
                .offers
                .hooks
                .iter()
                .any(|offer| offer.state == OfferState::On);
        if nothing {
            let why = self.offers.to_string();
            return Err(EbpfError::load("all programs", std::io::Error::other(why)));
        }
        Ok(())
    }

    fn attach_one(&mut self, hook: &Hook, tracefs: &std::io::Result<Tracefs>) -> Result<(), String> {
        let program = self
            .events
            .program_mut(hook.program)
            .ok_or("the object has no such program")?;
        let btf = self
            .btf
            .as_ref()
            .ok_or("the types of the kernel have been given up")?;
        self.tracepoints
            .extend(attachment::attach(program, hook.place, btf, tracefs)?);
        Ok(())
    }

    /// All programs are loaded.
    pub(super) fn settle(&mut self) {
        self.btf = None;
    }

    /// Detaches all programs of events. The maps stay.
    pub(super) fn detach(&mut self) {
        self.tracepoints.clear();
        for hook in HOOKS {
            if let Some(program) = self.events.program_mut(hook.program) {
                attachment::detach(program);
            }
        }
        await_programs();
    }

    /// Takes a map of the events' object.
    pub(super) fn take(&mut self, name: &'static str) -> Result<aya::maps::Map, EbpfError> {
        take(&mut self.events, name)
    }

    /// Takes a map of the calls' object, if that is loaded.
    pub(super) fn take_of_calls(&mut self, name: &'static str) -> Option<Result<aya::maps::Map, EbpfError>> {
        self.calls.as_mut().map(|calls| take(&mut calls.programs, name))
    }

    /// Attaches or detaches the programs that see every system call.
    pub(super) fn set_calls(&mut self, on: bool) -> Result<(), EbpfError> {
        match &mut self.calls {
            Some(calls) => calls.set(on),
            None => Ok(()),
        }
    }

    /// Sends what threads still have in their buffers. No program that begins now may write to these any more.
    pub(super) fn flush_calls(&mut self) -> Result<(), EbpfError> {
        match &mut self.calls {
            Some(calls) => {
                await_programs();
                run_iterator(&mut calls.programs, "flush_calls").map(drop)
            }
            None => Ok(()),
        }
    }

    /// Lists the processes there are.
    pub(super) fn list(&mut self, mut each: impl FnMut(&Present<'_>)) -> Result<(), EbpfError> {
        if let Some(btf) = &self.btf {
            load_iterator(&mut self.events, "list_processes", btf)?;
        }
        let bytes = run_iterator(&mut self.events, "list_processes")?;
        for present in bytes.chunks_exact(PRESENT_BYTES) {
            if let Ok(present) = read_present(present) {
                each(&present);
            }
        }
        Ok(())
    }
}

impl Calls {
    const PROGRAMS: [(&'static str, &'static str); 2] =
        [("on_call", "sys_enter"), ("on_thread_exit", "sched_process_exit")];

    fn load(&mut self, btf: &Btf) -> Result<(), EbpfError> {
        for (name, tracepoint) in Self::PROGRAMS {
            let failed = |source| EbpfError::load("the programs for system calls", source);
            tracepoint_of(&mut self.programs, name)?
                .load(tracepoint, btf)
                .map_err(failed)?;
        }
        load_iterator(&mut self.programs, "flush_calls", btf)
    }

    fn set(&mut self, on: bool) -> Result<(), EbpfError> {
        let failed = |source| EbpfError::load("the programs for system calls", source);
        if let Some(links) = self.links.take_if(|_| !on) {
            for ((name, _), link) in Self::PROGRAMS.into_iter().zip(links) {
                tracepoint_of(&mut self.programs, name)?
                    .detach(link)
                    .map_err(failed)?;
            }
        } else if on && self.links.is_none() {
            let mut attach = |name| tracepoint_of(&mut self.programs, name)?.attach().map_err(failed);
            let [(calls, _), (exits, _)] = Self::PROGRAMS;
            // The end of threads first: what began while the other was attached is flushed.
            let exits = attach(exits)?;
            self.links = Some([attach(calls)?, exits]);
        }
        Ok(())
    }
}

/// Programs that began before they were detached, or told otherwise, may still be writing on another processor. A barrier of all
/// processors comes after their end, since the kernel waits for a grace period. Where it has no such barrier, what these
/// write may be counted and not handed over.
fn await_programs() {
    if let Err(error) = membarrier(MembarrierCommand::Global) {
        tracing::debug!(%error, "the kernel has no barrier of all processors");
    }
}

fn tracepoint_of<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, EbpfError> {
    let missing = || std::io::Error::other(format!("the object has no program {name}"));
    let program = programs
        .program_mut(name)
        .ok_or_else(|| EbpfError::load("the programs for system calls", missing()))?;
    program
        .try_into()
        .map_err(|source| EbpfError::load("the programs for system calls", source))
}

fn take(programs: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, EbpfError> {
    programs.take_map(name).ok_or_else(|| EbpfError::Map {
        what: name,
        source: "the object has no such map".into(),
    })
}

fn iterator_of<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Iter, EbpfError> {
    let missing = || EbpfError::load("the iterator over processes", std::io::Error::other(name));
    let program = programs.program_mut(name).ok_or_else(missing)?;
    program
        .try_into()
        .map_err(|source| EbpfError::load("the iterator over processes", source))
}

fn load_iterator(programs: &mut Ebpf, name: &'static str, btf: &Btf) -> Result<(), EbpfError> {
    let program = iterator_of(programs, name)?;
    if program.fd().is_err() {
        program
            .load("task", btf)
            .map_err(|source| EbpfError::load("the iterator over processes", source))?;
    }
    Ok(())
}

fn run_iterator(programs: &mut Ebpf, name: &'static str) -> Result<Vec<u8>, EbpfError> {
    let failed = |source| EbpfError::load("the iterator over processes", source);
    let program = iterator_of(programs, name)?;
    let link = program.attach().map_err(failed)?;
    let link = program.take_link(link).map_err(failed)?;
    let io_failed = |source| EbpfError::load("the iterator over processes", source);
    let mut file: fs::File = link
        .into_file()
        .map_err(|source| EbpfError::load("the iterator over processes", source))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io_failed)?;
    Ok(bytes)
}

/// Adds what one object's programs counted.
pub(super) fn add_counts(stats: &mut KernelStats, counters: &Counters) -> Result<(), EbpfError> {
    for kind in EventKind::ALL {
        let by_processor = counters
            .get(&(kind as u32), 0)
            .map_err(EbpfError::map("counters"))?;
        if stats.processors.len() < by_processor.len() {
            stats.processors.resize(by_processor.len(), BTreeMap::new());
        }
        for (words, sums) in by_processor.iter().zip(&mut stats.processors) {
            let counts = KernelCounts::of_words(words);
            if counts.seen > 0 {
                sums.entry(kind).or_default().add(&counts);
            }
        }
    }
    Ok(())
}

/// A ring, ready to be read.
pub(super) fn ring(map: aya::maps::Map) -> Result<RingBuf<MapData>, EbpfError> {
    RingBuf::try_from(map).map_err(EbpfError::map("ring"))
}

/// The settings of one object's programs.
pub(super) fn settings(map: aya::maps::Map) -> Result<Array<MapData, SettingsBytes>, EbpfError> {
    Array::try_from(map).map_err(EbpfError::map("settings"))
}
