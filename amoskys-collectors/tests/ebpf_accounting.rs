//! Nothing the kernel's programs see goes missing without being counted; filters and enforcement. Needs CAP_BPF and
//! CAP_PERFMON; without, the tests say so and pass, unless `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(all(feature = "ebpf", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ebpf_common;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use amoskys_collectors::ebpf::{
    CallStreams, DeniedPeer, DropCause, EbpfCollector, EbpfConfig, EventKind, OfferState, Selection,
};
use amoskys_core::event::{ActivityAction, AlarmState, Class, Payload, ProcessAction};

use self::ebpf_common::{Watch, calls, open, skip};

/// Whether what the programs counted is what came, to the last event; the sensor has ended.
fn assert_conserved(watch: &Watch) {
    let stats = watch.handle.stats().unwrap();
    for (number, processor) in stats.processors.iter().enumerate() {
        for (kind, counts) in processor {
            assert!(counts.is_balanced(), "{kind:?} on {number}: {counts:?}");
        }
    }
    let total = stats.total();
    let resolved = watch
        .tally
        .dropped
        .iter()
        .filter(|(reason, _)| reason.as_str() == "filtered_path")
        .map(|(_, count)| *count)
        .sum::<u64>()
        - total.dropped(DropCause::Path);
    assert_eq!(watch.tally.used + resolved, total.delivered);
    assert_eq!(watch.tally.seen(), total.seen);
    for cause in DropCause::ALL {
        let told: u64 = watch
            .tally
            .dropped
            .iter()
            .filter(|(reason, _)| reason.as_str() == cause.as_str())
            .map(|(_, count)| *count)
            .sum();
        let extra = if cause == DropCause::Path { resolved } else { 0 };
        assert_eq!(told, total.dropped(cause) + extra, "{cause}");
    }
    let lost: u64 = watch
        .seen
        .iter()
        .filter_map(|event| match &event.payload {
            Payload::Loss(loss) => Some(loss.count),
            _ => None,
        })
        .sum();
    assert_eq!(lost, total.lost());
}

/// More than the ring holds, while nobody reads.
#[test]
fn a_flood_is_delivered_or_counted_to_the_last_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = EbpfConfig::default();
    config.filters.watched = vec![folder.path().to_str().unwrap().to_owned()];
    config.event_ring_bytes = 64 << 10;
    // What the rest of the machine does would fill the ring first.
    config.events = vec![EventKind::Open, EventKind::Create];
    let Some(mut watch) = open(config) else { return };
    let script = format!(
        "i=0; while [ $i -lt 20000 ]; do : < {0}/file; i=$((i+1)); done",
        folder.path().display()
    );
    fs::write(folder.path().join("file"), "").unwrap();
    let status = Command::new("sh").args(["-c", &script]).status().unwrap();
    assert!(status.success());
    watch.finish();
    let counts = watch.handle.stats().unwrap().kinds()[&EventKind::Open];
    assert!(counts.seen >= 20_000, "{counts:?}");
    assert!(counts.dropped(DropCause::RingFull) > 10_000, "{counts:?}");
    assert!(counts.delivered > 100);
    assert_conserved(&watch);
    assert!(matches!(watch.seen.last().unwrap().payload, Payload::Punctuation(p) if p.end));
}

#[test]
fn every_call_of_a_program_is_in_its_sequence() {
    let mut config = EbpfConfig::default();
    config.events = vec![EventKind::Exit];
    config.streams = CallStreams::Sequences;
    config.call_ring_bytes = 16 << 20;
    config.governor = false;
    let Some(mut watch) = open(config) else { return };
    let child = Command::new("dd")
        .args(["if=/dev/zero", "of=/dev/null", "bs=1", "count=100000"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    child.wait_with_output().unwrap();
    watch.process(ProcessAction::Exit, pid);
    watch.finish();
    assert_conserved(&watch);
    assert_eq!(watch.handle.stats().unwrap().total().lost(), 0);
    let mut numbers: Vec<u32> = Vec::new();
    for event in &watch.seen {
        if let Payload::Syscall(calls) = &event.payload
            && calls.pid == pid
        {
            assert_eq!(calls.first, numbers.len() as u64, "a run follows the one before");
            assert_eq!(event.class, Class::Bulk);
            assert_eq!(calls.architecture, std::env::consts::ARCH);
            numbers.extend(&calls.numbers);
        }
    }
    let count = |number| numbers.iter().filter(|call| **call == number).count();
    for call in [calls::READ, calls::WRITE] {
        assert!(
            (100_000..100_100).contains(&count(call)),
            "{} of {call}",
            count(call)
        );
    }
    assert_eq!(numbers.last(), Some(&calls::EXIT_GROUP));
}

#[test]
fn every_call_of_a_program_is_in_its_histograms() {
    let mut config = EbpfConfig::default();
    config.events = vec![EventKind::Exit];
    config.streams = CallStreams::Histograms;
    config.governor = false;
    let Some(mut watch) = open(config) else { return };
    let child = Command::new("dd")
        .args(["if=/dev/zero", "of=/dev/null", "bs=1", "count=100000"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    child.wait_with_output().unwrap();
    watch.process(ProcessAction::Exit, pid);
    watch.finish();
    assert_conserved(&watch);
    let mut reads = 0;
    for event in &watch.seen {
        if let Payload::SyscallHistogram(histogram) = &event.payload
            && histogram.pid == pid
        {
            let found = histogram.counts.iter().find(|count| count.number == calls::READ);
            reads += found.map_or(0, |count| count.count);
            assert_eq!(histogram.others, 0);
        }
    }
    assert!((100_000..100_100).contains(&reads), "{reads} reads");
}

#[test]
fn filters_change_while_the_sensor_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = EbpfConfig::default();
    config.filters.watched = vec!["/nowhere".to_owned()];
    let Some(mut watch) = open(config) else { return };
    let file = folder.path().join("file");
    let touch = |name: &str| {
        let mut child = Command::new("sh")
            .args(["-c", &format!(": > {}{name}", file.display())])
            .spawn()
            .unwrap();
        child.wait().unwrap();
        child.id()
    };
    let created = |watch: &Watch, pid| {
        let all = watch.seen.iter().filter(|event| {
            matches!(&event.payload, Payload::Activity(a) if a.pid == pid && a.action == ActivityAction::FileCreate)
        });
        all.count()
    };
    let first = touch("1");
    watch.process(ProcessAction::Exit, first);
    assert_eq!(created(&watch, first), 0);

    let mut filters = watch.handle.filters();
    filters.watched = vec![folder.path().to_str().unwrap().to_owned()];
    watch.handle.set_filters(&filters).unwrap();
    let second = touch("2");
    watch.process(ProcessAction::Exit, second);
    assert_eq!(created(&watch, second), 1);

    // Another user alone: not even the end is told, but it is counted.
    filters.uids = Selection::Only(vec![12_345]);
    watch.handle.set_filters(&filters).unwrap();
    let before = watch.handle.stats().unwrap().total().dropped(DropCause::Uid);
    let third = touch("3");
    filters.uids = Selection::Except(vec![12_345]);
    watch.handle.set_filters(&filters).unwrap();
    assert!(watch.handle.stats().unwrap().total().dropped(DropCause::Uid) >= before + 3);
    let fourth = touch("4");
    watch.process(ProcessAction::Exit, fourth);
    let of_third = watch.seen.iter().filter(
        |event| matches!(&event.payload, Payload::Process(p) if p.pid == third && p.action == ProcessAction::Exec),
    );
    assert_eq!(of_third.count(), 0);

    // Not the ends of processes, for a while.
    watch.handle.set_events(&[EventKind::Exec]).unwrap();
    let fifth = touch("5");
    watch.process(ProcessAction::Exec, fifth);
    watch.finish();
    let ends = watch.seen.iter().filter(
        |event| matches!(&event.payload, Payload::Process(p) if p.pid == fifth && p.action == ProcessAction::Exit),
    );
    assert_eq!(ends.count(), 0);
    assert_conserved(&watch);
}

#[test]
fn calls_are_chosen_by_their_numbers() {
    for (choice, wanted) in [
        (Selection::Only(vec![calls::READ]), calls::READ),
        (Selection::Except(vec![calls::READ]), calls::WRITE),
    ] {
        let mut config = EbpfConfig::default();
        config.events = vec![EventKind::Exit];
        config.streams = CallStreams::Sequences;
        config.filters.calls = choice;
        config.governor = false;
        let Some(mut watch) = open(config) else { return };
        let mut child = Command::new("dd")
            .args(["if=/dev/zero", "of=/dev/null", "bs=1", "count=1000"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        child.wait().unwrap();
        watch.process(ProcessAction::Exit, child.id());
        watch.finish();
        assert_conserved(&watch);
        let mut numbers: Vec<u32> = Vec::new();
        for event in &watch.seen {
            if let Payload::Syscall(calls) = &event.payload
                && calls.pid == child.id()
            {
                numbers.extend(&calls.numbers);
            }
        }
        let count = |call| numbers.iter().filter(|number| **number == call).count();
        let other = calls::READ + calls::WRITE - wanted;
        assert!((1000..1100).contains(&count(wanted)), "{numbers:?}");
        assert_eq!(count(other), 0, "{numbers:?}");
        let dropped = watch.handle.stats().unwrap().total().dropped(DropCause::Call);
        assert!(dropped >= 1000, "{dropped}");
    }
}

/// A new control group of the unified hierarchy, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None`, having said so, where none can be made.
    fn new() -> Option<Self> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|root| fs::metadata(format!("{root}/cgroup.controllers")).is_ok());
        let Some(root) = root else {
            skip("the unified hierarchy of control groups is not mounted");
            return None;
        };
        let group = Path::new(root).join(format!("amoskys-test-{}", std::process::id()));
        if fs::create_dir(&group).is_err() {
            skip("no control group can be made");
            return None;
        }
        Some(Self(group))
    }

    /// What a shell does to join it.
    fn join(&self) -> String {
        format!("echo $$ > {}/cgroup.procs; ", self.0.display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may not be gone yet.
        std::thread::sleep(Duration::from_millis(50));
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_control_group_may_be_watched_alone() {
    let Some(group) = Group::new() else { return };
    let number = fs::metadata(&group.0).unwrap().ino();
    let mut config = EbpfConfig::default();
    config.filters.cgroups = Selection::Only(vec![number]);
    let Some(mut watch) = open(config) else { return };
    let run = |join: &str| {
        let script = format!("{join}/bin/true; exec /bin/true");
        let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let outside = run("");
    let inside = run(&group.join());
    let exec = watch.process(ProcessAction::Exec, inside);
    assert_eq!(
        (exec.cgroup, exec.arguments),
        (number, vec!["/bin/true".to_owned()])
    );
    watch.process(ProcessAction::Exit, inside);
    watch.finish();
    assert!(!watch.seen.iter().any(
        |event| matches!(&event.payload, Payload::Process(process) if process.pid == outside && process.action != ProcessAction::Seen)
    ));
    assert!(watch.handle.stats().unwrap().total().dropped(DropCause::Cgroup) > 3);
    assert_conserved(&watch);
}

#[test]
fn the_sensor_does_not_watch_itself_and_ports_are_filtered() {
    let mut config = EbpfConfig::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    config.filters.ports = Selection::Except(vec![port]);
    let Some(mut watch) = open(config) else { return };
    let own = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    drop(own);
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; exec 4<>/dev/tcp/127.0.0.1/{}",
        port.wrapping_add(1).max(1)
    );
    if Command::new("bash").arg("--version").output().is_err() {
        skip("bash is missing");
        return;
    }
    let mut child = Command::new("bash")
        .args(["-c", &script])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.wait().unwrap();
    watch.process(ProcessAction::Exit, child.id());
    watch.finish();
    let stats = watch.handle.stats().unwrap();
    let connects = stats.kinds()[&EventKind::Connect];
    assert!(connects.dropped(DropCause::OwnProcess) >= 1, "{connects:?}");
    assert!(connects.dropped(DropCause::Port) >= 1, "{connects:?}");
    let own = std::process::id();
    assert!(!watch.seen.iter().any(
        |event| matches!(&event.payload, Payload::Activity(a) if a.pid == own || a.remote_port == port)
    ));
    assert_conserved(&watch);
}

#[test]
fn a_program_in_memory_can_be_killed_before_it_runs() {
    let mut config = EbpfConfig::default();
    config.enforcement.kill_on = vec![EventKind::MemoryFile];
    let Some(mut watch) = open(config) else { return };
    let mut child = Command::new("python3")
        .args(["-c", "import os; os.memfd_create('x', 0); print('alive')"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "");
    watch.activity(ActivityAction::MemoryFile, |activity| activity.pid == pid);
}

#[test]
fn connections_can_be_denied() {
    let Some(group) = Group::new() else { return };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let other_port = other.local_addr().unwrap().port();
    let mut config = EbpfConfig::default();
    config.enforcement.cgroup = Some(group.0.clone());
    config.enforcement.deny_connect = vec![DeniedPeer {
        address: Ipv4Addr::new(127, 0, 0, 0).into(),
        prefix: 8,
        port,
    }];
    if let Some(mut watch) = open(config) {
        let script = |inside: bool| {
            let join = if inside { group.join() } else { String::new() };
            format!(
                "{join}exec 3<>/dev/tcp/127.0.0.1/{other_port} || exit 9; exec 4<>/dev/tcp/127.0.0.1/{port}"
            )
        };
        let run = |inside| {
            let mut child = Command::new("bash")
                .args(["-c", &script(inside)])
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            (child.id(), child.wait().unwrap().code())
        };
        assert_eq!(run(false).1, Some(0), "outside of the group all is allowed");
        let (pid, code) = run(true);
        assert_eq!(code, Some(1));
        let denied = watch.activity(ActivityAction::ConnectDenied, |activity| activity.pid == pid);
        assert_eq!((denied.remote_port, denied.result), (port, Some(-1)));
        assert_eq!(denied.remote_address, Some(Ipv4Addr::LOCALHOST.into()));
    }
}

/// Nobody reads while calls are made, so the ring overflows; then the sensor steps down, and says so.
#[test]
fn under_overload_less_is_recorded_and_that_is_told() {
    let mut config = EbpfConfig::default();
    config.events = vec![EventKind::Exit];
    config.streams = CallStreams::Sequences;
    config.call_ring_bytes = 64 << 10;
    let Some(mut watch) = open(config) else { return };
    let status = Command::new("dd")
        .args(["if=/dev/zero", "of=/dev/null", "bs=1", "count=100000"])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(watch.handle.streams(), CallStreams::Sequences);
    let alarm = watch.find("alarm", |event| match &event.payload {
        Payload::Alarm(alarm) => Some((event.class, (**alarm).clone())),
        _ => None,
    });
    assert_eq!((alarm.0, alarm.1.code.as_str()), (Class::Alert, "ebpf_overload"));
    assert_eq!(alarm.1.state, AlarmState::Raised);
    assert_eq!(alarm.1.message, "recording histograms instead of sequences");
    assert!(watch.handle.streams() < CallStreams::Sequences);
    watch.finish();
    assert!(watch.handle.stats().unwrap().total().dropped(DropCause::RingFull) > 50_000);
    assert_conserved(&watch);
}

#[test]
fn what_the_kernel_offers_is_a_table() {
    let mut config = EbpfConfig::default();
    config.events.retain(|kind| *kind != EventKind::Ptrace);
    let Some(watch) = open(config) else { return };
    let offers = watch.collector.offers();
    assert_eq!(
        offers.state("tracepoint sched_process_exec"),
        Some(&OfferState::On)
    );
    assert_eq!(offers.state("call openat"), Some(&OfferState::On));
    assert_eq!(offers.state("call ptrace"), Some(&OfferState::Off("not wanted")));
    let table = offers.to_string();
    assert_eq!(table.lines().count(), offers.hooks.len());
    for offer in &offers.hooks {
        if let OfferState::Missing(why) = &offer.state {
            assert!(!why.is_empty(), "{}", offer.hook);
        }
    }
    // Which of them there are is the kernel's affair; that all are told is ours.
    for extra in [
        "fexit cap_capable",
        "fentry commit_creds",
        "kprobe commit_creds",
        "lsm file_open",
        "fentry security_file_open",
    ] {
        assert!(offers.state(extra).is_some(), "{extra}");
    }
    println!("{table}");
}

/// The test calls itself as a process without capabilities.
#[test]
fn without_privileges_the_error_names_what_is_missing() {
    const INNER: &str = "AMOSKYS_TEST_WITHOUT_CAPABILITIES";
    if std::env::var_os(INNER).is_some() {
        let error = EbpfCollector::open(EbpfConfig::default()).unwrap_err();
        println!("{error}");
        return;
    }
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "without_privileges_the_error_names_what_is_missing",
            "--nocapture",
        ])
        .env(INNER, "1")
        .output();
    let Ok(output) = output else {
        return skip("setpriv is missing");
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() && said.is_empty() {
        return skip("capabilities cannot be given up here");
    }
    assert!(said.contains("missing CAP_BPF, CAP_PERFMON;"), "{said}");
}
