"""The laboratory's wiring: one set of namespaces for each host, a switch, and a line to the outside.

Everything lives below the private PID, mount and network namespaces that `record.py` enters first, so the
kernel removes it all when the recording ends, however it ends. None of those namespaces has an interface
of the machine itself: no packet can leave.
"""

import fcntl
import os
import random
import shlex
import struct
import subprocess
import sys
import time
from pathlib import Path

OFFICE_DOMAIN = "office.example"
PEOPLE = ["ana", "ben", "chloe", "dmitri", "eva", "farid"]
SERVERS = ["www", "mail", "files", "vault", "mon"]
OUTSIDE = ["dns", "sites", "mx", "c2", "relay", "road1", "road2"]

TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000


def sh(*argv):
    """Runs a set-up command; a failure ends the recording with the command's own message."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Host:
    """A machine of the laboratory: its own network, mounts and host name, held open by one idle process."""

    def __init__(self, name, work, files):
        self.name = name
        self.addresses = []
        self.work = work
        self.folder = work / "hosts" / name
        self.folder.mkdir(parents=True)
        steps = [
            "mount -t tmpfs -o mode=755 tmpfs /run",
            "mkdir -p /run/sshd /run/lock",
            f"hostname {name}",
        ]
        for target, text in files.items():
            source = self.folder / target.strip("/").replace("/", "_")
            source.write_text(text)
            os.chmod(source, 0o600 if target.endswith("shadow") else 0o644)
            steps.append(f'mount --bind {source} "$(readlink -m {target})"')
        steps += ["ip link set lo up", "echo ready", "exec sleep infinity"]
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "sh", "-ec", "\n".join(steps)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self.holder.stdout.readline().strip() != "ready":
            raise RuntimeError(f"host {name}: {self.holder.stderr.read().strip()}")

    @property
    def pid(self):
        return self.holder.pid

    @property
    def address(self):
        return self.addresses[0]

    def inside(self, argv):
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-u", "--", *map(str, argv)]

    def run(self, *argv, timeout=30, stdin=None, env=None):
        """Runs a program on this host to its end; a program that overstays is killed, as its user would do."""
        try:
            return subprocess.run(
                self.inside(argv),
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                timeout=timeout,
                env={**os.environ, "HOME": "/root", "LC_ALL": "C", **(env or {})},
            )
        except subprocess.TimeoutExpired as late:
            return subprocess.CompletedProcess(argv, 124, late.stdout or b"", late.stderr or b"")

    def must(self, *argv, **options):
        done = self.run(*argv, **options)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {shlex.join(map(str, argv))}: {done.stderr.decode(errors='replace').strip()}")
        return done

    def spawn(self, *argv, stdin=subprocess.DEVNULL, log=None):
        """Starts a program that stays, with its output in `<host folder>/<log>`."""
        with open(self.folder / (log or Path(str(argv[0])).name + ".log"), "ab") as out:
            return subprocess.Popen(
                self.inside(argv), stdin=stdin, stdout=out, stderr=out, env={**os.environ, "HOME": "/root", "LC_ALL": "C"}
            )


class Network:
    """All hosts, wired. `switch` is where the sensor listens."""

    def __init__(self, seed, work):
        dice = random.Random(f"{seed}/addresses")
        self.work = work
        self.subnet = f"10.{dice.randrange(1, 250)}.{dice.randrange(1, 250)}"
        self.gateway = f"{self.subnet}.1"
        self.dice = dice
        self.hosts = {}
        self._links = 0
        accounts = self._accounts()

        self.switch = Host("switch", work, {})
        self._bridge(self.switch)
        self.internet = Host("internet", work, {})
        self._bridge(self.internet)

        resolver = f"nameserver {self.gateway}\nsearch {OFFICE_DOMAIN}\noptions timeout:3\n"
        office = ["gw", *SERVERS, *[f"ws-{name}" for name in PEOPLE]]
        octets = dict(zip(SERVERS, dice.sample(range(5, 40), len(SERVERS))))
        octets.update(zip(office[1 + len(SERVERS):], dice.sample(range(60, 250), len(PEOPLE))))
        for name in office:
            host = self._host(name, {**accounts, "/etc/resolv.conf": resolver})
            self._plug(host, "eth0", self.switch, [f"{self.subnet}.{octets.get(name, 1)}/24"])
            if name != "gw":
                host.must("ip", "route", "add", "default", "via", self.gateway)

        # Documentation blocks stand for the public internet; the gateway routes without translation, as a
        # sensor inside the office sees it.
        blocks = ["192.0.2", "198.51.100", "203.0.113"]
        free = {block: dice.sample(range(2, 250), 20) for block in blocks}
        dns_address = f"198.51.100.{free['198.51.100'].pop()}"
        for name in OUTSIDE:
            count = 6 if name == "sites" else 1
            if name == "dns":
                addresses = [dns_address]
            else:
                picks = [dice.choice(blocks) for _ in range(count)]
                addresses = [f"{block}.{free[block].pop()}" for block in picks]
            host = self._host(name, {**accounts, "/etc/resolv.conf": f"nameserver {dns_address}\n"})
            self._plug(host, "eth0", self.internet, [a + "/32" for a in addresses])
            host.must("ip", "route", "add", "192.0.0.1/32", "dev", "eth0")
            host.must("ip", "route", "add", "default", "via", "192.0.0.1", "src", addresses[0])
            # Public hosts are some hops away.
            host.must("sysctl", "-qw", f"net.ipv4.ip_default_ttl={dice.choice([64, 64, 128]) - dice.randrange(6, 16)}")
        self._uplink()

    def __getitem__(self, name):
        return self.hosts[name]

    def workstations(self):
        return [self.hosts[f"ws-{name}"] for name in PEOPLE]

    def names(self):
        """Address to host name, for people who read the summary."""
        return {address: host.name for host in self.hosts.values() for address in host.addresses}

    def _accounts(self):
        """Account files of every host: the machine's service accounts plus the office's people."""
        hashed = sh("openssl", "passwd", "-6", "Correct-Horse-7").strip()
        passwd, shadow, group = (Path(p).read_text() for p in ("/etc/passwd", "/etc/shadow", "/etc/group"))
        # No account of the machine itself can log in with a password here.
        shadow = "".join(":".join([line.split(":")[0], "*", *line.split(":")[2:]]) + "\n" for line in shadow.splitlines())
        for number, name in enumerate(PEOPLE, 6001):
            home = self.work / "home" / name
            home.mkdir(parents=True)
            os.chown(home, number, number)
            passwd += f"{name}:x:{number}:{number}:{name}:{home}:/bin/bash\n"
            shadow += f"{name}:{hashed}:19700:0:99999:7:::\n"
            group += f"{name}:x:{number}:\n"
        switch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
        return {"/etc/passwd": passwd, "/etc/shadow": shadow, "/etc/group": group, "/etc/nsswitch.conf": switch}

    def _host(self, name, files):
        self.hosts[name] = Host(name, self.work, {**files, "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n"})
        return self.hosts[name]

    def _bridge(self, host):
        # A switch does not talk: no address, no IPv6, no multicast queries of its own.
        host.must("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        host.must("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0", "stp_state", "0")
        host.must("ip", "link", "set", "br0", "up")

    def _plug(self, host, interface, switch, addresses):
        self._links += 1
        port = f"p{self._links}"
        mac = "52:54:00:" + ":".join(f"{self.dice.randrange(256):02x}" for _ in range(3))
        sh("ip", "link", "add", interface, "address", mac, "netns", str(host.pid),
           "type", "veth", "peer", "name", port, "netns", str(switch.pid))
        for end, name in ((host, interface), (switch, port)):
            # Checksums are computed by the sender and frames are never larger than the MTU, as on a real wire.
            end.must("ethtool", "-K", name, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off", "sg", "off")
        switch.must("ip", "link", "set", port, "master", "br0", "up")
        host.must("ip", "link", "set", interface, "up")
        for address in addresses:
            host.must("ip", "addr", "add", address, "dev", interface)
            host.addresses.append(address.split("/")[0])

    def _uplink(self):
        """Joins the gateway to the internet through `wan.py`, which adds the delay of a long line."""
        gw = self.hosts["gw"]
        ends = []
        for name in ("wan0", "wan1"):
            end = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
            ends.append(end)
        sh("ip", "link", "set", "wan0", "netns", str(gw.pid))
        sh("ip", "link", "set", "wan1", "netns", str(self.internet.pid))
        self.internet.must("ip", "link", "set", "wan1", "master", "br0", "up")
        gw.must("sysctl", "-qw", "net.ipv4.ip_forward=1")
        gw.must("ip", "link", "set", "wan0", "up")
        gw.must("ip", "addr", "add", "192.0.0.1/32", "dev", "wan0")
        delays = []
        for name in OUTSIDE:
            delay = self.dice.uniform(0.004, 0.030)
            for address in self.hosts[name].addresses:
                gw.must("ip", "route", "add", f"{address}/32", "dev", "wan0", "src", self.gateway)
                delays.append(f"{address}={delay:.4f}")
        line = Path(__file__).with_name("wan.py")
        log = open(self.work / "wan.log", "ab")
        self.line = subprocess.Popen(
            [sys.executable, str(line), str(ends[0]), str(ends[1]), *delays], pass_fds=ends, stdout=log, stderr=log
        )
        for end in ends:
            os.close(end)
        self._await_uplink()

    def _await_uplink(self):
        deadline = time.monotonic() + 20
        for name in OUTSIDE:
            while self.hosts[name].run("ping", "-c1", "-W1", self.gateway).returncode != 0:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{name} cannot reach the gateway; see {self.work / 'wan.log'}")
