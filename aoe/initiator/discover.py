"""Which targets are there: config queries over one link, and the answers."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aoe import timing
from aoe.initiator.options import as_links, as_names, check_seconds
from aoe.link.base import Link
from aoe.link.packet import PacketLink, every_link
from aoe.wire import config, frame, protocol
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_RESPONSE, Command, Fault, Header
from aoe.wire.protocol import USER_TAG


class Found(NamedTuple):
    """A target that answered at `address`: the MAC that it has there, what its config reply said, and on
    which interface of ours it came in."""

    shelf: int
    slot: int
    mac: bytes
    config: Config
    interface: str = ""

    @property
    def address(self) -> str:
        """As `attach` takes it: `e1.0`."""
        return f"e{self.shelf}.{self.slot}"


async def discover(
    link: Link | Sequence[Link] = (), seconds: float = 0.5, *, interface: str | Sequence[str] = ()
) -> list[Found]:
    """Every target that answers a config query within `seconds` (0 to 1e9), by address: on Ethernet
    interfaces by name, over links, which stay open, or else on every Ethernet interface that is up.

    ConfigurationError where an interface cannot be used, or none is up.
    """
    check_seconds("seconds", seconds)
    given, names = as_links(link), as_names(interface)
    opened = [] if names or given else every_link()
    try:
        for name in names:
            opened.append(PacketLink(name))
        found = await asyncio.gather(*(_heard(each, seconds) for each in [*given, *opened]))
    finally:
        for each in opened:
            each.close()
    return sorted(it for there in found for it in there)


async def _heard(link: Link, seconds: float) -> list[Found]:
    async with _asking(link) as finder:
        for _ in range(2):  # one may be lost
            finder.ask(protocol.SHELF_ALL, protocol.SLOT_ALL)
            await asyncio.sleep(seconds / 2)
        await asyncio.sleep(timing.LAST_LOOK_S)
        return list(finder.found.values())


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
                found = Found(header.shelf, header.slot, header.src, message, link.name)
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
