"""Runs inside a client's namespace: a disk over AoE under the load of `sized` for some seconds.

sized_client.py ENGINE SECONDS INTERFACE,... ADDRESS...  Says "go" when requests are under way, and in the end
one JSON object; SIGUSR1 ends it sooner. Between the two it says how many sectors each path carries, and
why not more, whenever that changes. What is read is compared here.
"""

import asyncio
import json
import signal
import sys

import aoe
from aoe.initiator.remote import RemoteDisk
from tests.support.checkers.sized import Sized


async def main(engine: str, seconds: float, interfaces: list[str], addresses: list[str]) -> None:
    async with aoe.attach(*addresses, interface=interfaces, engine=engine, timeout_s=20) as disk:
        load = Sized(disk)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, load.stop)
        attached = [path.sectors for path in disk.paths]
        print("go", flush=True)
        telling = asyncio.ensure_future(tell(disk))
        await load.run(seconds)
        telling.cancel()
        said = {
            "requests": load.requests,
            "pause_s": load.pause_s,
            "attached": attached,
            "paths": [path._asdict() for path in disk.paths],
            "counters": disk.counters,
        }
        print(json.dumps(said), flush=True)


async def tell(disk: RemoteDisk) -> None:
    told: list[tuple[int, str]] = []
    while True:
        if told != (told := [(path.sectors, path.narrow) for path in disk.paths]):
            print(json.dumps(told), flush=True)
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3].split(","), sys.argv[4:]))
