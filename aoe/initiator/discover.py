"""Who is there: config queries over one link, and whoever answers them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aoe import limits
from aoe.errors import RequestError
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


async def find(link: Link, shelf: int, slot: int, timeout_s: float) -> Found:
    """The first that answers for an address. RequestError if nobody does."""
    async with _asking(link) as finder:
        deadline = asyncio.get_running_loop().time() + timeout_s
        wait_s = limits.QUERY_FIRST_S
        while asyncio.get_running_loop().time() < deadline:
            finder.news.clear()
            finder.ask(shelf, slot)
            try:
                async with asyncio.timeout(wait_s):
                    while not finder.answers(shelf, slot):
                        await finder.news.wait()
                        finder.news.clear()
            except TimeoutError:
                wait_s = min(2 * wait_s, limits.QUERY_MAX_S)
            else:
                return finder.answers(shelf, slot)[0]
    raise RequestError(
        f"e{shelf}.{slot} does not answer on {link.name}; "
        "is it served there, and is this host allowed to use it?"
    )


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

    def answers(self, shelf: int, slot: int) -> list[Found]:
        return [it for it in self.found.values() if (it.shelf, it.slot) == (shelf, slot)]

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
