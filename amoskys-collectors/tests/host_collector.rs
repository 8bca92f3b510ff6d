//! Real processes, as the collector for any system tells of them.
#![cfg(feature = "host")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use amoskys_collectors::host::{HostCollector, HostConfig, HostError};
use amoskys_core::event::{Payload, ProcessAction, ProcessEvent, Value};
use amoskys_core::{Collector, Event};

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn config() -> HostConfig {
    HostConfig {
        period: Duration::from_millis(100),
        metrics_every: 2,
        ..HostConfig::default()
    }
}

async fn until<T>(collector: &mut HostCollector, find: impl Fn(&Event) -> Option<T>) -> T {
    let wait = async {
        loop {
            let batch = collector.next_batch().await.unwrap().unwrap();
            if let Some(found) = batch.events.iter().find_map(&find) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("the event comes")
}

async fn process(
    collector: &mut HostCollector,
    action: ProcessAction,
    pid: u32,
) -> (ProcessEvent, Option<Value>) {
    until(collector, |event| match &event.payload {
        Payload::Process(process) if process.pid == pid && process.action == action => {
            Some((process.as_ref().clone(), event.attributes.get("user").cloned()))
        }
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_process_begins_changes_its_program_and_ends() {
    let mut collector = HostCollector::open(config()).unwrap();
    let (own, user) = process(&mut collector, ProcessAction::Seen, std::process::id()).await;
    assert_eq!(own.executable, std::env::current_exe().unwrap().to_str().unwrap());
    assert_eq!(own.arguments, std::env::args().collect::<Vec<_>>());
    assert!(!own.ancestors.is_empty());
    assert!(matches!(user, Some(Value::Text(user)) if user == own.uid.to_string()));

    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "read line; exec sleep 86396"])
        .stdin(Stdio::piped());
    let mut child = Running(shell.spawn().unwrap());
    let pid = child.0.id();
    let (began, _) = process(&mut collector, ProcessAction::Fork, pid).await;
    assert_eq!(began.parent_pid, std::process::id());
    assert_eq!(began.ancestors[0].executable.as_str(), own.executable);
    let age = amoskys_core::Timestamp::now().nanos() - began.start.nanos();
    assert!((-1_000_000_000..31_000_000_000).contains(&age), "{age}");

    drop(child.0.stdin.take());
    let changed = loop {
        // The first may be the shell itself, found between its creation and its program.
        let (changed, _) = process(&mut collector, ProcessAction::Exec, pid).await;
        if changed.command == "sleep" {
            break changed;
        }
    };
    assert_eq!(changed.arguments, ["sleep", "86396"]);
    assert_eq!(changed.start, began.start);

    drop(child);
    let (ended, _) = process(&mut collector, ProcessAction::Exit, pid).await;
    assert_eq!(ended.start, began.start);
    assert!(ended.usage.unwrap().max_resident_bytes > 0);
}

#[tokio::test]
async fn what_is_used_is_told_with_names_of_the_other_collector() {
    let mut collector = HostCollector::open(config()).unwrap();
    let own = std::process::id().to_string();
    for name in ["process_memory_resident", "process_cpu_time"] {
        let value = until(&mut collector, |event| match &event.payload {
            Payload::Metric(metric)
                if metric.name == name && metric.labels.contains(&("pid".to_owned(), own.clone())) =>
            {
                Some(metric.value)
            }
            _ => None,
        });
        assert!(value.await >= 0.0);
    }
    let total = until(&mut collector, |event| match &event.payload {
        Payload::Metric(metric) if metric.name == "host_memory_total" => Some(metric.value),
        _ => None,
    });
    assert!(total.await > 1e6);
    assert!(collector.stop());
    let mut last = None;
    while let Some(batch) = collector.next_batch().await.unwrap() {
        last = batch.events.last().cloned().or(last);
    }
    assert!(matches!(last.unwrap().payload, Payload::Punctuation(clock) if clock.end));
}

#[test]
fn settings_are_checked() {
    let wrong = HostConfig {
        period: Duration::ZERO,
        ..HostConfig::default()
    };
    assert!(matches!(HostCollector::open(wrong), Err(HostError::Config(error)) if error.setting == "period"));
}

/// What the documents say of its cost: `--nocapture thousand` prints it.
#[cfg(all(feature = "proc", target_os = "linux"))]
#[tokio::test]
async fn a_thousand_processes_are_sampled_in_bounded_time() {
    use rustix::time::{ClockId, clock_gettime};

    let mut sleepers = Vec::new();
    for _ in 0..1000 {
        sleepers.push(Running(Command::new("/bin/sleep").arg("86395").spawn().unwrap()));
    }
    let mut collector = HostCollector::open(HostConfig {
        metrics_every: 0,
        ..config()
    })
    .unwrap();
    let cpu = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    };
    let punctuation = |event: &Event| matches!(event.payload, Payload::Punctuation(_)).then_some(());
    until(&mut collector, punctuation).await;
    let begin = cpu();
    for _ in 0..10 {
        until(&mut collector, punctuation).await;
    }
    let each = (cpu() - begin) / 10;
    println!("{each:?} of processor time a sample");
    assert!(each < Duration::from_secs(1), "{each:?}");
}
