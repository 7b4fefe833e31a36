"""Runs inside the client's namespace: a disk through the engine's initiator, used until SIGUSR1 comes.

remote_client.py TASKS. Says "go" when requests are under way, and in the end one JSON object.
"""

import asyncio
import json
import random
import signal
import sys

from aoe.initiator.engine_carrier import EngineCarrier
from aoe.initiator.options import Options
from aoe.initiator.remote import RemoteDisk

BLOCK = 4096


async def main(tasks: int) -> None:
    disk = RemoteDisk("e1.1", EngineCarrier(["v0"], [(1, 1)], random.getrandbits(31)), ["v0"], Options())
    states: list[str] = []
    over = asyncio.Event()
    done = 0

    async def watch() -> None:
        while True:
            states.extend(path.state for path in await disk.next_change())

    async def work(number: int) -> None:
        nonlocal done
        place = disk.size // tasks * number // BLOCK * BLOCK
        while not over.is_set():
            data = done.to_bytes(8, "big") * (BLOCK // 8)
            await disk.write(place, data)
            assert await disk.read(place, BLOCK) == data
            done += 1

    await disk.begin(5)
    watching = asyncio.ensure_future(watch())
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, over.set)
    work_done = asyncio.gather(*(work(number) for number in range(tasks)))
    print("go", flush=True)
    await work_done
    watching.cancel()
    print(json.dumps({"done": done, "states": states, "counters": disk.counters}))
    disk.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
