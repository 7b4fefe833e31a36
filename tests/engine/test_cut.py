"""Snapshots of disks under load show one moment, whoever serves them."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.cutting import cutting
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.tools import need_engine

ENGINES = ["c", "plain", "python"]
ROUNDS = 3


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
        assert it.faults(history) == []
        counters = it.target.end()["counters"]
        assert engine == "python" or counters["engine_writes"] > 100


def test_a_target_that_holds_nothing_is_found(lab: Lab, xfs: Path, tmp_path: Path) -> None:
    with cutting(lab, xfs, tmp_path, "broken") as it:
        for _ in range(ROUNDS):
            it.cut(1)
        assert it.faults(it.history())


@pytest.mark.parametrize("engine", ["c", "python"])
def test_several_disks_are_cut_at_one_moment(engine: str, lab: Lab, xfs: Path, tmp_path: Path) -> None:
    need_engine()
    with cutting(lab, xfs, tmp_path, engine, disks=3, size=8 << 20) as it:
        for _ in range(ROUNDS):
            said = it.cut(3)
            assert "error" not in said, said
        assert it.faults(it.history()) == []
