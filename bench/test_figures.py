"""Every figure of the README, measured: pinned, peers interleaved, medians (`tools/bench` runs this).

AOE_BENCH_ROUNDS (5) and AOE_BENCH_SECONDS (3) choose how long; results go into pytest-benchmark's JSON as
`extra_info`, from which bench/plot.py draws.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench import site
from bench.image import write_image
from bench.site import Target
from tests.support.net import Lab
from tests.support.tools import need, need_engine, need_namespaces

ROUNDS = int(os.environ.get("AOE_BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("AOE_BENCH_SECONDS", "3"))
SECTORS = 131072
DISK_SECTORS = 1048576
EXPORTS, EXPORT_SECTORS = 1000, 2048

Measure = Callable[[Callable[[], dict[str, Any]]], dict[str, Any]]


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


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    need_namespaces()
    need_engine()
    need("vblade", "gcc")
    directory = tmp_path_factory.mktemp("bin")
    return {name: site.build(name, directory) for name in ("load", "null")}


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """An image in memory: the page cache without a disk behind it."""
    directory = site.scratch()
    yield write_image(directory / "image", SECTORS)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image on this machine's disk."""
    return write_image(tmp_path_factory.mktemp("disk") / "image", DISK_SECTORS)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(mtu=9000) as made:
        yield made


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Run once, keep what it says, and never believe a run with a loss, an error or a wrong payload."""

    def once(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = benchmark.pedantic(work, rounds=1, iterations=1)
        benchmark.extra_info.update(found)
        for name, result in found.items():
            assert not result.get("errors"), (name, result)
            assert not result.get("bad"), (name, result)
            if "vblade" not in name and "null" not in name:
                assert not result.get("lost"), (name, result)
        return found

    return once


def vary(lab: Lab, tools: dict[str, Path], targets: list[Target], load: tuple[str, ...]) -> dict[str, Any]:
    return site.compare(lab, tools["load"], targets, load, rounds=ROUNDS, seconds=SECONDS)


@pytest.mark.parametrize("row", MEMORY_ROWS, ids=lambda row: row.name)
def test_page_cache(
    row: Row, measure: Measure, lab: Lab, tools: dict[str, Path], memory: Path, tmp_path: Path
) -> None:
    ours = ("--durability", "write-back", "--buffer-count", "128")
    targets = [
        site.vblade(memory),
        site.ours(memory, tmp_path / "state", *ours),
        Target("null target", (str(tools["null"]), "v0"), blind=True),
    ]
    load = (*row.load, "--range", str(SECTORS))
    measure(lambda: vary(lab, tools, targets, load))


def test_direct_reads(measure: Measure, lab: Lab, tools: dict[str, Path], disk: Path, tmp_path: Path) -> None:
    """4 KiB random reads past the page cache, QD32."""
    need("fio")
    targets = [site.vblade(disk, "-d"), site.ours(disk, tmp_path / "state", "--direct")]
    load = ("--rw", "randread", "--sectors", "8", "--depth", "32", "--range", str(DISK_SECTORS))
    measure(lambda: {**vary(lab, tools, targets, load), "fio": local_limit(disk, "randread")})


def test_direct_durable_writes(
    measure: Measure, lab: Lab, tools: dict[str, Path], disk: Path, tmp_path: Path
) -> None:
    """4 KiB random writes that are on stable storage when answered, QD32."""
    need("fio")
    targets = [site.vblade(disk, "-s", "-d"), site.ours(disk, tmp_path / "state", "--direct")]
    load = ("--rw", "randwrite", "--sectors", "8", "--depth", "32", "--range", str(DISK_SECTORS))
    measure(
        lambda: {**vary(lab, tools, targets, load), "fio": local_limit(disk, "randwrite", "--sync=dsync")}
    )


def local_limit(disk: Path, rw: str, *options: str) -> dict[str, Any]:
    runs = sorted((site.fio(disk, rw, SECONDS, *options) for _ in range(3)), key=lambda run: run["iops"])
    return runs[1]


def test_a_thousand_exports(measure: Measure, lab: Lab, tools: dict[str, Path], tmp_path: Path) -> None:
    """8 KiB random reads over all of them, against the same over one as large as they are together."""
    directory = site.scratch()
    try:
        one = write_image(directory / "one", EXPORTS * EXPORT_SECTORS)
        first = write_image(directory / "0", EXPORT_SECTORS)
        many = [first, *(directory / str(number) for number in range(1, EXPORTS))]
        for path in many[1:]:
            shutil.copy(first, path)
        start = site.ours(many[0], tmp_path / "state", "--durability", "write-back", more=many[1:])
        single = site.ours(one, tmp_path / "single", "--durability", "write-back", name="1 export")
        load = ("--rw", "randread", "--sectors", "16", "--depth", "64", "--range")
        targets = [
            (single, (*load, str(EXPORTS * EXPORT_SECTORS))),
            (
                start._replace(name="1000 exports", start_s=8.0),
                (*load, str(EXPORT_SECTORS), "--slots", str(EXPORTS - 1)),
            ),
        ]

        def work() -> dict[str, Any]:
            return site.compare_all(lab, tools["load"], targets, rounds=ROUNDS, seconds=SECONDS)

        measure(work)
    finally:
        shutil.rmtree(directory)


def test_python_path(
    measure: Measure, lab: Lab, tools: dict[str, Path], memory: Path, tmp_path: Path
) -> None:
    """8 KiB reads by the Python path, against a bare asyncio loop of recv, pread and send."""
    bare = (sys.executable, str(Path(__file__).parent / "bare.py"), "v0", str(memory))
    targets = [
        Target("bare asyncio loop", bare),
        site.ours(memory, tmp_path / "state", "--durability", "write-back", engine="python"),
    ]
    load = ("--rw", "randread", "--sectors", "16", "--depth", "16", "--range", str(SECTORS))
    measure(lambda: vary(lab, tools, targets, load))
