#!/usr/bin/env python3
"""Records what a few ordinary programs do, with strace, into processes.txt: what they start and which system calls they make.

    python3 record_processes.py [FILE]

One line an event, fields by tabs, times in seconds from the first event:

    fork TIME PID PARENT
    exec TIME PID UID PATH ARGUMENT...
    exit TIME PID STATUS
    calls TIME PID COMMAND NUMBER,NUMBER,...
"""

import ast
import os
import re
import subprocess
import sys
import tempfile

WORK = r"""
cd "$1" || exit 1
mkdir -p data && for n in 1 2 3 4 5 6; do seq $n 200 > data/$n.txt; done
ls -l data | sort | head -3
grep -r 17 data | wc -l
tar czf all.tgz data && tar tzf all.tgz > list && gzip -t all.tgz
python3 -c 'import json, socket; s = socket.socket(); s.close(); print(json.dumps({"a": 1}))'
sh -c 'id -u; uname -r' > who
find data -name '*.txt' -exec cat {} + | awk '{ s += $1 } END { print s }'
cp /bin/true ./renamed-tool && ./renamed-tool
bash -c 'exit 3'
sh -c 'kill -TERM $$'
sed -i s/1/2/ data/1.txt && rm -r data
sleep 0.3
"""
RUN = 64


def record(out):
    with tempfile.TemporaryDirectory() as folder:
        trace = os.path.join(folder, "trace")
        command = ["strace", "-ff", "-n", "-ttt", "-s", "200", "-o", trace, "sh", "-c", WORK, "sh", folder]
        # The programs of the system, whatever else whoever records it has installed.
        environment = {**os.environ, "PATH": "/usr/bin:/bin"}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, env=environment, check=False, **quiet)
        lines = []
        for name in os.listdir(folder):
            if name.startswith("trace."):
                with open(os.path.join(folder, name), errors="replace") as file:
                    lines += [(line.split(" ", 1)[0], int(name[6:]), line.rstrip()) for line in file]
        events = read(sorted(lines))
    start = events[0][1]
    for kind, time, *rest in events:
        out.write("\t".join([kind, f"{time - start:.6f}", *map(str, rest)]) + "\n")


def read(lines):
    events, runs, names = [], {}, {}

    def flush(pid):
        if runs.get(pid):
            time, numbers = runs[pid][0][0], [number for _, number in runs[pid]]
            events.append(("calls", time, pid, names.get(pid, "sh"), ",".join(map(str, numbers))))
            runs[pid] = []

    for stamp, pid, line in lines:
        time, rest = float(stamp), line.split(" ", 1)[1]
        call = re.match(r"\[ *(\d+)\] (\w+)", rest)
        if call:
            number, name = int(call[1]), call[2]
            runs.setdefault(pid, []).append((time, number))
            child = re.search(r"\) += (\d+)$", rest)
            if name in ("clone", "clone3", "vfork", "fork") and child:
                names[int(child[1])] = names.get(pid, "sh")
                events.append(("fork", time, int(child[1]), pid))
            done = re.match(r'\[ *\d+\] execve\("([^"]*)", (\[.*\]), .*\) = 0$', rest)
            if done:
                flush(pid)
                try:
                    arguments = ast.literal_eval(done[2].replace("...", ""))
                except (SyntaxError, ValueError):
                    arguments = [done[1]]
                names[pid] = os.path.basename(done[1])[:15]
                clean = [text.replace("\t", " ").replace("\n", " ").replace("\\", "/") for text in arguments]
                events.append(("exec", time, pid, 1000, done[1], *clean))
            if len(runs.get(pid, [])) >= RUN:
                flush(pid)
        ended = re.match(r"(?:\[ *\d+\] )?\+\+\+ (?:exited with (\d+)|killed by (\w+))", rest)
        if ended:
            flush(pid)
            events.append(("exit", time, pid, ended[1] or ended[2]))
    for pid in list(runs):
        flush(pid)
    return sorted(events, key=lambda event: event[1])


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "processes.txt")
    with open(path, "w") as file:
        record(file)
