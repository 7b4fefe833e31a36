"""What a clone costs that shares blocks: python -m bench.clones, as root. It takes less than two minutes.

On XFS in a loop device on a file in DIRECTORY, past the page cache (in /dev/shm no disk of the machine's is
beneath, which may be twice as fast from one second to the next). 4 KiB random writes, 32 at once, with and
without write-back: to a volume of a pool that was written in random order, to a clone that was, and to one
that was not written at all. Then reads of a disk that is written to, 1,000 times a second: alone, and beside
another client that copies a snapshot of it, as `aoe copy` does and at full speed.

All that is compared is asked once in each round, in an order by chance. It prints the median of each, and of
its ratios to the first in the same round (`of`), with their quartiles. A plain file in one piece is shown as
well, which no clone is once it was written in random order. The copy has the processor of the loads.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from aoe.pool.figures import Measured, figures
from aoe.pool.requests import Clone, Create
from aoe.pool.store import init
from aoe.pool.work import Work
from bench import contest
from bench.ending import undo_at_sigterm
from bench.image import write_image
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.waiting import wait_for

MIB = 1 << 20
LOOK_S = 60.0
SECTORS = 1 << 18
DEPTH = "32"
START_S = 0.5
COPIES = 64
WRITES = ("--rw", "randwrite", "--sectors", "8", "--depth", DEPTH, "--range", str(SECTORS))
READS = ("--rw", "randread", "--sectors", "8", "--depth", DEPTH, "--range", str(SECTORS))
BESIDE = (*WRITES, "--rate", "1000", "--rest", "--seed", "7")
"""What writes to the disk that is read."""
MODES = {"write-back": ("--durability", "write-back"), "write-through": ("--durability", "write-through")}
AT_LEAST = {"write-back": 0.85, "write-through": 0.75}
BACKUP_AT_LEAST = 0.8
RNG = random.Random(1)


def clone(of: Path, to: Path) -> Path:
    """Of the file as a whole."""
    subprocess.run(["cp", "--reflink=always", of, to], check=True)
    return to


def long(of: Path, to: Path) -> Path:
    """A clone that has all of it several times, so that to copy it takes longer than a look."""
    size = SECTORS * 512
    pieces = [f"reflink {of} 0 {at * size} {size}" for at in range(COPIES)]
    subprocess.run(
        ["xfs_io", "-f", *(word for it in pieces for word in ("-c", it)), to],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return to


def written(disk: Path) -> Path:
    """Every block once, in random order."""
    where = (f"--filename={disk}", f"--size={SECTORS * 512}")
    words = ("--name=once", *where, "--rw=randwrite", "--bs=4k", "--direct=1", "--iodepth=32")
    subprocess.run(["fio", *words, "--ioengine=io_uring", "--output=/dev/null"], check=True)
    return disk


def pooled(store: Path) -> list[Path]:
    """Volumes of a pool: a template, a plain one that was written, and a clone that was. Then it is looked at
    as a service does every 20 seconds, which lets the clone be written as what never shared a block."""
    init(str(store))
    work = Work(str(store))
    try:
        work.do(Create("template", SECTORS * 512))
        write_image(Path(work.path_of("template")), SECTORS)
        work.do(Create("plain", SECTORS * 512))
        work.do(Clone("template", "", "once"))
        kept = [written(Path(work.path_of(it))) for it in ("plain", "once")]
        figures(work, Measured(), LOOK_S)
        return [Path(work.path_of("template")), *kept]
    finally:
        work.close()


Looks = Mapping[str, Callable[[], float]]


def compared(looks: Looks, rounds: int) -> dict[str, dict[str, float]]:
    """Of each, what it came to, and its part of the first in the same round."""
    first = next(iter(looks))
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        order = RNG.sample(list(looks), len(looks))
        found.append({name: looks[name]() for name in order})
    return {name: _row([it[name] for it in found], [it[name] / it[first] for it in found]) for name in looks}


def _row(rates: list[float], parts: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(parts, n=4, method="inclusive")
    return {"rate": statistics.median(rates), "of": middle, "from": low, "to": high}


def say(row: str, **values: Any) -> None:
    short = {name: round(it, 3) if isinstance(it, float) else it for name, it in values.items()}
    print(json.dumps({"row": row, **short}), flush=True)


class Site:
    """Where files are served, and loaded."""

    def __init__(self, lab: Lab, load: Path, work: Path, seconds: float) -> None:
        self._lab, self._load, self._work, self._seconds = lab, load, work, seconds

    @contextmanager
    def serving(self, disks: list[Path], mode: str) -> Iterator[None]:
        """As e1.1, e1.2 and so on."""
        more = [Path(f"{disk}=1.{2 + at}") for at, disk in enumerate(disks[1:])]
        subprocess.run(["sync", "-f", disks[0]], check=True)  # or what is asked first waits for it
        words = ("--direct", "--interface", "v1", *MODES[mode])
        made = contest.ours(disks[0], self._work / "state", *words, more=more)
        with contest.serving(self._lab, made._replace(start_s=START_S)):
            wait_for(lambda: self._answers(len(disks)), what="the target does not answer")
            yield

    def _answers(self, slot: int) -> bool:
        asked = self._lab.run("client", self._load, "v0", "1", str(slot), *READS, "--seconds", "0.1")
        return asked.returncode == 0

    def writes(self, slot: int) -> float:
        """A second, to e1.SLOT."""
        return self._end(self._begin(slot, WRITES))

    def reads_beside_writes(self) -> float:
        """A second, of e1.1."""
        both = [self._begin(1, words) for words in (BESIDE, READS)]
        _, reads = (self._end(it) for it in both)
        return reads

    def _begin(self, slot: int, words: tuple[str, ...]) -> "subprocess.Popen[str]":
        command = (self._load, "v0", "1", str(slot), *words, "--seconds", str(self._seconds))
        pinned = ("taskset", "-c", contest.LOAD_CPU, *command)
        return self._lab.popen("client", *pinned, stdout=subprocess.PIPE, text=True)

    def _end(self, process: "subprocess.Popen[str]") -> float:
        said = json.loads(process.communicate(timeout=self._seconds + 60)[0])
        assert not said["errors"], said
        return float(said["iops"])

    @contextmanager
    def copying(self, *options: str) -> Iterator[Callable[[], float]]:
        """Of e1.2, by another client; gives what says how many bytes a second it has copied."""
        copy = (sys.executable, "-m", "aoe.cli.client", "copy", "--interface", "v0", *options, "e1.2", "-")
        command = ("taskset", "-c", contest.LOAD_CPU, *copy)
        process = self._lab.popen("other", *command, stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: _written(process.pid) > MIB)
            before, began_s = _written(process.pid), time.monotonic()
            yield lambda: (_written(process.pid) - before) / (time.monotonic() - began_s)
            assert process.poll() is None, "the copy ended early: say fewer --seconds"
        finally:
            process.kill()
            process.wait()


def _written(pid: int) -> int:
    """Bytes that a process has written."""
    said = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(said["wchar"])


def throughput(site: Site, store: Path, rounds: int) -> None:
    """The rows of writes."""
    template, *kept = pooled(store)
    whole = write_image(store / "contiguous", SECTORS)
    for mode in MODES:
        fresh = [clone(template, store / f"fresh-{number}") for number in range(rounds)]
        with site.serving([*kept, whole, *fresh], mode):
            found = compared(_writes(site, rounds), rounds)
        plain = found["plain"]["rate"]
        say(f"{mode}, written once before", plain=plain, **found["written once before"], must=AT_LEAST[mode])
        say(f"{mode}, first writes", plain=plain, **found["first writes"])
        say(f"{mode}, plain in one piece", plain=plain, **found["plain, contiguous"])
        for disk in fresh:
            disk.unlink()


def _writes(site: Site, rounds: int) -> Looks:
    """Each clone that was not written is written in one round."""
    fresh = iter(range(4, 4 + rounds))
    return {
        "plain": lambda: site.writes(1),
        "written once before": lambda: site.writes(2),
        "plain, contiguous": lambda: site.writes(3),
        "first writes": lambda: site.writes(next(fresh)),
    }


def backup(site: Site, store: Path, rounds: int) -> None:
    """The rows of reads."""
    disk = write_image(store / "disk", SECTORS)
    ways = {"as it is": (), "at full speed": ("--full-speed",)}
    copied: dict[str, list[float]] = {name: [] for name in ways}

    def beside(name: str) -> float:
        with site.copying(*ways[name]) as rate:
            reads = site.reads_beside_writes()
            copied[name].append(rate())
        return reads

    with site.serving([disk, long(disk, store / "snapshot")], "write-back"):
        looks = {"alone": site.reads_beside_writes, **{it: partial(beside, it) for it in ways}}
        found = compared(looks, rounds)
    for name in ways:
        must = {"must": BACKUP_AT_LEAST} if name == "as it is" else {}
        rate = {"copied_mib_s": statistics.median(copied[name]) / MIB}
        say(f"reads beside a copy {name}", without=found["alone"]["rate"], **found[name], **must, **rate)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clones", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where the loop device is")
    parser.add_argument("--rounds", type=int, default=10, help="2 at least")
    parser.add_argument("--seconds", type=float, default=0.5, help="of one look")
    parser.add_argument("--only", choices=("throughput", "backup"))
    said = parser.parse_args()
    undo_at_sigterm()
    size = SECTORS * 512
    with (
        tempfile.TemporaryDirectory(dir=said.directory) as name,
        small_filesystem("xfs", Path(name) / "store", 16 * size, "loop", "-m", "reflink=1") as store,
        Lab(("target", "client", "other"), mtu=9000) as lab,
    ):
        lab.cable("target", "other")
        site = Site(lab, contest.build("load", Path(name)), Path(name), said.seconds)
        if said.only != "backup":
            throughput(site, store, said.rounds)
        if said.only != "throughput":
            backup(site, store, said.rounds)


if __name__ == "__main__":
    main()
