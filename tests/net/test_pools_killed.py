"""A service, or what serves its images, that is killed while it does verbs of its pools, and clients write to
its disks."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.net.killed_verbs import IMAGES, KilledVerbs
from tests.pool.pools import MIB
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.tools import need_images

KILLS = 5
SIZES = {"xfs": 400 * MIB, "ext4": 256 * MIB}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    need_images()
    with ExitStack() as stack:
        yield [
            stack.enter_context(small_filesystem(kind, tmp_path_factory.mktemp(kind) / "srv", size))
            for kind, size in SIZES.items()
        ]


def test_disks_and_what_is_made_of_them_are_whole(lab: Lab, stores: list[Path], tmp_path: Path) -> None:
    fast, slow = stores
    assert KilledVerbs(lab, fast, tmp_path, merges_in=slow).run(KILLS) == []


@pytest.mark.timeout(900)  # each life waits for all of its images, also where a machine is busy
def test_a_killed_storage_daemon_is_a_pause_whatever_is_done(
    lab: Lab, stores: list[Path], tmp_path: Path
) -> None:
    _, slow = stores
    assert KilledVerbs(lab, slow, tmp_path, kinds=IMAGES).run(KILLS) == []
