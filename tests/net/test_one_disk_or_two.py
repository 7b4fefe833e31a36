"""Two primaries with one serial, on a host each: one disk, or two that somebody gave one serial."""

import asyncio
import itertools
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

import pytest

import aoe
from aoe.errors import Unreachable
from aoe.initiator.remote import RemoteDisk
from aoe.wire import protocol
from tests.support.labs.network import in_namespace
from tests.support.labs.peers import image
from tests.support.labs.primaries import ADDRESSES, Primaries, primaries

ENGINES = ("c",)
SECTORS = 1 << 16
BLOCK = 4096
PATIENCE_S = 60
arithmetics = pytest.mark.parametrize("arithmetic", ["c", "python"])

T = TypeVar("T")


def use(there: Primaries, what: Callable[[RemoteDisk], Coroutine[None, None, T]], **how: object) -> T:
    """The disk over both, on the client's side."""

    async def main() -> T:
        async with aoe.attach(*ADDRESSES, interface=["v0", "v1"], find_s=1.0, **how) as disk:  # type: ignore[arg-type]
            return await what(disk)

    return in_namespace(there.lab.namespace("client"), lambda: asyncio.run(main()))


def second(disk: RemoteDisk) -> tuple[str, str, str]:
    path = disk.paths[1]
    assert path.address == "e2.0"
    return path.state, path.reason, path.proof


def clone_of(store: Path) -> Path:
    clone = store.with_name("clone")
    shutil.copyfile(store, clone)
    return clone


@arithmetics
def test_one_disk_is_proved_by_the_first_write(tmp_path: Path, arithmetic: str) -> None:
    async def what(disk: RemoteDisk) -> None:
        assert second(disk) == ("usable", "", "unproved")
        await disk.write(20 << 20, b"w" * BLOCK)
        async with asyncio.timeout(30):
            while disk.paths[1].proof:
                await disk.next_change()

    store = image(tmp_path / "disk", SECTORS)
    with primaries(tmp_path, (store, store), "--shared") as there:
        use(there, what, engine=arithmetic)


@arithmetics
def test_clones_are_never_used_as_one_disk(tmp_path: Path, arithmetic: str) -> None:
    async def what(disk: RemoteDisk) -> None:
        assert second(disk) == ("usable", "", "unproved")
        async with asyncio.timeout(PATIENCE_S):
            for number in itertools.count():  # the other server may be asked for the last one still
                await disk.write((20 << 20) + number * BLOCK, bytes((number % 255 + 1,)) * BLOCK)
                await asyncio.sleep(0.05)
                if second(disk)[0] == "refused":
                    break
        assert "what was written at LBA" in second(disk)[1]
        there.first.kill()
        with pytest.raises(Unreachable, match="another disk, or not in step"):
            await disk.read(20 << 20, BLOCK)

    store = image(tmp_path / "disk", SECTORS)
    clone = clone_of(store)
    before = clone.read_bytes()
    with primaries(tmp_path, (store, clone)) as there:
        use(there, what, engine=arithmetic, spread=True, timeout_s=3.0)
    assert clone.read_bytes() == before


@arithmetics
@pytest.mark.parametrize("lba", [5, SECTORS - 7])
def test_disks_that_differ_at_their_ends_are_refused_at_attach(
    tmp_path: Path, arithmetic: str, lba: int
) -> None:
    async def what(disk: RemoteDisk) -> None:
        assert second(disk) == (
            "refused",
            f"another disk: LBA {lba} differs; give every disk a serial of its own",
            "",
        )

    store = image(tmp_path / "disk", SECTORS)
    clone = clone_of(store)
    with clone.open("r+b") as file:
        file.seek(lba * protocol.SECTOR)
        file.write(b"other")
    with primaries(tmp_path, (store, clone)) as there:
        use(there, what, engine=arithmetic)
