"""Two hosts on two CPUs, and what runs on them."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.labs.network import Lab

TARGET_CPU, LOAD_CPU = "0", "1"
ROUNDS = int(os.environ.get("AOE_BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("AOE_BENCH_SECONDS", "3"))
HERE = Path(__file__).parent
START_S = 1.0
SETTLE_S = 0.7
"""After that a client has found its target and asks as fast as it can."""


class Target(NamedTuple):
    """A server by name and command line."""

    name: str
    command: tuple[str, ...]
    blind: bool = False
    """It has no disk, so what it sends is not checked."""
    start_s: float = START_S
    """How long it takes to be ready."""


class Client(NamedTuple):
    """A program that puts a load on e1.1 and says in JSON how it went, by name and command line."""

    name: str
    command: tuple[str, ...]


class Result(NamedTuple):
    """One run, or the median of several. `cpu_us` is of the whole process that is measured, for each request;
    `lost` counts what was not answered, or was sent again."""

    iops: float
    p50_us: float
    p99_us: float
    p999_us: float
    cpu_us: float
    lost: int
    errors: int
    bad: int


def build(name: str, directory: Path, *more: str, flags: Iterable[str] = ()) -> Path:
    """Compile one of the C programs beside this file, with other sources."""
    program = directory / name
    sources = [str(HERE / f"{name}.c"), *(str(HERE.parent / other) for other in more)]
    usual = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", f"-I{HERE.parent / 'csrc'}"]
    subprocess.run(["gcc", *usual, *flags, "-o", str(program), *sources], check=True)
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


def pin(pid: int, cpu: str) -> None:
    """Keep all threads that a process has on one CPU."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {int(cpu)})


def process_us(pid: int) -> float:
    """What a process has run, also in threads that have ended, in microseconds: in steps of clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(lab: Lab, target: Target, cpu: str = TARGET_CPU) -> Iterator[int]:
    """A freshly started target: its process."""
    process = lab.popen("target", "taskset", "-c", cpu, *target.command)
    try:
        time.sleep(target.start_s)
        assert process.poll() is None, f"{target.name} ended"
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def run(lab: Lab, load: Path, target: Target, arguments: Iterable[str], seconds: float) -> Result:
    """One run of the load generator against a freshly started target, which is measured."""
    with serving(lab, target) as pid:
        before = cpu_ns(pid)
        command = ["taskset", "-c", LOAD_CPU, load, "v0", "1", "1", *arguments, "--seconds", str(seconds)]
        done = lab.run("client", *command, *(["--blind"] if target.blind else []), timeout=seconds + 30)
        assert done.returncode == 0, done.stderr
        spent = cpu_ns(pid) - before
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


def ask(lab: Lab, target: Target, client: Client, seconds: float) -> Result:
    """One run of a client, which is measured, against a freshly started target."""
    with serving(lab, target):
        command = ("taskset", "-c", LOAD_CPU, *client.command)
        process = lab.popen("client", *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        busy = busy_share(process.pid, seconds)
        out, complaint = process.communicate(timeout=seconds + 30)
    assert process.returncode == 0, f"{client.name}: {complaint}"
    said: dict[str, Any] = json.loads(out)
    lost = said["lost"] if "lost" in said else said["retransmits"]
    rate = said["iops"] if "iops" in said else said["requests_per_s"]
    latencies = (said["p50_us"], said["p99_us"], said["p999_us"])
    return Result(rate, *latencies, busy * 1e6 / rate, lost, said["errors"], said.get("bad", 0))


def busy_share(pid: int, seconds: float) -> float:
    """How much of a CPU a process takes while it works, which it does for `seconds` from its start."""
    time.sleep(SETTLE_S)
    before, started = cpu_ns(pid), time.monotonic_ns()
    time.sleep(max(0.2, seconds - SETTLE_S))
    return (cpu_ns(pid) - before) / (time.monotonic_ns() - started)


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
    where = (f"--filename={image}", "--ioengine=io_uring", "--direct=1")
    job = fio_job(TARGET_CPU, rw, seconds, *where, *options)
    side = job["read" if "read" in rw else "write"]
    return fio_result(job, side, (job["usr_cpu"] + job["sys_cpu"]) / 100 * 1e6 / side["iops"])


def fio_job(cpu: str, rw: str, seconds: float, *options: str) -> dict[str, Any]:
    """What fio says of one job of 4 KiB requests, 32 at a time."""
    command = ["taskset", "-c", cpu, "fio", "--name=job", f"--rw={rw}", "--bs=4k", "--iodepth=32", *options]
    rest = [f"--runtime={seconds}", "--time_based", "--output-format=json", "--randrepeat=0"]
    done = subprocess.run([*command, *rest], capture_output=True, text=True, check=True)
    _, _, said = done.stdout.partition("{")  # its nbd engine prints a line of its own first
    job: dict[str, Any] = json.loads("{" + said)["jobs"][0]
    return job


def fio_result(job: dict[str, Any], side: dict[str, Any], cpu_us: float) -> Result:
    """A job's reads, or its writes, as a result."""
    p50, p99, p999 = (
        side["clat_ns"]["percentile"][f"{part}0000"] / 1000 for part in ("50.00", "99.00", "99.90")
    )
    return Result(side["iops"], p50, p99, p999, cpu_us, 0, job["error"], 0)


def scratch() -> Path:
    """Where images that are to be memory live."""
    return Path(tempfile.mkdtemp(prefix="aoe-bench-", dir="/dev/shm"))
