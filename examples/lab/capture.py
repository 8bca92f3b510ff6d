"""The sensor and what follows it: tcpdump on the switch, a check of what it wrote, labels, a summary."""

import collections
import csv
import io
import re
import shutil
import signal
import socket
import struct
import subprocess

FILE_HEADER = struct.Struct("<IHHiIII")
RECORD_HEADER = struct.Struct("<IIII")
MAGIC_MICROSECONDS = 0xA1B2C3D4
ETHERNET = 1
LARGEST_FRAME = 1514


class Sensor:
    """tcpdump on the switch's bridge: the bridge hands up one copy of each frame it forwards."""

    def __init__(self, network, snaplen):
        self.path = network.work / "raw.pcap"
        self.process = network.switch.spawn(
            "tcpdump", "-i", "br0", "-n", "-s", snaplen, "-B", 8192, "-Z", "root", "-w", self.path, log="tcpdump.log")
        self.log = network.switch.folder / "tcpdump.log"

    def finish(self):
        """Stops tcpdump; answers how many packets the kernel dropped."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=20)
        told = re.search(r"(\d+) packets? dropped by kernel", self.log.read_text())
        if not told:
            raise RuntimeError(f"tcpdump: {self.log.read_text()}")
        return int(told.group(1))


class Packet:
    """One record, with the few fields the labels and the summary need."""

    __slots__ = ("ns", "data", "length", "src", "dst", "protocol", "sport", "dport", "flags")

    def __init__(self, ns, data, length):
        self.ns, self.data, self.length = ns, data, length
        self.src = self.dst = self.protocol = self.sport = self.dport = None
        self.flags = 0
        if data[12:14] != b"\x08\x00" or len(data) < 34:
            return
        self.src, self.dst = socket.inet_ntoa(data[26:30]), socket.inet_ntoa(data[30:34])
        self.protocol = {1: "icmp", 6: "tcp", 17: "udp"}.get(data[23], str(data[23]))
        at = 14 + 4 * (data[14] & 15)
        if self.protocol in ("tcp", "udp") and len(data) >= at + 4:
            self.sport, self.dport = struct.unpack_from("!HH", data, at)
            if self.protocol == "tcp" and len(data) > at + 13:
                self.flags = data[at + 13]


class Capture:
    """The packets in order of time."""

    def __init__(self, path):
        raw = path.read_bytes()
        magic, _, _, _, _, self.snaplen, link = FILE_HEADER.unpack_from(raw)
        if magic != MAGIC_MICROSECONDS or link != ETHERNET:
            raise RuntimeError(f"{path}: not the kind of file tcpdump was asked for")
        self.packets, at = [], FILE_HEADER.size
        while at + RECORD_HEADER.size <= len(raw):
            seconds, micros, kept, length = RECORD_HEADER.unpack_from(raw, at)
            at += RECORD_HEADER.size
            self.packets.append(Packet(seconds * 10**9 + micros * 1000, raw[at:at + kept], length))
            at += kept
        # Two processors can hand over packets a few microseconds out of turn.
        self.swapped = sum(a.ns > b.ns for a, b in zip(self.packets, self.packets[1:]))
        self.packets.sort(key=lambda p: p.ns)

    def bytes(self):
        out = [FILE_HEADER.pack(MAGIC_MICROSECONDS, 2, 4, 0, 0, self.snaplen, ETHERNET)]
        for p in self.packets:
            out.append(RECORD_HEADER.pack(p.ns // 10**9, p.ns % 10**9 // 1000, len(p.data), p.length))
            out.append(p.data)
        return b"".join(out)

    def of(self, attack):
        """The packets of an attack: between its two hosts, of its kind, while it was carried out."""
        begin, end = int(attack.began * 1e9) - 10**8, int(attack.ended * 1e9) + 10**9
        pair = {attack.host.address, attack.peer}
        for p in self.packets:
            if not begin <= p.ns <= end or {p.src, p.dst} != pair or p.protocol != attack.protocol:
                continue
            if attack.port and attack.port != (p.dport if p.dst == attack.peer else p.sport):
                continue
            if attack.marker and attack.marker not in p.data.lower():
                continue
            yield p

    def faults(self):
        """What a real wire would not show. Counts by kind; empty is right."""
        found, recent = collections.Counter(), {}
        for p in self.packets:
            if p.length > LARGEST_FRAME:
                found["frame above the MTU"] += 1
            # Two equal frames within a millisecond: seen twice. (A retransmission has another IP identification.)
            if p.protocol == "tcp" and p.ns - recent.get(p.data, -10**9) < 10**6 and p.data[18:20] != b"\0\0":
                found["packet seen twice"] += 1
            recent[p.data] = p.ns
            if p.src:
                at = 14 + 4 * (p.data[14] & 15)
                if checksum(p.data[14:at]) != 0:
                    found["bad IP checksum"] += 1
                total = struct.unpack_from("!H", p.data, 16)[0]
                fragment = struct.unpack_from("!H", p.data, 20)[0] & 0x3FFF
                segment = p.data[at:14 + total]
                if p.protocol in ("tcp", "udp") and len(p.data) >= 14 + total and not fragment:
                    pseudo = p.data[26:34] + struct.pack("!BBH", 0, p.data[23], len(segment))
                    if checksum(pseudo + segment) != 0:
                        found["bad TCP or UDP checksum"] += 1
        return found

    def flows(self):
        """Flows by address, port and protocol, both directions together."""
        return len({(p.protocol, *sorted([(p.src, p.sport or 0), (p.dst, p.dport or 0)])) for p in self.packets if p.src})


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def labels(capture, attacks):
    """`labels.csv`, in order of time, and the packets behind each line."""
    lines = []
    for attack in attacks:
        packets = list(capture.of(attack))
        if len(packets) < 20:
            raise RuntimeError(f"{attack.name}: only {len(packets)} packets in the capture ({attack.note})")
        lines.append((packets[0].ns, packets[-1].ns, attack, packets))
    lines.sort(key=lambda line: line[0])
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["start_ns", "end_ns", "host", "peer", "technique", "name"])
    for start, end, attack, _ in lines:
        out.writerow([start, end, attack.host.address, attack.peer, attack.technique, attack.name])
    return text.getvalue(), lines


SERVICES = {("tcp", 22): "ssh", ("tcp", 25): "smtp", ("tcp", 80): "http", ("tcp", 443): "https", ("udp", 53): "dns",
            ("udp", 123): "ntp", ("icmp", None): "icmp"}


def summary(network, capture, lines, dropped, size):
    """The table printed at the end."""
    names = network.names()
    packets = capture.packets
    begin = packets[0].ns
    wire = sum(p.length for p in packets)
    print(f"\n{len(packets)} packets, {wire} bytes on the wire, {size} bytes in the file, "
          f"{(packets[-1].ns - begin) / 1e9:.1f} s, {capture.flows()} flows")
    print(f"{dropped} dropped by the kernel, {capture.swapped} put back in order")
    counts = collections.defaultdict(lambda: [0, 0, 0, set()])
    attacking = {id(p) for _, _, _, ps in lines for p in ps}
    for p in packets:
        service = next((s for (proto, port), s in SERVICES.items() if p.protocol == proto and (port is None or port in (p.sport, p.dport))),
                       "other" if p.src else "not IPv4")
        row = counts[service]
        row[0] += 1
        row[1] += p.length
        row[2] += id(p) in attacking
        row[3].add(p.src)
    print(f"\n{'service':10}{'packets':>9}{'bytes':>10}{'of attacks':>12}{'senders':>9}")
    for service, (number, size, attack, senders) in sorted(counts.items(), key=lambda c: -c[1][0]):
        print(f"{service:10}{number:>9}{size:>10}{attack:>12}{len(senders):>9}")
    print(f"\n{'attack':23}{'from':>8}{'to':>8}{'packets':>9}  host -> peer")
    for start, end, attack, ps in lines:
        print(f"{attack.name:23}{(start - begin) / 1e9:>8.1f}{(end - begin) / 1e9:>8.1f}{len(ps):>9}  "
              f"{attack.host.address} ({attack.host.name}) -> {attack.peer} ({names[attack.peer]}); {attack.note}")


def tshark_flows(path):
    """Flow counts as tshark sees them, where it is installed."""
    tool = shutil.which("tshark")
    if not tool:
        return None
    done = subprocess.run([tool, "-n", "-q", "-r", str(path), "-z", "conv,tcp", "-z", "conv,udp"], capture_output=True, text=True)
    return sum("<->" in line for line in done.stdout.splitlines())
