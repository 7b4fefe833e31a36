"""The fence command: it makes sure that a lost server does nothing any more (asyncio)."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from aoe import timing
from aoe.initiator.carrier import Carrier
from aoe.initiator.life import State
from aoe.initiator.way import Server, WayStatus
from aoe.wire.frame import format_mac

log = logging.getLogger("aoe.initiator")


class Fencing:
    """Runs `command`, if there is one, for servers of the disk `name` that were lost with writes of unknown
    fate, once for each, while another one carries on. If it fails it is tried again."""

    def __init__(self, name: str, carrier: Carrier, command: Sequence[str]) -> None:
        self._name = name
        self._carrier = carrier
        self._command = command
        self._running: dict[Server, asyncio.Task[None]] = {}
        self._closed = False

    def runs(self, server: Server) -> bool:
        """Whether the command runs for a server."""
        return server in self._running

    def look(self) -> None:
        """A path may have been lost."""
        if not self._command or self._closed:
            return
        ways = self._carrier.ways
        used = {way.server for way in ways if way.state is State.USABLE}
        for way in ways:
            lost = way.state is State.DOWN and way.unsettled and used and way.server not in used
            if lost and not self.runs(way.server):
                self._begin(way)

    def close(self) -> None:
        """End what runs, and begin nothing more."""
        self._closed = True
        for task in self._running.values():
            task.cancel()

    def _begin(self, way: WayStatus) -> None:
        task = asyncio.get_running_loop().create_task(self._fence(way))
        self._running[way.server] = task
        task.add_done_callback(partial(self._over, way.server))

    def _over(self, server: Server, _: asyncio.Task[None]) -> None:
        del self._running[server]
        self.look()

    async def _fence(self, way: WayStatus) -> None:
        status = await self._status((*self._command, format_mac(way.mac), f"e{way.shelf}.{way.slot}"))
        if status == 0:
            self._carrier.fenced(way.number)
        else:
            log.error("%s: the fence command failed with status %d", self._name, status)
            await asyncio.sleep(timing.FENCE_AGAIN_NS / 1e9)

    async def _status(self, command: Sequence[str]) -> int:
        try:
            process = await asyncio.create_subprocess_exec(*command)
            return await process.wait()
        except OSError as error:
            log.error("%s: the fence command cannot run: %s", self._name, error)
            return -1
