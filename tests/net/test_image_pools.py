"""A service that serves volumes in qcow2 by name, from a pool whose file system has no reflink."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.pool.requests import Clone, Create, Cut, Delete
from aoe.wire.protocol import SECTOR
from tests.image.daemons import daemon_of, kill_daemon
from tests.net.service import Service
from tests.net.test_pools import INSTANCE, client, exports, fill, filled, first, mac, volume, writes
from tests.pool.pools import MIB, SIZE, fresh, working
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import AtaFailed, sectors_of, text_of
from tests.support.tools import need_images
from tests.support.waiting import PATIENCE_S, wait_for


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    need_images()
    with small_filesystem("ext4", tmp_path_factory.mktemp("ext4") / "srv", 64 * MIB) as store:
        yield store


@pytest.fixture
def pool(ext4: Path) -> Path:
    """With a volume that has a snapshot, and a clone of that."""
    directory = fresh(ext4)
    with working(directory) as work:
        work.do(Create("base", SIZE, "qcow2"))
        work.do(Cut("base", "golden"))
        work.do(Clone("base", "golden", "web1"))
    return directory


def head(pool: Path, name: str) -> Path:
    with working(pool) as work:
        return Path(work.where(work.volumes[name].head))


def test_volumes_in_qcow2_are_served_by_name(lab: Lab, pool: Path, tmp_path: Path) -> None:
    image = head(pool, "web1")
    tables = exports(pool, "fast/web1", "fast/base@golden", "fast/base")
    with Service(lab, tmp_path, tables) as service:
        with client(lab, 1) as disk, client(lab, 2) as kept, client(lab, 3) as base:
            assert sectors_of(disk.identify()) == SIZE // SECTOR
            serial = text_of(disk.identify(), 10, 10)
            disk.write(0, bytes([2]) * SECTOR)
            base.write(0, bytes([3]) * SECTOR)
            assert (first(disk), first(kept), first(base)) == (2, 0, 3)
            with pytest.raises(AtaFailed):
                kept.write(0, bytes(SECTOR))
            disk.retries = int(PATIENCE_S)
            kill_daemon(image)
            disk.write(1, bytes([4]) * SECTOR)
            assert (disk.read(0)[0], disk.read(1)[0]) == (2, 4)
        service.restart()
        with client(lab, 1) as disk:
            assert (disk.read(0)[0], disk.read(1)[0]) == (2, 4)
            assert text_of(disk.identify(), 10, 10) == serial
    wait_for(lambda: not daemon_of(image))


def test_a_store_that_is_full_is_an_ata_error_until_there_is_room(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    """What is there is read, and written where it has its room already."""
    with Service(lab, tmp_path, exports(pool, "fast/web1")) as service, client(lab, 1) as disk:
        disk.write(0, bytes([1]) * SECTOR)
        filler, elsewhere = pool.parent / "filler", 2 * MIB // SECTOR
        try:
            fill(filler)
            with pytest.raises(AtaFailed):
                disk.write(elsewhere, bytes([2]) * SECTOR)
            assert (first(disk), disk.read(elsewhere)[0]) == (1, 0)
            disk.write(0, bytes([3]) * SECTOR)
            (one,) = service.ask("status")["exports"]
            assert (one["state"], one["reason"]) == ("serving", "")
            assert "is its reserve" in volume(service, "snapshot fast/web1@full", 2)
        finally:
            filler.unlink()
        wait_for(lambda: writes(disk, elsewhere), what="there is room again, without a restart")
        assert (first(disk), disk.read(elsewhere)[0]) == (3, 2)
        assert "cut" in volume(service, "snapshot fast/web1@then")


def test_a_snapshot_is_cut_of_what_goes_on(lab: Lab, pool: Path, tmp_path: Path) -> None:
    """And another one of that; what serves the volume stays the same, unless it is killed."""
    image = head(pool, "web1")
    with Service(lab, tmp_path, exports(pool, "fast/web1")) as service, client(lab, 1) as disk:
        disk.write(0, bytes([1]) * SECTOR)
        identity, serving = disk.identify(), wait_for(lambda: daemon_of(image))
        with stopped(serving):
            said = volume(service, "snapshot fast/web1@never", 2)
            assert "fast/web1: qemu-storage-daemon: it has not answered for 5 s; look at the disk" in said
        assert first(disk) == 1
        assert "cut" in volume(service, "snapshot fast/web1@one")
        disk.write(0, bytes([2]) * SECTOR)
        volume(service, "snapshot fast/web1@two")
        disk.write(0, bytes([3]) * SECTOR)
        assert (first(disk), daemon_of(image), disk.identify()) == (3, serving, identity)
        volume(service, "clone fast/web1 fast/web2")
        disk.write(0, bytes([4]) * SECTOR)
        disk.retries = int(PATIENCE_S)
        kill_daemon(image)
        assert first(disk) == 4
        volume(service, "snapshot fast/web1@three")
        disk.write(0, bytes([5]) * SECTOR)
        tables = ("fast/web1", "fast/web1@one", "fast/web1@two", "fast/web2", "fast/web1@three")
        service.write(exports(pool, *tables))
        service.apply()
        for slot, byte in enumerate((5, 1, 2, 3, 4), 1):
            with client(lab, slot) as one:
                assert first(one) == byte
        assert disk.identify() == identity
    with working(pool, patience_s=PATIENCE_S) as work:
        assert not work.leftovers
        assert "never" not in [it.name for it in work.volumes["web1"].snapshots]


def test_a_merge_of_what_is_served_names_its_clients(lab: Lab, pool: Path, tmp_path: Path) -> None:
    """Into what clients write nothing is merged."""
    with working(pool) as work:
        for name in ("base", "web1"):
            work.do(Cut(name, "later"))
            work.do(Delete(name, "later"))
    file = tmp_path / "etc.toml"
    file.write_text("\n".join(exports(pool)))
    with (
        Service(lab, tmp_path, exports(pool, "fast/base", "fast/web1")) as service,
        client(lab, 1) as base,
        client(lab, 2) as web1,
    ):
        remedy = "it is merged by itself once it is cut again; or take that out of the file, and apply it\n"
        for slot, disk, name, *plan in ((1, base, "base", "--plan"), (2, web1, "web1")):
            assert first(disk) == 0
            said = filled(service, file, "merge", f"fast/{name}", *plan, status=2)
            used = f"and {mac(disk)} used it in the last minute"
            assert said == f"aoe-target: fast/{name} is served at e1.{slot}, {used}; {remedy}"


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """A process that does nothing meanwhile."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_it_grows_while_it_is_used(lab: Lab, pool: Path, tmp_path: Path) -> None:
    """What serves it stays the same, and clients lose nothing; several are not cut together."""
    image, last = head(pool, "web1"), 2 * SIZE // SECTOR - 1
    with Service(lab, tmp_path, exports(pool, "fast/web1", "fast/base")) as service, client(lab, 1) as disk:
        disk.write(0, bytes([1]) * SECTOR)
        identity, serving = disk.identify(), wait_for(lambda: daemon_of(image))
        assert "fast/web1 is qcow2, and is served; cut it alone" in volume(
            service, "snapshot fast/web1@both fast/base@both", 2
        )
        assert "aoe sees the new size at once" in volume(service, f"resize fast/web1 {2 * SIZE}")
        now = disk.identify()
        assert sectors_of(now) == last + 1
        assert (now[INSTANCE], daemon_of(image)) == (identity[INSTANCE], serving)
        disk.write(last, bytes([2]) * SECTOR)
        assert (first(disk), disk.read(last)[0], disk.read(last - 1)[0]) == (1, 2, 0)
        volume(service, "snapshot fast/web1@larger")
        volume(service, f"resize fast/web1 {3 * SIZE}")
        disk.retries = int(PATIENCE_S)
        kill_daemon(image)
        assert (first(disk), disk.read(last)[0], disk.read(3 * SIZE // SECTOR - 1)[0]) == (1, 2, 0)
