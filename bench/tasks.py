"""What a program that uses the asyncio interface gets: tasks that read 4 KiB at random, and look at it.

tasks.py ADDRESS INTERFACE TASKS SECONDS. Prints what `aoe bench --json` prints.
"""

import asyncio
import json
import random
import struct
import sys
import time

import uvloop

import aoe
from aoe.wire.protocol import SECTOR
from bench.image import STAMP

BLOCK = 4096
MARK = struct.Struct("QQ")


async def main(address: str, interface: str, tasks: int, seconds: float) -> None:
    taken_ns: list[int] = []
    bad = 0
    async with aoe.attach(address, interface=interface) as disk:
        places = disk.size // BLOCK
        rng = random.Random(1)
        started = time.monotonic_ns()
        end = started + int(seconds * 1e9)

        async def work() -> None:
            nonlocal bad
            while (now := time.monotonic_ns()) < end:
                place = rng.randrange(places)
                data = await disk.read(place * BLOCK, BLOCK)
                taken_ns.append(time.monotonic_ns() - now)
                bad += MARK.unpack_from(data) != (STAMP, place * BLOCK // SECTOR)

        await asyncio.gather(*(work() for _ in range(tasks)))
        elapsed = (time.monotonic_ns() - started) / 1e9
        retransmits = disk.counters.get("retransmits", 0)
    taken_ns.sort()
    parts = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    percentiles = {name: taken_ns[int(len(taken_ns) * part)] / 1000 for name, part in parts.items()}
    found = {"requests_per_s": len(taken_ns) / elapsed, **percentiles, "retransmits": retransmits}
    print(json.dumps({**found, "errors": 0, "bad": bad}))


uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
