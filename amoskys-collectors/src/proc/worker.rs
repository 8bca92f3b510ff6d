//! What the thread of the collector does: sample, compare, report, wait.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use amoskys_core::event::{
    ActivityEvent, Ancestor, Metric, MetricKind, Payload, ProcessAction, ProcessEvent, ResourceUsage, Value,
};
use amoskys_core::{Name, Shutdown, Timestamp};

use super::clock::BootClock;
use super::details::{Details, Reader};
use super::host::{self, Inventory, metric};
use super::utmp;
use super::{ProcConfig, ProcError, ProcessKey, ProcessSample, ProcessTable, Sampled, SocketOwners};
use crate::live::LiveBatcher;

/// How many generations an event names.
const GENERATIONS: usize = 8;
/// How soon a stop is noticed.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Worker {
    config: ProcConfig,
    table: ProcessTable,
    owners: SocketOwners,
    clock: BootClock,
    reader: Reader,
    details: HashMap<u32, Details>,
    inventory: Inventory,
    units: Units,
}

/// What the kernel counts in.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page_bytes: u64,
}

impl Worker {
    pub(super) fn open(config: ProcConfig) -> Result<Self, ProcError> {
        config.validate()?;
        Ok(Self {
            table: ProcessTable::open(&config.root)?,
            owners: SocketOwners::open(&config.root)?,
            clock: BootClock::new(),
            reader: Reader::new(config.max_command_line_bytes),
            details: HashMap::new(),
            inventory: Inventory::default(),
            units: Units {
                ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
                page_bytes: rustix::param::page_size() as u64,
            },
            config,
        })
    }

    pub(super) fn run(mut self, mut batcher: LiveBatcher<ProcError>, stop: &Shutdown) {
        let mut next = Instant::now();
        for round in 0_u64.. {
            if let Err(error) = self.round(round, &mut batcher) {
                batcher.fail(error);
                return;
            }
            next += self.config.period;
            // After a pause of the machine or of the reader, what was missed is not made up for.
            next = next.max(Instant::now());
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

    fn round(&mut self, round: u64, batcher: &mut LiveBatcher<ProcError>) -> Result<(), ProcError> {
        let sampled = self.table.sample()?;
        let now = Timestamp::now();
        batcher.used(sampled.read);
        batcher.dropped("vanished", sampled.vanished);
        batcher.dropped("refused", sampled.refused);
        batcher.dropped("malformed", sampled.malformed);
        self.report_changes(&sampled, round == 0, now, batcher);
        let rotation = u64::from(self.config.rotation.get());
        self.report_turn(round % rotation, rotation, now, batcher);
        if self.config.host_metrics {
            for metric in host::metrics(self.table.procfs(), self.units.ticks_per_second) {
                batcher.add(now, Payload::Metric(Box::new(metric)));
            }
        }
        if self.config.inventory && round.is_multiple_of(rotation) {
            self.report_inventory(now, batcher);
        }
        batcher.dropped("details_refused", std::mem::take(&mut self.reader.refused));
        batcher.punctuate(now, false);
        Ok(())
    }

    /// Processes that ended, began, or run another program.
    fn report_changes(
        &mut self,
        sampled: &Sampled,
        is_first: bool,
        now: Timestamp,
        batcher: &mut LiveBatcher<ProcError>,
    ) {
        for process in &sampled.ended {
            // Another may have its number by now, but its details have not been read yet.
            let details = self.details.remove(&process.key.pid).unwrap_or_default();
            let mut event = self.event(ProcessAction::Exit, process, &details);
            event.usage = Some(self.usage(process));
            self.tell(now, event, batcher);
        }
        for process in &sampled.started {
            let details = self.reader.read(self.table.procfs(), process.key.pid);
            self.table.look_again(process.key.pid);
            self.details.insert(process.key.pid, details);
        }
        for process in &sampled.started {
            let Some(details) = self.details.get(&process.key.pid) else {
                continue;
            };
            // It may run another program since it was sampled.
            let process = self
                .table
                .process(process.key.pid)
                .filter(|again| again.key == process.key)
                .unwrap_or(process);
            if is_first {
                if self.config.report_present {
                    let event = self.event(ProcessAction::Seen, process, details);
                    self.tell(now, event, batcher);
                }
            } else {
                let event = self.event(ProcessAction::Fork, process, details);
                self.tell(event.start.min(now), event, batcher);
            }
        }
        for key in &sampled.renamed {
            self.look_again(key.pid, now, batcher);
        }
    }

    /// Details and metrics of the processes whose turn it is.
    fn report_turn(
        &mut self,
        turn: u64,
        rotation: u64,
        now: Timestamp,
        batcher: &mut LiveBatcher<ProcError>,
    ) {
        let is_next = |pid: u32| u64::from(pid) % rotation == turn;
        let pids = self.table.processes().map(|process| process.key.pid);
        let mut pids: Vec<u32> = pids.filter(|pid| is_next(*pid)).collect();
        pids.sort_unstable();
        for pid in pids {
            self.look_again(pid, now, batcher);
            if self.config.process_metrics {
                for metric in self.process_metrics(pid) {
                    batcher.add(now, Payload::Metric(Box::new(metric)));
                }
            }
        }
    }

    /// Reads a process's details again, and reports whether it runs another program, or as another user.
    fn look_again(&mut self, pid: u32, now: Timestamp, batcher: &mut LiveBatcher<ProcError>) {
        let details = self.reader.read(self.table.procfs(), pid);
        // After its details, so that it has the name of the program that these are of.
        let Some(process) = self.table.look_again(pid) else {
            return;
        };
        let Some(before) = self.details.get(&pid) else {
            return;
        };
        // A process that has ended meanwhile has no details left; its end is reported with the next sample.
        if details.credentials.is_none() && before.credentials.is_some() {
            return;
        }
        let is_other_program =
            details.executable != before.executable || details.arguments != before.arguments;
        let action = if is_other_program {
            Some(ProcessAction::Exec)
        } else if details.credentials != before.credentials {
            Some(ProcessAction::Credentials)
        } else {
            None
        };
        if let Some(action) = action {
            let mut event = self.event(action, &process, &details);
            event.previous = before
                .credentials
                .filter(|_| details.credentials != before.credentials);
            self.tell(now, event, batcher);
        }
        self.details.insert(pid, details);
    }

    fn tell(&self, time: Timestamp, event: ProcessEvent, batcher: &mut LiveBatcher<ProcError>) {
        if self.config.process_events {
            batcher.add(time, Payload::Process(Box::new(event)));
        }
    }

    /// Who listens, modules, mounts, and how many processes each user has.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    fn report_inventory(&mut self, now: Timestamp, batcher: &mut LiveBatcher<ProcError>) {
        let mut inventory = std::mem::take(&mut self.inventory);
        let mut changes = inventory.compare(self.table.procfs());
        match self.owners.refresh() {
            Ok(counts) => {
                batcher.dropped("sockets_malformed", counts.malformed);
                let (table, details) = (&self.table, &self.details);
                let describe = |key: ProcessKey| {
                    let process = table.process(key.pid).filter(|process| process.key == key);
                    let details = process.and_then(|process| details.get(&process.key.pid));
                    self.activity(key, process, details)
                };
                changes.extend(inventory.compare_listening(&self.owners, describe));
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "sockets cannot be listed"
                );
                batcher.dropped("sockets_refused", 1);
            }
        }
        let sessions = utmp::read(&self.config.utmp);
        let lives = |pid| self.table.process(pid).is_some();
        changes.extend(inventory.compare_sessions(&sessions, lives, |pid| {
            let process = self.table.process(pid);
            let key = process.map_or(ProcessKey { pid, start_ticks: 0 }, |process| process.key);
            self.activity(key, process, self.details.get(&pid))
        }));
        self.inventory = inventory;
        for (change, present) in changes {
            let mut attributes = BTreeMap::new();
            if present {
                if !self.config.report_present {
                    continue;
                }
                attributes.insert("present".to_owned(), Value::Bool(true));
            }
            batcher.add_with(now, Payload::Activity(Box::new(change)), attributes);
        }
        let mut users: BTreeMap<u32, u64> = BTreeMap::new();
        for details in self.details.values() {
            if let Some(credentials) = details.credentials {
                *users.entry(credentials.effective_uid).or_default() += 1;
            }
        }
        for (uid, count) in users {
            let mut one = metric("user_processes", MetricKind::Gauge, count as f64, "{process}");
            one.labels.push(("uid".to_owned(), uid.to_string()));
            batcher.add(now, Payload::Metric(Box::new(one)));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    fn process_metrics(&mut self, pid: u32) -> Vec<Metric> {
        let Some(process) = self.table.process(pid).copied() else {
            return Vec::new();
        };
        let usage = self.usage(&process);
        let (io, files) = self.reader.usage(self.table.procfs(), pid);
        let gauge = MetricKind::Gauge;
        let resident = process.resident_pages.saturating_mul(self.units.page_bytes);
        let cpu = (usage.user_ns as f64 + usage.system_ns as f64) / 1e9;
        let mut metrics = vec![
            metric("process_cpu_time", MetricKind::Counter, cpu, "s"),
            metric("process_memory_resident", gauge, resident as f64, "By"),
            metric(
                "process_memory_virtual",
                gauge,
                process.virtual_bytes as f64,
                "By",
            ),
            metric("process_threads", gauge, f64::from(process.threads), "{thread}"),
        ];
        if let Some((read, written)) = io {
            let count = MetricKind::Counter;
            metrics.push(metric("process_device_read", count, read as f64, "By"));
            metrics.push(metric("process_device_written", count, written as f64, "By"));
        }
        if let Some(files) = files {
            metrics.push(metric("process_open_files", gauge, files as f64, "{file}"));
        }
        let start = self.start(process.key).nanos().to_string();
        let labels = [
            ("pid", pid.to_string()),
            ("start_ns", start),
            ("command", process.command().into_owned()),
        ];
        for metric in &mut metrics {
            metric.labels = labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
        }
        metrics
    }

    fn event(&self, action: ProcessAction, process: &ProcessSample, details: &Details) -> ProcessEvent {
        let credentials = details.credentials.unwrap_or_default();
        let parent = self.table.process(process.parent_pid);
        ProcessEvent {
            action,
            pid: process.key.pid,
            start: self.start(process.key),
            parent_pid: process.parent_pid,
            parent_start: parent.map(|parent| self.start(parent.key)).unwrap_or_default(),
            uid: credentials.effective_uid,
            gid: credentials.effective_gid,
            executable: details.executable.clone(),
            arguments: details.arguments.clone(),
            working_directory: details.working_directory.clone(),
            container: details.container.clone(),
            command: process.command().into_owned(),
            from_memory: details.from_memory,
            credentials: details.credentials,
            namespaces: details.namespaces,
            inner_pid: details.inner_pid,
            ancestors: self.ancestors(process.parent_pid),
            ..ProcessEvent::default()
        }
    }

    fn activity(
        &self,
        key: ProcessKey,
        process: Option<&ProcessSample>,
        details: Option<&Details>,
    ) -> ActivityEvent {
        let credentials = details
            .and_then(|details| details.credentials)
            .unwrap_or_default();
        let is_known = key != ProcessKey::default();
        ActivityEvent {
            pid: key.pid,
            tid: key.pid,
            start: if is_known {
                self.start(key)
            } else {
                Timestamp::default()
            },
            uid: credentials.effective_uid,
            gid: credentials.effective_gid,
            command: process
                .map(|process| process.command().into_owned())
                .unwrap_or_default(),
            executable: details
                .map(|details| details.executable.clone())
                .unwrap_or_default(),
            container: details
                .map(|details| details.container.clone())
                .unwrap_or_default(),
            ancestors: process
                .map(|process| self.ancestors(process.parent_pid))
                .unwrap_or_default(),
            ..ActivityEvent::default()
        }
    }

    fn ancestors(&self, parent: u32) -> Vec<Ancestor> {
        let above = std::iter::successors(self.table.process(parent), |process| {
            self.table.process(process.parent_pid)
        });
        above
            .take(GENERATIONS)
            .map(|process| Ancestor {
                pid: process.key.pid,
                start: self.start(process.key),
                executable: self
                    .details
                    .get(&process.key.pid)
                    .map(|details| Name::from(details.executable.as_str()))
                    .unwrap_or_default(),
            })
            .collect()
    }

    fn usage(&self, process: &ProcessSample) -> ResourceUsage {
        ResourceUsage {
            user_ns: self.nanoseconds(process.user_ticks),
            system_ns: self.nanoseconds(process.system_ticks),
            minor_faults: process.minor_faults,
            major_faults: process.major_faults,
            max_resident_bytes: process.max_resident_pages.saturating_mul(self.units.page_bytes),
        }
    }

    fn start(&self, key: ProcessKey) -> Timestamp {
        self.clock.start(self.nanoseconds(key.start_ticks))
    }

    fn nanoseconds(&self, ticks: u64) -> u64 {
        let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(self.units.ticks_per_second);
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }
}
