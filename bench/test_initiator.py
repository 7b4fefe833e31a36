"""What our initiator can do, and what it must: `extra_info` has the results and a list of `musts`.

The client is measured here, not the target: `cpu_us` is the client's. Its counters make `lost`: what the load
generator had no answer to, what `aoe` sent again.
"""

import filecmp
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench import contest
from bench.conftest import SECTORS
from bench.contest import LOAD_CPU, ROUNDS, SECONDS, TARGET_CPU, Client, Result, Target
from bench.image import write_image
from tests.support.labs.loss import need_loss
from tests.support.labs.network import Lab
from tests.support.tools import need
from tests.support.waiting import wait_for

pytestmark = pytest.mark.benchmark(group="initiator")

AOE = (sys.executable, "-m", "aoe.cli.client")
LARGE_SECTORS = 2097152
TASKS = 32
LOSSES = {"no loss": 0.0, "1 % lost": 0.01, "5 % lost": 0.05}
"""Each way; a program that loses nothing runs in the first, too."""

Found = dict[str, dict[str, Any]]
Measure = Callable[[dict[str, Callable[[], Result]]], Found]
Must = Callable[..., None]


@pytest.fixture
def must(benchmark: Any) -> Must:
    """Note what a figure is and what it must be, at least or at most."""

    def note(what: str, value: float, *, least: float = 0.0, most: float = float("inf")) -> None:
        bound = f">= {least}" if least else f"<= {most}"
        line = {"what": what, "is": value, "must": bound, "kept": least <= value <= most}
        benchmark.extra_info.setdefault("musts", []).append(line)

    return note


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Run once, keep what it says, and never believe a run with an error or a wrong payload."""

    def all_rounds(contestants: dict[str, Callable[[], Result]]) -> Found:
        found: Found = benchmark.pedantic(contest.compare, args=(contestants, ROUNDS), rounds=1, iterations=1)
        benchmark.extra_info["results"] = found
        for name, result in found.items():
            assert not result["errors"], (name, result)
            assert not result["bad"], (name, result)
        return found

    return all_rounds


def served(image: Path, state: Path, *options: str) -> Target:
    """Our target with the page cache only: what limits is to be the client."""
    return contest.ours(image, state, "--durability", "write-back", "--buffer-count", "128", *options)


def aoe_bench(rw: str, name: str = "aoe bench") -> Client:
    """8 KiB, 64 at a time."""
    shape = ("--rw", rw, "--bs", "8k", "--iodepth", "64", "--runtime", str(SECONDS), "--overwrite")
    return Client(name, (*AOE, "bench", "e1.1", *shape, "--interface", "v0", "--json"))


def generator(load: Path) -> Client:
    """The same work by the load generator, which does no more than it must."""
    shape = ("--rw", "randread", "--sectors", "16", "--depth", "64", "--range", str(SECTORS))
    return Client("load generator", (str(load), "v0", "1", "1", *shape, "--seconds", str(SECONDS)))


@pytest.mark.parametrize("server", ["vblade", "engine"])
def test_8_kib_reads(
    server: str, measure: Measure, must: Must, lab: Lab, tools: dict[str, Path], memory: Path, tmp_path: Path
) -> None:
    target = contest.vblade(memory) if server == "vblade" else served(memory, tmp_path / "state")
    clients = [generator(tools["load"]), aoe_bench("randread")]
    found = measure({it.name: partial(contest.ask, lab, target, it, SECONDS) for it in clients})
    least, ours = found.values()
    must(f"rate of `aoe bench` to the load generator's, {server}", ours["iops"] / least["iops"], least=0.9)
    must(f"CPU of `aoe bench` to the load generator's, {server}", ours["cpu_us"] / least["cpu_us"], most=1.3)


def test_tasks(measure: Measure, must: Must, lab: Lab, memory: Path, tmp_path: Path) -> None:
    """Tasks of a program that read 4 KiB each."""
    command = (sys.executable, "-m", "bench.tasks", "e1.1", "v0", str(TASKS), str(SECONDS))
    client = Client(f"{TASKS} tasks", command)
    found = measure(
        {client.name: partial(contest.ask, lab, served(memory, tmp_path / "state"), client, SECONDS)}
    )
    must(f"reads a second by {TASKS} tasks", found[client.name]["iops"], least=50000)


@pytest.mark.parametrize("rw", ["randread", "randwrite"])
def test_loss(rw: str, measure: Measure, must: Must, lab: Lab, tmp_path: Path) -> None:
    need_loss()
    with image_in_memory(LARGE_SECTORS) as image:
        target = served(image, tmp_path / "state")
        found = measure({name: partial(lossy, lab, target, rw, share) for name, share in LOSSES.items()})
    clean, *others = found.items()
    for (name, result), least in zip(others, (0.7, 0.4), strict=True):
        must(
            f"rate of {rw} with {name} each way to {clean[0]}", result["iops"] / clean[1]["iops"], least=least
        )


def lossy(lab: Lab, target: Target, rw: str, share: float) -> Result:
    (cable,) = lab.cables
    for end in (cable.a, cable.b):
        lab.lose(end, share)
    return contest.ask(lab, target, aoe_bench(rw), SECONDS)


@contextmanager
def image_in_memory(sectors: int) -> Iterator[Path]:
    directory = contest.scratch()
    try:
        yield write_image(directory / "image", sectors)
    finally:
        shutil.rmtree(directory)


def test_copy(benchmark: Any, must: Must, lab: Lab, tmp_path: Path) -> None:
    """1 GiB from memory to memory: by the command's own clock, and from its start to its end."""
    with image_in_memory(LARGE_SECTORS) as image:
        target, destination = served(image, tmp_path / "state"), image.parent / "copy"
        rounds = benchmark.pedantic(
            lambda: [copied(lab, target, image, destination) for _ in range(ROUNDS)], rounds=1, iterations=1
        )
    own, whole = zip(*rounds, strict=True)
    result = {"mbps": statistics.median(own), "mbps_with_start": statistics.median(whole)}
    benchmark.extra_info["results"] = {"aoe copy": {**result, "spread": [min(own), max(own)]}}
    must("MB a second of `aoe copy`", result["mbps"], least=1000)


def copied(lab: Lab, target: Target, image: Path, destination: Path) -> tuple[float, float]:
    """MB a second, as it says itself and as it takes; the copy is compared and removed."""
    with contest.serving(lab, target):
        started = time.monotonic()
        command = (
            "taskset",
            "-c",
            LOAD_CPU,
            *AOE,
            "copy",
            "e1.1",
            destination,
            "--interface",
            "v0",
            "--json",
        )
        done = lab.run("client", *command, timeout=120)
        took_s = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert filecmp.cmp(image, destination, shallow=False)
    destination.unlink()
    said = json.loads(done.stdout)
    return said["bytes_per_s"] / 1e6, said["bytes"] / took_s / 1e6


def test_nbd(
    measure: Measure, must: Must, lab: Lab, tools: dict[str, Path], memory: Path, tmp_path: Path
) -> None:
    """fio on one CPU, and what serves the disk on the other: nbdkit has the disk itself, `aoe nbd` a target
    on fio's CPU. Then the same where the scheduler decides."""
    need("fio", "nbdkit")
    target = served(memory, tmp_path / "state", "--no-spin")
    found = measure(
        {
            "nbdkit": partial(nbd_reads, lab, nbdkit(memory), PINNED),
            "aoe nbd": partial(nbd_over_aoe, lab, target, PINNED, "--threads", "28"),
            "nbdkit, not pinned": partial(nbd_reads, lab, nbdkit(memory), FREE),
            "aoe nbd, not pinned": partial(nbd_over_aoe, lab, target, FREE),
        }
    )
    for how in ("", ", not pinned"):
        rate = found[f"aoe nbd{how}"]["iops"] / found[f"nbdkit{how}"]["iops"]
        must(f"rate of `aoe nbd` to nbdkit's{how}", rate, least=0.5)


BOTH_CPUS = f"{TARGET_CPU},{LOAD_CPU}"
NBD_SOCKET = "SOCKET"
"""Stands for the path in a command line."""


class Cpus(NamedTuple):
    """Where fio, the NBD server and the AoE target run."""

    fio: str
    server: str
    target: str


PINNED = Cpus(LOAD_CPU, TARGET_CPU, LOAD_CPU)
FREE = Cpus(BOTH_CPUS, BOTH_CPUS, BOTH_CPUS)


def nbdkit(image: Path) -> tuple[str, ...]:
    return (
        "nbdkit",
        "--foreground",
        "--exit-with-parent",
        "--readonly",
        "-U",
        NBD_SOCKET,
        "file",
        str(image),
    )


def nbd_over_aoe(lab: Lab, target: Target, cpus: Cpus, *words: str) -> Result:
    command = (*AOE, "nbd", "e1.1", "--interface", "v0", "--socket", NBD_SOCKET, *words)
    with contest.serving(lab, target, cpus.target):
        return nbd_reads(lab, command, cpus, "nbd: ")


def child_of(pid: int) -> int:
    """The process that `aoe nbd` runs; 0 where there is none."""
    return int((Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or ["0"])[0])


def nbd_reads(lab: Lab, command: tuple[str, ...], cpus: Cpus, ready: str = "") -> Result:
    """fio's 4 KiB random reads, 32 at a time, from an NBD server, which is measured. It is ready once its
    socket is there and it has printed a line that starts with `ready`."""
    directory = contest.scratch()
    socket, out = directory / "socket", directory / "out"
    words = [str(socket) if word == NBD_SOCKET else word for word in command]
    with out.open("w") as file:
        server = lab.popen("client", "taskset", "-c", cpus.server, *words, stdout=file)
    try:
        wait_for(lambda: socket.exists() and out.read_text().startswith(ready), what=f"{words} is not ready")
        busy = child_of(server.pid) or server.pid
        before = contest.process_us(busy)
        uri = f"--uri=nbd+unix:///?socket={socket}"
        job = contest.fio_job(cpus.fio, "randread", SECONDS, "--ioengine=nbd", uri)
        spent_us = contest.process_us(busy) - before
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(directory)
    return contest.fio_result(job, job["read"], spent_us / job["read"]["total_ios"])
