"""Who is there: config queries over one link, and whoever answers them."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aoe import limits
from aoe.initiator.path import USER_TAG
from aoe.link.base import Link
from aoe.wire import config, frame
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_RESPONSE, Command, Fault, Header


class Found(NamedTuple):
    """A target that answered: its address, the MAC it has there, and what its config reply said."""

    shelf: int
    slot: int
    mac: bytes
    config: Config

    @property
    def address(self) -> str:
        """`e<shelf>.<slot>`."""
        return f"e{self.shelf}.{self.slot}"


async def discover(link: Link, seconds: float = 0.5) -> list[Found]:
    """Everybody who answers within the time, by address; the link is not closed."""
    async with _asking(link) as finder:
        finder.ask(limits.SHELF_ALL, limits.SLOT_ALL)
        await asyncio.sleep(seconds)
        return sorted(finder.found.values())


async def find(link: Link, addresses: Sequence[tuple[int, int]], timeout_s: float) -> list[Found]:
    """Whoever answers for any of the (shelf, slot): a moment after there is one for each, or when the time is
    over. The link is not closed."""
    loop = asyncio.get_running_loop()
    async with _asking(link) as finder:
        deadline = loop.time() + timeout_s
        wait_s = limits.QUERY_FIRST_S
        while loop.time() < deadline:
            if not finder.missing(addresses):
                break
            for address in finder.missing(addresses):
                finder.ask(*address)
            await finder.wait_for(addresses, min(wait_s, deadline - loop.time()))
            wait_s = min(2 * wait_s, limits.QUERY_MAX_S)
            if finder.found and loop.time() > deadline - timeout_s + limits.QUERY_MAX_S:
                break  # some primaries may be away
        await asyncio.sleep(limits.QUERY_FIRST_S if finder.found else 0)
        return sorted(it for it in finder.found.values() if (it.shelf, it.slot) in addresses)


class _Finder:
    """Listens for config replies."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tag = random.getrandbits(31)
        self.found: dict[tuple[int, int, bytes], Found] = {}
        self.news = asyncio.Event()

    def ask(self, shelf: int, slot: int) -> None:
        self._tag = (self._tag + 1) % USER_TAG
        tag = USER_TAG | self._tag
        header = Header(BROADCAST, self._link.mac, frame.VERSION, 0, 0, shelf, slot, Command.CONFIG, tag)
        self._link.send(frame.encode(header, config.encode(Config(ConfigCommand.READ))))

    def missing(self, addresses: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        return set(addresses) - {(it.shelf, it.slot) for it in self.found.values()}

    async def wait_for(self, addresses: Sequence[tuple[int, int]], seconds: float) -> None:
        """Until all have answered, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.missing(addresses):
                    self.news.clear()
                    await self.news.wait()

    def ready(self, link: Link) -> None:
        for received in link.take().frames:
            header, message = frame.decode(received.frame), config.decode(received.frame)
            if isinstance(header, Fault) or isinstance(message, Fault):
                continue
            if header.flags & FLAG_RESPONSE and header.command == Command.CONFIG:
                found = Found(header.shelf, header.slot, header.src, message)
                self.found.setdefault(found[:3], found)
                self.news.set()

    def changed(self, link: Link, came_up: bool) -> None:
        pass


@asynccontextmanager
async def _asking(link: Link) -> AsyncIterator[_Finder]:
    finder = _Finder(link)
    link.start(finder)
    try:
        yield finder
    finally:
        link.stop()
