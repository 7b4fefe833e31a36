"""Snapshots of disks under load show one moment, whoever serves them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.wire import ata as ata_wire
from aoe.wire import frame
from tests.engine.cutting import cutting, read_faults, started
from tests.support.checkers.linear import Call
from tests.support.checkers.moments import Write
from tests.support.labs.fault_disk import FuseDisk, small_filesystem
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import WRITE_EXT, Client, ata_request
from tests.support.programs import cut_target
from tests.support.tools import need, need_engine, tool
from tests.support.waiting import PATIENCE_S

ENGINES = ["c", "plain", "python"]
ROUNDS = 3
TRIES = 10
PAGE = 4096


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_filesystem("xfs", tmp_path_factory.mktemp("xfs") / "store", 400 << 20) as store:
        yield store


@pytest.mark.parametrize("engine", ENGINES)
def test_a_snapshot_under_load_is_of_one_moment(engine: str, lab: Lab, xfs: Path, tmp_path: Path) -> None:
    need_engine()
    with cutting(lab, xfs, tmp_path, engine) as it:
        for _ in range(ROUNDS):
            said = it.cut(1)
            assert "error" not in said, said
        time.sleep(0.1)
        history = it.history()
        assert sum(write.acknowledged < float("inf") for write in history) > 100
        assert it.reads
        assert it.faults(history) == []
        counters = it.target.end()["counters"]
        assert engine == "python" or counters["engine_writes"] > 100


def test_a_target_that_holds_nothing_is_found(lab: Lab, xfs: Path, tmp_path: Path) -> None:
    assert any(broken_faults(lab, xfs, tmp_path, seed) for seed in range(TRIES))


def broken_faults(lab: Lab, xfs: Path, work: Path, seed: int) -> list[str]:
    """None where the machine wrote nothing just then."""
    with cutting(lab, xfs, work, "broken", seed=seed) as it:
        for _ in range(ROUNDS):
            it.cut(1)
        return it.faults(it.history())


def test_a_read_of_what_was_overwritten_is_found() -> None:
    place, read = (0, 8), Call(False, 1, called=5, returned=6)
    one, other = Write(1, (place,), 1, 2), Write(2, (place, (0, 9)), 3, 4)
    assert read_faults([one, other], [(place, read._replace(value=2))]) == []
    (said,) = read_faults([one, other], [(place, read)])
    assert said.startswith("(0, 8): 1 was read from 5 to 6")


@pytest.mark.parametrize("engine", ENGINES)
def test_clients_meet_no_error_of_a_snapshot_that_fails(
    engine: str, lab: Lab, xfs: Path, tmp_path: Path
) -> None:
    """It is to be on another file system, so no range can be cloned."""
    need_engine()
    with cutting(lab, xfs, tmp_path, engine) as it:
        for at in range(ROUNDS):
            it.target.tell(tmp_path / f"elsewhere{at}")
            said = it.target.said()
            said = it.target.said() if "over" in said else said
            assert "e1.0: no snapshot: the file system cannot let files share blocks" in said["error"]
            assert "error" not in it.cut(1)
        history = it.history()
        assert it.faults(history) == []
        assert all(write.acknowledged < float("inf") for write in history)
        assert len(history) > 100


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[FuseDisk, Path]]:
    """What an XFS is on, and a file there."""
    need("mkfs.xfs", "mount", "umount")
    store, mounted = tmp_path / "below" / "store", tmp_path / "mounted"
    mounted.mkdir()
    with FuseDisk(tmp_path / "below", (400 << 20) // 512, plugin=["file", str(store)]) as below:
        tool("mkfs.xfs", "-q", below.path)
        tool("mount", "-o", "loop", below.path, mounted)
        try:
            with (mounted / "disk").open("wb") as disk:
                disk.write(bytes(64 * PAGE))
                disk.flush()
                os.fsync(disk.fileno())
            yield below, mounted / "disk"
        finally:
            below.resume()
            tool("umount", mounted)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_disk_that_hangs_has_no_snapshot_and_is_served_on(
    engine: str, lab: Lab, hanging: tuple[FuseDisk, Path], tmp_path: Path
) -> None:
    need_engine()
    below, disk = hanging
    with (
        started(lab, "target", cut_target, tmp_path / "log", engine, "hasty", disk) as target,
        Client(lab.port("client"), 1, 0, timeout=PATIENCE_S) as client,
    ):
        assert target.said() == {"ready": True}
        client.write(8, b"a" * PAGE)
        below.hang()
        late = ata_wire.encode(ata_request(WRITE_EXT, 8, 8, b"b" * PAGE))
        client.send(client.request(frame.Command.ATA, late))
        client.identify()  # so the disk has the write by now
        target.tell(tmp_path / "snapshot")
        said = target.said()
        below.resume()
        assert said == {"error": "e1.0: no snapshot: its disk took over 250 ms for a change"}
        client.write(16, b"c" * PAGE)
        assert (client.read(8), client.read(16)) == (b"b" * 512, b"c" * 512)


@pytest.mark.parametrize("engine", ["c", "python"])
def test_several_disks_are_cut_at_one_moment(engine: str, lab: Lab, xfs: Path, tmp_path: Path) -> None:
    need_engine()
    with cutting(lab, xfs, tmp_path, engine, disks=3, size=16 << 20) as it:
        for _ in range(ROUNDS):
            said = it.cut(3)
            assert "error" not in said, said
        assert it.faults(it.history()) == []
