"""Snapshots and clones of volumes that a service serves."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.errors import ControlFailed
from aoe.pool.requests import Create, Delete
from aoe.pool.volume import Volume
from aoe.pool.work import Work
from aoe.wire.config import ConfigCommand
from aoe.wire.mask import Directive, DirectiveCommand
from aoe.wire.protocol import SECTOR
from aoe.wire.reserve import ReserveCommand
from tests.net.service import Service
from tests.net.test_pools import ask, exports, volume
from tests.pool.pools import MIB, SIZE, files, first, fresh, is_whole, working, write
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import Client
from tests.support.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_filesystem("xfs", tmp_path_factory.mktemp("xfs") / "srv", 400 * MIB) as store:
        yield store


@pytest.fixture
def pool(xfs: Path) -> Path:
    directory = fresh(xfs)
    with working(directory) as work:
        work.do(Create("web1", SIZE))
        write(work, "web1", 1)
    return directory


@contextmanager
def ended(pool: Path) -> Iterator[Work]:
    """The opener of the service ends a moment after that."""
    work = Work(str(pool), name="fast", patience_s=PATIENCE_S)
    try:
        yield work
    finally:
        work.close()


def looked_at(pool: Path) -> dict[str, Volume]:
    work = Work(str(pool), locked=False)
    try:
        return dict(work.volumes)
    finally:
        work.close()


def test_a_volume_is_kept_and_cloned_as_it_is_while_clients_write(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    with (
        Service(lab, tmp_path, exports(pool, "fast/web1")) as service,
        Client(lab.port("client"), 1, 1) as disk,
    ):
        disk.write(0, bytes([2]) * SECTOR, fua=True)
        told_things(disk)
        planned = volume(service, "snapshot fast/web1@monday --plan")
        assert "hold changes of e1.1 for at most 250 ms" in planned
        assert volume(service, "snapshot fast/web1@monday") == "fast/web1@monday: cut\n"
        disk.write(0, bytes([3]) * SECTOR, fua=True)
        assert "there is a snapshot monday" in volume(service, "snapshot fast/web1@monday", 2)
        said = volume(service, "clone fast/web1 fast/web2")
        assert said == "fast/web2: a clone of fast/web1@clone-web2\n"
        disk.write(0, bytes([4]) * SECTOR, fua=True)
        volume(service, "clone fast/web1@monday fast/web3")
        clones_were_told_nothing(service, lab)
        assert disk.read(0)[0] == 4
        assert [it.name for it in looked_at(pool)["web1"].snapshots] == ["monday", "clone-web2"]
        backup_is_what_was_kept(service, lab, tmp_path)
    with ended(pool) as work:
        assert is_whole(work)
        found = [first(work, it) for it in ("web1", "web2", "web3")]
        assert (found, first(work, "web1", "monday")) == ([4, 3, 2], 2)


def told_things(disk: Client) -> None:
    """What a volume remembers beside its data."""
    disk.config(ConfigCommand.SET, b"of web1")
    disk.mask(Directive(DirectiveCommand.ADD, disk.mac))
    disk.reserve(ReserveCommand.SET, disk.mac)


def clones_were_told_nothing(service: Service, lab: Lab) -> None:
    """A clone has the data of a disk, not what was said to it: of one that is served, and of a snapshot."""
    for slot, name, byte in ((3, "web3", 2), (4, "web2", 3)):
        service.command("add", f"1.{slot}", f"fast/{name}")
        with Client(lab.port("client"), 1, slot) as clone:
            assert clone.read(0)[0] == byte
            told = clone.config().text, clone.mask().directives, clone.reserve().macs
            assert told == (b"", (), ()), name


def backup_is_what_was_kept(service: Service, lab: Lab, tmp_path: Path) -> None:
    """`aoe copy` of a snapshot that is served."""
    service.command("add", "1.2", "fast/web1@monday")
    copy = (sys.executable, "-m", "aoe.cli.client", "copy", "--interface", "v0", "e1.2", tmp_path / "backup")
    lab.run("client", *copy, check=True)
    backup = (tmp_path / "backup").read_bytes()
    assert (len(backup), backup[0], backup[SECTOR]) == (SIZE, 2, 1)


def test_nothing_is_left_of_a_snapshot_that_does_not_come_about(lab: Lab, pool: Path, tmp_path: Path) -> None:
    with (
        Service(lab, tmp_path, exports(pool, "fast/web1")) as service,
        Client(lab.port("client"), 1, 1) as disk,
    ):
        disk.write(0, bytes([2]) * SECTOR, fua=True)
        before = files(pool)
        filler, free = pool.parent / "filler", os.statvfs(pool)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 4 * MIB)
        assert "reserve" in volume(service, "snapshot fast/web1@full", 2)
        disk.write(1, bytes([3]) * SECTOR, fua=True)
        filler.unlink()
        assert files(pool) == before
        volume(service, "snapshot fast/web1@later")
    with ended(pool) as work:
        assert is_whole(work)


def test_several_volumes_are_kept_at_one_moment(lab: Lab, pool: Path, tmp_path: Path) -> None:
    with working(pool) as work:
        work.do(Create("db1", SIZE))
        work.do(Create("idle", SIZE))
    with Service(lab, tmp_path, exports(pool, "fast/web1", "fast/db1")) as service:
        assert (
            volume(service, "snapshot fast/web1@noon fast/db1@noon") == "fast/web1@noon, fast/db1@noon: cut\n"
        )
        some = volume(service, "snapshot fast/web1@some fast/idle@some", 2)
        assert "some of these volumes are served and some are not; cut them apart" in some
        assert "have two names" in volume(service, "snapshot fast/web1@a fast/db1@b", 2)
        assert "named twice" in volume(service, "snapshot fast/web1@a fast/web1@a", 2)
        assert "there is a snapshot noon" in volume(service, "snapshot fast/db1@noon fast/web1@noon", 2)
        service.command("add", "1.3", "fast/db1@noon")
        with pytest.raises(ControlFailed, match=r"fast/db1@noon is what e1\.3 is to serve; take"):
            ask(service, Delete("db1", "noon"))
        found = looked_at(pool)
        assert [[it.name for it in found[name].snapshots] for name in ("web1", "db1")] == [["noon"]] * 2
