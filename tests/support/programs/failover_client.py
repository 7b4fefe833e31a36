"""Runs inside the client's namespace: writers on one disk over two interfaces.

failover_client.py SECONDS BLOCK SEED ENGINE. Says "go" and the owner when they run, and in the end
one JSON object.
"""

import asyncio
import json
import sys

import aoe
from aoe.initiator.remote import RemoteDisk
from tests.support.checkers.writers import Writers


def owner(disk: RemoteDisk) -> str:
    return next((path.name for path in disk.paths if path.owner), "")


async def main(seconds: float, block: int, seed: int, engine: str) -> None:
    both = ("e1.0", "e2.0")
    async with aoe.attach(*both, interface=["v0", "v1"], find_s=2.0, timeout_s=None, engine=engine) as disk:
        while any(path.state == "checking" for path in disk.paths):
            await asyncio.sleep(0.01)
        writers = Writers(disk, block=block, seed=seed, all_verbs=True)
        first = owner(disk)
        moves = 0

        async def watch() -> None:
            nonlocal moves, first
            while True:
                if owner(disk) not in (first, ""):
                    moves, first = moves + 1, owner(disk)
                await asyncio.sleep(0.005)

        watching = asyncio.ensure_future(watch())
        print("go", first, flush=True)
        await writers.run(seconds)
        watching.cancel()
        said = {
            "moves": moves,
            "calls": len(writers.calls),
            "verbs": writers.verbs,
            "pause_s": writers.pause_s,
            "faults": writers.faults(),
        }
        print(json.dumps(said | {"paths": [path._asdict() for path in disk.paths]}))


asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
