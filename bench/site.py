"""Two hosts on two CPUs, and what runs on them."""

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.net import Lab

TARGET_CPU, LOAD_CPU = "0", "1"
HERE = Path(__file__).parent
START_S = 1.0


class Target(NamedTuple):
    """A server by name and command line."""

    name: str
    command: tuple[str, ...]
    blind: bool = False
    """It has no disk, so what it sends is not checked."""
    start_s: float = START_S
    """How long it takes to be ready."""


class Result(NamedTuple):
    """One run, or the median of several. `cpu_us` is of the whole target process, for each request."""

    iops: float
    p50_us: float
    p99_us: float
    p999_us: float
    cpu_us: float
    lost: int
    errors: int
    bad: int


def build(name: str, directory: Path, *more: str) -> Path:
    """Compile one of the C programs beside this file."""
    program = directory / name
    sources = [str(HERE / f"{name}.c"), *(str(HERE.parent / other) for other in more)]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra"]
    subprocess.run(["gcc", *flags, "-o", str(program), *sources], check=True)
    return program


def ours(
    image: Path, state: Path, *options: str, engine: str = "c", name: str = "", more: Iterable[Path] = ()
) -> Target:
    """Our target on an image, as e1.1, and on more from there on."""
    command = (
        sys.executable,
        "-m",
        "aoe.cli.target",
        "serve",
        f"{image}=1.1",
        *map(str, more),
        "--interface",
        "v0",
    )
    kept = ("--state-dir", str(state), "--reset-state", "--engine", engine)
    return Target(name or f"aoe-target ({engine})", (*command, *kept, *options))


def vblade(image: Path, *options: str) -> Target:
    """The peer, with a buffer count that does not limit it."""
    return Target("vblade", ("vblade", "-b", "128", *options, "1", "1", "v0", str(image)))


def cpu_ns(pid: int) -> int:
    """What all threads of a process have run, in nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def run(lab: Lab, load: Path, target: Target, arguments: Iterable[str], seconds: float) -> Result:
    """One run of the load generator against a freshly started target."""
    process = lab.popen("target", "taskset", "-c", TARGET_CPU, *target.command)
    try:
        time.sleep(target.start_s)
        assert process.poll() is None, f"{target.name} ended"
        before = cpu_ns(process.pid)
        command = ["taskset", "-c", LOAD_CPU, load, "v0", "1", "1", *arguments, "--seconds", str(seconds)]
        done = lab.run("client", *command, *(["--blind"] if target.blind else []), timeout=seconds + 30)
        assert done.returncode == 0, done.stderr
        spent = cpu_ns(process.pid) - before
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    said: dict[str, Any] = json.loads(done.stdout)
    return Result(
        said["iops"],
        said["p50_us"],
        said["p99_us"],
        said["p999_us"],
        spent / 1000 / max(1, said["answered"]),
        said["lost"],
        said["errors"],
        said["bad"],
    )


def compare(contestants: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, dict[str, Any]]:
    """All in turn, several times over; medians, and the spread of the rates."""
    runs: dict[str, list[Result]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, once in contestants.items():
            runs[name].append(once())
    return {name: summary(results) for name, results in runs.items()}


def summary(results: list[Result]) -> dict[str, Any]:
    """Medians, but sums of what must not happen."""
    columns = Result(*zip(*results, strict=True))
    medians = {name: statistics.median(getattr(columns, name)) for name in Result._fields[:5]}
    sums = {name: sum(getattr(columns, name)) for name in Result._fields[5:]}
    return {**medians, **sums, "spread": [min(columns.iops), max(columns.iops)]}


def fio(image: Path, rw: str, seconds: float, *options: str) -> Result:
    """The local limit: fio on the target's CPU, 4 KiB, queue depth 32, past the page cache."""
    command = ["taskset", "-c", TARGET_CPU, "fio", "--name=local", f"--filename={image}", f"--rw={rw}"]
    shape = ["--ioengine=io_uring", "--direct=1", "--bs=4k", "--iodepth=32", f"--runtime={seconds}"]
    rest = ["--time_based", "--output-format=json", "--randrepeat=0", *options]
    done = subprocess.run([*command, *shape, *rest], capture_output=True, text=True, check=True)
    job = json.loads(done.stdout)["jobs"][0]
    side = job["read" if "read" in rw else "write"]
    p50, p99, p999 = (
        side["clat_ns"]["percentile"][f"{part}0000"] / 1000 for part in ("50.00", "99.00", "99.90")
    )
    cpu_us = (job["usr_cpu"] + job["sys_cpu"]) / 100 * 1e6 / side["iops"]
    return Result(side["iops"], p50, p99, p999, cpu_us, 0, job["error"], 0)


def scratch() -> Path:
    """Where images that are to be memory live."""
    return Path(tempfile.mkdtemp(prefix="aoe-bench-", dir="/dev/shm"))
