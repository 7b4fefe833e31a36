"""Runs inside a client's namespace: a disk over AoE under the load of `sized` for some seconds.

sized_client.py ENGINE SECONDS INTERFACE,... ADDRESS...  Says "go" when requests are under way, and in the end
one JSON object. What is read is compared there.
"""

import asyncio
import json
import sys

import aoe
from tests.support.checkers.sized import Sized


async def main(engine: str, seconds: float, interfaces: list[str], addresses: list[str]) -> None:
    async with aoe.attach(*addresses, interface=interfaces, engine=engine, timeout_s=20) as disk:
        load = Sized(disk)
        attached = [path.sectors for path in disk.paths]
        print("go", flush=True)
        await load.run(seconds)
        said = {
            "requests": load.requests,
            "pause_s": load.pause_s,
            "attached": attached,
            "paths": [path._asdict() for path in disk.paths],
            "counters": disk.counters,
        }
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3].split(","), sys.argv[4:]))
