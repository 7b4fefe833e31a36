"""Why two primaries need `--shared`: one has no way to know that its page cache is older than the disk.

Two targets on one host's file could not show it: the file's cache is both's. A loop device has a cache of
its own above that one, so two of them on one file are what two hosts with one disk are.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import aoe
from aoe.initiator.remote import RemoteDisk
from tests.support.fault_disk import loop_device
from tests.support.net import Lab, in_namespace
from tests.support.peers import AoeTarget, image
from tests.support.tools import need_namespaces
from tests.support.writers import Writers

ENGINES = ("c",)
SECTORS = 8192
BLOCK = 4096
OFFSET = 512 * BLOCK
OLD, NEW = b"old!" * (BLOCK // 4), b"new!" * (BLOCK // 4)
KILL_AFTER_S = 0.5
WRITING_S = 2.5

T = TypeVar("T")


class Pair(NamedTuple):
    """Primaries e1.0 and e2.0, each on a cable to the client of its own."""

    lab: Lab
    first: AoeTarget
    second: AoeTarget

    def run(self, use: "Callable[[Pair, RemoteDisk], Coroutine[None, None, T]]") -> T:
        """Use the disk on the client's side, over the first primary."""

        async def main() -> T:
            async with attached() as disk:
                return await use(self, disk)

        return in_namespace(self.lab.namespace("client"), lambda: asyncio.run(main()))


@contextmanager
def pair(directory: Path, how: str) -> Iterator[Pair]:
    """Both are served `--buffered` or `--shared`, from one store through two caches."""
    need_namespaces()
    store = image(directory / "disk", SECTORS)
    with store.open("r+b") as file:
        file.seek(OFFSET)
        file.write(OLD)
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(("first", "client", "second"), mtu=9000))
        lab.cable("second", "client")
        targets = []
        for shelf, side in ((1, "first"), (2, "second")):
            device = stack.enter_context(loop_device(store))
            options = (how, "--serial", "ONE")
            state = directory / side
            target = AoeTarget(lab, directory, f"{device}={shelf}.0", *options, side=side, state_dir=state)
            targets.append(stack.enter_context(target))
        yield Pair(lab, *targets)


@asynccontextmanager
async def attached() -> AsyncIterator[RemoteDisk]:
    """The disk over both primaries, once they can be used."""
    async with aoe.attach("e1.0", "e2.0", interface=["v0", "v1"], find_s=0.5) as disk:
        while [path.state for path in disk.paths] != ["usable", "usable"]:
            await asyncio.sleep(0.01)
        prefer(disk, "e1.0")
        yield disk


def prefer(disk: RemoteDisk, address: str) -> None:
    disk.prefer(next(path.name for path in disk.paths if path.name.endswith(address)))


async def read_over_both(disk: RemoteDisk, offset: int, length: int) -> list[bytes]:
    """What each primary says, so that each has it in its cache if it uses one."""
    found = []
    for address in ("e2.0", "e1.0"):
        prefer(disk, address)
        found.append(await disk.read(offset, length))
    return found


async def overwrite_and_fail_over(there: Pair, disk: RemoteDisk) -> bytes:
    """What the second primary says of a place that the first, before it died, wrote to."""
    assert await read_over_both(disk, OFFSET, BLOCK) == [OLD, OLD]
    await disk.write(OFFSET, NEW)
    assert await disk.read(OFFSET, BLOCK) == NEW
    there.first.kill()
    return await disk.read(OFFSET, BLOCK)


async def faults_of_writers(there: Pair, disk: RemoteDisk) -> list[str]:
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
        assert there.run(overwrite_and_fail_over) == OLD


def test_a_shared_primary_serves_what_the_other_has_written(tmp_path: Path) -> None:
    with pair(tmp_path, "--shared") as there:
        assert there.run(overwrite_and_fail_over) == NEW


def test_writers_find_that_caches_are_separate(tmp_path: Path) -> None:
    """The checker of the failover tests sees the hazard, so that its silence there means something."""
    with pair(tmp_path, "--buffered") as there:
        assert any("was read after" in fault for fault in there.run(faults_of_writers))


def test_writers_find_nothing_with_shared(tmp_path: Path) -> None:
    with pair(tmp_path, "--shared") as there:
        assert there.run(faults_of_writers) == []
