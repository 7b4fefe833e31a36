"""A snapshot of a disk that Python serves: what holds its changes, and lets them go."""

import asyncio
import functools
import time
from collections.abc import Callable

from aoe import limits, timing
from aoe.disk.cloning import Cloning
from aoe.disk.file import FileDisk
from aoe.target.cut import Cut
from aoe.target.export import Entry, Export
from aoe.target.order import Ticket


class PlainCut:
    """`go_on` begins what may begin then."""

    def __init__(self, export: Export, disk: FileDisk, cloning: Cloning, go_on: Callable[[], None]) -> None:
        self._queue = export.queue
        self._disk = disk
        self._cloning = cloning
        self._go_on = go_on
        self._cut: Cut[Ticket[Entry]] = Cut(cloning.length, cloning.step)
        self._begun = self._ended = False

    def begin(self) -> None:
        """Hold changes that have not begun."""
        self._begun = True
        self._queue.cut(self._cut)

    @property
    def holds(self) -> bool:
        """Whether those that had begun are over."""
        return self._queue.holds

    @property
    def cloned(self) -> int:
        """Bytes that the snapshot has."""
        return (self._cut.count - self._cut.left) * self._cloning.step

    async def clone(self) -> None:
        """All of it, after the moment; changes go on as they may. OSError, DiskError. It may end early."""
        took_ns = batch = 0
        while self._cut.left and not self._ended:
            await self._rest(took_ns)
            number = self._cut.following if self._cut.needed < 0 else self._cut.needed
            began_ns = time.monotonic_ns()
            end = await self._disk.look(functools.partial(self._cloning.clone, number=number))
            took_ns = time.monotonic_ns() - began_ns
            if not self._ended:
                self._queue.cloned(number, end)
                batch = (batch + 1) % limits.CUT_BATCH if self._cut.needed >= 0 else 0
                if not batch:
                    self._go_on()

    async def _rest(self, took_ns: int) -> None:
        """Leave the disk to others, unless a change waits."""
        until_ns = time.monotonic_ns() + min(took_ns, timing.CUT_REST_MAX_NS)
        while self._cut.needed < 0 and not self._ended and time.monotonic_ns() < until_ns:
            await asyncio.sleep(timing.CUT_POLL_S)

    def end(self) -> None:
        """Nothing waits for it any more. May be called at any time, and again."""
        if self._begun and not self._ended:
            self._queue.end_cut()
            self._go_on()
        self._ended = True
