"""Who works on the machine: visitors of its site, a developer, and an administrator. None of them means harm."""

import random
import subprocess
import threading

from services import HELPER, HELPER_MAKE

PROGRAM = """#include <stdio.h>
int total(const int *prices, int count) {{ int sum = 0; for (int i = 0; i < count; i++) sum += prices[i]; return sum; }}
int main(void) {{ int prices[] = {{ {prices} }}; printf("%d\\n", total(prices, {count})); return 0; }}
"""

CONTROL = """Package: shop-tools
Version: 1.{version}
Architecture: all
Maintainer: Bob <bob@example.org>
Description: tools of the shop
"""


class Person(threading.Thread):
    """Somebody who does things with pauses between them, until the end."""

    def __init__(self, machine, seed, stop):
        super().__init__(daemon=True, name=type(self).__name__)
        self.machine = machine
        self.dice = random.Random(f"{seed}/{self.name}")
        self.stop = stop

    def pause(self, median):
        return self.stop.wait(min(self.dice.lognormvariate(0, 0.7) * median, 6 * median))

    def ssh(self, user, *command, typed=None, lines=None):
        """A session from the office: a command that reads what is typed, or lines in a terminal, one after the other.
        As people set it up who do this all day, sessions share a connection that stays open for a while."""
        source = self.machine.office[0 if user == "alice" else 1]
        login = ["ssh", "-F", "none", "-b", source, "-i", f"/var/keys/{user}", "-o", "StrictHostKeyChecking=no",
                 "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                 "-o", "ControlMaster=auto", "-o", f"ControlPath=/var/keys/{user}.socket",
                 "-o", "ControlPersist=90", *(["-tt"] if lines else []), f"{user}@{self.machine.address}"]
        if not lines:
            # What keeps the connection open keeps its error output open too.
            return self.machine.run(*login, *command, where=self.machine.outside, input=typed, stderr=subprocess.DEVNULL)
        session = self.machine.outside(*login, stdin=subprocess.PIPE)
        try:
            for line in lines:
                self.pause(1)
                session.stdin.write(line.encode() + b"\n")
                session.stdin.flush()
            return session.wait(timeout=20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            return session.kill()


class Visitors(Person):
    """People who look at the site: pages, now and then what the application shows."""

    def run(self):
        pages = ["/", "/prices.html", "/about.html", "/app/cart", "/app/cart", "/app/list", "/app/status", "/missing"]
        while not self.pause(1.2):
            visitor = self.dice.choice(self.machine.visitors)
            page = self.dice.choice(pages)
            if self.dice.random() < 0.12:
                page = f"/app/lookup?host=visitor-{self.dice.randrange(5)}.example"
            self.machine.run("curl", "-s", "-o", "/dev/null", "--max-time", "8", "--interface", visitor,
                             f"http://{self.machine.address}{page}", where=self.machine.outside)


class Alice(Person):
    """Writes programs: in sessions with a terminal, and with single commands."""

    def run(self):
        self.ssh("alice", "git config --global user.email alice@example.org; git config --global user.name Alice; "
                          "mkdir -p shop && cd shop && git init -q . && printf 'all: prices\\nprices: prices.c\\n\\tgcc -O1 -o prices prices.c\\n' > Makefile")
        works = [self.compile, self.look_around, self.script, self.trace, self.report, self.copy, self.session]
        while not self.pause(6):
            self.dice.choice(works)()

    def compile(self):
        prices = [self.dice.randrange(1, 500) for _ in range(5)]
        source = PROGRAM.format(prices=", ".join(map(str, prices)), count=len(prices))
        self.ssh("alice", f"cd shop && cat > prices.c && make -s && ./prices && git add -A && git commit -qm 'Prices of day {prices[0]}'", typed=source)

    def look_around(self):
        self.ssh("alice", self.dice.choice([
            "ls -la /srv/www; du -sh /srv", "tail -n 20 /var/log/nginx/access.log | awk '{print $9}' | sort | uniq -c",
            "grep -r lamp /srv/www | wc -l", "uptime; who; df -h", "id; cat /etc/passwd | cut -d: -f1 | sort"]))

    def script(self):
        self.ssh("alice", "python3 - <<'END'\nimport json, os\nprint(json.dumps(sorted(os.listdir('/srv/www'))))\nEND")

    def trace(self):
        """A developer looks into a program of her own, which is tracing too."""
        self.ssh("alice", "cd shop && test -x prices && strace -c -o /tmp/prices.txt ./prices; rm -f /tmp/prices.txt")

    def report(self):
        self.ssh("alice", "test -x /usr/local/bin/log-report && log-report | tail -1")

    def copy(self):
        lines = "\n".join(f"{self.dice.randrange(900)};{self.dice.choice(['lamp', 'chair'])}" for _ in range(200))
        self.ssh("alice", "cat > /tmp/upload.$$ && chmod 600 /tmp/upload.$$ && mv /tmp/upload.$$ shop/orders.csv && wc -l shop/orders.csv", typed=lines)

    def session(self):
        lines = self.dice.sample(["ls -la", "cd shop; git log --oneline | head -3; cd", "cat shop/prices.c | head", "ps -u alice -o pid,comm",
                                  "history | tail -3", "for f in shop/*; do file=$(basename $f); echo $file; done", "date"], 4)
        self.ssh("alice", lines=[*lines, "exit"])


class Bob(Person):
    """Looks after the machine, with sudo."""

    def run(self):
        self.build_helper()
        works = [self.package, self.reload, self.read_logs, self.account, self.sync, self.schedule, self.take_over]
        self.dice.shuffle(works)
        while not self.pause(8):
            work = works.pop()
            work()
            works.insert(self.dice.randrange(3), work)

    def build_helper(self):
        self.ssh("bob", "mkdir -p tools && cat > tools/log-report.c", typed=HELPER)
        self.ssh("bob", "cat > tools/Makefile && cd tools && make -s && sudo make -s install", typed=HELPER_MAKE)

    def package(self):
        """A package with a job and a unit: what attackers write too, by the program whose work it is."""
        version = self.dice.randrange(100)
        self.ssh("bob", "rm -rf pkg && mkdir -p pkg/DEBIAN pkg/etc/cron.d pkg/lib/systemd/system pkg/usr/bin && cat > pkg/DEBIAN/control && "
                        "echo '23 5 * * * root /usr/bin/shop-tools' > pkg/etc/cron.d/shop-tools && "
                        "printf '[Service]\\nExecStart=/usr/bin/shop-tools\\n' > pkg/lib/systemd/system/shop-tools.service && "
                        "printf '#!/bin/sh\\nexit 0\\n' > pkg/usr/bin/shop-tools && chmod 755 pkg/usr/bin/shop-tools && "
                        "dpkg-deb --root-owner-group -b pkg shop-tools.deb > /dev/null && sudo dpkg -i shop-tools.deb",
                 typed=CONTROL.format(version=version))

    def reload(self):
        self.ssh("bob", "sudo nginx -t -q && sudo nginx -s reload")

    def read_logs(self):
        self.ssh("bob", "sudo tail -n 3 /var/log/nginx/access.log; sudo ls -la /root /var/log | wc -l; sudo cat /etc/shadow | wc -l")

    def account(self):
        name = f"guest{self.dice.randrange(100)}"
        self.ssh("bob", f"sudo useradd -m -s /bin/bash {name} && sudo passwd -l {name} && sudo userdel -r {name}")

    def sync(self):
        self.ssh("bob", "sudo rsync -a --delete /srv/www/ /var/backups/www/")

    def schedule(self):
        """An administrator schedules a job by hand now and then."""
        self.ssh("bob", "echo '41 3 * * 0 root /usr/bin/find /var/backups -mtime +30 -delete' | sudo tee /etc/cron.d/old-backups > /dev/null")

    def take_over(self):
        self.ssh("bob", lines=["sudo -i", "ls /etc/cron.d", "id", "exit", "exit"])


def everybody(machine, seed, stop):
    return [kind(machine, seed, stop) for kind in (Visitors, Alice, Bob)]
