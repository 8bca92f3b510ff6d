"""A long line between two tap devices: each frame arrives late by its outside host's delay, in order.

usage: wan.py INNER_FD OUTER_FD ADDRESS=SECONDS...
"""

import heapq
import os
import random
import select
import socket
import sys
import time

IPV4 = b"\x08\x00"
# Frames on the line at once; beyond this they are dropped, as a full queue would.
QUEUE = 4000


def main():
    fds = [int(sys.argv[1]), int(sys.argv[2])]
    delays = {}
    for pair in sys.argv[3:]:
        address, seconds = pair.split("=")
        delays[socket.inet_aton(address)] = float(seconds)
    dice = random.Random(0)
    last = {}
    line = []
    order = 0
    for fd in fds:
        os.set_blocking(fd, False)
    while True:
        wait = max(0.0, line[0][0] - time.monotonic()) if line else None
        ready, _, _ = select.select(fds, [], [], wait)
        for fd in ready:
            outward = fd == fds[0]
            for _ in range(64):
                try:
                    frame = os.read(fd, 2048)
                except BlockingIOError:
                    break
                far = None
                if frame[12:14] == IPV4:
                    far = frame[30:34] if outward else frame[26:30]
                delay = delays.get(far, 0.002)
                key = (outward, far)
                # Jitter never reorders: a frame leaves no earlier than the one before it.
                due = max(time.monotonic() + delay * (1 + abs(dice.gauss(0, 0.04))), last.get(key, 0.0))
                last[key] = due
                if len(line) < QUEUE:
                    order += 1
                    heapq.heappush(line, (due, order, fds[1] if outward else fds[0], frame))
        now = time.monotonic()
        while line and line[0][0] <= now:
            _, _, fd, frame = heapq.heappop(line)
            try:
                os.write(fd, frame)
            except OSError:
                pass  # the far interface is down: the frame is lost, as on any line


if __name__ == "__main__":
    main()
