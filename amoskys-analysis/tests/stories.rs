//! An intrusion on one machine, from the reverse shell to the injected process, among what administrators do: one story.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod joined;

use std::sync::Arc;

use amoskys_analysis::alert::Alert;
use amoskys_analysis::attack::Tactic;
use amoskys_analysis::story::Stories;
use amoskys_analysis::{AlertFile, Correlation, Detection, DetectionConfig, Review};
use amoskys_core::event::{
    ActivityAction, ActivityEvent, Ancestor, Credentials, ProcessAction, ProcessEvent, Verdict,
};
use amoskys_core::{
    Analyzer, Class, Epoch, Event, EventId, Observation, Offset, Opened, Payload, Recorded, Seq, StreamId,
    Timestamp,
};

/// A machine's processes, each with those that led to it.
#[derive(Default)]
struct Machine {
    events: Vec<Event>,
    processes: Vec<(u32, &'static str, Option<u32>, u32)>,
}

impl Machine {
    fn start(pid: u32) -> Timestamp {
        Timestamp::from_secs(1_600_000_000 + i64::from(pid))
    }

    fn ancestors(&self, pid: u32) -> Vec<Ancestor> {
        let find = |pid: u32| self.processes.iter().rev().find(|one| one.0 == pid);
        let mut next = find(pid).and_then(|one| one.2);
        let mut line = Vec::new();
        while let Some(one) = next.and_then(find) {
            line.push(Ancestor {
                pid: one.0,
                start: Self::start(one.0),
                executable: one.1.into(),
            });
            next = one.2;
        }
        line
    }

    fn push(&mut self, at: i64, payload: Payload) {
        let n = self.events.len() as u64;
        self.events.push(Event {
            id: EventId {
                origin: 5,
                ordinal: n,
            },
            time: Timestamp::from_secs(1_700_000_000 + at),
            device: "web".into(),
            payload,
            ..Event::default()
        });
    }

    /// A program runs, as this user.
    fn run(&mut self, at: i64, pid: u32, parent: u32, line: &[&'static str], uid: u32) {
        let before = self
            .processes
            .iter()
            .rev()
            .find(|one| one.0 == parent)
            .map_or(0, |one| one.3);
        self.processes
            .push((pid, line[0], (parent != 0).then_some(parent), uid));
        let of = |uid| Credentials {
            uid: before,
            effective_uid: uid,
            saved_uid: uid,
            ..Credentials::default()
        };
        let event = ProcessEvent {
            action: ProcessAction::Exec,
            pid,
            start: Self::start(pid),
            parent_pid: parent,
            parent_start: Self::start(parent),
            uid,
            executable: line[0].to_owned(),
            arguments: line.iter().map(|word| (*word).to_owned()).collect(),
            ancestors: self.ancestors(pid),
            credentials: Some(of(uid)),
            previous: (uid != before).then(|| of(before)),
            ..ProcessEvent::default()
        };
        self.push(at, Payload::Process(Box::new(event)));
    }

    fn does(&mut self, at: i64, pid: u32, change: impl FnOnce(&mut ActivityEvent)) {
        let executable = self
            .processes
            .iter()
            .rev()
            .find(|one| one.0 == pid)
            .map_or("", |one| one.1);
        let mut event = ActivityEvent {
            pid,
            start: Self::start(pid),
            executable: executable.to_owned(),
            command: executable.rsplit('/').next().unwrap().to_owned(),
            ancestors: self.ancestors(pid),
            result: Some(0),
            ..ActivityEvent::default()
        };
        change(&mut event);
        self.push(at, Payload::Activity(Box::new(event)));
    }

    /// What administrators and developers do all day.
    fn work(&mut self, at: i64, pid: u32) {
        self.run(at, pid, 10, &["/bin/bash"], 1000);
        self.run(at + 1, pid + 1, pid, &["/usr/bin/sudo", "tee"], 0);
        self.run(
            at + 2,
            pid + 2,
            pid + 1,
            &["/usr/bin/tee", "/etc/cron.d/backup"],
            0,
        );
        self.does(at + 2, pid + 2, |a| {
            (a.action, a.path) = (ActivityAction::FileCreate, "/etc/cron.d/backup".into());
        });
        self.run(at + 3, pid + 3, pid, &["/usr/bin/strace", "./prices"], 1000);
        self.does(at + 3, pid + 3, |a| {
            (a.action, a.target_pid) = (ActivityAction::Ptrace, pid + 4);
        });
        self.run(
            at + 4,
            pid + 5,
            pid,
            &["/usr/bin/curl", "https://example.org"],
            1000,
        );
        self.does(at + 4, pid + 5, |a| {
            (a.action, a.remote_address) = (ActivityAction::Connect, Some([198, 51, 100, 80].into()));
        });
    }

    fn record(&self) -> Vec<Recorded> {
        let stream = Arc::new(StreamId {
            agent: "web".into(),
            epoch: Epoch::default(),
            class: Class::Telemetry,
        });
        let of = |(n, event): (u64, &Event)| Recorded {
            timeline: 0,
            stream: stream.clone(),
            seq: Seq(n),
            event: event.clone(),
        };
        (0..).zip(&self.events).map(of).collect()
    }
}

fn machine() -> Machine {
    let mut machine = Machine::default();
    machine.run(0, 10, 0, &["/usr/sbin/sshd"], 0);
    machine.run(0, 20, 0, &["/usr/bin/python3", "app.py"], 33);
    machine
}

/// By the application, which runs what it is told to.
fn intrusion(machine: &mut Machine, at: i64) {
    machine.run(
        at,
        500,
        20,
        &["/bin/sh", "-c", "getent hosts x; python3 -c …"],
        33,
    );
    machine.run(at, 501, 500, &["/usr/bin/python3", "-c", "import pty"], 33);
    machine.does(at, 501, |a| {
        a.action = ActivityAction::Connect;
        (a.local_address, a.remote_address) = (Some([10, 0, 0, 5].into()), Some([198, 51, 100, 9].into()));
        a.remote_port = 4444;
    });
    machine.run(at + 1, 502, 501, &["/bin/bash"], 33);
    machine.run(at + 30, 503, 502, &["/usr/local/bin/log-report"], 0);
    machine.run(at + 31, 504, 503, &["/bin/bash", "-p"], 0);
    machine.does(at + 60, 504, |a| {
        (a.action, a.path) = (ActivityAction::FileCreate, "/etc/cron.d/.refresh".into());
    });
    machine.run(at + 90, 505, 504, &["/usr/bin/python3", "-c", "import ctypes"], 0);
    machine.does(at + 91, 505, |a| {
        (a.action, a.target_pid, a.target_start) = (ActivityAction::MemoryWrite, 20, Machine::start(20));
    });
}

fn analyzer() -> Correlation {
    let config = DetectionConfig::default();
    let detection = Detection::new(config.clone(), Vec::new()).unwrap();
    joined::join(&config, detection).unwrap()
}

fn verdicts(machine: &Machine) -> Vec<Verdict> {
    let mut analyzer = analyzer();
    let mut verdicts = Vec::new();
    for event in machine.record() {
        analyzer
            .observe(Observation::Event(&event), &mut verdicts)
            .unwrap();
    }
    verdicts
}

/// The latest revision of each verdict, in order of time.
fn latest(verdicts: Vec<Verdict>) -> Vec<Verdict> {
    let mut latest = std::collections::BTreeMap::new();
    for verdict in verdicts {
        latest.insert((verdict.time, verdict.id), verdict);
    }
    latest.into_values().collect()
}

fn techniques(verdicts: Vec<Verdict>) -> Vec<String> {
    let mut alerts = latest(verdicts);
    alerts.retain(Verdict::is_alert);
    alerts
        .iter()
        .map(|alert| alert.technique.as_ref().unwrap().to_string())
        .collect()
}

const STEPS: [&str; 4] = ["T1059.004", "T1548.001", "T1053.003", "T1055"];

#[test]
fn honest_work_raises_no_alert() {
    let mut machine = machine();
    for day in 0..20 {
        machine.work(day * 600, 1_000 + u32::try_from(day).unwrap() * 10);
    }
    assert!(techniques(verdicts(&machine)).is_empty());
}

#[test]
fn an_intrusion_among_honest_work_is_one_story_told_in_order() {
    let mut machine = machine();
    machine.work(100, 1_000);
    intrusion(&mut machine, 200);
    machine.work(400, 2_000);
    let all = verdicts(&machine);
    assert_eq!(techniques(all.clone()), STEPS);
    let mut stories = Stories::new();
    for alert in all.iter().filter(|verdict| verdict.is_alert()) {
        stories.take(alert);
    }
    let told: Vec<_> = stories.stories().collect();
    assert_eq!(told.len(), 1);
    use Tactic::{DefenseEvasion, Execution, Persistence, PrivilegeEscalation};
    assert_eq!(
        told[0].tactics(),
        [Execution, PrivilegeEscalation, Persistence, DefenseEvasion]
    );
    let text = told[0].to_string();
    for part in [
        "bash (502), started by python3 < sh < python3",
        "log-report (503), started by bash < python3 < sh < python3",
        "/etc/cron.d/.refresh, by bash (504), started by log-report < bash < python3 < sh",
        "python3 (505), started by bash < log-report < bash < python3",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // The administrator's job is not the intruder's.
    assert!(!text.contains("tee"), "{text}");
    let lineage = all.iter().flat_map(|verdict| &verdict.evidence);
    assert!(lineage.filter(|part| part.feature.as_str() == "lineage").count() >= 3);
}

#[test]
fn what_the_injected_process_does_is_part_of_it() {
    let mut machine = machine();
    intrusion(&mut machine, 200);
    machine.does(400, 20, |a| {
        (a.action, a.path) = (ActivityAction::FileOpen, "/root/.ssh/authorized_keys".into());
        a.flags = 2;
    });
    let all = verdicts(&machine);
    let alerts = latest(all);
    // Of the same tactic as the job: the same attempt to stay.
    let stay = alerts
        .iter()
        .find(|alert| alert.technique.as_ref().unwrap().as_str() == "T1053.003");
    assert!(stay.unwrap().updated >= Timestamp::from_secs(1_700_000_400));
}

#[test]
fn file_review_and_report_tell_the_same_story() {
    let mut machine = machine();
    intrusion(&mut machine, 200);
    let events = machine.record();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.jsonl");
    let mut log = Opened::new(
        events[0].stream.clone(),
        Seq(0),
        events[events.len() - 1].seq,
        "test".into(),
    );
    log.events = machine.events.clone();
    let review = Review::new().with_alert_file(AlertFile::open(&path).unwrap());
    #[cfg(feature = "report")]
    let review = review.with_report(amoskys_analysis::report::Report::new("web"));
    let mut review = review;
    review.redraw([Ok((Offset(0), log))], &mut analyzer()).unwrap();
    let story = review.stories().stories().next().unwrap();
    assert_eq!(story.chapters().count(), 4);
    let printed = review.to_string();
    assert!(printed.contains(&story.to_string()), "{printed}");
    let lines: Vec<Alert> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line.story == Some(story.id())));
    #[cfg(feature = "report")]
    {
        let page = review.page().unwrap();
        assert!(page.contains("Privilege Escalation") && page.contains("id=\"stories\""));
    }
}

#[test]
fn the_promises_of_an_analyzer_hold_on_a_machine_too() {
    let mut machine = machine();
    machine.work(100, 1_000);
    intrusion(&mut machine, 200);
    amoskys_core::conformance::analyzer(analyzer, &machine.record());
}
