#!/usr/bin/env python3
"""Records a labelled capture of a small office: real servers, real clients, five real attacks.

    sudo python3 record.py --seed 1 --output ../data

writes lab.pcap and labels.csv there after ten minutes. See README.md for what is in them.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True

import capture  # noqa: E402
from attacks import Attacks  # noqa: E402
from people import everybody  # noqa: E402
from services import Services  # noqa: E402
from topology import Network, sh  # noqa: E402

# Program -> Debian package.
TOOLS = {
    "bash": "bash", "chronyd": "chrony", "curl": "curl", "dnsmasq": "dnsmasq-base", "ethtool": "ethtool", "hping3": "hping3",
    "hydra": "hydra", "iodine": "iodine", "iodined": "iodine", "ip": "iproute2", "nginx": "nginx-light", "nmap": "nmap",
    "nsenter": "util-linux", "openssl": "openssl", "ping": "iputils-ping", "scp": "openssh-client", "exim4": "exim4-daemon-light",
    "ssh": "openssh-client", "ssh-keygen": "openssh-client", "sshd": "openssh-server", "sysctl": "procps", "tcpdump": "tcpdump",
    "unshare": "util-linux",
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True, help="decides addresses, hosts, times and content")
    parser.add_argument("--output", type=Path, required=True, help="folder for lab.pcap and labels.csv")
    parser.add_argument("--duration", type=int, default=600, help="seconds of traffic (default 600, at least 60)")
    parser.add_argument("--honest-day", type=int, metavar="N",
                        help="another day of the same office, with nobody attacking: same addresses and hosts, other doings")
    parser.add_argument("--snaplen", type=int, default=336, help="bytes kept of each packet (default 336: any DNS query fits)")
    parser.add_argument("--keep-logs", action="store_true", help="copy the servers' logs to OUTPUT/logs")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.duration < 60:
        parser.error("--duration: the attacks need at least 60 seconds")
    return options


def preflight():
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = {package for tool, package in TOOLS.items() if not shutil.which(tool)}
    if missing:
        sys.exit(f"missing programs; on Debian: apt-get install --no-install-recommends {' '.join(sorted(missing))}")
    if os.geteuid() != 0:
        sys.exit("network namespaces need root")
    for path in ("/dev/net/tun", "/etc/resolv.conf"):
        if not os.path.exists(path):
            sys.exit(f"{path} is missing")


def outer(options):
    """Starts the recording in namespaces of its own. They end with it, so nothing can be left behind."""
    preflight()
    options.output.mkdir(parents=True, exist_ok=True)
    work = tempfile.mkdtemp(prefix="lab-")
    command = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc",
               sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--inside", work]
    # The pipe tells the inside when this process is gone, whatever ended it.
    child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def stop(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        return child.wait()
    finally:
        if child.poll() is None:
            child.kill()  # --kill-child takes every process of the laboratory along
            child.wait()
        os.rmdir(work)


def watch_parent():
    while os.read(0, 1):
        pass
    os._exit(1)


def inner(options):
    threading.Thread(target=watch_parent, daemon=True).start()
    began = time.monotonic()

    def say(text):
        print(f"[{time.monotonic() - began:6.1f}] {text}", flush=True)

    work = options.inside
    sh("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(work))
    sh("ip", "link", "set", "lo", "up")
    network = services = None
    try:
        say("wiring hosts")
        network = Network(options.seed, work)
        say("starting servers")
        services = Services(network, options.seed, random.Random(f"{options.seed}/services"))
        services.start()
        stop = threading.Event()
        sensor = capture.Sensor(network, options.snaplen)
        time.sleep(1)
        honest = options.honest_day is not None
        doings = f"{options.seed}/day {options.honest_day}" if honest else options.seed
        attacks = [] if honest else [Attacks(network, services, options.seed, stop, options.duration)]
        actors = [*everybody(network, services, doings, stop, options.duration), *attacks]
        say(f"recording {options.duration} s")
        for actor in actors:
            actor.start()
        end = time.monotonic() + options.duration
        while time.monotonic() < end:
            time.sleep(min(60, max(0, end - time.monotonic())))
            say(f"{sensor.path.stat().st_size // 1024} KiB")
        stop.set()
        for actor in actors:
            actor.join(timeout=60)
        time.sleep(1.5)
        dropped = sensor.finish()
        say("labelling")
        recorded = capture.Capture(sensor.path)
        text, lines = capture.labels(recorded, attacks[0].plan if attacks else [])
        data = recorded.bytes()
        (options.output / "lab.pcap").write_bytes(data)
        (options.output / "labels.csv").write_text(text)
        capture.summary(network, recorded, lines, dropped, len(data))
        flows = capture.tshark_flows(options.output / "lab.pcap")
        if flows is not None:
            print(f"tshark: {flows} TCP and UDP conversations")
        faults = recorded.faults()
        for fault, count in faults.items():
            print(f"FAULT {fault}: {count}")
        return 1 if faults or dropped else 0
    finally:
        if options.keep_logs:
            for log in [*work.glob("hosts/*/*.log"), *work.glob("hosts/*/spool/*.log"), *work.glob("*.log")]:
                place = options.output / "logs" / log.relative_to(work).parent.name.replace("spool", log.parent.parent.name)
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(log, place / log.name)


if __name__ == "__main__":
    chosen = arguments()
    sys.exit(inner(chosen) if chosen.inside else outer(chosen))
