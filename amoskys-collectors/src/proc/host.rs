//! The host as a whole: its load as metrics, and what it has, compared with what it had.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use amoskys_core::event::{ActivityAction, ActivityEvent, ActivityVia, Metric, MetricKind};

use super::procfs::Procfs;
use super::utmp::{self, Session};
use super::{ProcessKey, SocketOwners, parse};

/// Longer than any of these files on machines with thousands of processors or mounts.
const FILE_BYTES: u64 = 8 << 20;
/// Sessions at once.
const MAX_SESSIONS: usize = 10_000;

/// A metric without labels of its own.
pub(super) fn metric(name: &str, kind: MetricKind, value: f64, unit: &str) -> Metric {
    Metric {
        name: name.to_owned(),
        kind,
        value,
        unit: unit.to_owned(),
        labels: Vec::new(),
    }
}

/// Load, memory and processor time. What cannot be read is left out.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
pub(super) fn metrics(procfs: &Procfs, ticks_per_second: u64) -> Vec<Metric> {
    let read = |file| procfs.read(file, FILE_BYTES).unwrap_or_default();
    let mut metrics = Vec::new();
    if let Some(loads) = parse::load_averages(&read("loadavg")) {
        for (load, minutes) in loads.into_iter().zip(["1", "5", "15"]) {
            let mut one = metric("host_load", MetricKind::Gauge, load, "");
            one.labels.push(("minutes".to_owned(), minutes.to_owned()));
            metrics.push(one);
        }
    }
    let meminfo = read("meminfo");
    for (name, field) in [
        ("host_memory_total", "MemTotal"),
        ("host_memory_available", "MemAvailable"),
        ("host_swap_free", "SwapFree"),
    ] {
        if let Some(bytes) = parse::memory(&meminfo, field) {
            metrics.push(metric(name, MetricKind::Gauge, bytes as f64, "By"));
        }
    }
    if let Some(ticks) = parse::cpu_ticks(&read("stat")) {
        for (ticks, mode) in ticks.into_iter().zip(parse::CPU_MODES) {
            let seconds = ticks as f64 / ticks_per_second as f64;
            let mut one = metric("host_cpu_time", MetricKind::Counter, seconds, "s");
            one.labels.push(("mode".to_owned(), mode.to_owned()));
            metrics.push(one);
        }
    }
    metrics
}

/// What a host has that changes rarely.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    modules: Option<BTreeSet<String>>,
    /// What is mounted, where, and as which type.
    mounts: Option<BTreeSet<(String, String, String)>>,
    /// Protocol and address, and who takes what comes there.
    listening: Option<BTreeSet<(u8, SocketAddr, ProcessKey)>>,
    sessions: Option<BTreeSet<Session>>,
}

/// A change, and whether it was there when observation began.
pub(super) type Change = (ActivityEvent, bool);

impl Inventory {
    /// Modules and mounts that came or went since the last time. What cannot be read is taken to be unchanged.
    pub(super) fn compare(&mut self, procfs: &Procfs) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(modules) = lines(procfs, "modules") {
            let now = modules
                .iter()
                .filter_map(|line| Some(line.split_ascii_whitespace().next()?.to_owned()));
            let named = |action, name: &String| ActivityEvent {
                name: name.clone(),
                ..found(action)
            };
            difference(&mut self.modules, now.collect(), |module, is_new| {
                let action = if is_new {
                    ActivityAction::ModuleLoad
                } else {
                    ActivityAction::ModuleUnload
                };
                Some(named(action, module))
            })
            .append_to(&mut changes);
        }
        // Of this process's own namespace of mounts.
        if let Some(mounts) = lines(procfs, "self/mounts") {
            let now = mounts.iter().filter_map(|line| {
                let mut fields = line.split_ascii_whitespace().map(str::to_owned);
                Some((fields.next()?, fields.next()?, fields.next()?))
            });
            difference(
                &mut self.mounts,
                now.collect(),
                |(source, target, kind), is_new| {
                    let action = if is_new {
                        ActivityAction::Mount
                    } else {
                        ActivityAction::Unmount
                    };
                    Some(ActivityEvent {
                        path: target.clone(),
                        other_path: source.clone(),
                        name: kind.clone(),
                        ..found(action)
                    })
                },
            )
            .append_to(&mut changes);
        }
        changes
    }

    /// Users that came or went since the last time. `lives` says whether there is such a process: a session whose
    /// process was killed stays in the file.
    pub(super) fn compare_sessions(
        &mut self,
        file: &[u8],
        lives: impl Fn(u32) -> bool,
        describe: impl Fn(u32) -> ActivityEvent,
    ) -> Vec<Change> {
        let now = utmp::sessions(file).flatten();
        let now = now.filter(|session| lives(session.pid)).take(MAX_SESSIONS);
        let mut changes = Vec::new();
        difference(&mut self.sessions, now.collect(), |session, is_new| {
            let action = if is_new {
                ActivityAction::LogIn
            } else {
                ActivityAction::LogOut
            };
            Some(ActivityEvent {
                action,
                via: ActivityVia::Comparison,
                name: session.user.clone(),
                path: format!("/dev/{}", session.terminal),
                other_path: session.host.clone(),
                remote_address: session.address,
                ..describe(session.pid)
            })
        })
        .append_to(&mut changes);
        changes
    }

    /// Listening sockets that came since the last time.
    pub(super) fn compare_listening(
        &mut self,
        owners: &SocketOwners,
        describe: impl Fn(ProcessKey) -> ActivityEvent,
    ) -> Vec<Change> {
        let now = owners.listening().map(|(protocol, address, owner)| {
            let owner = owner.map(|owner| owner.key).unwrap_or_default();
            (protocol, address, owner)
        });
        let mut changes = Vec::new();
        difference(
            &mut self.listening,
            now.collect(),
            |(protocol, address, owner), is_new| {
                is_new.then(|| ActivityEvent {
                    action: ActivityAction::Listen,
                    via: ActivityVia::Comparison,
                    protocol: *protocol,
                    local_address: Some(address.ip()),
                    local_port: address.port(),
                    ..describe(*owner)
                })
            },
        )
        .append_to(&mut changes);
        changes
    }
}

fn found(action: ActivityAction) -> ActivityEvent {
    ActivityEvent {
        action,
        via: ActivityVia::Comparison,
        ..ActivityEvent::default()
    }
}

fn lines(procfs: &Procfs, file: &str) -> Option<Vec<String>> {
    let bytes = procfs.read(file, FILE_BYTES).ok()?;
    Some(
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::to_owned)
            .collect(),
    )
}

struct Changes(Vec<Change>);

impl Changes {
    fn append_to(mut self, others: &mut Vec<Change>) {
        others.append(&mut self.0);
    }
}

/// What came and went, in order; the first time, all that is there.
fn difference<T: Ord>(
    before: &mut Option<BTreeSet<T>>,
    now: BTreeSet<T>,
    event: impl Fn(&T, bool) -> Option<ActivityEvent>,
) -> Changes {
    let is_first = before.is_none();
    let old = before.take().unwrap_or_default();
    let came = now.difference(&old).map(|item| (event(item, true), is_first));
    let went = old.difference(&now).map(|item| (event(item, false), false));
    let changes = came.chain(went);
    let changes = changes
        .filter_map(|(event, present)| Some((event?, present)))
        .collect();
    *before = Some(now);
    Changes(changes)
}
