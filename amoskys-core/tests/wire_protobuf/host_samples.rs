//! Samples of what is seen on hosts, which came later than the others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amoskys_core::Timestamp;
use amoskys_core::event::*;
use amoskys_core::id::Name;

use super::samples::event;

const START: i64 = 1_700_000_000_000_000_000;

/// A file name for each, and the event.
pub(crate) fn all() -> Vec<(&'static str, Event)> {
    vec![
        (
            "event_process_2",
            event(40, Payload::Process(Box::new(process()))),
        ),
        ("event_syscall_2", event(41, Payload::Syscall(Box::new(calls())))),
        (
            "event_activity",
            event(42, Payload::Activity(Box::new(activity()))),
        ),
        (
            "event_syscall_histogram",
            event(43, Payload::SyscallHistogram(Box::new(histogram()))),
        ),
    ]
}

fn ancestors() -> Vec<Ancestor> {
    vec![
        Ancestor {
            pid: 700,
            start: Timestamp::from_nanos(START - 7),
            executable: Name::from("/usr/sbin/sshd"),
        },
        Ancestor::default(),
    ]
}

fn credentials() -> Credentials {
    Credentials {
        uid: 1000,
        effective_uid: 1001,
        saved_uid: 1002,
        gid: 100,
        effective_gid: 101,
        saved_gid: 102,
        effective: 1 << 40,
        permitted: u64::MAX,
        inheritable: 1,
        bounding: 2,
        ambient: 3,
    }
}

fn process() -> ProcessEvent {
    ProcessEvent {
        action: ProcessAction::Credentials,
        pid: 4242,
        start: Timestamp::from_nanos(START),
        command: "sudo".to_owned(),
        interpreter: "/bin/sh".to_owned(),
        called_as: "./script".to_owned(),
        from_memory: true,
        credentials: Some(credentials()),
        previous: Some(Credentials {
            uid: 7,
            ..Credentials::default()
        }),
        namespaces: Some(Namespaces {
            mount: 1,
            pid: 2,
            network: 3,
            uts: 4,
            ipc: 5,
            cgroup: 6,
            user: 7,
        }),
        inner_pid: 17,
        cgroup: 1 << 33,
        ancestors: ancestors(),
        usage: Some(ResourceUsage {
            user_ns: 1,
            system_ns: 2,
            minor_faults: 3,
            major_faults: 4,
            max_resident_bytes: 5,
        }),
        result: Some(-1),
        ..ProcessEvent::default()
    }
}

fn calls() -> SyscallEvent {
    SyscallEvent {
        pid: 4242,
        numbers: vec![0, 1, 257],
        first: 64,
        first_time: Timestamp::from_nanos(START - 1),
        ..SyscallEvent::default()
    }
}

fn activity() -> ActivityEvent {
    ActivityEvent {
        action: ActivityAction::FileRename,
        via: ActivityVia::IoUring,
        pid: 4242,
        start: Timestamp::from_nanos(START),
        tid: 4243,
        uid: 1000,
        gid: 100,
        command: "mv".to_owned(),
        executable: "/usr/bin/mv".to_owned(),
        container: "4f0c".to_owned(),
        ancestors: ancestors(),
        result: Some(-13),
        path: "/etc/passwd".to_owned(),
        other_path: "/etc/passwd-".to_owned(),
        name: "a name".to_owned(),
        flags: 0o100,
        number: 0o644,
        amount: 1 << 40,
        remote_address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        remote_port: 443,
        local_address: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        local_port: 40_000,
        protocol: 6,
        target_pid: 1,
        target_start: Timestamp::from_nanos(5),
        target_uid: Some(0),
    }
}

fn histogram() -> SyscallHistogram {
    SyscallHistogram {
        pid: 4242,
        start: Timestamp::from_nanos(START),
        command: "dd".to_owned(),
        architecture: "x86_64".to_owned(),
        period_ns: 1_000_000_000,
        counts: vec![
            CallCount {
                number: 0,
                count: 2_000_000,
            },
            CallCount { number: 1, count: 1 },
        ],
        others: 9,
    }
}
