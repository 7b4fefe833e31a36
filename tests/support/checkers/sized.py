"""A load whose requests are as large as frames, and larger: all bytes are compared, the pauses measured."""

import asyncio
import random
import time

from aoe.disk.base import Disk
from tests.support.waiting import own_s

SECTOR = 512
REQUESTS_MIN = 101
"""However little of the processor it gets."""


class Sized:
    """`tasks` that write, read and compare, each in a part of the disk that is its own: whole frames, odd
    ends, single sectors, and requests of many frames. `pause_s` is the longest that one request took."""

    def __init__(self, disk: Disk, tasks: int = 8, seed: int = 0) -> None:
        self.disk = disk
        self.share = disk.size // tasks // SECTOR * SECTOR
        self.held = [bytearray(self.share) for _ in range(tasks)]
        self.rngs = [random.Random(seed * tasks + number) for number in range(tasks)]
        self.requests = 0
        self.pause_s = 0.0
        self._until = 0.0

    async def run(self, seconds: float) -> None:
        """For so long, and until it made some requests; then all of it is read and compared once more."""
        self._until = time.monotonic() + seconds
        await asyncio.gather(*(self._work(number) for number in range(len(self.held))))
        for number, held in enumerate(self.held):
            assert await self.disk.read(number * self.share, self.share) == held

    def stop(self) -> None:
        """End it before its time."""
        self._until = 0.0

    async def _work(self, number: int) -> None:
        rng, held, base = self.rngs[number], self.held[number], number * self.share
        held[:] = bytes(self.share)
        await self.disk.write(base, bytes(held))
        while time.monotonic() < self._until or self.requests < REQUESTS_MIN:
            length = min(rng.choice([SECTOR, 777, 4096, 8192, 8192, 8192, 30000]), self.share)
            at = rng.randrange(self.share - length + 1)
            at = at // SECTOR * SECTOR if rng.random() < 0.8 else at
            began_s = own_s()
            if rng.random() < 0.6:
                held[at : at + length] = data = rng.randbytes(length)
                await self.disk.write(base + at, data, fua=rng.random() < 0.2)
            else:
                assert await self.disk.read(base + at, length) == held[at : at + length]
            self.pause_s = max(self.pause_s, own_s() - began_s)
            self.requests += 1
            await asyncio.sleep(0.001)
