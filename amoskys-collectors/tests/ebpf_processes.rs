//! The life of real processes, as the kernel's programs see it. Needs CAP_BPF and CAP_PERFMON; without, the tests say so
//! and pass, unless `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(all(feature = "ebpf", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ebpf_common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use amoskys_collectors::ebpf::EbpfConfig;
use amoskys_core::Event;
use amoskys_core::event::{Payload, ProcessAction, ProcessEvent};

use self::ebpf_common::{Watch, is_root, open, skip, start, watch_folder};

#[test]
fn a_program_is_seen_from_its_creation_to_its_end() {
    let Some(mut watch) = open(EbpfConfig::default()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("a script");
    fs::write(&script, "#!/bin/sh\nkill -9 $$\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let child = Command::new(&script)
        .args(["one argument", ""])
        .arg("é")
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let pid = child.id();
    let own = std::process::id();
    child.wait_with_output().unwrap();

    let fork = watch.process(ProcessAction::Fork, pid);
    assert_eq!(fork.parent_pid, own);
    let exec = watch.process(ProcessAction::Exec, pid);
    let exit = watch.process(ProcessAction::Exit, pid);

    // The same process by its name, three times.
    assert_eq!((fork.start, exit.start), (exec.start, exec.start));
    assert_eq!(exec.parent_pid, own);
    let shell = fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(exec.executable, shell.to_str().unwrap());
    assert_eq!(exec.called_as, script.to_str().unwrap());
    assert_eq!(exec.interpreter, "/bin/sh");
    assert_eq!(
        exec.arguments,
        ["/bin/sh", script.to_str().unwrap(), "one argument", "", "é"]
    );
    assert_eq!(exec.working_directory, folder.path().to_str().unwrap());
    assert_eq!(exec.command, "a script");
    assert!(!exec.from_memory);
    let me = rustix_ids();
    let credentials = exec.credentials.unwrap();
    assert_eq!((credentials.uid, credentials.effective_uid), (me.0, me.0));
    assert_eq!((exec.uid, exec.gid), me);
    assert_eq!(credentials.effective, own_capabilities());
    let spaces = exec.namespaces.unwrap();
    for (name, number) in [
        ("mnt", spaces.mount),
        ("pid", spaces.pid),
        ("net", spaces.network),
        ("uts", spaces.uts),
        ("ipc", spaces.ipc),
        ("user", spaces.user),
        ("cgroup", spaces.cgroup),
    ] {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(link.to_str().unwrap().contains(&number.to_string()), "{name}");
    }
    assert_eq!((exit.exit_code, exit.exit_signal), (None, Some(9)));
    let usage = exit.usage.unwrap();
    assert!(
        usage.minor_faults > 0 && usage.max_resident_bytes > 100_000,
        "{usage:?}"
    );

    // Its start time is what /proc says of a process, to the tick.
    let ancestor = &exec.ancestors[0];
    assert_eq!(ancestor.pid, own);
    let me = std::env::current_exe().unwrap();
    assert_eq!(ancestor.executable.as_str(), me.to_str().unwrap());
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: i64 = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(19)
        .unwrap()
        .parse()
        .unwrap();
    let boot = fs::read_to_string("/proc/stat").unwrap();
    let boot: i64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .unwrap()
        .parse()
        .unwrap();
    let expected = boot * 1_000_000_000 + ticks * 10_000_000;
    let off = (ancestor.start.nanos() - expected).abs();
    assert!(off < 1_500_000_000, "off by {off} ns");
    assert!(exec.ancestors.len() >= 2, "{:?}", exec.ancestors);
}

fn rustix_ids() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let own = fs::metadata("/proc/self").unwrap();
    (own.uid(), own.gid())
}

fn own_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn processes_that_were_there_are_listed_first() {
    let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
    let watch = open(EbpfConfig::default());
    if let Some(mut watch) = watch {
        let seen = watch.process(ProcessAction::Seen, sleeper.id());
        assert_eq!(seen.arguments, ["sleep", "600"]);
        assert_eq!(seen.parent_pid, std::process::id());
        assert_eq!(seen.ancestors[0].pid, std::process::id());
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn an_exit_status_and_another_user_are_told() {
    let Some(mut watch) = open(EbpfConfig::default()) else {
        return;
    };
    let mut command = Command::new("sh");
    command.args(["-c", "exit 7"]);
    if rustix_ids().0 == 0 {
        command.uid(65534).gid(65533);
    }
    let child = command.spawn().unwrap();
    let pid = child.id();
    child.wait_with_output().unwrap();
    let exit = watch.process(ProcessAction::Exit, pid);
    assert_eq!((exit.exit_code, exit.exit_signal), (Some(7), None));
    if rustix_ids().0 == 0 {
        assert_eq!((exit.uid, exit.gid), (65534, 65533));
        // By the call that changed it, with what it was before.
        let changed = watch.find("setuid", |event| match &event.payload {
            Payload::Process(process)
                if process.action == ProcessAction::Credentials
                    && process.pid == pid
                    && process.credentials.is_some_and(|now| now.uid == 65534) =>
            {
                Some((**process).clone())
            }
            _ => None,
        });
        let (now, before) = (changed.credentials.unwrap(), changed.previous.unwrap());
        assert_eq!(
            (before.uid, before.effective_uid, now.effective_uid),
            (0, 0, 65534)
        );
        assert_ne!(before.effective, 0);
        assert_eq!((now.effective, changed.result), (0, Some(0)));
    }
}

#[test]
fn a_program_in_memory_is_told_from_one_in_a_file() {
    let Some(mut watch) = open(EbpfConfig::default()) else {
        return;
    };
    if Command::new("python3").arg("--version").output().is_err() {
        skip("python3 is missing");
        return;
    }
    let script = "import os
fd = os.memfd_create('hidden', 0)
os.write(fd, open('/bin/true', 'rb').read())
os.execve(fd, ['innocent'], {})";
    let child = Command::new("python3").args(["-c", script]).spawn().unwrap();
    let pid = child.id();
    child.wait_with_output().unwrap();
    let exec = watch.find("exec from memory", |event| match &event.payload {
        Payload::Process(process) if process.pid == pid && process.from_memory => Some((**process).clone()),
        _ => None,
    });
    assert_eq!(exec.arguments, ["innocent"]);
    assert_eq!(exec.executable, "/memfd:hidden");
}

/// Not the path that was called, but the file that runs.
#[test]
fn the_executable_is_the_file_behind_links() {
    let Some(mut watch) = open(EbpfConfig::default()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink("/bin/true", &link).unwrap();
    let child = Command::new(&link).stdout(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    child.wait_with_output().unwrap();
    let exec = watch.process(ProcessAction::Exec, pid);
    let file = fs::canonicalize("/bin/true").unwrap();
    assert_eq!(exec.executable, file.to_str().unwrap());
    assert_eq!(exec.called_as, link.to_str().unwrap());
    assert_eq!(exec.interpreter, "");
}

/// A group named as containers' are: processes that are in it from their birth, and such as are moved there.
#[test]
fn a_container_is_known_by_its_group() {
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let Some(mut watch) = open(EbpfConfig::default()) else {
        return;
    };
    let Some(root) = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .into_iter()
        .find(|root| fs::metadata(format!("{root}/cgroup.procs")).is_ok())
    else {
        skip("no hierarchy of control groups is mounted");
        return;
    };
    let group = format!("{root}/docker-{ID}.scope");
    if fs::create_dir_all(&group).is_err() {
        skip("no control group can be made");
        return;
    }
    let script = format!("echo $$ > {group}/cgroup.procs; /bin/true; exec /bin/true");
    let child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    let pid = child.id();
    child.wait_with_output().unwrap();
    let inner = watch.find("child in the container", |event| match &event.payload {
        Payload::Process(process) if process.action == ProcessAction::Exec && process.parent_pid == pid => {
            Some((**process).clone())
        }
        _ => None,
    });
    assert_eq!(inner.container, ID);
    let moved = watch.find("process moved there", |event| match &event.payload {
        Payload::Process(process)
            if process.action == ProcessAction::Exec
                && process.pid == pid
                && !process.container.is_empty() =>
        {
            Some(process.container.clone())
        }
        _ => None,
    });
    assert_eq!(moved, ID);
    drop(watch);
    let _ = fs::remove_dir(&group);
}

/// Users and capabilities change with the program, without a call that is made for that.
#[test]
fn a_program_with_the_rights_of_its_file_is_told_with_those_before() {
    let Some(mut watch) = open(EbpfConfig::default()) else {
        return;
    };
    if !is_root() {
        return skip("a file with root's rights takes root");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::copy("/bin/true", &program).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
    let child = Command::new(&program).uid(65534).gid(65533).spawn().unwrap();
    let pid = child.id();
    child.wait_with_output().unwrap();
    let exec = watch.process(ProcessAction::Exec, pid);
    let (now, before) = (exec.credentials.unwrap(), exec.previous.unwrap());
    assert_eq!((before.effective_uid, before.effective_gid), (65534, 65533));
    assert_eq!((before.effective, before.permitted, before.ambient), (0, 0, 0));
    assert_eq!((now.uid, now.effective_uid, now.saved_uid), (65534, 0, 0));
    assert_eq!((now.gid, now.effective_gid, now.saved_gid), (65533, 0, 0));
    assert_eq!(
        (now.effective, now.bounding),
        (own_capabilities(), before.bounding)
    );
    assert_eq!((exec.uid, exec.gid), (0, 0));
}

/// What `/proc` says of the process itself, and what its parent is told of its use.
#[test]
fn namespaces_and_use_are_those_of_the_process() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    let script = "child = os.fork()
if child == 0:
    if os.getuid() == 0: assert libc.unshare(0x6C000000) == 0 # Names, queues, network, and its children's numbers.
    inner = os.fork()
    if inner == 0:
        print(os.getpid(), *(os.readlink('/proc/self/ns/' + name) for name in ('mnt', 'net', 'uts', 'ipc', 'user')), sep='\\n', flush=True)
        os.execv('/bin/sh', ['sh', '-c', 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'])
    _, status, use = os.wait4(inner, 0)
    print(use.ru_utime + use.ru_stime, use.ru_minflt, use.ru_maxrss, sep='\\n', flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(child)";
    let output = start(script, folder.path()).wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let [
        inner,
        mount,
        network,
        uts,
        ipc,
        user,
        seconds,
        faults,
        resident,
        parent,
    ] = said.lines().collect::<Vec<_>>()[..]
    else {
        panic!("{said}");
    };
    let parent: u32 = parent.parse().unwrap();
    let exec = watch.find("the inner program", |event| match &event.payload {
        Payload::Process(process)
            if process.action == ProcessAction::Exec && process.parent_pid == parent =>
        {
            Some((**process).clone())
        }
        _ => None,
    });
    let spaces = exec.namespaces.unwrap();
    for (said, number) in [
        (mount, spaces.mount),
        (network, spaces.network),
        (uts, spaces.uts),
        (ipc, spaces.ipc),
        (user, spaces.user),
    ] {
        assert!(said.contains(&format!("[{number}]")), "{said}: {spaces:?}");
    }
    assert_eq!(exec.inner_pid.to_string(), inner);
    if is_root() {
        assert_eq!(exec.inner_pid, 1, "it is the first of its own");
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        assert_ne!(own.to_str().unwrap(), network);
    }
    let exit = watch.process(ProcessAction::Exit, exec.pid);
    let usage = exit.usage.unwrap();
    let (seconds, faults): (f64, u64) = (seconds.parse().unwrap(), faults.parse().unwrap());
    let used = (usage.user_ns + usage.system_ns) as f64 / 1e9;
    // By ticks of up to ten milliseconds.
    assert!(
        (used - seconds).abs() < 0.05 + seconds / 5.0,
        "{used} and {seconds} s"
    );
    assert!(usage.user_ns > usage.system_ns, "{usage:?}");
    assert!(
        usage.minor_faults.abs_diff(faults) < 20,
        "{usage:?} and {faults} faults"
    );
    assert_eq!((usage.max_resident_bytes / 1024).to_string(), resident);
}

/// A number is given to another process at once, by the way that restores processes from files.
#[test]
fn processes_with_the_same_number_are_told_apart() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    let script = "first = os.fork()
if first == 0: os.execv('/bin/true', ['first'])
os.waitpid(first, 0)
middle = os.fork()
if middle == 0:
    for _ in range(200):
        try: open('/proc/sys/kernel/ns_last_pid', 'w').write(str(first - 1))
        except OSError: break
        second = os.fork()
        if second == 0: os.execv('/bin/true', ['second']) if os.getpid() == first else os._exit(0)
        os.waitpid(second, 0)
        if second == first: print(first, os.getpid(), flush=True); break
    os._exit(0)
os.waitpid(middle, 0)";
    let child = start(script, folder.path());
    let grandparent = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let Some((pid, middle)) = said.trim().split_once(' ') else {
        return skip("the next number cannot be chosen");
    };
    let (pid, middle): (u32, u32) = (pid.parse().unwrap(), middle.parse().unwrap());
    let named = |watch: &mut Watch, name: &str| {
        watch.find(name, |event| match &event.payload {
            Payload::Process(process)
                if process.action == ProcessAction::Exec
                    && process.pid == pid
                    && process.arguments == [name] =>
            {
                Some((**process).clone())
            }
            _ => None,
        })
    };
    let (first, second) = (named(&mut watch, "first"), named(&mut watch, "second"));
    assert!(first.start < second.start);
    let ancestors = |process: &ProcessEvent| {
        process
            .ancestors
            .iter()
            .map(|one| one.pid)
            .take(2)
            .collect::<Vec<_>>()
    };
    assert_eq!(ancestors(&first), [grandparent, std::process::id()]);
    assert_eq!(ancestors(&second), [middle, grandparent]);
    let ends = |start| {
        move |event: &Event| match &event.payload {
            Payload::Process(process) if process.action == ProcessAction::Exit && process.start == start => {
                Some(process.parent_pid)
            }
            _ => None,
        }
    };
    assert_eq!(watch.find("the first's end", ends(first.start)), grandparent);
    assert_eq!(watch.find("the second's end", ends(second.start)), middle);
}
