#!/usr/bin/env python3
"""Records a labelled attack on one machine: a small Debian that works, and an intruder who comes in by its web site.

    cargo build --release --example sentinel
    sudo python3 record.py --seed 1 --root /var/tmp/debian --output ../data/host --sentinel ../../target/release/examples/sentinel

writes log.tar.gz and labels.json there. See README.md for what is in them.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True

import services  # noqa: E402
from attack import Attack  # noqa: E402
from machine import NAME, USERS, Machine, make_root, sh  # noqa: E402
from people import everybody  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True, help="decides addresses, ways, times and content")
    parser.add_argument("--output", type=Path, required=True, help="folder for log.tar.gz and labels.json")
    parser.add_argument("--root", type=Path, required=True, help="folder of the Debian; made with debootstrap if it is not there")
    parser.add_argument("--sentinel", type=Path, required=True, help="the program that watches")
    parser.add_argument("--duration", type=int, default=240, help="seconds (default 240, at least 120)")
    parser.add_argument("--honest-day", action="store_true", help="nobody attacks: to learn from, or to count false alarms with")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="where debootstrap fetches packages")
    options = parser.parse_args()
    if options.duration < 120:
        parser.error("--duration: the attack needs at least 120 seconds")
    return options


class Sensor:
    """The sentinel, on the machine's network, looking at its control group."""

    def __init__(self, machine, sentinel, folder):
        self.folder = folder
        holder = machine.inside_space.holder.pid
        command = ["nsenter", "--net", "-t", holder, sentinel.resolve(), "--ebpf", "--proc", "--interface", "eth0",
                   "--cgroup", machine.cgroup, "--data-dir", folder]
        self.log = open(folder.with_suffix(".txt"), "w+")
        self.child = subprocess.Popen([str(one) for one in command], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                      env={**os.environ, "AMOSKYS_AGENT_NAME": NAME})
        # It writes its first record once the programs in the kernel are attached.
        for _ in range(600):
            if self.child.poll() is not None:
                raise RuntimeError(self.said())
            if (folder / "key").exists() or any(folder.glob("**/*")):
                break
            time.sleep(0.1)
        time.sleep(8)

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def finish(self):
        self.child.send_signal(signal.SIGINT)
        if self.child.wait(timeout=120) != 0:
            raise RuntimeError(self.said())
        return self.said()


def record(options, work):
    began = time.monotonic()

    def say(text):
        print(f"[{time.monotonic() - began:6.1f}] {text}", flush=True)

    say("making the machine")
    make_root(options.root, options.mirror)
    machine = Machine(options.root.resolve(), work, random.Random(f"{options.seed}/machine"))
    stop = threading.Event()
    try:
        services.install(machine, USERS, random.Random(f"{options.seed}/services"))
        sensor = Sensor(machine, options.sentinel, work / "log")
        say("recording")
        start = time.time_ns()
        services.start(machine)
        time.sleep(5)
        people = everybody(machine, options.seed, stop)
        for person in people:
            person.start()
        attack = Attack(machine, options.seed)
        dice = random.Random(f"{options.seed}/when")
        time.sleep(options.duration * dice.uniform(0.4, 0.5))
        if not options.honest_day:
            say("the intruder comes")
            attack.run(stop)
            for label in attack.labels:
                say(f"{label['step']} ({label['way']}), processes {label['pids']}")
        time.sleep(max(0.0, options.duration - (time.time_ns() - start) / 1e9))
        stop.set()
        for person in people:
            person.join(timeout=60)
        end = time.time_ns()
        print(sensor.finish())
    finally:
        stop.set()
        machine.end()
    options.output.mkdir(parents=True, exist_ok=True)
    pack(work / "log", options.output / "log.tar.gz")
    labels = {"host": NAME, "address": machine.address, "start_ns": start, "end_ns": end, "steps": attack.labels}
    (options.output / "labels.json").write_text(json.dumps(labels, indent=2) + "\n")
    say(f"{(options.output / 'log.tar.gz').stat().st_size // 1024} KiB")


def pack(folder, archive):
    """The log, with nothing of this machine's in the names, owners and times."""
    def plain(entry):
        # What can be made again from the rest.
        if entry.name in ("log/log/state", "log/log/lock"):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = 0
        return entry

    with tarfile.open(archive, "w:gz", compresslevel=9) as packed:
        packed.add(folder, "log", filter=plain)


def main():
    options = arguments()
    if os.geteuid() != 0:
        sys.exit("namespaces and programs in the kernel need root")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    work = Path(tempfile.mkdtemp(prefix="host-"))
    sh("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", work)
    try:
        record(options, work)
    finally:
        sh("umount", "-l", work)
        os.rmdir(work)


if __name__ == "__main__":
    main()
