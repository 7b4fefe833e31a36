"""A target of ours in an event loop in another thread, for clients that block."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import aoe
from aoe.disk.base import Disk
from aoe.disk.faulty import FaultyDisk
from aoe.link.udp import UdpLink, UdpSpec

LOOPBACK = "udp:127.0.0.1:0,mtu=9000"


class TargetThread:
    """Runs in a thread, and serves `disk` as e1.2 over UDP."""

    def __init__(self, disk: Disk) -> None:
        self.disk = FaultyDisk(disk)
        self.link = UdpLink(UdpSpec.parse(LOOPBACK))
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()

    def link_to(self) -> UdpLink:
        """A new link that leads there."""
        return UdpLink(UdpSpec.parse(f"{LOOPBACK},peer={self.link.name.removeprefix('udp:')}"))

    def do(self, what: Callable[[], Any]) -> None:
        """Have it done in its loop, and wait for that."""

        async def doing() -> None:
            result = what()
            if inspect.isawaitable(result):
                await result

        asyncio.run_coroutine_threadsafe(doing(), self._loop).result(30)

    def run(self, started: Future[None]) -> None:
        """Serve until told to stop."""

        async def serving() -> None:
            async with aoe.serve(self.disk, self.link, shelf=1, slot=2) as self.server:
                started.set_result(None)
                await self._over.wait()
                self.disk.hang.set()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(serving())

    def stop(self) -> None:
        """End `run`."""
        self.do(self._over.set)


@contextmanager
def target_thread(disk: Disk) -> Iterator[TargetThread]:
    """Serve it so until the block is left."""
    target = TargetThread(disk)
    started: Future[None] = Future()
    thread = threading.Thread(target=target.run, args=(started,))
    thread.start()
    try:
        started.result(30)
        yield target
    finally:
        target.stop()
        thread.join(30)
