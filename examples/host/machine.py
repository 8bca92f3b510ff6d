"""The machine of the scenario: a small Debian in namespaces of its own, with one control group that is watched.

Its root is a directory made once with debootstrap; what a recording changes goes to memory above it. Its network has one
cable, to the outside, which is a second network namespace; neither has an interface of the real machine.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

PACKAGES = [
    "bash", "cron", "curl", "gcc", "git", "iproute2", "libc6-dev", "logrotate", "make", "netcat-openbsd", "nginx-light",
    "openssh-client", "openssh-server", "perl-base", "procps", "python3", "rsync", "strace", "sudo",
]
# Everybody with an account, and its number.
USERS = {"alice": 1001, "bob": 1002, "app": 1100, "data": 1101, "backup-job": 1102, "mon": 1103}
NAME = "web-1"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWNET = 0x4000_0000
LIBC = ctypes.CDLL(None, use_errno=True)
DEVICES = ["null", "zero", "full", "random", "urandom", "tty"]


def sh(*argv, **options):
    """Runs a set-up command; a failure ends the recording with the command's own message."""
    done = subprocess.run([str(one) for one in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def make_root(root, mirror):
    """A Debian in this directory, if there is none yet."""
    if (root / "etc/debian_version").exists():
        return
    if not shutil.which("debootstrap"):
        raise SystemExit("missing program; on Debian: apt-get install --no-install-recommends debootstrap")
    root.mkdir(parents=True, exist_ok=True)
    sh("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", root, mirror)


def unified_cgroups():
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    raise SystemExit("no unified hierarchy of control groups is mounted")


class Space:
    """Namespaces, held open by one idle process, which is outside the watched group."""

    def __init__(self, steps):
        holder = ["unshare", "--net", "--mount", "--uts", "--ipc", "sh", "-ec", "\n".join([*steps, "echo ready", "exec sleep infinity"])]
        self.holder = subprocess.Popen(holder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        if self.holder.stdout.readline().strip() != "ready":
            raise RuntimeError(self.holder.stderr.read().strip())
        kinds = {"net": CLONE_NEWNET, "uts": CLONE_NEWUTS, "ipc": CLONE_NEWIPC, "mnt": CLONE_NEWNS}
        self.doors = [(os.open(f"/proc/{self.holder.pid}/ns/{kind}", os.O_RDONLY), flag) for kind, flag in kinds.items()]

    def enter(self):
        for door, flag in self.doors:
            if LIBC.setns(door, flag) != 0:
                os._exit(126)
        os.chdir("/")


class Machine:
    """Where everything happens. `spawn` and `run` start programs on it, `outside` ones at the far end of its cable."""

    def __init__(self, root, work, dice):
        self.work = work
        self.address = f"10.{dice.randrange(1, 250)}.{dice.randrange(1, 250)}.{dice.randrange(5, 250)}"
        self.gateway = self.address.rsplit(".", 1)[0] + ".1"
        self.office = [self.address.rsplit(".", 1)[0] + f".{number}" for number in dice.sample(range(251, 255), 2)]
        self.visitors = [f"198.51.100.{number}" for number in dice.sample(range(2, 250), 5)]
        self.attacker = f"203.0.113.{dice.randrange(2, 250)}"
        # What is watched, and all else, so that nothing is left at the end.
        self.cgroup, self.elsewhere = (unified_cgroups() / f"{NAME}-{os.getpid()}{end}" for end in ("", "-outside"))
        self.doors = {}
        for group in (self.cgroup, self.elsewhere):
            group.mkdir()
            self.doors[group] = os.open(group / "cgroup.procs", os.O_WRONLY)
        self.children = []
        self.lock = threading.Lock()
        folder = work / "machine"
        for name in ("machine", "upper", "layer"):
            (work / name).mkdir()
        steps = [
            "mount --make-rprivate /",
            f"mount -t overlay overlay -o lowerdir={root},upperdir={work}/upper,workdir={work}/layer {folder}",
            f"cd {folder}",
            "mount --rbind /proc proc", "mount -t tmpfs -o mode=755 tmpfs run", "mount -t tmpfs -o mode=1777 tmpfs tmp",
            "mount -t tmpfs -o mode=755 tmpfs dev", "mkdir -p dev/pts dev/shm run/sshd run/lock var/log/nginx",
            "mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts", "ln -s pts/ptmx dev/ptmx",
            "mount -t tmpfs -o mode=1777 tmpfs dev/shm",
            *[f"touch dev/{name}; mount --bind /dev/{name} dev/{name}" for name in DEVICES],
            "ln -s /proc/self/fd dev/fd",
            "mkdir -p old", "pivot_root . old", "cd /", "umount -l /old", "rmdir /old",
            f"hostname {NAME}", "ip link set lo up",
        ]
        self.inside_space = Space(steps)
        self.outside_space = Space(["ip link set lo up"])
        self._wire()

    def _wire(self):
        inside, outside = self.inside_space.holder.pid, self.outside_space.holder.pid
        sh("ip", "link", "add", "eth0", "netns", inside, "type", "veth", "peer", "name", "eth0", "netns", outside)
        net = [("nsenter", "--net", "-t", str(pid), "ip") for pid in (inside, outside)]
        sh(*net[0], "address", "add", f"{self.address}/24", "dev", "eth0")
        for address in [self.gateway, *self.office]:
            sh(*net[1], "address", "add", f"{address}/24", "dev", "eth0")
        for address in [*self.visitors, self.attacker]:
            sh(*net[1], "address", "add", f"{address}/32", "dev", "eth0")
        for one in net:
            sh(*one, "link", "set", "eth0", "up")
        sh(*net[0], "route", "add", "default", "via", self.gateway)

    def write(self, path, text, mode=0o644, user="root"):
        """A file of the machine, made before anybody watches."""
        number = USERS.get(user, 0)
        done = subprocess.run(
            ["nsenter", f"--mount=/proc/{self.inside_space.holder.pid}/ns/mnt", "sh", "-ec",
             f'mkdir -p "$(dirname {path})"; cat > {path}; chmod {mode:o} {path}; chown {number}:{number} {path}'],
            input=text, text=True, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"{path}: {done.stderr.strip()}")

    def prepare(self, *argv):
        """Runs a command on the machine outside the watched group: what was there before anybody watched."""
        return sh("nsenter", "-m", "-u", "-n", "-t", self.inside_space.holder.pid, *argv, env=ENVIRONMENT)

    def spawn(self, *argv, user="root", **options):
        """Starts a program on the machine, in the watched group, as if its service manager did."""
        return self._start(self.inside_space, argv, user, self.cgroup, options)

    def outside(self, *argv, **options):
        """Starts a program at the other end of the cable. It has the machine's files, but nobody watches it."""
        return self._start(self.outside_space, argv, "root", self.elsewhere, options)

    def run(self, *argv, timeout=60, where=None, **options):
        """Runs a program to its end; one that overstays is killed, as its user would do."""
        data = options.pop("input", None)
        if data is not None:
            options["stdin"] = subprocess.PIPE
        child = (where or self.spawn)(*argv, **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options})
        try:
            return child.communicate(data, timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return child.communicate()[0]

    def _start(self, space, argv, user, group, options):
        number = USERS.get(user, 0)
        mounts = self.inside_space.doors[-1]

        def enter():
            space.enter()
            if LIBC.setns(*mounts) != 0:
                os._exit(126)
            os.chdir("/")
            os.setsid()
            if number:
                os.setgroups([])
                os.setresgid(number, number, number)
                os.setresuid(number, number, number)
            # Last, so that nothing before the program itself is seen.
            os.write(self.doors[group], b"0")

        home = f"/home/{user}" if number else "/root"
        defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with self.lock:
            child = subprocess.Popen([str(one) for one in argv], preexec_fn=enter, env={**ENVIRONMENT, "HOME": home, "USER": user},
                                     **{**defaults, **options})
            self.children.append(child)
        return child

    def end(self):
        """Ends all that runs on the machine. Its files go with its namespaces."""
        for group in self.doors:
            for _ in range(100):
                pids = (group / "cgroup.procs").read_text().split()
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                if not pids:
                    break
                time.sleep(0.1)
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for space in (self.inside_space, self.outside_space):
            space.holder.kill()
            space.holder.wait()
            for door, _ in space.doors:
                os.close(door)
        for group, door in self.doors.items():
            os.close(door)
            group.rmdir()
