//! Hooks that few kernels have. No program of the sensor needs them; whether a kernel would take one is found by loading
//! one that does nothing, and told with the other hooks.

use std::path::Path;

use aya::programs::{FEntry, Lsm, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};

use super::offers::{OfferState, Offers};

#[cfg(target_endian = "little")]
static PROBES: &[u8] = aya::include_bytes_aligned!("../../bpf/extras.bpfel.o");
#[cfg(not(target_endian = "little"))]
static PROBES: &[u8] = &[];

/// Where the kernel describes its kprobes to those who attach them.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe/type";

/// The programs, not offered to the kernel yet. The loader reads the kernel's types, some megabytes, even where they are
/// not wanted: so this comes before ours are read.
pub(super) fn read() -> Result<Ebpf, String> {
    let mut loader = EbpfLoader::new();
    // What counts is that the kernel said no.
    loader.btf(None).verifier_log_level(VerifierLogLevel::DISABLE);
    loader.load(PROBES).map_err(super::sensor::chain)
}

/// Adds a row for each, always off.
pub(super) fn probe(programs: &mut Result<Ebpf, String>, btf: &Btf, offers: &mut Offers) {
    let (lsm, fentry) = match programs {
        Ok(programs) => (told(load_lsm(programs, btf)), told(load_fentry(programs, btf))),
        Err(why) => (why.clone(), why.clone()),
    };
    let kprobes = if Path::new(KPROBES).exists() {
        NOT_NEEDED.to_owned()
    } else {
        "not in this kernel (CONFIG_KPROBES)".to_owned()
    };
    for (hook, why) in [
        ("extra lsm file_open", lsm),
        ("extra fentry commit_creds", fentry),
        ("extra kprobe", kprobes),
    ] {
        offers.add(hook, OfferState::Extra(why));
    }
}

const NOT_NEEDED: &str = "the kernel would take a program; none is needed";

fn told(loaded: Result<(), String>) -> String {
    match loaded {
        Ok(()) => NOT_NEEDED.to_owned(),
        Err(why) => why,
    }
}

fn load_lsm(programs: &mut Ebpf, btf: &Btf) -> Result<(), String> {
    let program: &mut Lsm = program(programs, "probe_lsm")?;
    program.load("file_open", btf).map_err(super::sensor::chain)
}

fn load_fentry(programs: &mut Ebpf, btf: &Btf) -> Result<(), String> {
    let program: &mut FEntry = program(programs, "probe_fentry")?;
    program.load("commit_creds", btf).map_err(super::sensor::chain)
}

fn program<'a, P>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut P, String>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    programs
        .program_mut(name)
        .ok_or("the object has no such program")?
        .try_into()
        .map_err(super::sensor::chain)
}
