"""What a door costs the processor for each request: python -m bench.door_cpu, as root.

Reads and writes of 4 KiB past the page cache in an emulated machine, by way of nbd.ko and a door of two
primaries; beside the same by way of nbdkit's memory plugin. The machine has one processor, whose clock counts
instructions, one each nanosecond: so what the threads of nbdkit have run is a number of instructions, and the
same on a busy machine, but for how long the door waits busily. It prints the medians, in thousands of
instructions a request.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tests.support.labs.doors import DoorGuest, door_guest, with_door
from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.machine import needs_qemu
from tests.support.tools import need, need_namespaces, which

CLOCK = ("-icount", "shift=0")
MTUS = (9000, 1500)
DEPTHS = (1, 8)
MEMORY = "/usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-memory-plugin.so"
WORDS = {
    "read": "if=/dev/{device} of=/dev/null iflag=direct skip={first}",
    "write": "if=/dev/zero of=/dev/{device} oflag=direct seek={first}",
}
SERVE = (
    "/sbin/nbdkit --threads=16 -U /tmp/memory -P /tmp/memory.pid /lib/memory.so 64M"
    " && nbd-client -unix /tmp/memory /dev/nbd1 -b 4096 >/dev/null 2>&1 && cat /tmp/memory.pid"
)


def files() -> GuestFiles:
    """What is in the machine besides the door."""
    found = with_door()
    found.copy_program(Path(MEMORY), "lib/memory.so")
    found.copy_program(Path(which("dd") or ""), "sbin/dd-direct")
    found.copy_program(Path(which("nbd-client") or ""), "sbin/nbd-client")
    return found


def ran(there: DoorGuest, pid: int) -> int:
    """What all threads of a process have run, in nanoseconds."""
    said = there.guest.check(f"cat /proc/{pid}/task/*/schedstat")
    return sum(int(line.split()[0]) for line in said.splitlines())


def thousands(there: DoorGuest, device: str, pid: int, rw: str, depth: int, count: int) -> float:
    """Of instructions a request, with so many requests at a time."""
    each = count // depth
    at_once = (WORDS[rw].format(device=device, first=number * each) for number in range(depth))
    before = ran(there, pid)
    there.guest.check(f"({' & '.join(f'dd-direct bs=4k count={each} {it}' for it in at_once)} & wait) 2>&1")
    return (ran(there, pid) - before) / (each * depth) / 1000


def measure(mtu: int, count: int, rounds: int) -> None:
    with (
        tempfile.TemporaryDirectory() as work,
        door_guest(Path(work), *CLOCK, mtu=mtu, files=files()) as there,
    ):
        there.prepare()
        there.attach()
        pids = {"nbd0": there.door(), "nbd1": int(there.guest.check(SERVE))}
        for rw in WORDS:
            for depth in DEPTHS:
                found: dict[str, list[float]] = {device: [] for device in pids}
                for _ in range(rounds):
                    for device, pid in pids.items():
                        found[device].append(thousands(there, device, pid, rw, depth, count))
                door, memory = (statistics.median(it) for it in found.values())
                row = {"door": round(door, 1), "memory": round(memory, 1), "of": round(door / memory, 2)}
                print(json.dumps({"mtu": mtu, "rw": rw, "depth": depth, **row}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="of requests in a round")
    parser.add_argument("--rounds", type=int, default=3)
    said = parser.parse_args()
    needs_qemu()
    need_namespaces()
    need("nbdkit", "nbd-client")
    for mtu in MTUS:
        measure(mtu, said.count, said.rounds)


if __name__ == "__main__":
    main()
