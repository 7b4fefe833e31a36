"""Runs inside the client's namespace: writers on e1.0 over one interface, while its service starts again.

restart_client.py SECONDS SEED ENGINE. Says "go" when they run, and in the end one JSON object.
"""

import asyncio
import json
import sys

import aoe
from tests.support.checkers.writers import Writers

BLOCK = 1024


async def main(seconds: float, seed: int, engine: str) -> None:
    async with aoe.attach("e1.0", interface="v0", timeout_s=None, engine=engine) as disk:
        writers = Writers(disk, block=BLOCK, seed=seed, all_verbs=True)
        print("go", flush=True)
        await writers.run(seconds)
        said = {"calls": len(writers.calls), "pause_s": writers.pause_s, "faults": writers.faults()}
        print(json.dumps(said | {"counters": disk.counters}))


asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
