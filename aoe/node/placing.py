"""Serves on the links that the file and the host have now, and leaves the others."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from aoe import timing
from aoe.config.values import ExportConfig
from aoe.disk.threads import aside
from aoe.errors import AoeError
from aoe.link.base import Link
from aoe.link.interface import Monitor
from aoe.link.packet import PacketLink
from aoe.node.links import Links, Names, opened
from aoe.node.opener_connection import OpenerLost
from aoe.node.plan import Key
from aoe.node.steps import ALL, Note
from aoe.node.told import Told
from aoe.printable import plain
from aoe.target.target import Target

log = logging.getLogger("aoe.node")


async def go_to(
    names: Names, links: Links, target: Target, exports: Mapping[Key, ExportConfig]
) -> list[Note]:
    """Serve on what the names mean now, each of the exports where it is to be; what failed. The frames of a
    link that stays are not touched."""
    turn = links.look(names)
    new, failed = await aside(lambda: opened(links, turn, target.server.make_ready))
    gone = links.turn(names, new)
    for link in gone:
        links.forget(link)
    if new:
        target.place_all({key: _but(links.of(one), list(new.values())) for key, one in exports.items()})
    for name, link in new.items():
        try:
            target.add_link(link)
            log.info("serving on %s now", plain(name))
        except AoeError as error:
            links.forget(link)
            link.close()
            failed.append(Note(ALL, f"{plain(name)}: {error}"))
    target.place_all({key: links.of(one) for key, one in exports.items()})
    for link in gone:
        if isinstance(link, PacketLink):
            link.let_go()
        if not await target.remove_link(link):
            failed.append(Note(ALL, f"requests of {plain(link.name)} still hang; it goes when they end"))
        log.info("not serving on %s any more", plain(link.name))
    return failed


def _but(these: tuple[Link, ...] | None, others: list[Link]) -> list[Link] | None:
    return None if these is None else [it for it in these if it not in others]


class Watch:
    """Calls `turn` each time that interfaces changed, and again after a while where something failed of that,
    until it is closed. What failed is said once."""

    def __init__(self, kernel: socket.socket, turn: Callable[[], Awaitable[list[Note]]]) -> None:
        """The kernel tells the socket of changes; it is closed with this."""
        self._turn = turn
        self._told = Told()
        self._changed = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._kernel = kernel
        self._monitor = Monitor(self._kernel, self._changed.set)
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def look_again(self) -> None:
        """What could not be asked for can be now."""
        self._changed.set()

    async def close(self) -> None:
        """Watch no more."""
        self._monitor.close()
        self._kernel.close()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._try_again(after_s=None)

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(timing.INTERFACES_SETTLE_S)  # they come with many events
            self._changed.clear()
            failed = await self._failed()
            for it in self._told.news(failed):  # they may change all the time
                log.error("%s", it.sentence)
            self._try_again(after_s=timing.FAILED_AGAIN_S if failed else None)

    def _try_again(self, after_s: float | None) -> None:
        if self._again is not None:
            self._again.cancel()
        loop = asyncio.get_running_loop()
        self._again = None if after_s is None else loop.call_later(after_s, self._changed.set)

    async def _failed(self) -> list[Note]:
        """Of a turn, unless it is said elsewhere."""
        try:
            return await self._turn()
        except OpenerLost:
            return []
        except (AoeError, OSError) as error:
            return [Note("interfaces changed", str(error))]
