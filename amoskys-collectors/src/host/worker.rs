//! What the thread of the collector does: sample, compare, report, wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use amoskys_core::event::{
    Ancestor, Metric, MetricKind, Payload, ProcessAction, ProcessEvent, ResourceUsage, Value,
};
use amoskys_core::{Name, Shutdown, Timestamp};
use sysinfo::{MemoryRefreshKind, Process, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::{HostConfig, HostError};
use crate::live::LiveBatcher;

/// How many generations an event names.
const GENERATIONS: usize = 8;
/// How soon a stop is noticed.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Worker {
    config: HostConfig,
    system: System,
    known: BTreeMap<u32, Known>,
}

/// A process, as it was at the last sample.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    start_secs: u64,
    parent: u32,
    command: String,
    executable: String,
    arguments: Vec<String>,
    working_directory: String,
    uid: u32,
    gid: u32,
    user: String,
    cpu_ms: u64,
    resident: u64,
    most_resident: u64,
    virtual_bytes: u64,
    read: u64,
    written: u64,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Worker {
    pub(super) fn open(config: HostConfig) -> Result<Self, HostError> {
        config.validate()?;
        if !sysinfo::IS_SUPPORTED_SYSTEM {
            return Err(HostError::Unsupported);
        }
        Ok(Self {
            config,
            system: System::new(),
            known: BTreeMap::new(),
        })
    }

    pub(super) fn run(mut self, mut batcher: LiveBatcher<HostError>, stop: &Shutdown) {
        let mut next = Instant::now();
        for round in 0_u64.. {
            self.round(round, &mut batcher);
            // After a pause of the machine or of the reader, what was missed is not made up for.
            next = (next + self.config.period).max(Instant::now());
            while Instant::now() < next && batcher.is_wanted() && !stop.is_triggered() {
                std::thread::sleep(LOOK.min(next.saturating_duration_since(Instant::now())));
            }
            if !batcher.is_wanted() {
                return;
            }
            if stop.is_triggered() {
                batcher.punctuate(Timestamp::now(), true);
                return;
            }
        }
    }

    fn round(&mut self, round: u64, batcher: &mut LiveBatcher<HostError>) {
        let wanted = ProcessRefreshKind::nothing()
            .with_cpu()
            .with_memory()
            .with_disk_usage()
            .with_user(UpdateKind::Always)
            .with_cmd(UpdateKind::Always)
            .with_cwd(UpdateKind::Always)
            .with_exe(UpdateKind::Always)
            .without_tasks();
        self.system
            .refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
        let now = Timestamp::now();
        let limit = self.config.max_command_line_bytes;
        let mut found: BTreeMap<u32, Known> = BTreeMap::new();
        for (pid, process) in self.system.processes() {
            // A thread of a process is none.
            if process.thread_kind().is_none() {
                found.insert(pid.as_u32(), Known::of(process, limit));
            }
        }
        batcher.used(found.len() as u64);
        let before = std::mem::replace(&mut self.known, found);
        for (pid, known) in &before {
            let same = self
                .known
                .get(pid)
                .filter(|now| now.start_secs == known.start_secs);
            if same.is_none() {
                let mut event = event(ProcessAction::Exit, *pid, known, &before);
                event.usage = Some(known.usage());
                self.tell(now, event, known, batcher);
            }
        }
        for (pid, known) in &mut self.known {
            let same = before
                .get(pid)
                .filter(|before| before.start_secs == known.start_secs);
            if let Some(before) = same {
                known.most_resident = known.most_resident.max(before.most_resident);
                // The library keeps the name that a process had first.
                known.command = if known.executable == before.executable {
                    before.command.clone()
                } else {
                    let name = std::path::Path::new(&known.executable).file_name();
                    name.map(|name| name.to_string_lossy().into_owned())
                        .unwrap_or_default()
                };
            }
        }
        for (pid, known) in &self.known {
            let same = before
                .get(pid)
                .filter(|before| before.start_secs == known.start_secs);
            let action = match same {
                None if round == 0 && !self.config.report_present => continue,
                None if round == 0 => ProcessAction::Seen,
                None => ProcessAction::Fork,
                Some(before) if before.is_other_program(known) => ProcessAction::Exec,
                Some(_) => continue,
            };
            let event = event(action, *pid, known, &self.known);
            let time = if action == ProcessAction::Fork {
                event.start.min(now)
            } else {
                now
            };
            self.tell(time, event, known, batcher);
        }
        let every = u64::from(self.config.metrics_every);
        if every != 0 && round.is_multiple_of(every) {
            for (pid, known) in &self.known {
                for metric in known.metrics(*pid) {
                    batcher.add(now, Payload::Metric(Box::new(metric)));
                }
            }
        }
        if self.config.host_metrics {
            for metric in self.host() {
                batcher.add(now, Payload::Metric(Box::new(metric)));
            }
        }
        batcher.punctuate(now, false);
    }

    fn tell(
        &self,
        time: Timestamp,
        event: ProcessEvent,
        known: &Known,
        batcher: &mut LiveBatcher<HostError>,
    ) {
        let mut attributes = BTreeMap::new();
        if !known.user.is_empty() {
            attributes.insert("user".to_owned(), Value::Text(known.user.clone()));
        }
        batcher.add_with(time, Payload::Process(Box::new(event)), attributes);
    }

    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    fn host(&mut self) -> Vec<Metric> {
        self.system
            .refresh_memory_specifics(MemoryRefreshKind::everything());
        let gauge = |name: &str, bytes: u64| metric(name, MetricKind::Gauge, bytes as f64, "By");
        let mut metrics = vec![
            gauge("host_memory_total", self.system.total_memory()),
            gauge("host_memory_available", self.system.available_memory()),
            gauge("host_swap_free", self.system.free_swap()),
        ];
        let load = System::load_average();
        for (load, minutes) in [(load.one, "1"), (load.five, "5"), (load.fifteen, "15")] {
            // Systems that have no such thing say 0.
            let mut one = metric("host_load", MetricKind::Gauge, load, "");
            one.labels.push(("minutes".to_owned(), minutes.to_owned()));
            metrics.push(one);
        }
        metrics
    }
}

impl Known {
    fn of(process: &Process, limit: usize) -> Self {
        let text = |path: Option<&std::path::Path>| path.map(|path| path.to_string_lossy().into_owned());
        let mut room = limit;
        let mut arguments = Vec::new();
        for argument in process.cmd() {
            if room == 0 {
                break;
            }
            let mut argument = argument.to_string_lossy().into_owned();
            let whole = |end: &usize| argument.is_char_boundary(*end);
            let end = (0..=room.min(argument.len())).rev().find(whole).unwrap_or(0);
            argument.truncate(end);
            room = room.saturating_sub(end + 1);
            arguments.push(argument);
        }
        let user = process.effective_user_id().or(process.user_id());
        let user = user.map(|user| user.to_string()).unwrap_or_default();
        let group = process.effective_group_id().or(process.group_id());
        let disk = process.disk_usage();
        Self {
            start_secs: process.start_time(),
            parent: process.parent().map_or(0, sysinfo::Pid::as_u32),
            command: process.name().to_string_lossy().into_owned(),
            executable: text(process.exe()).unwrap_or_default(),
            arguments,
            working_directory: text(process.cwd()).unwrap_or_default(),
            uid: user.parse().unwrap_or_default(),
            gid: group
                .and_then(|group| group.to_string().parse().ok())
                .unwrap_or_default(),
            user,
            cpu_ms: process.accumulated_cpu_time(),
            resident: process.memory(),
            most_resident: process.memory(),
            virtual_bytes: process.virtual_memory(),
            read: disk.total_read_bytes,
            written: disk.total_written_bytes,
        }
    }

    fn start(&self) -> Timestamp {
        Timestamp::from_secs(i64::try_from(self.start_secs).unwrap_or(i64::MAX))
    }

    fn is_other_program(&self, now: &Self) -> bool {
        self.executable != now.executable || self.arguments != now.arguments
    }

    fn usage(&self) -> ResourceUsage {
        ResourceUsage {
            // The library does not tell time of its own from that in the system.
            user_ns: self.cpu_ms.saturating_mul(1_000_000),
            max_resident_bytes: self.most_resident,
            ..ResourceUsage::default()
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    fn metrics(&self, pid: u32) -> Vec<Metric> {
        let (gauge, count) = (MetricKind::Gauge, MetricKind::Counter);
        let mut metrics = vec![
            metric("process_cpu_time", count, self.cpu_ms as f64 / 1e3, "s"),
            metric("process_memory_resident", gauge, self.resident as f64, "By"),
            metric("process_memory_virtual", gauge, self.virtual_bytes as f64, "By"),
            metric("process_device_read", count, self.read as f64, "By"),
            metric("process_device_written", count, self.written as f64, "By"),
        ];
        let labels = [
            ("pid".to_owned(), pid.to_string()),
            ("start_ns".to_owned(), self.start().nanos().to_string()),
            ("command".to_owned(), self.command.clone()),
        ];
        for metric in &mut metrics {
            metric.labels = labels.to_vec();
        }
        metrics
    }
}

fn event(action: ProcessAction, pid: u32, known: &Known, all: &BTreeMap<u32, Known>) -> ProcessEvent {
    // A parent that is younger than its child has the number of one that is gone.
    let parent_of = |child: &Known| {
        let parent = all.get(&child.parent)?;
        (parent.start_secs <= child.start_secs).then_some((child.parent, parent))
    };
    let above = std::iter::successors(parent_of(known), |(_, known)| parent_of(known));
    let ancestors = above.take(GENERATIONS).map(|(pid, known)| Ancestor {
        pid,
        start: known.start(),
        executable: Name::from(known.executable.as_str()),
    });
    let ancestors: Vec<Ancestor> = ancestors.collect();
    ProcessEvent {
        action,
        pid,
        start: known.start(),
        parent_pid: known.parent,
        parent_start: ancestors.first().map(|parent| parent.start).unwrap_or_default(),
        uid: known.uid,
        gid: known.gid,
        executable: known.executable.clone(),
        arguments: known.arguments.clone(),
        working_directory: known.working_directory.clone(),
        command: known.command.clone(),
        ancestors,
        ..ProcessEvent::default()
    }
}

fn metric(name: &str, kind: MetricKind, value: f64, unit: &str) -> Metric {
    Metric {
        name: name.to_owned(),
        kind,
        value,
        unit: unit.to_owned(),
        labels: Vec::new(),
    }
}
