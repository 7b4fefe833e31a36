"""Runs inside a guest: serves, or steps the clock under what serves.

guest_clock.py serve EXPORTS: a target for each, their numbers in /pids. EXPORTS is a file with the arguments
of each, and whether it notices a step.
guest_clock.py step FRAMES WAIT_S STEP_S: stops the targets, says so, and waits until so many frames came.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

PIDS = Path("/pids")
ARRIVED = Path("/sys/class/net/eth0/statistics/rx_packets")


def notice_no_step() -> None:
    """Believe all stamps, as a careless target would."""
    from aoe.target.age import AgeGate

    AgeGate.observe = lambda *_: False  # type: ignore[method-assign]


def serve(exports: str) -> None:
    from aoe.cli import target

    pids = []
    for notices, arguments in json.loads(Path(exports).read_text()):
        pid = os.fork()
        if pid == 0:
            if not notices:
                notice_no_step()
            sys.exit(target.main(arguments))
        pids.append(pid)
    PIDS.write_text(" ".join(map(str, pids)))


def is_stopped(pid: int) -> bool:
    stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def step(frames: int, wait_s: float, step_s: float) -> None:
    pids = [int(pid) for pid in PIDS.read_text().split()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    while not all(map(is_stopped, pids)):
        time.sleep(0.01)
    before = int(ARRIVED.read_text())
    print("stopped", flush=True)
    while int(ARRIVED.read_text()) < before + frames:
        time.sleep(0.01)
    time.sleep(wait_s)
    if step_s:
        time.clock_settime(time.CLOCK_REALTIME, time.time() + step_s)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        step(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
