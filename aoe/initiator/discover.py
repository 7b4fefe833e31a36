"""Who is there: config queries over one link, and whoever answers them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aoe import limits
from aoe.initiator.path import USER_TAG
from aoe.link.base import Link
from aoe.wire import config, frame
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_RESPONSE, Command, Fault, Header

_LAST_LOOK_S = 0.01
"""What came while this process was stopped is still read."""


class Found(NamedTuple):
    """A target that answered: its address, the MAC it has there, and what its config reply said."""

    shelf: int
    slot: int
    mac: bytes
    config: Config


async def discover(link: Link, seconds: float = 0.5) -> list[Found]:
    """Everybody who answers within the time, by address; the link is not closed."""
    async with _asking(link) as finder:
        for _ in range(2):  # one may be lost
            finder.ask(limits.SHELF_ALL, limits.SLOT_ALL)
            await asyncio.sleep(seconds / 2)
        await asyncio.sleep(_LAST_LOOK_S)
        return sorted(finder.found.values())


class _Finder:
    """Listens for config replies."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tag = random.getrandbits(31)
        self.found: dict[tuple[int, int, bytes], Found] = {}

    def ask(self, shelf: int, slot: int) -> None:
        self._tag = (self._tag + 1) % USER_TAG
        tag = USER_TAG | self._tag
        header = Header(BROADCAST, self._link.mac, frame.VERSION, 0, 0, shelf, slot, Command.CONFIG, tag)
        self._link.send(frame.encode(header, config.encode(Config(ConfigCommand.READ))))

    def ready(self, link: Link) -> None:
        for received in link.take().frames:
            header, message = frame.decode(received.frame), config.decode(received.frame)
            if isinstance(header, Fault) or isinstance(message, Fault):
                continue
            if header.flags & FLAG_RESPONSE and header.command == Command.CONFIG:
                found = Found(header.shelf, header.slot, header.src, message)
                self.found.setdefault(found[:3], found)

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
