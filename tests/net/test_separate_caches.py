"""Why two primaries need `--shared`: one has no way to know that its page cache is older than the disk.

Two targets on one host's file could not show it: the file's cache is both's. A loop device has a cache of
its own above that one, so two of them on one file are what two hosts with one disk are.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

import aoe
from aoe import limits
from aoe.errors import Unreachable
from aoe.initiator.remote import RemoteDisk
from tests.support.checkers.writers import Writers
from tests.support.labs.fault_disk import loop_device
from tests.support.labs.network import in_namespace
from tests.support.labs.peers import image
from tests.support.labs.primaries import ADDRESSES, Primaries, primaries

ENGINES = ("c",)
SECTORS = 8192
BLOCK = 4096
OFFSET = 512 * BLOCK
OLD, NEW = b"old!" * (BLOCK // 4), b"new!" * (BLOCK // 4)
KILL_AFTER_S = 0.5
WRITING_S = 2.5
PATIENCE_S = 60
TRIES = 5
"""A primary that was not heard for a second, on a busy machine, is compared as a whole: then it is refused
before what is tried here can show."""

T = TypeVar("T")


@contextmanager
def pair(directory: Path, how: str) -> Iterator[Primaries]:
    """Both are served `--buffered` or `--shared`, from one store through two caches."""
    store = image(directory / "disk", SECTORS)
    with store.open("r+b") as file:
        file.seek(OFFSET)
        file.write(OLD)
    with (
        loop_device(store) as one,
        loop_device(store) as other,
        primaries(directory, (one, other), how) as started,
    ):
        yield started


def buffered(directory: Path, use: Callable[[Primaries], list[str]]) -> Iterator[list[str]]:
    """What is found of several pairs, one after the other."""
    for number in range(TRIES):
        place = directory / str(number)
        place.mkdir()
        with pair(place, "--buffered") as there:
            yield use(there)


def run(
    there: Primaries, use: Callable[[Primaries, RemoteDisk], Coroutine[None, None, T]], engine: str = "auto"
) -> T:
    """Use the disk on the client's side, over the first primary."""

    async def main() -> T:
        async with attached(engine) as disk:
            return await use(there, disk)

    return in_namespace(there.lab.namespace("client"), lambda: asyncio.run(main()))


@asynccontextmanager
async def attached(engine: str) -> AsyncIterator[RemoteDisk]:
    """The disk over both primaries, once they can be used."""
    async with aoe.attach(*ADDRESSES, interface=["v0", "v1"], find_s=0.5, engine=engine) as disk:
        while [path.state for path in disk.paths] != ["usable", "usable"]:
            await asyncio.sleep(0.01)
        prefer(disk, ADDRESSES[0])
        yield disk


def prefer(disk: RemoteDisk, address: str) -> None:
    disk.prefer(next(path.name for path in disk.paths if path.name.endswith(address)))


async def read_over_both(disk: RemoteDisk, offset: int, length: int) -> list[bytes]:
    """What each primary says, so that each has it in its cache if it uses one."""
    found = []
    for address in reversed(ADDRESSES):
        prefer(disk, address)
        found.append(await disk.read(offset, length))
    return found


async def overwrite_and_fail_over(there: Primaries, disk: RemoteDisk) -> bytes:
    """What the second primary says of a place that the first, before it died, wrote to."""
    assert await read_over_both(disk, OFFSET, BLOCK) == [OLD, OLD]
    await disk.write(OFFSET, NEW)
    assert await disk.read(OFFSET, BLOCK) == NEW
    there.first.kill()
    return await disk.read(OFFSET, BLOCK)


async def faults_of_writers(there: Primaries, disk: RemoteDisk) -> list[str]:
    """What writers cannot explain who go on while the first primary is killed."""
    writers = Writers(disk, block=BLOCK)
    await read_over_both(disk, 0, writers.places * BLOCK)
    asyncio.get_running_loop().call_later(KILL_AFTER_S, there.first.kill)
    await writers.run(WRITING_S)
    assert len(writers.calls) > 200
    assert not writers.errors
    return writers.faults()


def test_a_buffered_primary_serves_what_was_overwritten(tmp_path: Path) -> None:
    with pair(tmp_path, "--buffered") as there:
        assert run(there, overwrite_and_fail_over) == OLD


def test_a_shared_primary_serves_what_the_other_has_written(tmp_path: Path) -> None:
    with pair(tmp_path, "--shared") as there:
        assert run(there, overwrite_and_fail_over) == NEW


def test_writers_find_that_caches_are_separate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker of the failover tests sees the hazard, so that its silence there means something. No number
    of writes that are not seen keeps the second one out here."""
    monkeypatch.setattr(limits, "ECHOES_MAX", 1 << 30)

    def faults(there: Primaries) -> list[str]:
        try:
            return run(there, faults_of_writers, "python")
        except Unreachable:
            return []

    assert any("was read from" in fault for found in buffered(tmp_path, faults) for fault in found)


@pytest.mark.parametrize("arithmetic", ["c", "python"])
def test_separate_caches_are_found_out(tmp_path: Path, arithmetic: str) -> None:
    async def use(there: Primaries, disk: RemoteDisk) -> list[str]:
        writers = Writers(disk, block=BLOCK)
        await read_over_both(disk, 0, writers.places * BLOCK)
        await writers.run_until(found_out(writers, disk))
        writers.check()
        return [f"{path.address} {path.state}: {path.reason}" for path in disk.paths]

    async def found_out(writers: Writers, disk: RemoteDisk) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while disk.paths[1].state != "refused":
                await asyncio.sleep(0.02)
        await writers.enough()

    def states(there: Primaries) -> list[str]:
        first, second = run(there, use, arithmetic)
        assert first == "e1.0 usable: "
        assert second.startswith("e2.0 refused: another disk")
        return [second]

    echoed = "e2.0 refused: another disk, or not in step: what was written at LBA"
    assert any(second.startswith(echoed) for (second,) in buffered(tmp_path, states))


def test_writers_find_nothing_with_shared(tmp_path: Path) -> None:
    with pair(tmp_path, "--shared") as there:
        assert run(there, faults_of_writers) == []
