//! What the tests of the sensor share.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use amoskys_collectors::ebpf::{EbpfCollector, EbpfConfig, EbpfError, EbpfHandle};
use amoskys_core::event::{ActivityAction, ActivityEvent, Payload, ProcessAction, ProcessEvent};
use amoskys_core::{Collector, Event, Shutdown, Tally};
use tempfile::TempDir;

/// Numbers of the system calls that scripts make by number.
#[cfg(target_arch = "x86_64")]
pub(crate) mod calls {
    pub(crate) const READ: u32 = 0;
    pub(crate) const WRITE: u32 = 1;
    pub(crate) const INIT_MODULE: u32 = 175;
    pub(crate) const DELETE_MODULE: u32 = 176;
    pub(crate) const EXIT_GROUP: u32 = 231;
    pub(crate) const PROCESS_VM_READV: u32 = 310;
    pub(crate) const PROCESS_VM_WRITEV: u32 = 311;
    pub(crate) const FINIT_MODULE: u32 = 313;
    pub(crate) const BPF: u32 = 321;
}
#[cfg(not(target_arch = "x86_64"))]
pub(crate) mod calls {
    pub(crate) const READ: u32 = 63;
    pub(crate) const WRITE: u32 = 64;
    pub(crate) const EXIT_GROUP: u32 = 94;
    pub(crate) const INIT_MODULE: u32 = 105;
    pub(crate) const DELETE_MODULE: u32 = 106;
    pub(crate) const PROCESS_VM_READV: u32 = 270;
    pub(crate) const PROCESS_VM_WRITEV: u32 = 271;
    pub(crate) const FINIT_MODULE: u32 = 273;
    pub(crate) const BPF: u32 = 280;
}

/// Events are of the whole machine, so tests of one file take turns.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn skip(why: &str) {
    assert_ne!(
        std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref(),
        Ok("1"),
        "required, but {why}"
    );
    eprintln!("skipped: {why}");
}

/// A sensor with all that it has seen so far.
pub(crate) struct Watch {
    pub(crate) collector: EbpfCollector,
    pub(crate) handle: EbpfHandle,
    pub(crate) seen: Vec<Event>,
    pub(crate) tally: Tally,
    runtime: tokio::runtime::Runtime,
    _turn: MutexGuard<'static, ()>,
}

/// `None`, having said so, where this process may not load programs, or the kernel has no types.
pub(crate) fn open(config: EbpfConfig) -> Option<Watch> {
    let turn = turn();
    match EbpfCollector::open(config) {
        Ok(collector) => Some(Watch {
            handle: collector.handle(),
            collector: collector.with_device("here"),
            seen: Vec::new(),
            tally: Tally::default(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            _turn: turn,
        }),
        Err(error @ (EbpfError::Privileges { .. } | EbpfError::NoTypes(_) | EbpfError::Architecture(_))) => {
            skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// A sensor that watches a folder, and the folder. `None`, having said so, also where there is no Python.
pub(crate) fn watch_folder() -> Option<(Watch, TempDir)> {
    if Command::new("python3").arg("--version").output().is_err() {
        skip("python3 is missing");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut config = EbpfConfig::default();
    config.filters.watched = vec![folder.path().to_str().unwrap().to_owned()];
    Some((open(config)?, folder))
}

/// What scripts begin with.
const LIBRARY: &str = "import ctypes, mmap, os, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
";

/// Starts a script in Python, in a folder.
pub(crate) fn start(script: &str, folder: &Path) -> Child {
    Command::new("python3")
        .args(["-c", &format!("{LIBRARY}{script}")])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Watch {
    /// Takes what comes until `wanted` finds something in it; panics after ten seconds.
    pub(crate) fn find<T>(&mut self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(10);
        let mut from = 0;
        loop {
            if let Some(found) = self.seen[from..].iter().find_map(&wanted) {
                return found;
            }
            from = self.seen.len();
            assert!(
                Instant::now() < end,
                "no {what} among {from} events: {:?}",
                self.kinds()
            );
            self.take();
        }
    }

    fn take(&mut self) -> bool {
        let next =
            async { tokio::time::timeout(Duration::from_millis(500), self.collector.next_batch()).await };
        match self.runtime.block_on(next) {
            Ok(batch) => match batch.unwrap() {
                Some(batch) => {
                    self.tally.add(&batch.tally);
                    self.seen.extend(batch.events);
                    true
                }
                None => false,
            },
            Err(_) => true,
        }
    }

    /// Stops the sensor and takes all that it still has.
    pub(crate) fn finish(&mut self) {
        assert!(self.collector.stop());
        while self.take() {}
    }

    pub(crate) fn process(&mut self, action: ProcessAction, pid: u32) -> ProcessEvent {
        self.find(&format!("{action:?} of {pid}"), |event| match &event.payload {
            Payload::Process(process) if process.action == action && process.pid == pid => {
                Some((**process).clone())
            }
            _ => None,
        })
    }

    pub(crate) fn activity(
        &mut self,
        action: ActivityAction,
        wanted: impl Fn(&ActivityEvent) -> bool,
    ) -> ActivityEvent {
        self.find(action.as_str(), |event| match &event.payload {
            Payload::Activity(activity) if activity.action == action && wanted(activity) => {
                Some((**activity).clone())
            }
            _ => None,
        })
    }

    fn kinds(&self) -> std::collections::BTreeMap<String, usize> {
        let mut kinds = std::collections::BTreeMap::new();
        for event in &self.seen {
            let kind = match &event.payload {
                Payload::Process(process) => format!("{:?}", process.action),
                Payload::Activity(activity) => activity.action.to_string(),
                other => other.kind().to_owned(),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }
}

pub(crate) fn unused_stop() -> Shutdown {
    Shutdown::new()
}
