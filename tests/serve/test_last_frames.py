"""What a target has taken from a link when it stops, it answers: no later process finds it there."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aoe import limits
from aoe.disk.memory import MemoryDisk
from aoe.link.base import Batch
from aoe.link.memory import MemoryLink, Network
from aoe.target.offer import Offer
from aoe.target.target import Target
from aoe.wire import ata, frame
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaRequest
from aoe.wire.frame import FLAG_RESPONSE, VERSION, Command, Header
from aoe.wire.protocol import SECTOR
from tests.serve.initiator import WRITE_EXT, Initiator, mac

HOST, OURS = mac(9), (mac(1), mac(2))


class Busy(MemoryLink):
    """All that is taken came after the pass began. Where it is `endless` there is something each time."""

    endless = b""
    passes = 0

    def take(self) -> Batch:
        self.passes += 1
        if self.endless:
            self.arrive(self.endless, time.time_ns())
        batch = super().take()
        return batch._replace(frames=[it._replace(stamp_ns=time.time_ns()) for it in batch.frames])


class Scene:
    """A target on two links; the host is on the busy one."""

    def __init__(self) -> None:
        quiet, self.network = Network(), Network()
        self.link = Busy(self.network, OURS[1], 1500)
        self.network._links.append(self.link)
        self.host = Initiator(self.network.attach(HOST))
        self.disk = MemoryDisk(64 * SECTOR)
        self.target = Target.open([quiet.attach(OURS[0]), self.link])

    def came(self, tag: int, lba: int) -> None:
        """A write is taken, and has to wait for what the other link may have before it."""
        body = ata.encode(
            AtaRequest(AFLAG_WRITE | AFLAG_EXTENDED, 0, 1, WRITE_EXT, lba, bytes([tag]) * SECTOR)
        )
        self.write = frame.encode(Header(OURS[1], HOST, VERSION, 0, 0, 0, 0, Command.ATA, tag), body)
        self.link.arrive(self.write, time.time_ns())
        self.target.server.ready(self.link)
        assert self.target.server._reception

    @property
    def answered(self) -> list[int]:
        return [it.tag for it in self.host.headers if it.flags & FLAG_RESPONSE and it.tag]


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    here = Scene()
    try:
        await here.target.add(Offer(here.disk, 0, 0, "serial"), check=False)
        yield here
    finally:
        await here.target.stop(0)


def test_what_was_taken_and_waits_for_its_turn_is_answered() -> None:
    async def run() -> None:
        async with scene() as here:
            here.came(1, 7)
            assert await here.target.stop()
            async with asyncio.timeout(30):
                while here.answered != [1]:
                    await asyncio.sleep(0)

    asyncio.run(run())


def test_it_ends_although_more_comes_all_the_time() -> None:
    async def run() -> None:
        async with scene() as here:
            here.came(1, 7)
            here.link.endless = here.write
            here.link.passes = 0
            assert await here.target.stop()
            assert 0 < here.link.passes <= limits.LAST_PASSES_MAX

    asyncio.run(run())
