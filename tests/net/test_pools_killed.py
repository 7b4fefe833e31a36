"""A service that is killed while it does verbs of its pools, and clients write to its disks."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.net.killed_verbs import KilledVerbs
from tests.pool.pools import MIB
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.tools import need_images

KILLS = 5
SIZES = {"xfs": 400 * MIB, "ext4": 64 * MIB}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    need_images()
    with ExitStack() as stack:
        yield [
            stack.enter_context(small_filesystem(kind, tmp_path_factory.mktemp(kind) / "srv", size))
            for kind, size in SIZES.items()
        ]


def test_disks_and_what_is_made_of_them_are_whole(lab: Lab, stores: list[Path], tmp_path: Path) -> None:
    assert KilledVerbs(lab, *stores, tmp_path).run(KILLS) == []
