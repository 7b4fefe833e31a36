"""Runs inside the client's namespace: eight that write 8 KiB at random over two primaries, eight that read.

failover_load.py SECONDS. Says "go" and the owner when they run, and in the end one JSON object: how many
writes and reads were done in each STEP_S from `start_s` on (monotonic clock), and how many seconds the
slowest of those took (null: there was none).
"""

import asyncio
import json
import os
import random
import sys
import time

import uvloop

import aoe
from aoe.initiator.remote import RemoteDisk
from bench.contest import LOAD_CPU

STEP_S = 0.05
BLOCK = 8192
EACH = 8


async def work(
    disk: RemoteDisk, writes: bool, seed: int, start_s: float, steps: list[int], slowest_s: list[float | None]
) -> None:
    """One after the other, until all steps are over."""
    rng = random.Random(seed)
    data = rng.randbytes(BLOCK)
    while True:
        began_s = time.monotonic()
        offset = rng.randrange(disk.size // BLOCK) * BLOCK
        if writes:
            await disk.write(offset, data)
        else:
            await disk.read(offset, BLOCK)
        ended_s = time.monotonic()
        step = int((ended_s - start_s) / STEP_S)
        if step >= len(steps):
            return
        steps[step] += 1
        slowest_s[step] = max(slowest_s[step] or 0.0, ended_s - began_s)


async def main(seconds: float) -> None:
    os.sched_setaffinity(0, {int(LOAD_CPU)})
    steps = round(seconds / STEP_S)
    done = {"writes": [0] * steps, "reads": [0] * steps}
    slowest_s: dict[str, list[float | None]] = {kind: [None] * steps for kind in done}
    async with aoe.attach("e1.0", "e2.0", interface=["v0", "v1"], timeout_s=None) as disk:
        while any(path.state == "checking" for path in disk.paths):
            await asyncio.sleep(0.01)
        print("go", next(path.name for path in disk.paths if path.owner), flush=True)
        start_s = time.monotonic()
        workers = [
            work(disk, kind == "writes", seed, start_s, done[kind], slowest_s[kind])
            for seed in range(EACH)
            for kind in done
        ]
        await asyncio.gather(*workers)
    slowest = {f"slowest_{kind}": them for kind, them in slowest_s.items()}
    print(json.dumps({"start_s": start_s, "step_s": STEP_S, **done, **slowest}))


uvloop.run(main(float(sys.argv[1])))
