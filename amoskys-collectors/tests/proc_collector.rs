//! Real processes and sockets, as the collector of `/proc` tells of them.
#![cfg(all(feature = "proc", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use amoskys_collectors::proc::{
    FlowOwners, ProcCollector, ProcConfig, ProcError, ProcessTable, SocketOwners,
};
use amoskys_core::event::{
    ActivityAction, ActivityEvent, ActivityVia, FlowEnd, FlowKey, FlowPhase, FlowRecord, ProcessAction,
    ProcessEvent, Value,
};
use amoskys_core::transform::{Outcome, Transform};
use amoskys_core::{Batch, Collector, Event, Payload};
use rustix::time::{ClockId, clock_gettime};

/// Ends with the test.
struct Running(Child);

impl Running {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn config() -> ProcConfig {
    ProcConfig {
        period: Duration::from_millis(50),
        rotation: 2.try_into().unwrap(),
        ..ProcConfig::default()
    }
}

/// Waits for an event.
async fn until<T>(collector: &mut ProcCollector, find: impl Fn(&Event) -> Option<T>) -> T {
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

async fn process(collector: &mut ProcCollector, action: ProcessAction, pid: u32) -> ProcessEvent {
    until(collector, |event| match &event.payload {
        Payload::Process(process) if process.pid == pid && process.action == action => {
            Some(process.as_ref().clone())
        }
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_process_begins_changes_its_program_and_ends() {
    let mut collector = ProcCollector::open(config()).unwrap().with_device("host");
    let own = process(&mut collector, ProcessAction::Seen, std::process::id()).await;
    assert_eq!(own.executable, std::env::current_exe().unwrap().to_str().unwrap());
    assert_eq!(own.arguments, std::env::args().collect::<Vec<_>>());
    assert!(!own.ancestors.is_empty());

    let before = amoskys_core::Timestamp::now();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "read line; exec sleep 86399"])
        .stdin(Stdio::piped());
    let mut child = Running(shell.spawn().unwrap());
    let mut began = process(&mut collector, ProcessAction::Fork, child.pid()).await;
    if began.executable == own.executable {
        // It was found between its creation and its program.
        began = process(&mut collector, ProcessAction::Exec, child.pid()).await;
    }
    assert_eq!(began.arguments, ["/bin/sh", "-c", "read line; exec sleep 86399"]);
    assert_eq!(began.command, "sh");
    assert_eq!(began.parent_pid, std::process::id());
    assert_eq!(began.parent_start, own.start);
    assert_eq!(began.ancestors[0].pid, std::process::id());
    assert_eq!(began.ancestors[0].executable.as_str(), own.executable);
    // The start is told in ticks of 10 ms, rounded down.
    let off = began.start.nanos() - before.nanos();
    assert!((-20_000_000..2_000_000_000).contains(&off), "{off}");
    assert!(began.credentials.is_some() && began.namespaces.is_some());

    drop(child.0.stdin.take());
    let changed = process(&mut collector, ProcessAction::Exec, child.pid()).await;
    assert_eq!(changed.arguments, ["sleep", "86399"]);
    assert_eq!((changed.command.as_str(), changed.start), ("sleep", began.start));

    child.end();
    let ended = process(&mut collector, ProcessAction::Exit, child.pid()).await;
    assert_eq!((ended.start, ended.command.as_str()), (began.start, "sleep"));
    assert!(ended.usage.unwrap().max_resident_bytes > 0);
}

#[tokio::test]
async fn what_a_process_uses_is_measured() {
    let mut collector = ProcCollector::open(config()).unwrap();
    // Some work, and a file to hold open.
    let file = std::fs::File::open("/dev/null").unwrap();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) {
        std::hint::black_box(vec![0_u8; 4096]);
    }
    let pid = std::process::id().to_string();
    let mut seen = std::collections::BTreeMap::new();
    // They may come in two batches.
    while seen.len() < 7 {
        seen.extend(all_of(&mut collector, &pid).await);
    }
    assert!(seen["process_cpu_time"] >= 0.2, "{seen:?}");
    assert!(seen["process_memory_resident"] > 1e6);
    assert!(seen["process_memory_virtual"] >= seen["process_memory_resident"]);
    assert!(seen["process_threads"] >= 2.0);
    assert!(seen["process_open_files"] >= 4.0);
    drop(file);
}

/// Metrics of a process on its next turn, by name.
async fn all_of(collector: &mut ProcCollector, pid: &str) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    while found.is_empty() {
        let batch: Batch = collector.next_batch().await.unwrap().unwrap();
        found = batch
            .events
            .iter()
            .filter_map(|event| match &event.payload {
                Payload::Metric(metric)
                    if metric
                        .labels
                        .iter()
                        .any(|(name, value)| name == "pid" && value == pid) =>
                {
                    Some((metric.name.clone(), metric.value))
                }
                _ => None,
            })
            .collect();
    }
    found
}

#[tokio::test]
async fn who_listens_is_told() {
    let mut collector = ProcCollector::open(config()).unwrap();
    let present = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = |port| {
        move |event: &Event| match &event.payload {
            Payload::Activity(activity)
                if activity.action == ActivityAction::Listen && activity.local_port == port =>
            {
                Some((
                    activity.as_ref().clone(),
                    event.attributes.contains_key("present"),
                ))
            }
            _ => None,
        }
    };
    let port = present.local_addr().unwrap().port();
    let (event, was_present) = until(&mut collector, listening(port)).await;
    assert_eq!(
        (event.pid, event.via),
        (std::process::id(), ActivityVia::Comparison)
    );
    assert!(was_present);
    let new = TcpListener::bind("[::1]:0").unwrap();
    let port = new.local_addr().unwrap().port();
    let (event, was_present) = until(&mut collector, listening(port)).await;
    assert_eq!(event.pid, std::process::id());
    assert_eq!(event.local_address, Some("::1".parse().unwrap()));
    assert!(!was_present && event.start != amoskys_core::Timestamp::default());
    assert_eq!(event.protocol, 6);

    // Above it are ports of sockets that wait for answers.
    let service = (20_000..30_000).find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok());
    let port = service.as_ref().unwrap().local_addr().unwrap().port();
    let (event, was_present) = until(&mut collector, listening(port)).await;
    assert_eq!((event.pid, event.protocol), (std::process::id(), 17));
    assert!(!was_present);
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let mut collector = ProcCollector::open(config()).unwrap();
    let mut tally = collector.next_batch().await.unwrap().unwrap().tally;
    assert!(collector.stop());
    let mut last = None;
    while let Some(batch) = collector.next_batch().await.unwrap() {
        tally.add(&batch.tally);
        last = batch.events.last().cloned().or(last);
    }
    assert!(matches!(last.unwrap().payload, Payload::Punctuation(clock) if clock.end));
    assert!(tally.used > 0);
}

#[test]
fn an_owner_is_found_for_each_kind_of_socket() {
    let mut owners = SocketOwners::open("/proc").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let server_v6 = TcpListener::bind("[::]:0").unwrap();
    let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
    let counts = owners.refresh().unwrap();
    assert!(counts.owned >= 5 && counts.malformed == 0, "{counts:?}");

    let flow = |source: std::net::SocketAddr, destination: std::net::SocketAddr, protocol| FlowKey {
        source: source.ip(),
        source_port: source.port(),
        destination: destination.ip(),
        destination_port: destination.port(),
        protocol,
    };
    let (near, far) = (client.local_addr().unwrap(), listener.local_addr().unwrap());
    let elsewhere = "192.0.2.1:53".parse().unwrap();
    let from = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let unconnected = from(datagrams.local_addr().unwrap().port());
    for key in [
        flow(near, far, 6),
        flow(far, near, 6),
        // A connection that is over leaves whoever still listens there.
        flow(elsewhere, far, 6),
        flow(from(1), from(server_v6.local_addr().unwrap().port()), 6),
        flow(unconnected, elsewhere, 17),
        flow(elsewhere, unconnected, 17),
    ] {
        let owner = owners
            .of_flow(&key)
            .unwrap_or_else(|| panic!("{key} has an owner"));
        assert_eq!(owner.key.pid, std::process::id(), "{key}");
        assert_eq!(owner.uid, Some(std::fs::metadata("/proc/self").unwrap().uid()));
    }
    // Another machine's port is not ours, though we have one with this number.
    let foreign = "192.0.2.9:0".parse::<std::net::SocketAddr>().unwrap();
    let mut key = flow(foreign, foreign, 17);
    key.source_port = unconnected.port();
    assert_eq!(owners.of_flow(&key), None);
    drop((client, server));
}

#[test]
fn a_flow_names_the_process_that_owns_its_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut owners = FlowOwners::start("/proc", Duration::from_millis(100)).unwrap();
    // Made after the sockets were read.
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, far) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let record = |phase| {
        let mut flow = FlowRecord {
            flow: 7,
            phase,
            ..FlowRecord::default()
        };
        (flow.key.source, flow.key.source_port) = (near.ip(), near.port());
        (flow.key.destination, flow.key.destination_port) = (far.ip(), far.port());
        flow.key.protocol = 6;
        Event {
            source: "flow".into(),
            payload: Payload::Flow(Box::new(flow)),
            ..Event::default()
        }
    };
    let own = Value::Uint(std::process::id().into());
    let begin = Instant::now();
    loop {
        let mut event = record(FlowPhase::Update);
        assert_eq!(owners.transform(&mut event).unwrap(), Outcome::Keep);
        if event.attributes.get("process_pid") == Some(&own) {
            assert!(event.attributes.contains_key("process_start_ns"));
            assert!(event.attributes.contains_key("process_command"));
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{event:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The connection is gone, the flow's last record comes later, and is remembered; then it is forgotten.
    drop((client, listener));
    std::thread::sleep(Duration::from_millis(500));
    for expected in [Some(&own), None] {
        let mut event = record(FlowPhase::End(FlowEnd::Finished));
        owners.transform(&mut event).unwrap();
        assert_eq!(event.attributes.get("process_pid"), expected);
    }
    let mut other = Event::default();
    owners.transform(&mut other).unwrap();
    assert_eq!(other, Event::default());
}

#[test]
fn a_flow_names_the_process_that_a_sensor_saw_connect() {
    let mut owners = FlowOwners::start("/proc", Duration::from_secs(3600)).unwrap();
    let (near, far) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let connect = ActivityEvent {
        action: ActivityAction::Connect,
        pid: 4711,
        start: amoskys_core::Timestamp::from_secs(5),
        uid: 33,
        command: "curl".to_owned(),
        // As sockets of IPv6 have it.
        local_address: Some("::ffff:192.0.2.1".parse().unwrap()),
        local_port: 40_000,
        remote_address: Some(far),
        remote_port: 443,
        protocol: 6,
        ..ActivityEvent::default()
    };
    let mut seen = Event {
        payload: Payload::Activity(Box::new(connect)),
        ..Event::default()
    };
    assert_eq!(owners.transform(&mut seen).unwrap(), Outcome::Keep);
    let mut command = |source, source_port, destination, destination_port, phase| {
        let mut flow = FlowRecord {
            phase,
            ..FlowRecord::default()
        };
        (flow.key.source, flow.key.source_port) = (source, source_port);
        (flow.key.destination, flow.key.destination_port) = (destination, destination_port);
        flow.key.protocol = 6;
        let mut event = Event {
            payload: Payload::Flow(Box::new(flow)),
            ..Event::default()
        };
        owners.transform(&mut event).unwrap();
        if let Some(pid) = event.attributes.get("process_pid") {
            assert_eq!(pid, &Value::Uint(4711));
            assert_eq!(
                event.attributes.get("process_start_ns"),
                Some(&Value::Int(5_000_000_000))
            );
            assert_eq!(event.attributes.get("process_uid"), Some(&Value::Uint(33)));
        }
        event.attributes.get("process_command").cloned()
    };
    let curl = Some(Value::Text("curl".to_owned()));
    assert_eq!(command(near, 40_001, far, 443, FlowPhase::Start), None);
    assert_eq!(command(near, 40_000, far, 443, FlowPhase::Start), curl);
    // Also where the meter took the answer for the beginning.
    assert_eq!(
        command(far, 443, near, 40_000, FlowPhase::End(FlowEnd::Finished)),
        curl
    );
    // The ports may be used again.
    assert_eq!(command(near, 40_000, far, 443, FlowPhase::Start), None);
}

#[test]
fn a_missing_proc_is_an_error() {
    let config = ProcConfig {
        root: "/nowhere".into(),
        ..ProcConfig::default()
    };
    let error = ProcCollector::open(config).unwrap_err();
    assert!(matches!(&error, ProcError::Root { .. }));
    assert_eq!(error.to_string(), "could not read /nowhere");
    let config = ProcConfig {
        period: Duration::ZERO,
        ..ProcConfig::default()
    };
    assert!(matches!(ProcCollector::open(config), Err(ProcError::Config(_))));
}

#[test]
fn a_thousand_processes_are_sampled_within_twenty_milliseconds() {
    let _sleepers: Vec<Running> = (0..1000)
        .map(|_| Running::start("/bin/sleep", &["86398"]))
        .collect();
    let mut table = ProcessTable::open("/proc").unwrap();
    let started = table.sample().unwrap().started.len();
    assert!(started >= 1000);
    let cpu = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    };
    // The least of a few: what other processes do to the caches is not ours.
    let cost = (0..9).map(|_| {
        let before = cpu();
        let sampled = table.sample().unwrap();
        let cost = cpu() - before;
        cost.mul_f64(1000.0 / sampled.read as f64)
    });
    let mut costs: Vec<_> = cost.collect();
    costs.sort();
    println!(
        "1,000 processes: least {:?}, median {:?} of processor time",
        costs[0], costs[4]
    );
    assert!(costs[0] < Duration::from_millis(20), "{costs:?}");
}
