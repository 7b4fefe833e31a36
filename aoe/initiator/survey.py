"""Several disks on the same links: each address is looked at on its own, many at a time."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from aoe import limits, timing
from aoe.engine import why_unavailable
from aoe.errors import Unreachable
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.core import Core
from aoe.initiator.discover import discover
from aoe.initiator.link_carrier import LinkCarrier
from aoe.initiator.options import Options
from aoe.initiator.path import Address
from aoe.initiator.remote import RemoteDisk
from aoe.initiator.standing import PathStatus
from aoe.link.base import Link
from aoe.link.split import SplitLink


class Surveyed(NamedTuple):
    """One address. `problem` says why there is no disk: then `size` (bytes) is 0. `paths` are what was found
    there, usable or not; `retransmits` how many frames it took too many."""

    address: str
    size: int
    serial: str
    paths: list[PathStatus]
    retransmits: int
    problem: Unreachable | None


async def survey(
    links: Sequence[Link], find_s: float = timing.FIND_HEARD_S
) -> AsyncGenerator[Surveyed, None]:
    """The targets that answer a config query, by address. The links stay open; they have no other user."""
    with _split(links) as trunks:
        everywhere = await asyncio.gather(*(discover(trunk.branch(None)) for trunk in trunks))
        room = asyncio.Semaphore(limits.SURVEYED_AT_ONCE)

        async def look(address: Address) -> Surveyed:
            async with room:
                disk = _disk(trunks, address)
                problem = await _begun(disk, find_s)
                disk.close()
            size = 0 if problem else disk.size
            retransmits = disk.counters.get("retransmits", 0)
            return Surveyed(disk.address, size, disk.identity or "", disk.paths, retransmits, problem)

        addresses = sorted({found[:2] for there in everywhere for found in there})
        looks = [asyncio.ensure_future(look(address)) for address in addresses]
        try:
            for each in looks:
                yield await each
        finally:
            for each in looks:
                each.cancel()


@asynccontextmanager
async def attach_each(
    links: Sequence[Link], addresses: Sequence[Address], find_s: float = timing.FIND_S
) -> AsyncIterator[list[tuple[RemoteDisk, Unreachable | None]]]:
    """A disk for each address, or why it cannot be used; as for `survey`."""
    with _split(links) as trunks:
        disks = [_disk(trunks, address) for address in addresses]
        try:
            problems = await asyncio.gather(*(_begun(disk, find_s) for disk in disks))
            yield list(zip(disks, problems, strict=True))
        finally:
            for disk in disks:
                disk.close()


@contextmanager
def _split(links: Sequence[Link]) -> Iterator[list[SplitLink]]:
    trunks = [SplitLink(link) for link in links]
    try:
        yield trunks
    finally:
        for trunk in trunks:
            trunk.close()


def _disk(trunks: Sequence[SplitLink], address: Address) -> RemoteDisk:
    branches = [trunk.branch(address) for trunk in trunks]
    core = CompiledCore if why_unavailable() is None else Core
    carrier = LinkCarrier(core(len(branches), [address], random.getrandbits(31)), branches, branches)
    name = "e{}.{}".format(*address)
    return RemoteDisk(name, carrier, [branch.name for branch in branches], Options())


async def _begun(disk: RemoteDisk, find_s: float) -> Unreachable | None:
    try:
        await disk.begin(find_s)
    except Unreachable as error:
        return error
    return None
