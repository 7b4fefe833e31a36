"""Snapshots of disks under load show one moment, whoever serves them."""

import os
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from aoe.wire import ata as ata_wire
from aoe.wire import frame
from tests.engine.cutting import Program, cutting, fragmented, read_faults, started
from tests.pool.test_killed import fill_up
from tests.support.checkers.linear import Call
from tests.support.checkers.moments import Write
from tests.support.labs.fault_disk import FuseDisk, small_filesystem
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import WRITE_EXT, AtaFailed, Client, ata_request
from tests.support.programs import cut_target
from tests.support.tools import need, need_engine, tool
from tests.support.waiting import PATIENCE_S, wait_for

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


@pytest.mark.parametrize("engine", ENGINES)
def test_in_a_full_store_there_is_an_error_or_none_and_no_wrong_data(
    engine: str, lab: Lab, xfs: Path, tmp_path: Path
) -> None:
    """Of the cut, or of a write into what is cloned by then. Once the snapshot is gone, writes go on."""
    need_engine()
    disk, filler = fragmented(xfs / "disk", 24 << 20), xfs / "filler"
    snapshots = [xfs / f"snapshot{number}" for number in range(2)]
    try:
        with (
            started(lab, "target", cut_target, tmp_path / "log", engine, "direct", disk) as target,
            Client(lab.port("client"), 1, 0) as client,
        ):
            assert target.said() == {"ready": True}
            for snapshot in snapshots:
                snapshot.touch()  # an opener that finds no room for that asks for no cut
            fill_up(filler)
            places = Places(client)
            for snapshot, left in zip(snapshots, (0, 16), strict=True):
                os.truncate(filler, filler.stat().st_size - left * PAGE)
                check_full(target, places, snapshot)
    finally:
        for path in xfs.iterdir():
            os.truncate(path, 0)  # so its blocks are free at once
            path.unlink()


def check_full(target: Program, places: "Places", snapshot: Path) -> None:
    """A cut in a store with hardly any room."""
    tried = places.begin()
    target.tell(snapshot)
    said = places.write_until(target)
    at_once = {at: [*them] for at, them in tried.items()}
    if "over" in said:
        said = places.write_until(target)
    if "error" not in said:
        data = snapshot.read_bytes()
        assert all(data[at : at + PAGE] in them for at, them in at_once.items())
        failed = sum(not places.write(at) for at in at_once)
        assert failed, "each of them wanted a block of its own"
    else:
        assert said["error"].startswith("e1.0: no snapshot: the store is full; delete snapshots or volumes")
    places.check()
    snapshot.unlink()
    wait_for(lambda: all(places.write(at) for at in at_once), what="its blocks are not free again")
    places.check()


class Places:
    """Some of a disk that have blocks, and what each may have."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._may_have = {at: [bytes(PAGE)] for at in range(0, 24 << 20, 64 * PAGE)}
        self._next = cycle(self._may_have)
        self._number = 0
        self._tried = self.begin()

    def begin(self) -> dict[int, list[bytes]]:
        """By place: what it has had from now on, or may have had."""
        self._tried = {at: [*them] for at, them in self._may_have.items()}
        return self._tried

    def write(self, at: int) -> bool:
        """Something else; whether it was acknowledged."""
        self._number += 1
        data = self._number.to_bytes(4) * (PAGE // 4)
        self._tried[at].append(data)
        try:
            self._client.write(at // 512, data)
        except AtaFailed:
            self._may_have[at].append(data)
            return False
        self._may_have[at] = [data]
        return True

    def write_until(self, target: Program) -> Any:
        """Until a target says something; that."""
        while not target.has_said():
            self.write(next(self._next))
        return target.said()

    def check(self) -> None:
        """Each has what was acknowledged, or what failed after that."""
        assert all(self._client.read(at // 512, 8) in them for at, them in self._may_have.items())


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
