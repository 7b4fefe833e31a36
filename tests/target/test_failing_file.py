"""The target in Python on a file whose system calls fail: what its client is told, and what it still gets."""

import asyncio
from pathlib import Path

import pytest

from aoe import timing
from aoe.disk.open import Opening, open_disk
from aoe.errors import DiskError
from aoe.initiator.remote import RemoteDisk
from aoe.testing import Lab
from tests.support.labs.fault_disk import FuseDisk
from tests.support.waiting import PATIENCE_S

SECTORS, PAGE = 2048, 4096
OLD, NEW = b"o" * PAGE, b"n" * PAGE


@pytest.fixture(autouse=True)
def long_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sector is a program of its own that is started."""
    monkeypatch.setattr(timing, "BAD_SECTOR_SEARCH_S", PATIENCE_S)


async def is_well(disk: RemoteDisk) -> None:
    """What lies beside the bad place is read and written."""
    await disk.write(8 * PAGE, NEW)
    assert await disk.read(8 * PAGE, PAGE) == NEW


def test_a_bad_place_is_named_and_costs_no_other(tmp_path: Path) -> None:
    """Catches a target that answers a failed read with bytes, acknowledges a failed write, or names another
    sector."""

    async def run(sick: FuseDisk) -> None:
        lab, store = Lab(), open_disk(sick.path, Opening(direct=True))
        async with lab.serve(store, "e1.0"), lab.attach("e1.0") as disk:
            await disk.write(0, 16 * OLD)
            sick.fail("read", 35, 1)
            with pytest.raises(DiskError) as failed:
                await disk.read(4 * PAGE, 2 * PAGE)
            assert failed.value.offset == 35 * 512
            await is_well(disk)
            sick.heal("read")
            assert await disk.read(4 * PAGE, PAGE) == OLD
            sick.fail("write", 100, 1)
            with pytest.raises(DiskError) as failed:
                await disk.write(12 * PAGE, NEW)
            assert failed.value.offset == 100 * 512
            await is_well(disk)
            sick.heal("write")
            await disk.write(12 * PAGE, NEW)
            await disk.flush()
        store.close()
        assert sick.store.read_bytes()[12 * PAGE : 14 * PAGE] == NEW + OLD

    with FuseDisk(tmp_path / "sick", SECTORS) as sick:
        asyncio.run(run(sick))


def test_after_a_failed_sync_nothing_is_promised(tmp_path: Path) -> None:
    """Catches a target that acknowledges a write or a flush after the kernel may have dropped what it had."""

    async def run(sick: FuseDisk) -> None:
        lab, store = Lab(), open_disk(sick.path, Opening(direct=True))
        async with lab.serve(store, "e1.0"), lab.attach("e1.0") as disk:
            await disk.write(0, OLD)
            sick.fail("flush")
            with pytest.raises(DiskError):
                await disk.flush()
            sick.heal("flush")
            for again in (disk.flush(), disk.write(PAGE, NEW), disk.write(PAGE, NEW, fua=True)):
                with pytest.raises(DiskError):
                    await again
            assert await disk.read(0, 2 * PAGE) == OLD + bytes(PAGE)
        store.close()

    with FuseDisk(tmp_path / "sick", SECTORS) as sick:
        asyncio.run(run(sick))
