"""A service that is killed while a volume that it serves gets another state."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.pool.requests import Create, Cut
from aoe.wire.protocol import SECTOR
from tests.net.service import Service
from tests.net.test_pools import client, exports, first
from tests.pool.pools import MIB, SIZE, fresh, is_whole, working, write
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.waiting import PATIENCE_S

ENGINES = ("c",)
KILLS = 3
FRAME_AGE_S = 0.5


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_filesystem("xfs", tmp_path_factory.mktemp("xfs") / "srv", 400 * MIB) as store:
        yield store


def test_the_disk_is_as_it_was_or_as_it_was_to_be(lab: Lab, xfs: Path, tmp_path: Path) -> None:
    pool = fresh(xfs)
    with working(pool) as work:
        work.do(Create("web1", SIZE))
        write(work, "web1", 1)
        work.do(Cut("web1", "golden"))
    rng = random.Random(1)
    service = Service(lab, tmp_path, exports(pool, "fast/web1"), max_frame_age=FRAME_AGE_S)
    words = ("rollback", "--socket", str(service.socket), "fast/web1@golden", "--force")
    for number in range(2, 2 + KILLS):
        with service, client(lab, 1) as disk:
            disk.write(0, bytes([number]) * SECTOR)
            argv = [sys.executable, "-m", "aoe.cli.target", "volume", *words]
            asking = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.2, 0.6 + 2 * FRAME_AGE_S))  # any moment is right
            service.kill()
            asking.wait(60)
        with working(pool, patience_s=PATIENCE_S) as work:
            assert is_whole(work)
        with service, client(lab, 1) as disk:
            assert first(disk) in (1, number)
