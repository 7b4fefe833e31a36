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
    """Calls `turn` each time that interfaces changed, until it is closed."""

    def __init__(self, kernel: socket.socket, turn: Callable[[], Awaitable[None]]) -> None:
        """The kernel tells the socket of changes; it is closed with this."""
        self._turn = turn
        self._changed = asyncio.Event()
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

    async def _follow(self) -> None:
        said = ""
        while True:
            await self._changed.wait()
            await asyncio.sleep(timing.INTERFACES_SETTLE_S)  # they come with many events
            self._changed.clear()
            problem = await self._problem()
            if problem and problem != said:  # they may change all the time
                log.error("interfaces changed: %s", problem)
            said = problem

    async def _problem(self) -> str:
        """Of a turn, unless it is said elsewhere."""
        try:
            await self._turn()
        except OpenerLost:
            return ""
        except (AoeError, OSError) as error:
            return str(error)
        return ""
