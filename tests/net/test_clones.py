"""Many clones of one template, served by one daemon: `AOE_TEST_CLONES=1000` for as many as there may be."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.pool.requests import Clone, Create, Cut
from tests.net.service import Service
from tests.net.test_pools import client, first
from tests.net.test_thousand import cpu_s, resident_kib
from tests.pool.pools import MIB, fresh, working, write
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab

ENGINES = ("c",)
CLONES = int(os.environ.get("AOE_TEST_CLONES", "100"))
START_CPU_S = 5.0
STORE_BYTES = 1 << 20
"""Of each clone, until it is written."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    size = (400 + CLONES // 4) * MIB
    with small_filesystem("xfs", tmp_path_factory.mktemp("xfs") / "srv", size) as store:
        yield fresh(store)


def cloned(pool: Path, clones: int) -> float:
    """Of a template of 16 MiB; bytes of store that each takes."""
    with working(pool) as work:
        work.do(Create("template", 16 * MIB))
        for at in range(0, 16 * MIB, MIB):
            write(work, "template", 1, at)
        work.do(Cut("template", "golden"))
        before = work.room.free
        for number in range(clones):
            work.do(Clone("template", "golden", f"web{number}"))
        os.sync()
        return (before - work.room.free) / clones


def exports(pool: Path, clones: int) -> list[str]:
    """A file that serves them all."""
    return [f'[[pool]]\nname = "fast"\npath = "{pool}"\n'] + [
        f'[[export]]\npath = "fast/web{number}"\nshelf = {1 + number // 250}\nslot = {number % 250}\n'
        for number in range(clones)
    ]


def test_clones_of_one_template(lab: Lab, pool: Path, tmp_path: Path) -> None:
    each, tables = cloned(pool, CLONES), exports(pool, CLONES)
    began_s = time.monotonic()
    with Service(lab, tmp_path, tables) as service:
        print(
            f"{CLONES} clones: {each:.0f} bytes of store each, start {time.monotonic() - began_s:.2f} s, "
            f"{cpu_s(service.pid):.2f} s of CPU, {resident_kib(service.pid)} KiB"
        )
        served = [it for it in service.ask("status")["exports"] if it["state"] == "serving"]
        assert len(served) == len({it["serial"] for it in served}) == CLONES
        assert cpu_s(service.pid) < START_CPU_S
        with client(lab, 7) as disk:
            assert first(disk) == 1
    assert each < STORE_BYTES
