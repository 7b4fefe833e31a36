"""Runs inside a network namespace: uses a disk over AoE as a program would, and compares.

exercise.py ADDRESS INTERFACE OPERATIONS [python|c]. Prints one JSON object.
"""

import asyncio
import json
import random
import sys

import aoe

WORKERS = 8
MOST = 40_000


async def main(address: str, interface: str, operations: int, engine: str = "auto") -> None:
    rng = random.Random(6)
    async with aoe.attach(address, interface=interface, engine=engine) as disk:
        model = bytearray(await disk.read(0, disk.size))
        part = disk.size // WORKERS // 512 * 512

        async def work(first: int) -> None:
            for _ in range(operations // WORKERS):
                offset = first + rng.randrange(part - MOST)
                data = rng.randbytes(rng.randrange(1, MOST))
                await disk.write(offset, data, fua=rng.random() < 0.1)
                model[offset : offset + len(data)] = data
                assert await disk.read(offset, len(data)) == data

        await asyncio.gather(*(work(worker * part) for worker in range(WORKERS)))
        await disk.flush()
        assert await disk.read(0, disk.size) == model
        print(json.dumps({"size": disk.size, "serial": disk.identity, "counters": disk.counters}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
