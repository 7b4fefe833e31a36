"""A sync that no client asked for, as for a snapshot, and that fails when nobody waits for it any more (order
rule T6): what was acknowledged may be lost all the same."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.disk.file import FileDisk
from aoe.disk.open import open_disk
from aoe.errors import AoeError, DiskFailed
from aoe.link.memory import Network
from aoe.target.export import Export
from aoe.target.keys import StoreKey
from aoe.target.marks import Marks, name_of
from aoe.target.offer import Offer
from aoe.target.records import StateStore
from aoe.target.server import Server
from aoe.target.target import Target
from tests.link.collector import until as eventually
from tests.serve.initiator import AtaFailed, Initiator, mac

KEY = StoreKey("/disk")


class Sync:
    """Instead of the kernel's: it fails, when it is let."""

    def __init__(self) -> None:
        self.begun, self.goes = threading.Event(), threading.Event()

    def run(self, disk: FileDisk) -> None:
        if disk.failed:
            raise DiskFailed("an earlier sync failed", 0)
        self.begun.set()
        assert self.goes.wait(60)
        disk.failed = True
        raise DiskFailed("sync: Input/output error", 0, errno.EIO)


class World(NamedTuple):
    """A disk that is served in write-back mode, of which a sync is under way."""

    target: Target
    sync: Sync
    network: Network
    directory: Path
    asked: "asyncio.Future[object]"
    changed: list[Export]

    async def removed(self) -> None:
        """Its sync fails meanwhile, or after that where nothing waits for it."""
        leaving = asyncio.ensure_future(self.target.remove(1, 0))
        await eventually(lambda: not self.target.exports, what="it is served")
        self.sync.goes.set()
        assert await leaving

    async def marked(self) -> None:
        """Until a restart would know of it."""
        await eventually(
            lambda: list(Marks(self.directory, "life").found) == [name_of(KEY)], what="it is not marked"
        )


async def cut(target: Target, into: Path) -> object:
    with into.open("w+b") as file:
        return await target.cut({(1, 0): file.fileno()})


async def write_through(target: Target, into: Path) -> object:
    return await target.change(1, 0, write_back=False)


ASKED = pytest.mark.parametrize("ask", [cut, write_through])


@asynccontextmanager
async def syncing(
    ask: Callable[[Target, Path], Awaitable[object]],
    sync: Sync,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    def failing(disk: FileDisk) -> None:
        sync.run(disk)

    monkeypatch.setattr(FileDisk, "_sync", failing)
    changed: list[Export] = []
    monkeypatch.setattr(Server, "changed_export", lambda _, export: changed.append(export))
    network, disk = Network(), directory / "disk"
    disk.write_bytes(bytes(1 << 20))
    target = Target.open([network.attach(mac(1))], marks=Marks(directory, "life"))
    record = StateStore(directory).record("SERIAL", KEY)
    await target.add(Offer(open_disk(disk), 1, 0, "SERIAL", True, record), check=False)
    asked = asyncio.ensure_future(ask(target, directory / "into"))
    await eventually(sync.begun.is_set, what="no sync is under way")
    try:
        yield World(target, sync, network, directory, asked, changed)
    finally:
        sync.goes.set()
        await asyncio.gather(asked, return_exceptions=True)
        await target.stop()


@ASKED
def test_it_is_kept_though_its_disk_is_served_no_more(
    ask: Callable[[Target, Path], Awaitable[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = Sync()

    async def run() -> None:
        async with syncing(ask, sync, tmp_path, monkeypatch) as it:
            await it.removed()
            with pytest.raises(AoeError):
                await it.asked
            await it.marked()

    asyncio.run(run())


@ASKED
def test_it_is_kept_and_told_though_nobody_waits_for_it(
    ask: Callable[[Target, Path], Awaitable[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the engine, which the kernel tells of it no second time, would acknowledge the next FLUSH."""
    sync = Sync()

    async def run() -> None:
        async with syncing(ask, sync, tmp_path, monkeypatch) as it:
            it.asked.cancel()
            with suppress(asyncio.CancelledError):
                await it.asked
            it.changed.clear()
            sync.goes.set()
            await it.marked()
            assert it.changed == it.target.exports

    asyncio.run(run())


@ASKED
def test_the_store_that_is_served_again_has_failed(
    ask: Callable[[Target, Path], Awaitable[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = Sync()

    async def run() -> None:
        async with syncing(ask, sync, tmp_path, monkeypatch) as it:
            await it.removed()
            await it.marked()
            again = StateStore(tmp_path).record("SERIAL", KEY)
            await it.target.add(Offer(open_disk(tmp_path / "disk"), 1, 1, "SERIAL", True, again), check=False)
            host = Initiator(it.network.attach(mac(2)), 1, 1, retransmit_s=1, patience_s=30)
            with pytest.raises(AtaFailed):
                await host.flush()

    asyncio.run(run())
