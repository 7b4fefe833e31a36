"""Snapshots of volumes that are served: the target cuts them, into files that the opener has made."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from aoe.disk.threads import aside
from aoe.errors import AoeError
from aoe.node.chores import Facts
from aoe.node.hands import Hands, Live
from aoe.node.needs import Opener
from aoe.pool.requests import Cut
from aoe.target.cutting import Cutting

Key = tuple[int, int]


class Wanted(NamedTuple):
    """A snapshot of the volume of an export, and why."""

    request: Cut
    served: Live
    cause: str


class _Begun(NamedTuple):
    wanted: Wanted
    number: int
    fd: int


class ServedCuts:
    """Those of one node."""

    def __init__(self, opener: Opener, hands: Hands) -> None:
        self._opener = opener
        self._hands = hands
        self._under_way: dict[Key, tuple[str, Cutting]] = {}

    def progress(self, key: Key) -> tuple[str, float]:
        """The name of the snapshot of an export that is not whole yet, and how far it is, from 0 to 1."""
        name, cutting = self._under_way.get(key, ("", None))
        return name, cutting.progress if cutting is not None else 0.0

    async def take(self, pool: str, wanted: Sequence[Wanted]) -> list[Facts]:
        """All of one moment; what became of each when all are whole. AoeError: there are none."""
        begun: list[_Begun] = []
        whole = False
        try:
            for one in wanted:
                begun.append(await self._begin(pool, one))
            await self._cut(begun)
            whole = True
        finally:
            done = await asyncio.shield(asyncio.ensure_future(self._end(begun, whole=whole)))
        return done

    async def _begin(self, pool: str, one: Wanted) -> _Begun:
        """Where the caller is cancelled meanwhile, what the opener makes is ended all the same."""
        making = asyncio.ensure_future(self._make(pool, one))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self._undo(making)))
            raise

    async def _make(self, pool: str, one: Wanted) -> _Begun:
        opener = self._opener
        number = int((await aside(lambda: opener.begin_cut(pool, one.request, one.cause)))["number"])
        try:
            return _Begun(one, number, await aside(lambda: opener.cut_file(number)))
        except BaseException:
            await aside(lambda: opener.end_cut(number, whole=False))
            raise

    async def _undo(self, making: "asyncio.Future[_Begun]") -> None:
        with suppress(AoeError, OSError):  # then there is nothing to end
            await self._end([await making], whole=False)

    async def _cut(self, begun: Sequence[_Begun]) -> None:
        keys = {one.wanted.served.export.key: one for one in begun}
        cutting = await self._hands.target.cut({key: one.fd for key, one in keys.items()})
        self._under_way |= {key: (one.wanted.request.snapshot, cutting) for key, one in keys.items()}
        try:
            await cutting.whole()
        finally:
            cutting.give_up("it is not wanted any more")  # nothing, where it is whole
            for key in keys:
                self._under_way.pop(key, None)

    async def _end(self, begun: Sequence[_Begun], *, whole: bool) -> list[Facts]:
        """Each on its own: what is whole is kept, whatever becomes of the others."""
        done: list[Facts] = []
        problem: Exception | None = None
        for one in begun:
            os.close(one.fd)
            try:
                done.append(await aside(partial(self._opener.end_cut, one.number, whole=whole)))
            except Exception as error:
                problem = error
        if problem is not None and whole:
            raise problem
        return done
