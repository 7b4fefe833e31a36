"""Workers: which calls begin, and which do not."""

import asyncio
import errno
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aoe.disk.file import FileDisk
from aoe.disk.threads import Workers, aside
from aoe.errors import DiskError, NoThread
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import noise, opened, sparse
from tests.support.labs.exhausted import no_threads
from tests.support.waiting import PATIENCE_S


class Gate:
    """Calls that block until it is opened; `begun` are their names, `threads` what carried them out."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.threads: list[threading.Thread] = []
        self._open = threading.Event()

    def call(self, name: int) -> Callable[[], int]:
        def inside() -> int:
            self.threads.append(threading.current_thread())
            self.begun.append(name)
            assert self._open.wait(30)
            return name

        return inside

    def open(self) -> None:
        self._open.set()


def run(scenario: Awaitable[Any]) -> None:
    asyncio.run(scenario)  # type: ignore[arg-type]


async def settled(tasks: list[asyncio.Future[int]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def turns() -> None:
    """Time in which nothing more is to happen."""
    await asyncio.sleep(0.05)


async def until(condition: Callable[[], object]) -> None:
    """It comes true, however late a thread gets its processor."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


def test_calls_begin_in_their_order_and_no_more_at_a_time_than_there_are_threads() -> None:
    async def scenario() -> None:
        gate, workers, over = Gate(), Workers(3, "test"), list[int]()
        calls = [
            asyncio.ensure_future(workers.run(gate.call(n), lambda n=n: over.append(n)))  # type: ignore[misc]
            for n in range(9)
        ]
        await until(lambda: len(gate.begun) == 3)
        await turns()
        assert (sorted(gate.begun), over) == ([0, 1, 2], [])
        gate.open()
        assert await settled(calls) == list(range(9))
        assert sorted(gate.begun) == sorted(over) == list(range(9))
        workers.close()

    run(scenario())


def test_what_a_call_raises_is_raised() -> None:
    async def scenario() -> None:
        workers = Workers(1, "test")
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await workers.run(lambda: 1 // 0)
        assert await workers.run(lambda: 1) == 1
        workers.close()

    run(scenario())


def test_a_call_that_nobody_waits_for_does_not_begin() -> None:
    async def scenario() -> None:
        gate, workers, over = Gate(), Workers(1, "test"), list[int]()
        first = asyncio.ensure_future(workers.run(gate.call(0)))
        second = asyncio.ensure_future(workers.run(gate.call(1), lambda: over.append(1)))
        await until(lambda: gate.begun)
        second.cancel()
        gate.open()
        assert await first == 0
        await until(lambda: over)
        await turns()
        assert (gate.begun, over) == ([0], [1])
        workers.close()

    run(scenario())


def test_after_the_end_nothing_begins() -> None:
    async def scenario() -> None:
        gate, workers, over = Gate(), Workers(1, "test"), list[int]()
        calls = [
            asyncio.ensure_future(workers.run(gate.call(n), lambda n=n: over.append(n)))  # type: ignore[misc]
            for n in range(3)
        ]
        await until(lambda: gate.begun)
        workers.close()
        with pytest.raises(DiskError, match="closed"):
            await workers.run(gate.call(9), lambda: over.append(9))
        gate.open()
        first, *others = await settled(calls)
        assert first == 0
        assert all(isinstance(it, asyncio.CancelledError) for it in others)
        await until(lambda: not any(it.is_alive() for it in gate.threads))
        assert (gate.begun, sorted(over)) == ([0], [0, 1, 2, 9])

    run(scenario())


def test_a_thread_that_waits_keeps_nothing_of_its_last_call() -> None:
    class Data:
        pass

    async def scenario() -> None:
        workers, data = Workers(1, "test"), Data()
        kept = weakref.ref(data)
        await workers.run(partial(id, data))
        del data
        await until(lambda: gc.collect() is not None and kept() is None)
        workers.close()

    run(scenario())


# Where no thread can be started


def test_a_call_without_a_thread_fails_and_is_never_carried_out() -> None:
    """Catches concurrent.futures, which raises and has the call carried out by a thread that is there."""

    async def scenario() -> None:
        gate, workers, over = Gate(), Workers(4, "test"), list[int]()
        first = asyncio.ensure_future(workers.run(gate.call(0)))
        await until(lambda: gate.begun)
        with no_threads():
            for n in (1, 2):
                with pytest.raises(NoThread, match="ulimit -u"):
                    await workers.run(gate.call(n), lambda n=n: over.append(n))  # type: ignore[misc]
            with pytest.raises(NoThread):
                await aside(gate.call(3))
        gate.open()
        assert await first == 0
        await until(lambda: workers._free == 1)
        assert (gate.begun, over) == ([0], [1, 2])
        with no_threads():
            assert await workers.run(gate.call(4)) == 4  # the one that there is has nothing to do
        assert await asyncio.gather(*(workers.run(gate.call(n)) for n in (5, 6))) == [5, 6]
        workers.close()

    run(scenario())


def test_a_write_that_failed_so_is_not_stored_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client may have written other data there meanwhile."""
    gate, path = Gate(), sparse(tmp_path / "disk", 8)
    real = FileDisk._write

    def write(self: FileDisk, offset: int, data: memoryview, durable: bool) -> None:
        if not offset:
            gate.call(0)()
        real(self, offset, data, durable)

    monkeypatch.setattr(FileDisk, "_write", write)

    async def scenario(disk: FileDisk) -> None:
        first = asyncio.ensure_future(disk.write(0, noise(1)))
        await until(lambda: gate.begun)
        with no_threads(), pytest.raises(NoThread) as caught:
            await disk.write(SECTOR, noise(1))
        assert caught.value.errno == errno.EAGAIN
        gate.open()
        await first
        await turns()

    with opened(path) as disk:
        run(scenario(disk))
    assert path.read_bytes()[: 2 * SECTOR] == noise(1) + bytes(SECTOR)


def test_an_error_stays_what_it_is_where_nothing_can_look_for_its_sector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> bytes:
        raise DiskError("read: Input/output error", 0, errno.EIO)

    async def search(*_: object) -> None:
        raise NoThread

    async def scenario(disk: FileDisk) -> None:
        monkeypatch.setattr(disk, "_read", read)
        real = disk._run

        def once(call: Callable[[], Any]) -> Awaitable[Any]:
            monkeypatch.setattr(disk, "_run", search)
            return real(call)

        monkeypatch.setattr(disk, "_run", once)
        with pytest.raises(DiskError) as caught:
            await disk.read(2 * SECTOR, 4 * SECTOR)
        assert (caught.value.errno, caught.value.offset) == (errno.EIO, 2 * SECTOR)

    with opened(sparse(tmp_path / "disk", 8)) as disk:
        run(scenario(disk))
