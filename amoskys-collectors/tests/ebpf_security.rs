//! What real processes do that matters to security, as the kernel's programs see it. Needs CAP_BPF and CAP_PERFMON, and
//! root for some of the deeds; without, the tests say so and pass, unless `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(all(feature = "ebpf", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ebpf_common;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

use amoskys_collectors::ebpf::OfferState;
use amoskys_core::event::{ActivityAction, ActivityEvent, ActivityVia, ProcessAction};

use self::ebpf_common::{Watch, calls, is_root, skip, start, watch_folder};

/// Runs a script to its end. Its process id.
fn run(script: &str, folder: &Path) -> u32 {
    let child = start(script, folder);
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}");
    pid
}

fn of(watch: &mut Watch, action: ActivityAction, pid: u32) -> ActivityEvent {
    watch.activity(action, |activity| activity.pid == pid)
}

#[test]
fn files_below_a_watched_path_are_followed() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    let here = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(folder.path().join("old"), "").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.path(), elsewhere.path().join("way")).unwrap();
    let script = format!(
        "os.open('{old}', os.O_RDONLY)
os.open('new', os.O_CREAT | os.O_WRONLY, 0o600)
os.open('{way}/way/old', os.O_RDWR)
os.chmod('new', 0o4755)
os.fchmod(3, 0o640)
os.chown('{old}', os.getuid(), os.getgid())
os.rename('new', 'newer')
os.symlink('/etc/passwd', 'link')
os.link('{old}', 'hard')
os.unlink('{parent}/nowhere/../{name}/newer')
os.mkdir('d'); os.rmdir('d')
open('/proc/self/stat').read()",
        old = here("old"),
        way = elsewhere.path().display(),
        parent = folder.path().parent().unwrap().display(),
        name = folder.path().file_name().unwrap().to_str().unwrap(),
    );
    // The way over `nowhere` has to exist for the kernel.
    let nowhere = folder.path().parent().unwrap().join("nowhere");
    fs::create_dir_all(&nowhere).unwrap();
    let pid = run(&script, folder.path());
    let _ = fs::remove_dir(&nowhere);

    let opened = watch.activity(ActivityAction::FileOpen, |a| {
        a.pid == pid && a.flags & 3 == 0 && a.path.ends_with("/old")
    });
    assert_eq!(opened.path, here("old"));
    assert!(opened.result.unwrap() >= 3);
    assert_eq!(opened.command, "python3");
    assert_eq!(opened.ancestors[0].pid, std::process::id());
    assert!(opened.executable.contains("python3"), "{}", opened.executable);
    let created = of(&mut watch, ActivityAction::FileCreate, pid);
    assert_eq!((created.path, created.number), (here("new"), 0o600));
    // By way of a link, but it is that file.
    let linked = watch.activity(ActivityAction::FileOpen, |a| a.pid == pid && a.flags & 3 == 2);
    assert_eq!(linked.path, here("old"));
    let mode = of(&mut watch, ActivityAction::FileMode, pid);
    assert_eq!(
        (mode.path, mode.number, mode.result),
        (here("new"), 0o4755, Some(0))
    );
    let mode = watch.activity(ActivityAction::FileMode, |a| a.pid == pid && a.number == 0o640);
    assert_eq!(mode.path, here("old"));
    let owner = of(&mut watch, ActivityAction::FileOwner, pid);
    assert_eq!(owner.path, here("old"));
    assert_eq!(owner.amount >> 32, u64::from(owner.uid));
    let renamed = of(&mut watch, ActivityAction::FileRename, pid);
    assert_eq!((renamed.path, renamed.other_path), (here("new"), here("newer")));
    let link = of(&mut watch, ActivityAction::FileLink, pid);
    assert_eq!(
        (link.path, link.other_path.as_str()),
        (here("link"), "/etc/passwd")
    );
    let hard = watch.activity(ActivityAction::FileLink, |a| {
        a.pid == pid && a.path.ends_with("hard")
    });
    assert_eq!(hard.other_path, here("old"));
    let gone = of(&mut watch, ActivityAction::FileUnlink, pid);
    assert_eq!(gone.path, here("newer"), "dots are resolved");
    let folder_gone = watch.activity(ActivityAction::FileUnlink, |a| {
        a.pid == pid && a.flags & 0x200 != 0
    });
    assert_eq!(folder_gone.path, here("d"));

    watch.process(ProcessAction::Exit, pid);
    let others = watch.seen.iter().filter(|event| {
        matches!(&event.payload, amoskys_core::Payload::Activity(a) if a.pid == pid && a.path.starts_with("/proc/"))
    });
    assert_eq!(others.count(), 0, "what is not watched is not told");
}

#[test]
fn a_denied_open_is_told_and_a_missing_file_is_not() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    if !is_root() {
        skip("another user cannot be taken on without root");
        return;
    }
    let secret = folder.path().join("secret");
    fs::write(&secret, "").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = "os.setresuid(65534, 65534, 65534)
for name in ('missing', 'secret'):
    try: os.open(name, os.O_RDONLY)
    except OSError: pass";
    let pid = run(script, folder.path());
    let denied = watch.activity(ActivityAction::FileOpen, |a| a.pid == pid && a.result < Some(0));
    assert_eq!(
        (denied.path.as_str(), denied.result),
        (secret.to_str().unwrap(), Some(-13))
    );
    assert_eq!(denied.uid, 65534);
}

#[test]
fn peers_are_told_once() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let udp_port = receiver.local_addr().unwrap().port();
    let script = format!(
        "for _ in range(3):
    s = socket.socket(); s.connect(('127.0.0.1', {port}))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(3): u.sendto(b'hello', ('127.0.0.1', {udp_port}))
l = socket.socket(socket.AF_INET6); l.bind(('::1', 0)); l.listen(1)
c = socket.socket(socket.AF_INET6); c.connect(l.getsockname()); l.accept()
x = socket.socket(socket.AF_UNIX); x.bind('here')"
    );
    let pid = run(&script, folder.path());
    let connect = watch.activity(ActivityAction::Connect, |a| a.pid == pid && a.remote_port == port);
    assert_eq!(connect.remote_address, Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!((connect.protocol, connect.result), (6, Some(0)));
    assert_ne!(connect.local_port, 0);
    let sent = watch.activity(ActivityAction::Send, |a| {
        a.pid == pid && a.remote_port == udp_port
    });
    assert_eq!((sent.protocol, sent.result), (17, Some(5)));
    let bound = watch.activity(ActivityAction::Bind, |a| {
        a.pid == pid && a.local_address.is_some()
    });
    let listen = watch.activity(ActivityAction::Listen, |a| a.pid == pid);
    assert_eq!(listen.local_address, Some(std::net::Ipv6Addr::LOCALHOST.into()));
    assert!(bound.local_port == 0 || bound.local_port == listen.local_port);
    let accepted = of(&mut watch, ActivityAction::Accept, pid);
    assert_eq!(accepted.local_port, listen.local_port);
    assert_eq!(
        accepted.remote_address,
        Some(std::net::Ipv6Addr::LOCALHOST.into())
    );
    let unix = watch.activity(ActivityAction::Bind, |a| {
        a.pid == pid && a.local_address.is_none()
    });
    assert_eq!(unix.path, "here");

    watch.process(ProcessAction::Exit, pid);
    let count = |action, port| {
        let all = watch.seen.iter().filter(|event| {
            matches!(&event.payload, amoskys_core::Payload::Activity(a)
                if a.pid == pid && a.action == action && a.remote_port == port)
        });
        all.count()
    };
    assert_eq!(count(ActivityAction::Connect, port), 1);
    assert_eq!(count(ActivityAction::Send, udp_port), 1);
}

#[test]
fn names_that_are_asked_for_are_read() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    // Nobody has to answer.
    let script = "def ask(name, kind):
    parts = b''.join(bytes([len(p)]) + p.encode() for p in name.split('.'))
    return struct.pack('>6H', 7, 256, 1, 0, 0, 0) + parts + b'\\0' + struct.pack('>2H', kind, 1)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.sendto(ask('first.example.org', 1), ('127.0.0.1', 53))
w = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
w.connect(('127.0.0.1', 53))
w.send(ask('second.example.org', 28))
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
v.sendmsg([ask('third.example.org', 16)], [], 0, ('127.0.0.1', 53))
# Two at once, as the C library asks.
peer = ctypes.create_string_buffer(struct.pack('=H', 2) + bytes([0, 53, 127, 0, 0, 1]) + bytes(8))
parts, heads = [], b''
for name, kind in (('fourth.example.org', 1), ('fifth.example.org', 28)):
    text = ask(name, kind); text = ctypes.create_string_buffer(text, len(text))
    vector = ctypes.create_string_buffer(struct.pack('PP', ctypes.addressof(text), len(text)))
    parts += [text, vector]
    heads += struct.pack('PIxxxxPQPQi4xQ', ctypes.addressof(peer), 16, ctypes.addressof(vector), 1, 0, 0, 0, 0)
assert libc.sendmmsg(v.fileno(), heads, 2, 0) == 2
server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try: server.bind(('127.0.0.77', 53))
except OSError: sys.exit(0)
server.listen(1)
tcp = socket.create_connection(('127.0.0.77', 53))
text = ask('sixth.example.org', 1)
tcp.send(struct.pack('>H', len(text)) + text)
print('tcp')";
    let child = start(script, folder.path());
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    // Who is not root cannot answer at that port, nor be asked by TCP then.
    let has_tcp = !output.stdout.is_empty();
    assert!(has_tcp || !is_root());
    if has_tcp {
        let asked = watch.activity(ActivityAction::DnsQuery, |a| {
            a.pid == pid && a.name == "sixth.example.org"
        });
        assert_eq!((asked.number, asked.remote_port, asked.protocol), (1, 53, 6));
        assert_eq!(asked.remote_address, Some(Ipv4Addr::new(127, 0, 0, 77).into()));
    }
    for (name, kind) in [
        ("first.example.org", 1),
        ("second.example.org", 28),
        ("third.example.org", 16),
        ("fourth.example.org", 1),
        ("fifth.example.org", 28),
    ] {
        let asked = watch.activity(ActivityAction::DnsQuery, |a| a.pid == pid && a.name == name);
        assert_eq!((asked.number, asked.remote_port, asked.protocol), (kind, 53, 17));
        assert_eq!(asked.remote_address, Some(Ipv4Addr::LOCALHOST.into()));
    }
}

#[test]
fn other_processes_and_memory_are_watched_over() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    let script = format!(
        "buffer = ctypes.create_string_buffer(8)
child = os.fork()
if child == 0:
    time.sleep(20); os._exit(0)
address = ctypes.cast(buffer, ctypes.c_void_p).value
local = struct.pack('PP', address, 8); remote = struct.pack('PP', address, 8)
assert libc.syscall({}, child, local, 1, remote, 1, ctypes.c_long(0)) == 8
assert libc.syscall({}, child, local, 1, remote, 1, ctypes.c_long(0)) == 8
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
assert libc.ptrace(16, child, None, None) == 0
os.waitpid(child, 0); os.kill(child, 9); os.waitpid(child, 0)
print(child)
os.memfd_create('a name', 1)
a = libc.mmap(None, 4096, 7, 0x22, -1, 0)
b = libc.mmap(None, 4096, 3, 0x22, -1, 0)
assert libc.mprotect(ctypes.c_void_p(b), 4096, 7) == 0",
        calls::PROCESS_VM_READV,
        calls::PROCESS_VM_WRITEV,
    );
    let child = start(&script, folder.path());
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let target: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();

    let read = of(&mut watch, ActivityAction::MemoryRead, pid);
    assert_eq!((read.target_pid, read.result, read.amount), (target, Some(8), 8));
    let written = of(&mut watch, ActivityAction::MemoryWrite, pid);
    assert_eq!((written.target_pid, written.result), (target, Some(8)));
    let traced = of(&mut watch, ActivityAction::Ptrace, pid);
    assert_eq!((traced.target_pid, traced.number), (target, 16));
    let fork = watch.process(ProcessAction::Fork, target);
    assert_eq!(traced.target_start, fork.start);
    let memory = of(&mut watch, ActivityAction::MemoryFile, pid);
    assert_eq!((memory.name.as_str(), memory.flags), ("a name", 1));
    let mapped = of(&mut watch, ActivityAction::WritableCode, pid);
    assert_eq!((mapped.flags, mapped.number), (7, 4096));
    let changed = watch.activity(ActivityAction::WritableCode, |a| {
        a.pid == pid && a.amount != mapped.amount
    });
    assert_eq!(changed.result, Some(0));
}

#[test]
fn what_changes_the_machine_is_told() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    if !is_root() {
        skip("mounting takes root");
        return;
    }
    fs::create_dir(folder.path().join("on")).unwrap();
    let script = format!(
        "here = os.getcwd().encode()
assert libc.unshare(0x00020000) == 0
assert libc.mount(b'none', b'/', None, 0x44000, None) == 0
assert libc.mount(b'a device', here + b'/on', b'tmpfs', 2, None) == 0
assert libc.umount2(here + b'/on', 0) == 0
fd = os.open('/proc/self/ns/uts', 0)
assert libc.setns(fd, 0x04000000) == 0
libc.syscall({load}, b'nonsense', 8, b'no=options')
libc.syscall({load_file}, os.open('/bin/true', 0), b'', 0)
libc.syscall({unload}, b'no_such_module', 0)
libc.setrlimit(8, struct.pack('QQ', 1 << 30, 1 << 30)) # Before 5.11 programs count as locked memory.
code = struct.pack('<BBhi', 0xb7, 0, 0, 0) + struct.pack('<BBhi', 0x95, 0, 0, 0)
code = ctypes.create_string_buffer(code); lic = ctypes.create_string_buffer(b'GPL')
attr = struct.pack('<IIQQIIQII16s', 1, 2, ctypes.addressof(code), ctypes.addressof(lic), 0, 0, 0, 0, 0, b'a_program')
attr = ctypes.create_string_buffer(attr + b'\\0' * 64)
assert libc.syscall({bpf}, 5, attr, 72) >= 0
libc.capset(struct.pack('II', 0x20080522, 0), struct.pack('6I', 0, 0, 0, 0, 0, 0))",
        load = calls::INIT_MODULE,
        load_file = calls::FINIT_MODULE,
        unload = calls::DELETE_MODULE,
        bpf = calls::BPF,
    );
    let pid = run(&script, folder.path());
    let unshared = of(&mut watch, ActivityAction::Unshare, pid);
    assert_eq!((unshared.flags, unshared.result), (0x20000, Some(0)));
    let mounted = watch.activity(ActivityAction::Mount, |a| a.pid == pid && a.name == "tmpfs");
    let on = folder.path().join("on").to_str().unwrap().to_owned();
    assert_eq!(
        (mounted.path, mounted.other_path.as_str(), mounted.flags),
        (on.clone(), "a device", 2)
    );
    assert_eq!(of(&mut watch, ActivityAction::Unmount, pid).path, on);
    assert_eq!(
        of(&mut watch, ActivityAction::EnterNamespace, pid).flags,
        0x0400_0000
    );
    // A kernel without modules has no such call.
    if watch.collector.offers().state("call finit_module") == Some(&OfferState::On) {
        let by_file = watch.activity(ActivityAction::ModuleLoad, |a| a.pid == pid && !a.path.is_empty());
        assert!(
            by_file.path.ends_with("/true") && by_file.result < Some(0),
            "{by_file:?}"
        );
    }
    let program = watch.activity(ActivityAction::BpfLoad, |a| a.pid == pid);
    assert_eq!((program.name.as_str(), program.number), ("a_program", 1));
    let process = watch.find("capset", |event| match &event.payload {
        amoskys_core::Payload::Process(process)
            if process.pid == pid && process.action == ProcessAction::Credentials =>
        {
            Some((**process).clone())
        }
        _ => None,
    });
    assert_eq!(process.credentials.unwrap().effective, 0);
    assert_ne!(process.previous.unwrap().effective, 0);
}

#[test]
fn a_signal_to_another_user_and_a_capability_are_told() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    if !is_root() {
        skip("another user cannot be taken on without root");
        return;
    }
    let script = "child = os.fork()
if child == 0:
    os.setresuid(65534, 65534, 65534); time.sleep(20); os._exit(0)
time.sleep(0.2)
os.kill(child, 15); os.waitpid(child, 0); print(child)
own = os.fork()
if own == 0:
    time.sleep(20); os._exit(0)
os.kill(own, 15); os.waitpid(own, 0)
socket.sethostname(socket.gethostname())
os.setresuid(65534, 65534, 65534)
try: os.chroot('/')
except PermissionError: pass";
    let child = start(script, folder.path());
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let target: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let signal = of(&mut watch, ActivityAction::Signal, pid);
    assert_eq!(
        (signal.target_pid, signal.target_uid, signal.number),
        (target, Some(65534), 15)
    );
    assert_eq!(
        signal.target_start,
        watch.process(ProcessAction::Fork, target).start
    );
    watch.process(ProcessAction::Exit, pid);
    let signals = watch.seen.iter().filter(|event| {
        matches!(&event.payload, amoskys_core::Payload::Activity(a)
            if a.pid == pid && a.action == ActivityAction::Signal)
    });
    assert_eq!(signals.count(), 1, "one's own processes may be ended");

    let asked = ["tracepoint cap_capable", "fexit cap_capable"];
    if asked
        .iter()
        .any(|hook| watch.collector.offers().state(hook) == Some(&OfferState::On))
    {
        let capability = watch.activity(ActivityAction::CapabilityUse, |a| a.pid == pid && a.number == 21);
        assert_eq!(
            (capability.result, capability.via),
            (Some(0), ActivityVia::Kernel)
        );
        let lacked = watch.activity(ActivityAction::CapabilityUse, |a| a.pid == pid && a.number == 18);
        assert_eq!((lacked.result, lacked.uid), (Some(-1), 65534));
    } else {
        skip("this kernel does not tell of capabilities");
    }
}

/// A ring of io_uring set up by hand: a file is opened, renamed and unlinked, and a peer connected to, without the system
/// calls for it.
#[test]
fn io_uring_is_no_way_around() {
    let Some((mut watch, folder)) = watch_folder() else {
        return;
    };
    fs::write(folder.path().join("target"), "").unwrap();
    let script = "params = ctypes.create_string_buffer(120)
fd = libc.syscall(425, 4, params)
if fd < 0: sys.exit(0 if ctypes.get_errno() in (1, 38) else 1)
entries, = struct.unpack_from('I', params, 0)
sq = struct.unpack_from('10I', params, 40)
rings = mmap.mmap(fd, sq[6] + entries * 4, offset=0)
sqes = mmap.mmap(fd, entries * 64, offset=0x10000000)
name, other = (ctypes.create_string_buffer(os.path.join(os.getcwd(), one).encode()) for one in ('target', 'other'))
def submit(index, operation, flags, at=-100, offset=0, address=name, size=0):
    struct.pack_into('<BBHiQQIIQ', sqes, index * 64, operation, 0, 0, at, offset, ctypes.addressof(address), size, flags, 0)
    struct.pack_into('I', rings, sq[6] + index * 4, index)
    struct.pack_into('I', rings, sq[1], index + 1)
    assert libc.syscall(426, fd, 1, index + 1, 1, None, 0) == 1
submit(0, 18, os.O_RDWR)
submit(1, 35, 0, offset=ctypes.addressof(other), size=0xffffff9c)
assert os.path.exists('other')
submit(2, 36, 0, address=other)
assert not os.path.exists('other')
peer = ctypes.create_string_buffer(struct.pack('=H', 2) + bytes([0, 9, 127, 0, 0, 1]) + bytes(8))
submit(3, 16, 0, at=socket.socket(socket.AF_INET, socket.SOCK_DGRAM).fileno(), offset=16, address=peer)
print('done')";
    let child = start(script, folder.path());
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    if output.stdout.is_empty() {
        skip("this kernel has no io_uring");
        return;
    }
    let target = folder.path().join("target").to_str().unwrap().to_owned();
    let opened = watch.activity(ActivityAction::FileOpen, |a| {
        a.pid == pid && a.via == ActivityVia::IoUring
    });
    assert_eq!(
        (opened.path, opened.flags & 3, opened.number),
        (target.clone(), 2, 18)
    );
    let other = folder.path().join("other").to_str().unwrap().to_owned();
    let renamed = of(&mut watch, ActivityAction::FileRename, pid);
    assert_eq!((renamed.path, &renamed.other_path), (target, &other));
    let gone = of(&mut watch, ActivityAction::FileUnlink, pid);
    assert_eq!(
        (gone.path, gone.result, gone.via),
        (other, None, ActivityVia::IoUring)
    );
    let connected = watch.activity(ActivityAction::IoUring, |a| a.pid == pid && a.number == 16);
    assert_eq!((connected.via, connected.result), (ActivityVia::IoUring, None));
}
