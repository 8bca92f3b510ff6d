//! Each system call that a program is attached to, made by a process of its own, is told as what it is. Needs CAP_BPF and
//! CAP_PERFMON, and root for most of the calls; without, the test says so and passes, unless `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(all(feature = "ebpf", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ebpf_common;

use std::collections::BTreeMap;

use amoskys_collectors::ebpf::OfferState;
use amoskys_core::Payload;
use amoskys_core::event::{ActivityAction, ProcessAction};

use self::ebpf_common::{is_root, skip, start, watch_folder};

/// What a line of the script says of a call.
struct Made<'a> {
    told_as: &'a str,
    pid: u32,
}

#[test]
fn each_call_that_is_watched_is_told() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    if !is_root() {
        skip("most of the calls take root");
        return;
    }
    let output = start(include_str!("ebpf_calls/make.py"), folder.path())
        .wait_with_output()
        .unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let mut made = BTreeMap::new();
    for line in said.lines() {
        let [name, told_as, pid, code] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let pid = pid.parse().unwrap();
        match code {
            "0" => drop(made.insert(name, Some(Made { told_as, pid }))),
            // Some kernels are without it, some file systems without what it takes.
            "77" => drop(made.insert(name, None)),
            _ => panic!("{line}"),
        }
    }
    let offers = watch.collector.offers().clone();
    let attached = offers.hooks.iter().filter(|offer| offer.state == OfferState::On);
    let mut missing = Vec::new();
    let mut told = 0;
    for name in attached.filter_map(|offer| offer.hook.strip_prefix("call ")) {
        let call = made.get(name);
        let Some(Made { told_as, pid }) = call.unwrap_or_else(|| panic!("nobody makes the call {name}"))
        else {
            missing.push(name);
            continue;
        };
        told += 1;
        let (pid, what) = (*pid, format!("{told_as} by {name}"));
        if *told_as == "credentials" {
            watch.process(ProcessAction::Credentials, pid);
            continue;
        }
        let file = folder.path().join(name);
        let file = told_as.starts_with("file_").then(|| file.to_str().unwrap());
        let event = watch.find(&what, |event| match &event.payload {
            Payload::Activity(activity)
                if activity.pid == pid
                    && activity.action.as_str() == *told_as
                    && file.is_none_or(|file| activity.path == file) =>
            {
                Some((**activity).clone())
            }
            _ => None,
        });
        if file.is_some() {
            assert!(event.result >= Some(0), "{what}: {event:?}");
        }
        // These are told also if they only try.
        if matches!(
            event.action,
            ActivityAction::ModuleLoad | ActivityAction::ModuleUnload
        ) {
            assert_eq!(event.result, Some(-1), "{what}");
        }
    }
    println!("{told} calls; not here: {missing:?}");
    assert!(told > 40 && missing.len() < 4, "{told} calls without {missing:?}");
}
