"""A pool for programs with an event loop: its calls, which may wait for a disk, are made on threads."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from aoe import limits, timing
from aoe.disk.threads import aside
from aoe.home import Home, Rooted
from aoe.pool import filling, merging
from aoe.pool.filling import Filled
from aoe.pool.names import Foreign, Format, Kind
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.room import Room, Usage
from aoe.pool.settling import Leftover
from aoe.pool.steps import Plan
from aoe.pool.volume import Volume
from aoe.pool.work import Request, Work

T = TypeVar("T")
Told = Callable[[float], object]
Fetched = Callable[[int, int | None], object]


def _nothing(*_: object) -> None:
    pass


class Pool(Rooted):
    """A pool that this process alone works on, from `open` to `close`.

    Verbs are done one after the other; what `import_image`, `save`, `template` and `merge` copy, they copy
    beside others. Each is done whole, or nothing of it: a task that is cancelled waits until the store is
    right again, which ends what is copied. What cannot be done raises ConfigurationError, and what a store
    fails at PoolError.
    """

    def __init__(self, work: Work, look: Callable[[], Work]) -> None:
        """`look` opens the same pool without its lock."""
        self._work = work
        self._look = look
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

        how = partial(Work, path, kind=kind, name=name, reserve=reserve)
        opened = partial(how, patience_s=patience_s)
        return cls(await _whole(opened, lambda work: work.close()), partial(how, locked=False))

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

    # Whole images. `told` gets how much is copied, from 0 to 1, in the event loop

    async def import_image(
        self,
        image: str | os.PathLike[str],
        volume: str,
        *,
        format: Foreign | None = None,
        kept: Format | None = None,
        sha256: str | None = None,
        told: Told = _nothing,
        fetched: Fetched = _nothing,
    ) -> Volume:
        """A new volume with a copy of an image: a file or block device by its path, or what is at an http://
        or https:// URL, which is fetched to scratch space of the pool first.

        `format` says what it is in where its name does not: raw, unless that ends as .qcow2, .vmdk, .vdi,
        .vhdx or .vpc. `kept` is the format of the volume, `sha256` (64 hexadecimal digits) what the
        image must have. `fetched` gets bytes that have come, and of how many (None: not known). What was
        fetched is kept for another try, unless it is wrong. ConfigurationError for an image that names other
        files, FetchFailed for what a server does; PoolError.
        """

        @contextmanager
        def fill(look: Work, stop: "_Stop") -> Iterator[Filled]:
            with (
                filling.brought(look, str(image), format, sha256, stop.telling(fetched)) as of,
                filling.imported(look, of, volume, kept, stop.telling(told)) as made,
            ):
                yield made

        await self._fill(fill)
        return self.volumes[volume]

    async def template(self, volume: str, *, told: Told = _nothing) -> Volume:
        """Make a volume, which nothing else may use, one that is only cloned: it is copied so that its blocks
        lie side by side, and each clone takes the same moment. A thin pool of LVM copies nothing for that."""
        if (mark := filling.mark_of(self._work.kind, volume)) is not None:
            await self.do(mark)
        else:
            await self._fill(lambda look, stop: filling.template(look, volume, stop.telling(told)))
        return self.volumes[volume]

    async def save(
        self,
        volume: str,
        file: str | os.PathLike[str],
        *,
        snapshot: str = "",
        format: Format | None = None,
        told: Told = _nothing,
    ) -> int:
        """Write what a volume, which nothing may write to meanwhile, or a snapshot has to a new file; its
        length in bytes. It is raw, unless `format` is another, or its name ends as .qcow2. The file is
        there once it is whole, and is its owner's alone."""

        def saved(stop: "_Stop") -> int:
            with closing(self._look()) as look:
                return filling.save(look, volume, snapshot, Path(file), format, stop.telling(told))

        return await self._copy(saved)

    async def merge(self, volume: str, *, told: Told = _nothing) -> Volume:
        """Let later states of a volume, which nothing uses, take what they need of deleted ones (qcow2). One
        that is interrupted goes on where it was. ConfigurationError where there is nothing to merge."""
        with closing(await _whole(self._look, lambda look: look.close())) as look:
            merging.check(look, volume)
            stop = _Stop()
            requests = merging.merged(look, volume, stop.telling(told))
            while (request := await self._copy(lambda _: next(requests, None), stop)) is not None:
                await self.do(request)
        return self.volumes[volume]

    async def _fill(self, fill: "Callable[[Work, _Stop], AbstractContextManager[Filled]]") -> None:
        """What a copy is for, once it is made."""
        held = ExitStack()

        def filled(stop: "_Stop") -> Filled:
            look = held.enter_context(closing(self._look()))
            return held.enter_context(fill(look, stop))

        try:
            made = await self._copy(filled)
            await self._run(lambda: made.done_by(self._work))
        except BaseException as error:
            await _whole(partial(held.__exit__, type(error), error, error.__traceback__))
            raise
        await _whole(held.close)

    async def _copy(self, call: "Callable[[_Stop], T]", stop: "_Stop | None" = None) -> T:
        """Without the turn of verbs, as it may take long."""
        await self.room()  # of what was closed nothing is copied
        stopped = stop or _Stop()
        return await _whole(lambda: call(stopped), stop=stopped.set)

    async def _run(self, call: Callable[[], T]) -> T:
        self._home.check()
        async with self._turn:
            return await _whole(call)


class _Stopped(Exception):
    """No task waits for it any more."""


class _Stop:
    """Ends what is copied on a thread, at the next word of how far it is."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wanted = threading.Event()
        self.set = self._wanted.set

    def telling(self, told: Callable[..., object]) -> Callable[..., None]:
        """What tells the event loop."""

        def tell(*how: object) -> None:
            if self._wanted.is_set():
                raise _Stopped
            with suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(told, *how)

        return tell


async def _whole(
    call: Callable[[], T], undo: Callable[[T], object] = _nothing, stop: Callable[[], object] = _nothing
) -> T:
    """What a call on a thread returns or raises. A task that is cancelled waits for its end, which `stop`
    hastens, and what it returned is undone."""
    work = asyncio.ensure_future(aside(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop()
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled() and work.exception() is None:
            undo(work.result())
        raise
