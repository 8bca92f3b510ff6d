//! Attaches a program to a static tracepoint by way of a perf event. The loader's own way needs a mounted tracefs, which
//! this one does not. All unsafe code of the sensor is here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `struct perf_event_attr` of its first version (`PERF_ATTR_SIZE_VER0`), which all kernels take.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
}

const _: () = assert!(size_of::<Attributes>() == 64);

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// Attaches `program` to the tracepoint with this number, on all processors, until the result is dropped.
pub(super) fn attach(tracepoint: u64, program: &impl AsFd) -> io::Result<OwnedFd> {
    let attributes = Attributes {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<Attributes>() as u32,
        config: tracepoint,
        sample_period: 1,
        wakeup_events: 1,
        ..Attributes::default()
    };
    // SAFETY: the attributes are valid for reads of `size` bytes, as they say, while the call lasts, and the kernel
    // does not write to them. Any processor will do for a program, which runs on all of them.
    let event = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            -1 as libc::pid_t,
            0 as libc::c_int,
            -1 as libc::c_int,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let event = libc::c_int::try_from(event).unwrap_or(-1);
    if event < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the descriptor is open and nobody else's.
    let event = unsafe { OwnedFd::from_raw_fd(event) };
    let program = program.as_fd().as_raw_fd();
    // SAFETY: both descriptors are open, and neither request takes a pointer.
    let set = unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF as _, program) };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    if unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE as _, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(event)
}
