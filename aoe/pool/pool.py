"""A pool for programs with an event loop: its calls, which may wait for a disk, are made on threads."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from aoe import limits, timing
from aoe.disk.threads import aside
from aoe.home import Home, Rooted
from aoe.pool.names import Format, Kind
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.room import Room, Usage
from aoe.pool.settling import Leftover
from aoe.pool.steps import Plan
from aoe.pool.volume import Volume
from aoe.pool.work import Request, Work

T = TypeVar("T")


class Pool(Rooted):
    """A pool that this process alone works on, from `open` to `close`.

    Verbs are done one after the other. Each is done whole, or nothing of it: a task that is cancelled waits
    until the store is right again. What cannot be done raises ConfigurationError, and what a store fails at
    PoolError.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._home = Home("this pool", "open it here")

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        kind: Kind = "directory",
        name: str = "",
        reserve: int = limits.POOL_RESERVE_DEFAULT,
        patience_s: float = timing.POOL_TURN_S,
    ) -> "Pool":
        """The pool at a path, which messages call `name`; below `reserve` (percent, 0 to 90) of free room it
        refuses what takes more. What an interrupted verb has left is removed, or done to its end.

        ConfigurationError for what is no pool; PoolError, which names the process that works on it, after
        `patience_s` (seconds).
        """

        def opened() -> Work:
            return Work(path, kind=kind, name=name, reserve=reserve, patience_s=patience_s)

        return cls(await _whole(opened, lambda work: work.close()))

    async def __aenter__(self) -> "Pool":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let others work on it, once what is under way is done."""
        async with self._turn:
            self._work.close()

    # What it has

    @property
    def volumes(self) -> Mapping[str, Volume]:
        """By name."""
        return self._work.volumes

    @property
    def leftovers(self) -> list[Leftover]:
        """What is in it that does not fit, each with its remedy."""
        return self._work.leftovers

    def path_of(self, volume: str, snapshot: str = "") -> str:
        """The path of an image; a rollback gives a volume another one. ConfigurationError."""
        return self._work.path_of(volume, snapshot)

    async def ready(self, volume: str, snapshot: str = "") -> str:
        """The same, once it can be opened there. ConfigurationError, PoolError."""
        return await self._run(lambda: self._work.ready(volume, snapshot))

    async def room(self) -> Room:
        """Bytes of its store."""
        return await self._run(lambda: self._work.room)

    async def usage(self, volume: str) -> tuple[Usage, Usage]:
        """Bytes that a volume takes, and those of all its snapshots."""
        return await self._run(lambda: self._work.usage(volume))

    async def plan(self, request: Request) -> Plan:
        """What a verb would do now."""
        return await self._run(lambda: self._work.plan(request))

    # Verbs

    async def do(self, request: Request) -> Plan:
        """One of `aoe.pool.requests`; what was done."""
        return await self._run(lambda: self._work.do(request))

    async def create(self, volume: str, size: int, *, format: Format | None = None) -> Volume:
        """A new volume of `size` bytes, with zeroes in it; raw, or qcow2 where files cannot share blocks."""
        await self.do(Create(volume, size, format))
        return self.volumes[volume]

    async def snapshot(self, volume: str, snapshot: str) -> Volume:
        """Keep what a volume has now, which nothing else may use meanwhile."""
        await self.do(Cut(volume, snapshot))
        return self.volumes[volume]

    async def clone(self, source: str, volume: str, *, snapshot: str = "") -> Volume:
        """A new volume that begins as a snapshot, or else as what the source has now."""
        await self.do(Clone(source, snapshot, volume))
        return self.volumes[volume]

    async def rollback(self, volume: str, snapshot: str) -> Volume:
        """What a snapshot has becomes that of the volume; what it was before is kept as a new snapshot."""
        await self.do(Rollback(volume, snapshot))
        return self.volumes[volume]

    async def resize(self, volume: str, size: int, *, shrink: bool = False) -> Volume:
        """Give it `size` bytes; fewer than it has only with `shrink`."""
        await self.do(Resize(volume, size, shrink))
        return self.volumes[volume]

    async def rename(self, volume: str, new: str) -> Volume:
        """Give it another name."""
        await self.do(Rename(volume, new))
        return self.volumes[new]

    async def delete(self, volume: str, *, snapshot: str = "", recursive: bool = False) -> None:
        """Remove a snapshot, or the volume; with snapshots only if `recursive`, with clones never."""
        await self.do(Delete(volume, snapshot, recursive))

    async def _run(self, call: Callable[[], T]) -> T:
        self._home.check()
        async with self._turn:
            return await _whole(call)


async def _whole(call: Callable[[], T], undo: Callable[[T], object] = lambda _: None) -> T:
    """What a call on a thread returns or raises. A task that is cancelled waits for its end, and what it
    returned is undone."""
    work = asyncio.ensure_future(aside(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled() and work.exception() is None:
            undo(work.result())
        raise
