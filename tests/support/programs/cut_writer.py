"""Writes stamped blocks to e1.0, e1.1 ... until its input ends, and then says when each was sent and
acknowledged; and of each read what it showed, if there were readers, in another line."""

import asyncio
import gc
import itertools
import json
import random
import sys
import time
from contextlib import AsyncExitStack

from aoe.errors import AoeError
from aoe.initiator.attach import attach
from aoe.initiator.remote import RemoteDisk
from aoe.link.packet import PacketLink
from tests.support.checkers.moments import BLOCK, SECTOR, stamped, stamps
from tests.support.waiting import PATIENCE_S

AT_ONCE, BLOCKS_MAX = 12, 5
History = list[tuple[int, list[tuple[int, int]], float, float | None]]
Reads = list[tuple[tuple[int, int], int, float, float]]
"""The place, the number that stands there, and when it was asked for and answered."""


class Writer:
    """Of one process to all disks."""

    def __init__(self, disks: list[RemoteDisk], seed: int, blocks_max: int) -> None:
        self._disks = disks
        self._blocks = sorted({1, min(2, blocks_max), blocks_max})
        self._rng = random.Random(seed)
        self._reading = random.Random(seed)
        self._begun: dict[int, tuple[int, int]] = {}
        """Where a write that is under way begins."""
        self._numbers = itertools.count(1)
        self.history: History = []
        self.reads: Reads = []
        self.stopped = False

    async def run(self) -> None:
        while not self.stopped:
            await self._write(next(self._numbers))

    async def _write(self, number: int) -> None:
        disk = self._rng.randrange(len(self._disks))
        blocks = self._rng.choice((1, 1, *self._blocks))
        first = self._rng.randrange(self._disks[disk].size // BLOCK - blocks)
        sectors = BLOCK // SECTOR
        places = [(disk, first * sectors + at) for at in range(blocks * sectors)]
        self._begun[number] = places[0]
        sent, acknowledged = time.monotonic_ns(), None
        try:
            await self._disks[disk].write(BLOCK * first, stamped(number, blocks))
            acknowledged = time.monotonic_ns()
        except AoeError:
            pass  # the server is gone
        finally:
            del self._begun[number]
        self.history.append((number, places, sent, acknowledged))

    async def read(self) -> None:
        """Sectors that are being written, until it is stopped."""
        while not self.stopped:
            disk, sector = self._reading.choice([*self._begun.values()] or [(0, 0)])
            sent = time.monotonic_ns()
            try:
                (found,) = stamps(await self._disks[disk].read(SECTOR * sector, SECTOR))
            except AoeError:
                continue  # the server is gone
            self.reads.append(((disk, sector), found, sent, time.monotonic_ns()))


async def main(
    disks: int, seed: int, at_once: int = AT_ONCE, blocks_max: int = BLOCKS_MAX, readers: int = 0
) -> None:
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(attach(f"e1.{slot}", link=[PacketLink("v0")]))
            for slot in range(disks)
        ]
        writer = Writer(opened, seed, blocks_max)
        gc.disable()  # to look through the history takes 100 ms, which the writes would seem to have taken
        running = [asyncio.ensure_future(writer.run()) for _ in range(at_once)]
        running += [asyncio.ensure_future(writer.read()) for _ in range(readers)]
        print("writing", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        writer.stopped = True
        await asyncio.wait(running, timeout=PATIENCE_S)
        print(json.dumps(writer.history), flush=True)
        if readers:
            print(json.dumps(writer.reads), flush=True)
        for task in running:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
