"""A snapshot of a disk that the engine serves."""

import asyncio
import os

from aoe.disk.cloning import Cloning
from aoe.disk.file import FileDisk
from aoe.engine import Engine


class EngineCut:
    """As `PlainCut`. `changed` is set when the engine has news."""

    def __init__(
        self, engine: Engine, index: int, disk: FileDisk, cloning: Cloning, changed: asyncio.Event
    ) -> None:
        self._engine = engine
        self._index = index
        self._disk = disk
        self._cloning = cloning
        self._changed = changed
        self._number = 0
        self._cloned = 0
        self._ended = False

    def begin(self) -> None:
        """Hold changes that have not begun. OSError."""
        it = self._cloning
        self._number = self._engine.cut(self._index, self._disk.store.fd, it.into, it.length, it.step)

    @property
    def holds(self) -> bool:
        """Whether those that had begun are over."""
        return self._engine.cut_state(self._index, self._number).holds

    @property
    def cloned(self) -> int:
        """Bytes that the snapshot has."""
        if not self._ended:
            self._cloned = self._engine.cut_state(self._index, self._number).cloned
        return self._cloned * self._cloning.step

    async def clone(self) -> None:
        """All of it, after the moment; changes go on as they may. OSError. Ends early if it is to."""
        self._engine.cut_goes(self._index, self._number)
        while not self._ended:
            state = self._engine.cut_state(self._index, self._number)
            if state.error:
                raise OSError(state.error, os.strerror(state.error))
            if state.is_over:
                return
            self._changed.clear()
            await self._changed.wait()

    def end(self) -> None:
        """Nothing waits for it any more. May be called at any time, and again."""
        if self._number and not self._ended:
            self._cloned = self._engine.cut_state(self._index, self._number).cloned
            self._engine.cut_ends(self._index, self._number)
        self._ended = True
        self._changed.set()
