"""Every figure of bench/README.md, measured: pinned, peers interleaved, medians (`tools/bench` runs this).

AOE_BENCH_ROUNDS (5) and AOE_BENCH_SECONDS (3) choose how long; results go into pytest-benchmark's JSON as
`extra_info`, from which bench/plot.py draws.
"""

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench import contest
from bench.conftest import SECTORS
from bench.contest import ROUNDS, SECONDS, Result, Target
from bench.image import write_image
from tests.support.labs.network import Lab
from tests.support.tools import need

DISK_SECTORS = 1048576
EXPORTS, EXPORT_SECTORS = 1000, 2048

Contestants = dict[str, Callable[[], Result]]
Measure = Callable[[Contestants], None]


class Row(NamedTuple):
    """A kind of work; the peers' and our options for it."""

    name: str
    load: tuple[str, ...]


MEMORY_ROWS = [
    Row("8 KiB random reads, QD64", ("--rw", "randread", "--sectors", "16", "--depth", "64")),
    Row("1 KiB random reads, QD64", ("--rw", "randread", "--sectors", "2", "--depth", "64")),
    Row("8 KiB random writes, QD64", ("--rw", "randwrite", "--sectors", "16", "--depth", "64")),
    Row("1 KiB random writes, QD64", ("--rw", "randwrite", "--sectors", "2", "--depth", "64")),
    Row("4 KiB random reads, QD4", ("--rw", "randread", "--sectors", "8", "--depth", "4")),
    Row("4 KiB random reads, QD1", ("--rw", "randread", "--sectors", "8", "--depth", "1")),
]


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Run once, keep what it says, and never believe a run with a loss, an error or a wrong payload."""

    def all_rounds(contestants: Contestants) -> None:
        found = benchmark.pedantic(contest.compare, args=(contestants, ROUNDS), rounds=1, iterations=1)
        benchmark.extra_info.update(found)
        for name, result in found.items():
            assert not result["errors"], (name, result)
            assert not result["bad"], (name, result)
            if name not in {"vblade", "null target"}:
                assert not result["lost"], (name, result)

    return all_rounds


def loaded(lab: Lab, tools: dict[str, Path], targets: list[Target], load: tuple[str, ...]) -> Contestants:
    """Every target under the same load."""
    return {it.name: partial(contest.run, lab, tools["load"], it, load, SECONDS) for it in targets}


@pytest.mark.parametrize("row", MEMORY_ROWS, ids=lambda row: row.name)
def test_page_cache(
    row: Row, measure: Measure, lab: Lab, tools: dict[str, Path], memory: Path, tmp_path: Path
) -> None:
    ours = ("--durability", "write-back", "--buffer-count", "128")
    targets = [
        contest.vblade(memory),
        contest.ours(memory, tmp_path / "state", *ours),
        Target("null target", (str(tools["null"]), "v0"), blind=True),
    ]
    load = (*row.load, "--range", str(SECTORS))
    measure(loaded(lab, tools, targets, load))


class DirectRow(NamedTuple):
    """Work past the page cache: how the load generator, vblade and fio call it."""

    name: str
    rw: str
    vblade: tuple[str, ...]
    fio: tuple[str, ...]


DIRECT_ROWS = [
    DirectRow("4 KiB random reads, O_DIRECT, QD32", "randread", ("-d",), ()),
    DirectRow("4 KiB random durable writes, O_DIRECT, QD32", "randwrite", ("-s", "-d"), ("--sync=dsync",)),
]


@pytest.mark.parametrize("row", DIRECT_ROWS, ids=lambda row: row.name)
def test_direct(row: DirectRow, measure: Measure, lab: Lab, tools: dict[str, Path], tmp_path: Path) -> None:
    """fio writes no stamps: each row has an image of its own."""
    need("fio")
    disk = write_image(tmp_path / "image", DISK_SECTORS)
    targets = [contest.vblade(disk, *row.vblade), contest.ours(disk, tmp_path / "state", "--direct")]
    load = ("--rw", row.rw, "--sectors", "8", "--depth", "32", "--range", str(DISK_SECTORS))
    local = partial(contest.fio, disk, row.rw, SECONDS, *row.fio)
    measure({**loaded(lab, tools, targets, load), "fio": local})


def test_a_thousand_exports(measure: Measure, lab: Lab, tools: dict[str, Path], tmp_path: Path) -> None:
    """8 KiB random reads over all of them, against the same over one as large as they are together."""
    directory = contest.scratch()
    try:
        one = write_image(directory / "one", EXPORTS * EXPORT_SECTORS)
        first = write_image(directory / "0", EXPORT_SECTORS)
        many = [first, *(directory / str(number) for number in range(1, EXPORTS))]
        for path in many[1:]:
            shutil.copy(first, path)
        start = contest.ours(many[0], tmp_path / "state", "--durability", "write-back", more=many[1:])
        single = contest.ours(one, tmp_path / "single", "--durability", "write-back", name="1 export")
        load = ("--rw", "randread", "--sectors", "16", "--depth", "64", "--range")
        all_of_them = start._replace(name="1000 exports", start_s=8.0)
        measure(
            {
                **loaded(lab, tools, [single], (*load, str(EXPORTS * EXPORT_SECTORS))),
                **loaded(
                    lab, tools, [all_of_them], (*load, str(EXPORT_SECTORS), "--slots", str(EXPORTS - 1))
                ),
            }
        )
    finally:
        shutil.rmtree(directory)


SPIN_ROWS = [
    Row("spinning, 4 KiB reads, QD1", ("--rw", "randread", "--sectors", "8", "--depth", "1")),
    Row("spinning, 8 KiB reads, half load", ("--rw", "randread", "--sectors", "16", "--depth", "64")),
]


@pytest.mark.parametrize("row", SPIN_ROWS, ids=lambda row: row.name)
def test_spinning(
    row: Row, measure: Measure, lab: Lab, tools: dict[str, Path], memory: Path, tmp_path: Path
) -> None:
    """What spinning costs against sleeping: one at a time, and at half of the rate that can be had."""
    options = ("--durability", "write-back", "--buffer-count", "128")
    sleeps = contest.ours(memory, tmp_path / "sleeps", *options, "--no-spin", name="sleeps")
    spins = contest.ours(memory, tmp_path / "spins", *options, name="spins")
    load = (*row.load, "--range", str(SECTORS))
    if "half" in row.name:
        most = contest.run(lab, tools["load"], spins, load, SECONDS).iops
        load = (*load, "--rate", str(most / 2))
    measure(loaded(lab, tools, [sleeps, spins], load))


def test_python_path(
    measure: Measure, lab: Lab, tools: dict[str, Path], memory: Path, tmp_path: Path
) -> None:
    """8 KiB reads by the Python path, against a bare asyncio loop of recv, pread and send."""
    bare = (sys.executable, str(Path(__file__).parent / "bare.py"), "v0", str(memory))
    targets = [
        Target("bare asyncio loop", bare),
        contest.ours(memory, tmp_path / "state", "--durability", "write-back", engine="python"),
    ]
    load = ("--rw", "randread", "--sectors", "16", "--depth", "16", "--range", str(SECTORS))
    measure(loaded(lab, tools, targets, load))
