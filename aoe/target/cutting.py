"""Snapshots of disks that are served, all of one moment.

Changes are held, and reads go on, until those under way are over: that is the moment. From then on changes go
on, and each waits until what it touches is cloned (`aoe.target.cut`).
"""

import asyncio
import errno
import functools
import os
import stat
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from weakref import WeakSet

from aoe import limits, timing
from aoe.disk.cloning import Cloning, step_for
from aoe.disk.file import FileDisk
from aoe.disk.threads import aside, begin
from aoe.errors import ConfigurationError, CutError, DiskError, NoThread
from aoe.target.engine_cut import EngineCut
from aoe.target.export import Export
from aoe.target.plain_cut import PlainCut
from aoe.target.server import Server

_NOT_SHARED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Part(NamedTuple):
    """One disk of those that are cut at the same moment."""

    export: Export
    cloning: Cloning
    side: PlainCut | EngineCut


class Cutting:
    """Snapshots after their moment, on their way to be whole."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts
        self._reason = ""
        self._task = asyncio.ensure_future(self._finish())
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    @property
    def exports(self) -> list[Export]:
        """What they are of."""
        return [part.export for part in self._parts]

    @property
    def is_over(self) -> bool:
        """Whether they are whole, or will not be."""
        return self._task.done()

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        cloned = sum(min(part.side.cloned, part.cloning.length) for part in self._parts)
        return cloned / sum(part.cloning.length for part in self._parts)

    async def whole(self) -> None:
        """They are whole, and on stable storage. CutError where they will not be: they are to be removed."""
        await asyncio.shield(self._task)

    def give_up(self, reason: str) -> None:
        """There are to be none; the disks go on."""
        self._reason = self._reason or reason
        for part in self._parts:
            part.side.end()

    async def _finish(self) -> None:
        try:
            await asyncio.gather(*map(self._one, self._parts))
        finally:
            self.give_up("")
            for part in self._parts:
                _leave(part.cloning)

    async def _one(self, part: _Part) -> None:
        try:
            await part.side.clone()
            self._check(part)
            part.side.end()
            await aside(part.cloning.sync)
        except (OSError, DiskError) as error:
            self.give_up(_said(error))
            raise CutError(f"{part.export.address}: no snapshot: {_said(error)}") from error
        self._check(part)

    def _check(self, part: _Part) -> None:
        if self._reason:
            raise CutError(f"{part.export.address}: no snapshot: {self._reason}")


class Cuts:
    """Those of a target."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._under_way: list[Cutting] = []
        self._beginning: dict[Export, PlainCut | EngineCut | None] = {}
        self._leaving: WeakSet[Export] = WeakSet()
        self._over = ""
        """Why there are none any more."""

    async def begin(self, into: Mapping[Export, int]) -> Cutting:
        """The moment is over when this returns. Into the files of these descriptors, which stay the caller's:
        on the file system of the disk's, and what they have is lost. ConfigurationError for what cannot be
        cut, CutError."""
        self._check(into)
        self._beginning.update(dict.fromkeys(into))
        parts: list[_Part] = []
        try:
            for export, fd in into.items():
                parts.append(await self._part(export, fd))
            await self._hold(parts)
        except BaseException as error:
            for part in parts:
                part.side.end()
                _leave(part.cloning)
            if isinstance(error, OSError):
                raise CutError(f"{parts[0].export.address}: no snapshot: {_said(error)}") from error
            raise
        finally:
            for export in into:
                del self._beginning[export]
        self._under_way = [it for it in self._under_way if not it.is_over]
        self._under_way.append(Cutting(parts))
        return self._under_way[-1]

    def give_up(self, reason: str) -> None:
        """All of them, for good."""
        self._over = reason
        for export in self._beginning:
            self._let_go(export)
        for cutting in self._under_way:
            cutting.give_up(reason)

    def leave(self, export: Export) -> None:
        """It is to be served no more."""
        self._leaving.add(export)
        self._let_go(export)
        for cutting in self._under_way:
            if export in cutting.exports:
                cutting.give_up(_gone(export))

    def _let_go(self, export: Export) -> None:
        """Nothing may be asked of what serves it when that is gone."""
        side = self._beginning.get(export)
        if side is not None:
            side.end()

    def _check(self, into: Mapping[Export, int]) -> None:
        if not 0 < len(into) <= limits.CUT_GROUP_MAX:
            raise ConfigurationError(f"snapshots are taken of 1 to {limits.CUT_GROUP_MAX} disks at a time")
        busy = {*self._beginning, *(it for one in self._under_way if not one.is_over for it in one.exports)}
        for export in into:
            if export in busy:
                raise ConfigurationError(f"{export.address}: a snapshot is under way; wait for that")
            problem = self._why_not(export)
            if problem:
                raise ConfigurationError(f"{export.address}: no snapshot: {problem}")

    def _why_not(self, export: Export) -> str:
        disk = self._server.served(export).disk
        if not isinstance(disk, FileDisk) or disk.store.base:
            return "only a disk that is a whole file has snapshots"
        if disk.store.shared:
            return "another host serves its store, too (--shared), and might write while it is made"
        if disk.failed:
            return "a sync of its disk failed; reopen it first"
        others = (self._server.served(it).disk for it in self._server.exports.values() if it is not export)
        if any(isinstance(other, FileDisk) and other.token == disk.token for other in others):
            return "other parts of its file are served, too"
        return ""

    async def _part(self, export: Export, into: int) -> _Part:
        self._check_served(export)
        disk = self._server.served(export).disk
        assert isinstance(disk, FileDisk), "it was checked"
        try:
            async with asyncio.timeout(timing.CUT_READY_S):
                cloning = await self._ready(export, disk, into)
        except TimeoutError as error:
            problem = f"its disk took over {timing.CUT_READY_S:.0f} s to be ready"
            raise CutError(f"{export.address}: no snapshot: {problem}") from error
        except (OSError, DiskError) as error:
            self._check_served(export)  # a disk that was closed meanwhile says no more than that
            raise CutError(f"{export.address}: no snapshot: {_said(error)}") from error
        if export in self._leaving or self._over:
            _leave(cloning)
        self._check_served(export)
        side = self._beginning[export] = self._server.cut(export, disk, cloning)
        return _Part(export, cloning, side)

    async def _ready(self, export: Export, disk: FileDisk, into: int) -> Cloning:
        found = await disk.look(os.fstat)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{export.address}: no snapshot: its disk is no regular file")
        if found.st_size < disk.size:
            raise CutError(f"{export.address}: no snapshot: its file has become shorter than the disk")
        if not disk.direct:  # what only the page cache has would be written while changes wait
            await self._server.health.write_back(export)
        step = await disk.look(functools.partial(step_for, length=found.st_size))
        cloning = Cloning(into, found.st_size, step)
        try:
            await aside(cloning.empty)
        except BaseException:
            _leave(cloning)
            raise
        return cloning

    def _check_served(self, export: Export) -> None:
        reason = _gone(export) if export in self._leaving else self._over
        if reason:
            raise CutError(f"{export.address}: no snapshot: {reason}")

    async def _hold(self, parts: Sequence[_Part]) -> None:
        deadline_s = time.monotonic() + timing.CUT_HOLD_S
        self._check_all(parts)
        for part in parts:
            part.side.begin()
        while late := next((part for part in parts if not part.side.holds), None):
            if time.monotonic() > deadline_s:
                ms = int(timing.CUT_HOLD_S * 1000)
                raise CutError(f"{late.export.address}: no snapshot: its disk took over {ms} ms for a change")
            await asyncio.sleep(timing.CUT_POLL_S)
            self._check_all(parts)

    def _check_all(self, parts: Sequence[_Part]) -> None:
        for part in parts:
            self._check_served(part.export)


def _gone(export: Export) -> str:
    return f"{export.address} is served no more"


def _said(error: OSError | DiskError) -> str:
    if error.errno in _NOT_SHARED:
        return "the file system cannot let files share blocks, as XFS and btrfs can"
    if error.errno in _FULL:
        return "the store is full; delete snapshots or volumes, or give it more room"
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def _leave(cloning: Cloning) -> None:
    """Close it, once a call that hangs in the store is over."""
    try:
        begin(cloning.close, "close")
    except NoThread:
        cloning.close()
