"""Several disks on the same links: each address is looked at on its own, many at a time."""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import NamedTuple

from aoe import limits, timing
from aoe.drive import identify
from aoe.engine import why_unavailable
from aoe.errors import Unreachable
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.core import Core
from aoe.initiator.facts import Reason
from aoe.initiator.inquiry import Found, Inquiry, Told
from aoe.initiator.life import State
from aoe.initiator.link_carrier import LinkCarrier
from aoe.initiator.options import Options
from aoe.initiator.path import Address, PathSnapshot
from aoe.initiator.remote import RemoteDisk
from aoe.initiator.standing import PathStatus, Standing
from aoe.link.base import Link
from aoe.link.split import SplitLink
from aoe.wire import protocol


class Surveyed(NamedTuple):
    """One address. `problem` says why there is no disk: then `size` (bytes) is 0. `paths` are what was found
    there, usable or not; `retransmits` how many frames it took too many. `is_one_server` is whether the
    paths are known to lead to one; `drives` the model and release of each server that was asked, by the MAC
    that answered."""

    address: str
    size: int
    serial: str
    paths: list[PathStatus]
    retransmits: int
    problem: Unreachable | None
    is_one_server: bool = True
    drives: tuple[tuple[str, str], ...] = ()


class Asked(NamedTuple):
    """A server at one address, heard on the link of that number; what it said is on its way."""

    port: int
    telling: asyncio.Task[Told | None]


async def survey(
    links: Sequence[Link], find_s: float = timing.FIND_HEARD_S
) -> AsyncGenerator[Surveyed, None]:
    """The targets that answer a config query, by address. The links stay open; they have no other user.

    What a server says of its disk is enough where no other serves the same address. Else, and where it does
    not say, a disk is attached, which compares them, or finds out why not."""
    asked: dict[Address, list[Asked]] = {}
    with _split(links) as trunks, _inquiries(trunks, asked) as inquiries:
        await asyncio.gather(*(each.ask_all(timing.DISCOVER_S) for each in inquiries))
        room = asyncio.Semaphore(limits.SURVEYED_AT_ONCE)

        async def look(address: Address) -> Surveyed:
            told = [(port, await telling) for port, telling in asked[address]]
            known = [(port, it) for port, it in told if it is not None]
            if len(known) == len(told) and _is_one_server([it for _, it in known]):
                return _as_told(trunks, known)
            async with room:
                found = await _attached(trunks, address, find_s)
            return found._replace(is_one_server=len(told) <= 1, drives=_drives([it for _, it in known]))

        looks = [asyncio.ensure_future(look(address)) for address in sorted(asked)]
        try:
            for each in looks:
                yield await each
        finally:
            for each in looks:
                each.cancel()


@contextmanager
def _inquiries(trunks: Sequence[SplitLink], asked: dict[Address, list[Asked]]) -> Iterator[list[Inquiry]]:
    """One on each link; each server that is found goes into `asked`."""

    def on_found(port: int, found: Found) -> None:
        telling = asyncio.ensure_future(made[port].ask(found))
        asked.setdefault(found[:2], []).append(Asked(port, telling))

    made = [Inquiry(trunk.branch(None), partial(on_found, port)) for port, trunk in enumerate(trunks)]
    for each in made:
        each.start()
    try:
        yield made
    finally:
        for each in made:
            each.stop()
        for _, telling in itertools.chain(*asked.values()):
            telling.cancel()


def _is_one_server(told: Sequence[Told]) -> bool:
    """Whether there is nothing to compare: one life of one server, by one path or by several."""
    first = told[0].facts.instance
    return len(told) == 1 or (first is not None and all(it.facts.instance == first for it in told))


def _as_told(trunks: Sequence[SplitLink], told: Sequence[tuple[int, Told]]) -> Surveyed:
    standing = Standing(lambda port: trunks[port].link.name, hold=False)
    ranked = sorted(told, key=lambda it: (it[0], it[1].found.mac))
    paths = [standing.status(_usable(number, *it)) for number, it in enumerate(ranked)]
    data = ranked[0][1].facts.data
    size, serial = identify.sectors_of(data) * protocol.SECTOR, identify.serial_of(data)
    again = sum(it.again for _, it in told)
    drives = _drives([it for _, it in ranked])
    return Surveyed(paths[0].address, size, serial, paths, again, None, drives=drives)


def _drives(told: Sequence[Told]) -> tuple[tuple[str, str], ...]:
    """A server that is heard on several links said so more than once."""
    said = {it.found.mac.hex(":"): it.facts.data for it in told}
    return tuple(
        (mac, f"{identify.model_of(data)} {identify.release_of(data)}") for mac, data in sorted(said.items())
    )


def _usable(number: int, port: int, told: Told) -> PathSnapshot:
    shelf, slot, mac, *_ = told.found
    state = State.USABLE, Reason.NONE, number == 0
    size = told.sectors, told.sectors_max, told.narrow
    draining = told.facts.draining
    return PathSnapshot(number, port, mac, shelf, slot, *state, told.rtt_ns, *size, 0, draining=draining)


async def _attached(trunks: Sequence[SplitLink], address: Address, find_s: float) -> Surveyed:
    disk = _disk(trunks, address)
    try:
        problem = await _begun(disk, find_s)
    finally:
        disk.close()
    size = 0 if problem else disk.size
    retransmits = disk.counters.get("retransmits", 0)
    return Surveyed(disk.address, size, disk.identity or "", disk.paths, retransmits, problem)


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
