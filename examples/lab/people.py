"""Honest life: people at workstations and on the road, a monitor, a nightly copy. Choices come from the seed."""

import random
import subprocess
import textwrap
import threading
import time

from services import ASSETS, PAGES, SITES, WORDS
from topology import OFFICE_DOMAIN, PEOPLE

AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
]
COMMANDS = ["uptime", "df -h /", "ls -l /etc", "free -m", "tail -n 20 /etc/services", "cat /proc/loadavg", "who", "date"]
TYPOS = ["nwes.example", "wether.example", "shpo.example", "wiki.exampel", f"wwww.{OFFICE_DOMAIN}", "fileserver"]


class Person(threading.Thread):
    """One person at one machine, until `stop` is set."""

    def __init__(self, network, services, name, host, seed, stop, pace):
        super().__init__(name=f"{name}@{host.name}", daemon=True)
        self.network, self.services, self.host, self.stop = network, services, host, stop
        self.user = name
        self.dice = random.Random(f"{seed}/person/{host.name}")
        self.pace = pace
        self.agent = self.dice.choice(AGENTS)
        self.favourites = self.dice.sample(SITES, len(SITES))
        self.outside = not host.address.startswith(network.subnet + ".")
        self.todo = []

    def think(self, median):
        """A pause of human length; true if there is time for more."""
        return not self.stop.wait(min(90.0, self.dice.lognormvariate(0, 0.8) * median))

    def run(self):
        if not self.think(6 * self.pace):
            return
        habits = [(self.browse, 10), (self.intranet, 4), (self.mail, 3), (self.command, 2), (self.ping, 1), (self.typo, 1)]
        if self.outside:
            habits = [(self.intranet, 6), (self.mail, 1), (self.command, 1)]
        acts, weights = zip(*habits)
        while True:
            act = self.todo.pop(0) if self.todo else self.dice.choices(acts, weights)[0]
            act()
            if not self.think(16 * self.pace):
                return

    # Web

    def curl(self, *urls):
        options = ["-sL", "--max-time", "15", "-A", self.agent, "--cacert", self.services.authority]
        if len(urls) > 2 and self.dice.random() < 0.5:
            options.append("-Z")  # a browser opens several connections
        for url in urls:
            options += ["-o", "/dev/null", url]
        return self.host.run("curl", *options, timeout=20)

    def visit(self, base):
        for _ in range(self.dice.choice([1, 1, 2, 2, 3])):
            urls = [f"{base}/page{self.dice.randrange(PAGES)}.html"]
            # Some of a site's assets lie at a content network, under a name of their own.
            elsewhere = "https://" + self.services.cdn_names[base.split("/")[2].removeprefix("www.")] if ".example" in base else base
            for number in self.dice.sample(range(ASSETS), self.dice.choice([0, 0, 1, 1, 2, 3])):
                place = elsewhere if self.dice.random() < 0.25 else base
                urls.append(f"{place}/asset{number}.{['png', 'css', 'js'][number % 3]}")
            if self.dice.random() < 0.08:
                urls.append(f"{base}/favicon.ico")  # not there: 404
            self.curl(*urls)
            if not self.think(7):
                return

    def browse(self):
        site = self.dice.choices(self.favourites, [8, 5, 3, 2, 1, 1])[0]
        self.visit(f"{self.dice.choice(['http', 'https'])}://{self.dice.choice(['', 'www.'])}{site}")

    def intranet(self):
        if self.outside:
            self.visit(f"http://{self.network['www'].address}")
        else:
            self.visit(f"{self.dice.choice(['http', 'https'])}://www.{OFFICE_DOMAIN}")

    def manual(self):
        self.curl(f"http://www.{OFFICE_DOMAIN}/manual.pdf")

    # Mail

    def mail(self):
        text = " ".join(self.dice.choice(WORDS) for _ in range(int(min(900, self.dice.lognormvariate(4.6, 0.9)))))
        to = self.dice.choice([f"{self.dice.choice(PEOPLE)}@{OFFICE_DOMAIN}"] * 3 + ["orders@partner.example"])
        sender = f"{self.user}@{OFFICE_DOMAIN}"
        server, options = f"mail.{OFFICE_DOMAIN}", ["--ssl-reqd", "--cacert", self.services.authority]
        if self.outside:
            # Someone at the partner writes to the office; the partner's server delivers.
            to, sender, server, options = f"{self.user}@{OFFICE_DOMAIN}", "sales@partner.example", "mx.partner.example", []
        elif self.dice.random() < 0.4:
            options = []
        body = "\r\n".join(textwrap.wrap(text, 72))
        letter = f"From: {sender}\r\nTo: {to}\r\nSubject: {self.dice.choice(WORDS)}\r\n\r\n{body}\r\n"
        machine = self.network["mx"] if self.outside else self.host
        machine.run("curl", "-s", "--max-time", "20", *options, f"smtp://{server}/{self.host.name}", "--mail-from", sender,
                    "--mail-rcpt", to, "-T", "-", stdin=letter.encode(), timeout=25)

    # Remote shells

    def ssh(self, server, *more):
        address = self.network[server].address if self.outside else f"{server}.{OFFICE_DOMAIN}"
        return ["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10", *more, f"{self.user}@{address}"]

    def key(self):
        return ["-o", "BatchMode=yes", "-i", self.services.keys / self.user]

    def command(self):
        server = self.dice.choice(["www", "mail"] if self.outside else ["www", "files", "files", "mail"])
        self.host.run(*self.ssh(server, *self.key()), self.dice.choice(COMMANDS), timeout=20)

    def upload(self):
        size = self.dice.randrange(10_000, 45_000)
        self.host.run(*self.ssh("files", *self.key()), "cat > report.bin", stdin=self.dice.randbytes(size), timeout=30)

    def session(self):
        """A longer session: commands typed key by key, read, typed again."""
        shell = self.host.spawn(*self.ssh("files", "-tt", *self.key()), stdin=-1, log="session.log")
        try:
            for _ in range(self.dice.randrange(5, 10)):
                if not self.think(5):
                    break
                for letter in self.dice.choice(COMMANDS) + "\n":
                    shell.stdin.write(letter.encode())
                    shell.stdin.flush()
                    time.sleep(min(0.6, self.dice.lognormvariate(-1.9, 0.5)))
            shell.stdin.write(b"exit\n")
            shell.stdin.close()
            shell.wait(timeout=10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        finally:
            if shell.poll() is None:
                shell.kill()

    def mistype_password(self):
        """One wrong password, then the right one, in one connection."""
        state = self.host.folder / "asked"
        ask = self.host.folder / "askpass"
        ask.write_text(f"#!/bin/sh\nif [ -e {state} ]; then echo Correct-Horse-7; else sleep 2; : > {state}; echo Correct-Horse-y; fi\n")
        ask.chmod(0o755)
        self.host.run(*self.ssh("files", "-o", "PubkeyAuthentication=no"), "ls -l", timeout=30,
                      env={"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"})

    # Odds and ends

    def ping(self):
        target = self.dice.choice([self.network.gateway, self.network["files"].address, self.network["sites"].address])
        self.host.run("ping", "-c", str(self.dice.randrange(2, 6)), target, timeout=15)

    def typo(self):
        self.curl(f"http://{self.dice.choice(TYPOS)}/")

    def refused(self):
        self.curl(f"http://{self.dice.choice(['www', 'files'])}.{OFFICE_DOMAIN}:{self.dice.choice([8080, 3000, 8443])}/")

    def switched_off(self):
        """A printer that is not there: nobody answers the ARP."""
        self.host.run("curl", "-s", "--connect-timeout", "4", f"http://{self.network.subnet}.51:631/", timeout=10)


class Monitor(threading.Thread):
    """The monitoring host: rounds over the office's servers, with pauses of irregular length."""

    def __init__(self, network, seed, stop):
        super().__init__(name="monitor", daemon=True)
        self.network, self.stop = network, stop
        self.dice = random.Random(f"{seed}/monitor")

    def run(self):
        mon, net = self.network["mon"], self.network
        while not self.stop.wait(self.dice.uniform(14, 42)):
            for check in self.dice.sample(["web", "web", "ping", "mail", "shell"], 2):
                if check == "web":
                    mon.run("curl", "-s", "--max-time", "5", "-A", "health-check/2.1", f"http://www.{OFFICE_DOMAIN}/health", timeout=10)
                elif check == "ping":
                    target = self.dice.choice(["www", "mail", "files", "vault"])
                    mon.run("ping", "-c1", "-W2", net[target].address, timeout=5)
                elif check == "mail":
                    mon.run("curl", "-s", "--max-time", "5", f"smtp://mail.{OFFICE_DOMAIN}/mon", "-X", "NOOP", timeout=10)
                else:
                    mon.run("bash", "-c", f"exec 3<>/dev/tcp/{net['files'].address}/22; head -c 8 <&3", timeout=5)


class NightlyCopy(threading.Thread):
    """The vault fetches the file server's archive once."""

    def __init__(self, network, services, seed, stop, duration):
        super().__init__(name="nightly copy", daemon=True)
        self.network, self.services, self.stop = network, services, stop
        self.dice = random.Random(f"{seed}/copy")
        self.delay = duration * self.dice.uniform(0.1, 0.85)

    def run(self):
        archive = self.network.work / "home" / "ana" / "archive.tar"
        archive.write_bytes(self.dice.randbytes(self.dice.randrange(150_000, 260_000)))
        if self.stop.wait(self.delay):
            return
        self.network["vault"].run(
            "scp", "-q", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
            "-o", "BatchMode=yes", "-i", self.services.keys / "backup",
            f"ana@files.{OFFICE_DOMAIN}:archive.tar", self.network["vault"].folder / "archive.tar", timeout=60)


def everybody(network, services, seed, stop, duration, pace=2.2):
    """All honest actors. The rarer things happen exactly once or twice, to people the seed picks."""
    people = [Person(network, services, name, network[f"ws-{name}"], seed, stop, pace) for name in PEOPLE]
    dice = random.Random(f"{seed}/everybody")
    once = ["session", "session", "mistype_password", "refused", "refused", "switched_off", "upload", "upload", "manual",
            "typo", "typo", "ping", "mail", "mail"]
    dice.shuffle(once)
    for number, act in enumerate(once):
        person = people[number % len(people)] if number < len(people) else dice.choice(people)
        person.todo.append(getattr(person, act))
    for person in people:
        # The rare acts are spread among ordinary ones, not all at the start.
        ordinary = [person.browse, person.intranet, person.mail, person.command]
        spread = []
        for act in person.todo:
            spread += [dice.choice(ordinary) for _ in range(dice.randrange(0, 3))] + [act]
        person.todo = spread
    travellers = [Person(network, services, PEOPLE[n], network[name], seed, stop, 3 * pace) for n, name in enumerate(["road1", "road2"])]
    return [*people, *travellers, Monitor(network, seed, stop), NightlyCopy(network, services, seed, stop, duration)]
