"""Runs inside the client's namespace: reads and writes until SIGUSR1 comes, and is stopped meanwhile.

stopped_client.py ENGINE TIMEOUT_S. Says "go" when requests are under way, and in the end one JSON object.
"""

import asyncio
import json
import signal
import sys

import uvloop

import aoe
from aoe.errors import AoeError

BLOCK, TASKS = 4096, 8


async def main(engine: str, timeout_s: float) -> None:
    over, states, errors, done = asyncio.Event(), set(), [], 0
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, over.set)
    async with aoe.attach("e1.1", interface="v0", engine=engine, timeout_s=timeout_s) as disk:

        async def watch() -> None:
            while True:
                states.update(path.state for path in await disk.next_change())

        async def work(number: int) -> None:
            nonlocal done
            while not over.is_set():
                try:
                    data = done.to_bytes(8, "big") * (BLOCK // 8)
                    await disk.write(number * BLOCK, data)
                    assert await disk.read(number * BLOCK, BLOCK) == data
                except AoeError as error:
                    errors.append(str(error))
                done += 1

        watching = asyncio.ensure_future(watch())
        print("go", flush=True)
        await asyncio.gather(*map(work, range(TASKS)))
        watching.cancel()
    print(json.dumps({"done": done, "states": sorted(states), "errors": errors}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2])))
