//! What the messages of hosts should say.

use amoskys_core::event::*;

use super::mirror::{Says, ip};
use super::peer::{Fields, Node};

fn ancestor(ancestor: &Ancestor) -> Fields {
    Says::default()
        .uint("pid", ancestor.pid)
        .int("start_ns", ancestor.start.nanos())
        .text("executable", ancestor.executable.as_str())
        .0
}

fn credentials(credentials: &Credentials) -> Fields {
    Says::default()
        .uint("uid", credentials.uid)
        .uint("effective_uid", credentials.effective_uid)
        .uint("saved_uid", credentials.saved_uid)
        .uint("gid", credentials.gid)
        .uint("effective_gid", credentials.effective_gid)
        .uint("saved_gid", credentials.saved_gid)
        .uint("effective", credentials.effective)
        .uint("permitted", credentials.permitted)
        .uint("inheritable", credentials.inheritable)
        .uint("bounding", credentials.bounding)
        .uint("ambient", credentials.ambient)
        .0
}

fn namespaces(namespaces: &Namespaces) -> Fields {
    Says::default()
        .uint("mount", namespaces.mount)
        .uint("pid", namespaces.pid)
        .uint("network", namespaces.network)
        .uint("uts", namespaces.uts)
        .uint("ipc", namespaces.ipc)
        .uint("cgroup", namespaces.cgroup)
        .uint("user", namespaces.user)
        .0
}

fn usage(usage: &ResourceUsage) -> Fields {
    Says::default()
        .uint("user_ns", usage.user_ns)
        .uint("system_ns", usage.system_ns)
        .uint("minor_faults", usage.minor_faults)
        .uint("major_faults", usage.major_faults)
        .uint("max_resident_bytes", usage.max_resident_bytes)
        .0
}

fn ancestors(all: &[Ancestor]) -> impl Iterator<Item = Node> {
    all.iter().map(|one| Node::Message(ancestor(one)))
}

pub(crate) fn process_event(process: &ProcessEvent) -> Fields {
    let action = match process.action {
        ProcessAction::Seen => 0,
        ProcessAction::Fork => 1,
        ProcessAction::Exec => 2,
        ProcessAction::Exit => 3,
        ProcessAction::Credentials => 4,
        _ => unreachable!(),
    };
    let says = Says::default()
        .number("action", action)
        .uint("pid", process.pid)
        .int("start_ns", process.start.nanos())
        .uint("parent_pid", process.parent_pid)
        .int("parent_start_ns", process.parent_start.nanos())
        .uint("uid", process.uid)
        .uint("gid", process.gid)
        .text("executable", &process.executable)
        .list("arguments", process.arguments.iter().cloned().map(Node::Text))
        .text("working_directory", &process.working_directory)
        .text("container", &process.container)
        .int_if("exit_code", process.exit_code)
        .uint_if("exit_signal", process.exit_signal);
    process_details(says, process).0
}

pub(crate) fn syscall_event(call: &SyscallEvent) -> Fields {
    Says::default()
        .uint("pid", call.pid)
        .int("start_ns", call.start.nanos())
        .uint("tid", call.tid)
        .text("command", &call.command)
        .text("architecture", &call.architecture)
        .list(
            "numbers",
            call.numbers.iter().map(|number| Node::Uint((*number).into())),
        )
        .int_if("return_value", call.return_value)
        .uint("first", call.first)
        .int("first_time_ns", call.first_time.nanos())
        .0
}

/// What was added to processes later.
fn process_details(says: Says, process: &ProcessEvent) -> Says {
    says.text("command", &process.command)
        .text("interpreter", &process.interpreter)
        .text("called_as", &process.called_as)
        .flag("from_memory", process.from_memory)
        .message_if("credentials", process.credentials.as_ref().map(credentials))
        .message_if("previous", process.previous.as_ref().map(credentials))
        .message_if("namespaces", process.namespaces.as_ref().map(namespaces))
        .uint("inner_pid", process.inner_pid)
        .uint("cgroup", process.cgroup)
        .list("ancestors", ancestors(&process.ancestors))
        .message_if("usage", process.usage.as_ref().map(usage))
        .int_if("result", process.result)
}

pub(crate) fn histogram(histogram: &SyscallHistogram) -> Fields {
    let count = |count: &CallCount| {
        let says = Says::default().uint("number", count.number);
        Node::Message(says.uint("count", count.count).0)
    };
    Says::default()
        .uint("pid", histogram.pid)
        .int("start_ns", histogram.start.nanos())
        .text("command", &histogram.command)
        .text("architecture", &histogram.architecture)
        .uint("period_ns", histogram.period_ns)
        .list("counts", histogram.counts.iter().map(count))
        .uint("others", histogram.others)
        .0
}

pub(crate) fn activity(activity: &ActivityEvent) -> Fields {
    let action = ActivityAction::ALL
        .iter()
        .position(|action| *action == activity.action);
    let via = match activity.via {
        ActivityVia::Syscall => 0,
        ActivityVia::IoUring => 1,
        ActivityVia::Kernel => 2,
        ActivityVia::Comparison => 3,
        _ => unreachable!(),
    };
    let says = Says::default()
        .number("action", action.map_or(-1, |action| action as i32))
        .number("via", via)
        .list("ancestors", ancestors(&activity.ancestors))
        .int_if("result", activity.result)
        .uint_if("target_uid", activity.target_uid);
    let says = match activity.remote_address {
        Some(address) => says.put("remote_address", ip(address)),
        None => says,
    };
    let says = match activity.local_address {
        Some(address) => says.put("local_address", ip(address)),
        None => says,
    };
    says.uint("pid", activity.pid)
        .int("start_ns", activity.start.nanos())
        .uint("tid", activity.tid)
        .uint("uid", activity.uid)
        .uint("gid", activity.gid)
        .text("command", &activity.command)
        .text("executable", &activity.executable)
        .text("container", &activity.container)
        .text("path", &activity.path)
        .text("other_path", &activity.other_path)
        .text("name", &activity.name)
        .uint("flags", activity.flags)
        .uint("number", activity.number)
        .uint("amount", activity.amount)
        .uint("remote_port", activity.remote_port)
        .uint("local_port", activity.local_port)
        .uint("protocol", activity.protocol)
        .uint("target_pid", activity.target_pid)
        .int("target_start_ns", activity.target_start.nanos())
        .0
}
