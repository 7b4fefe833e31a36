"""Verbs of pools beside what is served: which exports they touch, what is refused meanwhile, and how the disk
of an export gets another state or size."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TypeVar

from aoe import timing
from aoe.config.values import ExportConfig, volume_of
from aoe.disk.file import FileDisk
from aoe.disk.threads import aside
from aoe.drive.identify import StoreKind
from aoe.errors import ConfigurationError, NoThread
from aoe.node.chores import Facts
from aoe.node.hands import Hands, Live
from aoe.node.needs import Opener
from aoe.node.permits import cut_for
from aoe.node.served_cuts import ServedCuts, Wanted
from aoe.node.steps import Add, Note, Plan, Remove
from aoe.pool.adopting import Freeze, Template
from aoe.pool.asked import Wish, name_of
from aoe.pool.fading import Merged
from aoe.pool.requests import Clone, Cut, Delete, Rename, Resize
from aoe.pool.volume import FOR_CLONE
from aoe.printable import plain
from aoe.target.target import Target
from aoe.wire.frame import format_mac

T = TypeVar("T")
Changing = Callable[[str], AbstractAsyncContextManager[None]]

WHO_SEES = (
    "aoe sees the new size at once, the Linux driver after aoe-revalidate, and NBD clients at their next "
    "connection"
)


class Volumes:
    """Those of the pools that the opener has. `changing` is entered while something that is served changes,
    and `left` is told of exports that could not be served again."""

    def __init__(
        self, opener: Opener, hands: Hands, changing: Changing, left: Callable[[list[Note]], None]
    ) -> None:
        self._opener = opener
        self._hands = hands
        self._changing = changing
        self._left = left
        self._away: tuple[str, str] | None = None
        """The pool and name of a volume that is not served for a moment."""
        self.cuts = ServedCuts(opener, hands)

    async def hear(self, connection: int) -> str | None:
        """As `Opener.hear`; the descriptor is closed."""
        try:
            return await aside(lambda: _closing(connection, self._opener.hear))
        except NoThread:
            os.close(connection)
            raise

    async def listed(self, pool: str, after: str) -> Facts:
        """Those of a pool, as `Opener.volumes` has them, and `cutting` and `cut` as status has them where a
        snapshot is under way. ConfigurationError."""
        told = await aside(lambda: self._opener.volumes(pool, after))
        by_path = {one.config.path: self.cuts.progress(key) for key, one in self._hands.live.items()}
        for volume in told["volumes"]:
            name, part = by_path.get(volume["volume"], ("", 0.0))
            volume.update({"cutting": name, "cut": round(part, 3)} if name else {})
        return told

    async def plan(self, pool: str, request: Wish) -> Facts:
        """What a verb would do, and which clients it touches. ConfigurationError where it cannot be."""
        planned = await self._ask(pool, request, only_plan=True)
        served = self._served(planned)
        self._check_kept(request, served)
        if isinstance(request, Cut | Clone) and served and not planned["live"]:
            _check_held(served)
            planned["steps"] = [_held(one) for one in served] + planned["steps"]
        return {**planned, "clients": [line for one in served for line in self._clients(one)]}

    async def do(
        self, pool: str, request: Wish, wanted: Sequence[ExportConfig], by: str, force: bool
    ) -> Facts:
        """Do it. `wanted` are the exports of the file; a volume that a client used in the last minute gets
        another state, or loses its end, only with `force`. ConfigurationError: nothing was done."""
        before = self._away
        planned = await self._ask(pool, request, only_plan=True)
        is_away = (pool, request.volume) in (before, self._away)
        if isinstance(request, Delete):
            _check_unwanted(pool, request, wanted)
        self._check_kept(request, self._served(planned))
        if not planned["touches"] and (not is_away or isinstance(request, Cut)):
            return {**await self._ask(pool, request), "paths": {}}
        if isinstance(request, Cut) and not planned["live"]:
            await self._cut(pool, request, planned, request.cause)
            return {**planned, "paths": self._paths(planned)}
        if isinstance(request, Clone) and not planned["live"]:
            (done,) = await self._cut(pool, cut_for(request), planned, FOR_CLONE)
            cloned = await self._ask(pool, replace(request, snapshot=done["snapshot"]))
            return {**cloned, "paths": self._paths(planned)}
        async with self._changing(f"volume {name_of(request)} by {by}"):
            planned = await self._ask(pool, request, only_plan=True)  # another verb may have come before
            served = self._served(planned)
            self._check_kept(request, served)
            if planned["live"] or not served:
                return await self._beside(pool, request, served)
            self._away = (pool, request.volume)
            try:
                return await self._instead(pool, request, served, force=force)
            finally:
                self._away = None

    async def _ask(self, pool: str, request: Wish, *, only_plan: bool = False) -> Facts:
        return await aside(lambda: self._opener.volume(pool, request, only_plan=only_plan))

    # What is served

    def _served(self, planned: Facts) -> list[Live]:
        """Exports of the states that a verb touches."""
        touched = set(planned["touches"])
        return [one for one in self._hands.live.values() if one.going is None and _state(one) in touched]

    def _clients(self, one: Live) -> Iterator[str]:
        """The hosts that used it in the last minute, a line each; where none did, that."""
        used = list(self._users(one))
        address = one.config.address
        yield from (f"{address}: {mac} used it {heard_s:.0f} s ago" for mac, heard_s in used)
        if not used:
            yield f"{address}: no client used it in the last minute"

    def _users(self, one: Live) -> Iterator[tuple[str, float]]:
        for client in self._target.numbers(one.export).clients:
            heard_s = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - client.heard_ns) / 1e9
            if heard_s < timing.USED_LATELY_S:
                yield format_mac(client.mac), heard_s

    @property
    def _target(self) -> Target:
        return self._hands.target

    # What is refused

    def _check_kept(self, request: Wish, served: Sequence[Live]) -> None:
        """ConfigurationError for what cannot be done with a disk that is served."""
        if served and isinstance(request, Delete | Template | Freeze | Merged):
            config, users = served[0].config, [mac for mac, _ in self._users(served[0])]
            used = f", and {', '.join(users)} used it in the last minute" * bool(users)
            beside = "it is merged by itself once it is cut again; or " * isinstance(request, Merged)
            raise ConfigurationError(
                f"{plain(config.path)} is served at {config.address}{used}; {beside}take that out of the "
                "file, and apply it"
            )

    def _check_unused(self, one: Live) -> None:
        unused_s = self._target.unused_s(one.export)
        if unused_s is not None and unused_s < timing.USED_LATELY_S:
            hosts = ", ".join(mac for mac, _ in self._users(one)) or "a client"
            raise ConfigurationError(
                f"{plain(one.config.path)} is served at {one.config.address}, and {hosts} used it in the "
                "last minute; stop using it there, or say --force"
            )

    # What is done

    async def _cut(self, pool: str, request: Cut, planned: Facts, cause: str) -> list[Facts]:
        """Snapshots of disks that are served, at one moment."""
        served = {_state(one): one for one in self._served(planned)}
        _check_held(served.values())
        states = planned["touches"]
        if len(states) < len(request.volumes):
            raise ConfigurationError("some of these volumes are served and some are not; cut them apart")
        if not served.keys() >= set(states):
            raise _between(request)
        wanted = [
            Wanted(Cut(volume, request.snapshot), served[state], cause)
            for volume, state in zip(request.volumes, states, strict=True)
        ]
        try:
            return await self.cuts.take(pool, wanted)
        except ConfigurationError as error:
            if any(self._hands.live.get(one.config.key) is not one for one in served.values()):
                raise _between(request) from error
            raise

    def _paths(self, planned: Facts) -> dict[str, str]:
        return {one.config.address: one.config.path for one in self._served(planned)}

    async def _beside(self, pool: str, request: Wish, served: Sequence[Live]) -> Facts:
        """While clients use it."""
        done = await self._ask(pool, request)
        notes = list(done["notes"])
        if isinstance(request, Resize) and served:
            await self._grow(served, request.size)
            notes.append(WHO_SEES)
        return {**done, "notes": notes, "paths": {one.config.address: _path(request, one) for one in served}}

    async def _grow(self, served: Sequence[Live], size: int) -> None:
        server = self._target.server
        disks = {one.export: server.served(one.export).disk for one in served}
        for disk in disks.values():
            if isinstance(disk, FileDisk):
                disk.allow(size)
        until_s = time.monotonic() + timing.GROWN_SEEN_S
        waiting = list(disks)
        while waiting:
            server.advertise(await self._target.refresh(only=waiting))
            behind = (export for export, it in disks.items() if isinstance(it, FileDisk) and it.is_behind)
            waiting = list(behind) if time.monotonic() < until_s else []
            await asyncio.sleep(timing.GROWN_LOOK_S if waiting else 0)

    async def _instead(self, pool: str, request: Wish, served: Sequence[Live], *, force: bool) -> Facts:
        """Drain, and serve another instance once no frame of the last one can be carried out (rule T11)."""
        for one in () if force else served:
            self._check_unused(one)
        configs = [one.config for one in served]
        stuck = await self._hands.carry_out(Plan(tuple(Remove(it, returns=True) for it in configs)), {})
        try:
            if stuck:
                raise ConfigurationError(f"{stuck[0].sentence}; then try again")
            done = await self._ask(pool, request)
        finally:
            failed = await self._again(configs)
        notes = [*done["notes"], *(f"{it.address}: another instance is served" for it in configs)]
        notes += [f"failed: {it.sentence}" for it in failed]
        return {
            **done,
            "notes": notes,
            "paths": {it.address: it.path for it in configs},
            "failed": len(failed),
        }

    async def _again(self, configs: Sequence[ExportConfig]) -> list[Note]:
        """Serve them as they were; what failed, which is tried again."""
        free = [it for it in configs if it.key not in self._hands.live]
        hung = [Note(it.address, "it is served again once its requests have ended") for it in configs]
        failed = [it for it, config in zip(hung, configs, strict=True) if config not in free]
        steps = Plan(tuple(Add(it, ("path",), None, it.mask) for it in free))
        prepared = await aside(lambda: self._hands.prepare(steps))
        failed += [*prepared.problems, *prepared.waits]
        failed += await self._hands.carry_out(steps, prepared.ready)
        if failed:
            self._left(failed)
        return failed


def _closing(fd: int, call: Callable[[int], T]) -> T:
    try:
        return call(fd)
    finally:
        os.close(fd)


def _state(one: Live) -> str:
    """Which state of which volume an export serves, whatever part of it; empty for what is no volume."""
    name = one.held.opened.store_name
    return name.text.partition("@")[0] if name.kind is StoreKind.VOLUME else ""


def _path(request: Wish, one: Live) -> str:
    """What an export is to serve from now on."""
    name = volume_of(one.config.path)
    if name is None or not isinstance(request, Rename):
        return one.config.path
    return str(name._replace(volume=request.new))


def _between(request: Cut) -> ConfigurationError:
    return ConfigurationError(f"{request.volume} is being taken, or put into service; try again")


def _check_held(served: Iterable[Live]) -> None:
    """ConfigurationError where changes of one cannot be held for a snapshot."""
    for one in served:
        opened, said = one.held.opened, plain(one.config.path)
        if opened.image:
            raise ConfigurationError(
                f"{said} is qcow2, and is served; cut it alone, on a file system without reflink, or take it "
                "out of service meanwhile"
            )
        if opened.is_block:
            raise ConfigurationError(
                f"{said} is a logical volume, and is served; cut these one by one, or take them out of "
                "service meanwhile"
            )


def _held(one: Live) -> str:
    ms = int(timing.CUT_HOLD_S * 1000)
    return f"hold changes of {one.config.address} for at most {ms} ms, until those under way are over"


def _check_unwanted(pool: str, request: Delete, wanted: Sequence[ExportConfig]) -> None:
    """ConfigurationError where the file names what is to be deleted."""
    for export in wanted:
        name = volume_of(export.path)
        if name is None or (name.pool, name.volume) != (pool, request.volume):
            continue
        if not request.snapshot or name.snapshot == request.snapshot:
            raise ConfigurationError(
                f"{name} is what {export.address} is to serve; take that out of the file, and apply it"
            )
