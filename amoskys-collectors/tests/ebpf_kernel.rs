//! What only some kernels allow: modules, hooks at functions of the kernel and of its security modules, limits of locked
//! memory. `bpf/kernels` runs these on several. Needs CAP_BPF and CAP_PERFMON; without, the tests say so and pass, unless
//! `AMOSKYS_REQUIRE_PEERS=1`; where the kernel refuses what is tested, they say so and pass in any case.
#![cfg(all(feature = "ebpf", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ebpf_common;

use std::fs;
use std::path::Path;
use std::process::Command;

use amoskys_collectors::ebpf::{EbpfConfig, OfferState};
use amoskys_core::Payload;
use amoskys_core::event::{ActivityAction, ActivityVia, ProcessAction, ProcessEvent};

use self::ebpf_common::{Watch, calls, open, skip, start};

/// Calls of 32 bits from a program of 64, with the instruction that is meant for the former: `call(number, b, c, d)`.
#[cfg(target_arch = "x86_64")]
const CALL_32: &str = "page = libc.mmap(None, 8192, 7, 0x62, -1, 0)
text = page + 4096
def call(number, b=0, c=0, d=0):
    code = b'\\x53\\xb8' + struct.pack('<I', number) + b'\\xbb' + struct.pack('<I', b) + b'\\xb9' + struct.pack('<I', c)
    code += b'\\xba' + struct.pack('<I', d) + b'\\xcd\\x80\\x5b\\xc3'
    ctypes.memmove(page, code, len(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(page)()
";

/// The number of the process, and what it printed; `None` if it said that the kernel does not do this.
fn run(script: &str) -> Option<u32> {
    if Command::new("python3").arg("--version").output().is_err() {
        skip("python3 is missing");
        return None;
    }
    let child = start(script, Path::new("."));
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    match output.status.code() {
        Some(0) => Some(pid),
        // Such calls are not in this kernel.
        Some(77) => {
            eprintln!("skipped: the kernel does not do this");
            None
        }
        // So ends a process that makes a call of 32 bits where there are none.
        None => {
            eprintln!("skipped: ended by a signal");
            None
        }
        Some(code) => panic!("{code} of {script}"),
    }
}

fn is_on(watch: &Watch, hooks: &[&str]) -> bool {
    let on = hooks
        .iter()
        .any(|hook| watch.collector.offers().state(hook) == Some(&OfferState::On));
    if !on {
        eprintln!(
            "skipped: the kernel refuses {hooks:?}:\n{}",
            watch.collector.offers()
        );
    }
    on
}

fn credentials(
    watch: &mut Watch,
    what: &str,
    pid: u32,
    wanted: impl Fn(&ProcessEvent) -> bool,
) -> ProcessEvent {
    watch.find(what, |event| match &event.payload {
        Payload::Process(process)
            if process.action == ProcessAction::Credentials && process.pid == pid && wanted(process) =>
        {
            Some((**process).clone())
        }
        _ => None,
    })
}

#[test]
fn a_module_that_is_loaded_and_unloaded_is_told() {
    let Ok(module) = std::env::var("AMOSKYS_TEST_MODULE") else {
        eprintln!("skipped: AMOSKYS_TEST_MODULE does not name a module of this kernel");
        return;
    };
    let Some(mut watch) = open(EbpfConfig::default()) else {
        return;
    };
    let name = module.rsplit('/').next().unwrap().trim_end_matches(".ko");
    let script = format!(
        "fd = os.open('{module}', 0)
assert libc.syscall({load_file}, fd, b'', 0) == 0
assert libc.syscall({unload}, b'{name}', 0) == 0
image = os.read(fd, 1 << 24)
assert libc.syscall({load}, image, ctypes.c_long(len(image)), b'') == 0
assert libc.syscall({unload}, b'{name}', 0) == 0",
        load_file = calls::FINIT_MODULE,
        load = calls::INIT_MODULE,
        unload = calls::DELETE_MODULE,
    );
    let Some(pid) = run(&script) else { return };
    let by_file = watch.activity(ActivityAction::ModuleLoad, |a| a.pid == pid && !a.path.is_empty());
    assert_eq!(
        (by_file.path.as_str(), by_file.result),
        (module.as_str(), Some(0))
    );
    let size = fs::metadata(&module).unwrap().len();
    let by_image = watch.activity(ActivityAction::ModuleLoad, |a| {
        a.pid == pid && a.path.is_empty() && a.number == size
    });
    assert_eq!(by_image.result, Some(0));
    let gone = watch.activity(ActivityAction::ModuleUnload, |a| a.pid == pid);
    assert_eq!((gone.name.as_str(), gone.result), (name, Some(0)));
}

/// Creating a user namespace gives capabilities without a call that is made for that.
#[test]
fn capabilities_from_a_user_namespace_are_told() {
    for left_out in [&[][..], &["fentry commit_creds"]] {
        let mut config = EbpfConfig::default();
        config.left_out = left_out.iter().map(|name| (*name).to_owned()).collect();
        let Some(mut watch) = open(config) else { return };
        if !is_on(&watch, &["fentry commit_creds", "kprobe commit_creds"]) {
            return;
        }
        let kprobe = watch.collector.offers().state("kprobe commit_creds");
        match left_out {
            [] => assert_ne!(kprobe, Some(&OfferState::On)),
            _ => assert_eq!(kprobe, Some(&OfferState::On)),
        }
        let script = "os.setresuid(65534, 65534, 65534)
if libc.unshare(0x10000000) != 0: sys.exit(77)";
        let Some(pid) = run(script) else { return };
        let gained = credentials(&mut watch, "capabilities", pid, |process| {
            process.previous.is_some_and(|before| before.effective == 0)
                && process.credentials.is_some_and(|now| now.effective != 0)
        });
        assert_eq!((gained.uid, gained.command.as_str()), (65534, "python3"));
        // Each change once: by its call, or by this.
        watch.process(ProcessAction::Exit, pid);
        let all = watch.seen.iter().filter(|event| {
            matches!(&event.payload, Payload::Process(process)
                if process.pid == pid && process.action == ProcessAction::Credentials)
        });
        assert_eq!(all.count(), 2);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_32_bits_are_no_way_around() {
    for left_out in [&[][..], &["lsm file_open"]] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let mut config = EbpfConfig::default();
        config.left_out = left_out.iter().map(|name| (*name).to_owned()).collect();
        config.filters.watched = vec![folder.path().to_str().unwrap().to_owned()];
        let Some(mut watch) = open(config) else { return };
        if !is_on(&watch, &["lsm file_open", "fentry security_file_open"]) {
            return;
        }
        let script = format!(
            "{CALL_32}
ctypes.memmove(text, b'{}\\0', {})
if call(20) != os.getpid(): sys.exit(77)
assert call(5, text, 2) >= 3
assert call(213, 65534) == 0",
            file.display(),
            file.as_os_str().len() + 1
        );
        let Some(pid) = run(&script) else { return };
        let opened = watch.activity(ActivityAction::FileOpen, |a| a.pid == pid);
        assert_eq!(opened.path, file.to_str().unwrap());
        assert_eq!((opened.flags & 3, opened.via), (2, ActivityVia::Kernel));
        if is_on(&watch, &["fentry commit_creds", "kprobe commit_creds"]) {
            let changed = credentials(&mut watch, "setuid of 32 bits", pid, |_| true);
            assert_eq!(
                (changed.previous.unwrap().uid, changed.credentials.unwrap().uid),
                (0, 65534)
            );
        }
    }
}

/// Before 5.11 it has to be raised for the maps; it is the process's own.
#[test]
fn the_limit_of_locked_memory_is_as_before() {
    let limit = || {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max locked memory"));
        line.unwrap().to_owned()
    };
    let before = limit();
    for _ in 0..2 {
        let Some(watch) = open(EbpfConfig::default()) else {
            return;
        };
        assert_eq!(limit(), before);
        drop(watch);
    }
    println!("{before}");
}
