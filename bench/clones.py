"""What a clone costs that shares blocks: python -m bench.clones, as root.

On XFS in a loop device on a file in DIRECTORY, past the page cache. 4 KiB random writes, 32 at once: to a
plain file, to a clone of which every block was written once before, and to one that was not written at all;
each with and without write-back. Then reads of a disk that is written to, 1,000 times a second, without and
while a snapshot of it is copied by another client. Interleaved, medians of some rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import contest
from bench.ending import undo_at_sigterm
from bench.image import write_image
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.waiting import wait_for

MIB = 1 << 20
SECTORS = 1 << 20
DEPTH = "32"
START_S = 2.0
COPIES = 8
WRITES = ("--rw", "randwrite", "--sectors", "8", "--depth", DEPTH, "--range", str(SECTORS))
READS = ("--rw", "randread", "--sectors", "8", "--depth", DEPTH, "--range", str(SECTORS))
BESIDE = (*WRITES, "--rate", "1000", "--rest", "--seed", "7")
"""What writes to the disk that is read."""
MODES = {"write-back": ("--durability", "write-back"), "write-through": ("--durability", "write-through")}
AT_LEAST = {"write-back": 0.85, "write-through": 0.75}


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
    words = ("--name=once", f"--filename={disk}", "--rw=randwrite", "--bs=4k", "--direct=1", "--iodepth=32")
    subprocess.run(["fio", *words, "--ioengine=io_uring", "--output=/dev/null"], check=True)
    return disk


class Site:
    """Where a file is served, and loaded."""

    def __init__(self, lab: Lab, load: Path, work: Path, seconds: float) -> None:
        self._lab, self._load, self._work, self._seconds = lab, load, work, seconds

    def _target(self, disk: Path, *options: str, more: tuple[Path | str, ...] = ()) -> contest.Target:
        words = ("--direct", "--interface", "v1", *options)
        made = contest.ours(disk, self._work / "state", *words, more=map(Path, more))
        return made._replace(start_s=START_S)

    def writes(self, disk: Path, mode: str) -> float:
        """A second."""
        done = contest.run(self._lab, self._load, self._target(disk, *MODES[mode]), WRITES, self._seconds)
        assert not done.errors, done
        return done.iops

    def backup(self, disk: Path, snapshot: Path) -> tuple[float, float, float]:
        """Reads a second before and after it, and meanwhile; and the bytes of it a second."""
        target = self._target(disk, *MODES["write-back"], more=(f"{snapshot}=1.2",))
        with contest.serving(self._lab, target):
            before = self._beside_writes()
            with self._copying() as copied:
                began_s = time.monotonic()
                meanwhile = self._beside_writes()
                rate = copied() / (time.monotonic() - began_s)
            after = self._beside_writes()
        return (before + after) / 2, meanwhile, rate

    def _begin(self, side: str, *words: str | Path) -> "subprocess.Popen[str]":
        command = ("taskset", "-c", contest.LOAD_CPU, *words)
        return self._lab.popen(side, *command, stdout=subprocess.PIPE, text=True)

    def _beside_writes(self) -> float:
        seconds = ("--seconds", str(self._seconds))
        both = [
            self._begin("client", self._load, "v0", "1", "1", *words, *seconds) for words in (BESIDE, READS)
        ]
        _, reads = (json.loads(it.communicate(timeout=self._seconds + 60)[0]) for it in both)
        assert not reads["errors"], reads
        return float(reads["iops"])

    @contextmanager
    def _copying(self) -> Iterator[Callable[[], int]]:
        """Gives what says how many bytes it has copied since."""
        copy = (sys.executable, "-m", "aoe.cli.client", "copy", "--interface", "v0", "e1.2", "-")
        command = ("taskset", "-c", contest.LOAD_CPU, *copy)
        process = self._lab.popen("other", *command, stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: _written(process.pid) > MIB)
            before = _written(process.pid)
            yield lambda: _written(process.pid) - before
            assert process.poll() is None, "the copy ended early: say fewer --seconds"
        finally:
            process.kill()
            process.wait()


def _written(pid: int) -> int:
    """Bytes that a process has written."""
    said = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(said["wchar"])


def medians(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Of each, all in turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, once in ways.items():
            found[name].append(once())
    return {name: statistics.median(rates) for name, rates in found.items()}


def throughput(site: Site, store: Path, rounds: int) -> None:
    """The rows of writes."""
    template = write_image(store / "template", SECTORS)
    plain = written(write_image(store / "plain", SECTORS))
    once = written(clone(template, store / "once"))

    for mode in MODES:

        def fresh(mode: str = mode) -> float:
            return site.writes(clone(template, store / "fresh"), mode)

        ways = {
            "plain": lambda mode=mode: site.writes(plain, mode),
            "written once before": lambda mode=mode: site.writes(once, mode),
            "first writes": fresh,
        }
        found = medians(ways, rounds)
        for name, rate in list(found.items())[1:]:
            row = {
                "row": f"{mode}, {name}",
                "plain": found["plain"],
                "clone": rate,
                "of": rate / found["plain"],
            }
            print(json.dumps(row | ({"must": AT_LEAST[mode]} if name == "written once before" else {})))


def backup(site: Site, store: Path, rounds: int) -> None:
    """The row of reads."""
    disk, snapshot = write_image(store / "disk", SECTORS), store / "snapshot"
    looks = []
    for _ in range(rounds):
        snapshot.unlink(missing_ok=True)
        looks.append(site.backup(disk, long(disk, snapshot)))
    before, meanwhile, copied = (statistics.median(it) for it in zip(*looks, strict=True))
    row = {"row": "reads beside a backup", "without": before, "meanwhile": meanwhile}
    print(json.dumps(row | {"of": meanwhile / before, "must": 0.8, "copied_mib_s": copied / MIB}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clones", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where the loop device is")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one look")
    parser.add_argument("--only", choices=("throughput", "backup"))
    said = parser.parse_args()
    undo_at_sigterm()
    size = SECTORS * 512
    with (
        tempfile.TemporaryDirectory(dir=said.directory) as name,
        small_filesystem("xfs", Path(name) / "store", 8 * size, "loop", "-m", "reflink=1") as store,
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
