"""Volumes in qcow2 that are served: what deleted snapshots leave is merged meanwhile."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aoe import limits, timing
from aoe.config.values import ExportConfig, PoolConfig
from aoe.image import keeper
from aoe.image.asking import Asked
from aoe.node.opening import InProcess
from aoe.node.pools import Pools
from aoe.pool.requests import Create, Cut, Delete
from tests.image.daemons import daemon_of
from tests.pool.pools import MIB, SIZE, fresh, is_whole, working
from tests.support.labs.fault_disk import small_filesystem
from tests.support.tools import need_images, tool
from tests.support.waiting import wait_for

WEB = ExportConfig(path="fast/web", shelf=1, slot=1)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Path]:
    need_images()
    with small_filesystem("ext4", tmp_path / "srv", 64 * MIB) as store:
        directory = fresh(store)
        with working(directory) as work:
            work.do(Create("web", SIZE, "qcow2"))
        yield directory


@pytest.fixture
def opener(pool: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcess]:
    monkeypatch.setattr(timing, "IMAGE_MERGED_LOOK_S", timing.IMAGE_LOOK_S)
    pools = Pools([PoolConfig(name="fast", path=str(pool))])
    with closing(Asked(keeper.fork())) as images:
        made = InProcess(0, pools=pools, images=images)
        made.find([])
        yield made
        made.close()


def cut(opener: InProcess, fd: int, name: str, byte: int) -> None:
    """What the disk has in its second block from now on is in the snapshot, too."""
    os.pwrite(fd, bytes([byte]) * 512, 65536)
    os.fdatasync(fd)
    opener.volume("fast", Cut("web", name), only_plan=False)


def delete(opener: InProcess, name: str) -> None:
    opener.volume("fast", Delete("web", name), only_plan=False)


def images(pool: Path) -> int:
    return len(list((pool / "images").iterdir()))


def test_a_disk_in_service_is_cut_more_often_than_images_may_lie_over_another(
    opener: InProcess, pool: Path
) -> None:
    """As a schedule does, which keeps two, where it was merged late."""
    held = opener.open_store(WEB)
    fd = held.opened.store.fd
    os.pwrite(fd, b"\1" * 512, 0)
    work = opener.pools.work("fast")
    daemon = wait_for(lambda: daemon_of(Path(work.path_of("web"))))
    for number in range(limits.POOL_CHAIN_MAX):
        cut(opener, fd, f"s{number}", number)
        if number > 1:
            delete(opener, f"s{number - 2}")
        if number % 8 == 7:
            assert opener.merges() == [{"volume": "fast/web", "problem": ""}]
            assert images(pool) == 3
    assert (os.pread(fd, 1, 0), os.pread(fd, 1, 65536)) == (b"\1", bytes([number]))
    assert daemon_of(Path(work.path_of("web"))) == daemon, "it is the same process"
    raw = pool / "raw"
    tool("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", work.path_of("web", f"s{number - 1}"), raw)
    assert (raw.read_bytes()[0], raw.read_bytes()[65536]) == (1, number - 1)
    raw.unlink()
    os.close(fd)
    opener.release(held)
    assert is_whole(work)


def test_what_is_below_the_disk_itself_is_gathered_until_that_is_cut(opener: InProcess, pool: Path) -> None:
    held = opener.open_store(WEB)
    fd = held.opened.store.fd
    for number in range(5):
        cut(opener, fd, f"s{number}", number)
    with Path(opener.pools.work("fast").path_of("web", "s0")).open("rb") as first:
        for number in range(5):
            delete(opener, f"s{number}")
        assert opener.merges() == [{"volume": "fast/web", "problem": ""}]
        assert images(pool) == 2
        assert not os.fstat(first.fileno()).st_size, "nor is its room, while a process has it open"
    assert opener.merges() == [{"volume": "fast/web", "problem": ""}]
    cut(opener, fd, "last", 9)
    assert opener.merges() == [{"volume": "fast/web", "problem": ""}]
    assert images(pool) == 2
    assert os.pread(fd, 1, 65536) == b"\11"
    os.close(fd)
    opener.release(held)
    assert is_whole(opener.pools.work("fast"))
