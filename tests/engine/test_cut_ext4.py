"""A snapshot of a disk with a mounted ext4 is what a power cut would leave: its journal is replayed, and then
it is clean and has what was synced before."""

from pathlib import Path

import pytest

from tests.engine import replaying
from tests.engine.cutting import MIB
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.tools import need_engine

ROUNDS = 3


@pytest.mark.parametrize("engine", ["c"])
def test_its_journal_is_replayed_and_it_is_clean(engine: str, lab: Lab, tmp_path: Path) -> None:
    need_engine()
    with small_filesystem("xfs", tmp_path / "store", 400 * MIB) as store:
        _, faults = replaying.run(lab, store, tmp_path, engine, ROUNDS)
        assert faults == []
