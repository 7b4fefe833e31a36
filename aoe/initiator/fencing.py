"""The fence command: it makes sure that a lost server does nothing any more (asyncio)."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from aoe import timing
from aoe.initiator.carrier import Carrier
from aoe.initiator.life import State
from aoe.initiator.path import PathSnapshot, Server
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
        paths = self._carrier.paths
        used = {path.server for path in paths if path.state is State.USABLE}
        for path in paths:
            lost = path.state is State.DOWN and path.unsettled and used and path.server not in used
            if lost and not self.runs(path.server):
                self._begin(path)

    def close(self) -> None:
        """End what runs, and begin nothing more."""
        self._closed = True
        for task in self._running.values():
            task.cancel()

    def _begin(self, path: PathSnapshot) -> None:
        task = asyncio.get_running_loop().create_task(self._fence(path))
        self._running[path.server] = task
        task.add_done_callback(partial(self._over, path.server))

    def _over(self, server: Server, _: asyncio.Task[None]) -> None:
        del self._running[server]
        self.look()

    async def _fence(self, path: PathSnapshot) -> None:
        status = await self._status((*self._command, format_mac(path.mac), f"e{path.shelf}.{path.slot}"))
        if status == 0:
            self._carrier.fenced(path.number)
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
