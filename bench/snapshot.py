"""What a client notices of a snapshot of its disk: python -m bench.snapshot, as root.

A disk of 10 GiB with 150,000 extents on XFS, in a loop device on a file in DIRECTORY (/var/tmp), is served
past the page cache; a client writes 4 KiB at a time to random places, 32 at once. It prints what its writes
took before a snapshot, while it is made, and beside FICLONE alone, by another process, of the same file.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aoe.disk import syscalls
from bench.ending import undo_at_sigterm
from tests.engine.cutting import Program, started
from tests.support.checkers.moments import Write
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.programs import cut_target, cut_writer

GIB = 1 << 30
BEFORE_S = 5.0
AT_ONCE = 32
PIECE = 8192


class Row(NamedTuple):
    """Milliseconds of the writes that were sent within some seconds."""

    name: str
    took_s: float
    writes: int
    p50: float
    p99: float
    p999: float
    longest: float

    @property
    def line(self) -> str:
        """Of the table."""
        rate = self.writes / self.took_s if self.took_s else 0.0
        took = (f"{it:.1f}" for it in self[3:])
        return " | ".join(("", self.name, f"{self.took_s:.1f}", f"{rate:.0f}", *took, "")).strip()


def row(name: str, writes: Iterable[Write], begin: float, end: float) -> Row:
    """Of those under way or sent between both times (ns)."""
    them = (it for it in writes if it.sent < end and it.acknowledged > begin)
    took = sorted((it.acknowledged - it.sent) / 1e6 for it in them if it.acknowledged < math.inf)
    quantiles = (took[min(len(took) - 1, int(part * len(took)))] for part in (0.5, 0.99, 0.999))
    return Row(name, (end - begin) / 1e9, len(took), *quantiles, took[-1])


def fragmented(path: Path, size: int, extents: int) -> Path:
    """Pieces with holes between them."""
    with path.open("wb") as file:
        file.truncate(size)
        for at in range(0, size, size // extents // 4096 * 4096):
            os.pwrite(file.fileno(), b"\1" * PIECE, at)
        os.fsync(file.fileno())
    return path


def count(path: Path) -> int:
    """Its extents."""
    with path.open("rb") as file:
        return sum(1 for _ in syscalls.extents(file.fileno()))


@contextmanager
def load(lab: Lab, work: Path, disk: Path, engine: str) -> Iterator[tuple[Program, Program]]:
    """A target of a disk, and a client that writes to it."""
    with started(lab, "target", cut_target, work / "target.log", engine, "direct", disk) as target:
        assert target.said() == {"ready": True}
        words = ("1", "1", str(AT_ONCE), "1")
        with started(lab, "client", cut_writer, work / "writer.log", *words) as writer:
            assert writer.line() == b"writing\n", (work / "writer.log").read_text()
            time.sleep(BEFORE_S)
            yield target, writer


def history(writer: Program) -> list[Write]:
    """What it wrote, once it writes no more."""
    return [
        Write(number, (), sent, math.inf if done is None else done) for number, _, sent, done in writer.end()
    ]


def snapshot(lab: Lab, work: Path, disk: Path, engine: str) -> tuple[Row, Row]:
    """Before one, and while it is made."""
    into = disk.with_name("snapshot")
    with load(lab, work, disk, engine) as (target, writer):
        target.tell(into)
        said = target.said()
        said = target.said() if "over" in said else said
        if "error" in said:
            raise SystemExit(said["error"])
        writes = history(writer)
    into.unlink()
    before = row("before", writes, said["asked"] - BEFORE_S * 1e9, said["asked"])
    return before, row("while a snapshot is made", writes, said["asked"], said["whole"])


def cloned(lab: Lab, work: Path, disk: Path, engine: str) -> Row:
    """Beside a process that clones the file at once."""
    into = disk.with_name("clone")
    with load(lab, work, disk, engine) as (_, writer):
        began = time.monotonic_ns()
        subprocess.run(["cp", "--reflink=always", disk, into], check=True)
        ended = time.monotonic_ns()
        time.sleep(1)
        writes = history(writer)
    into.unlink()
    return row("FICLONE alone", writes, began, ended)


def main(words: Sequence[str]) -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(prog="python -m bench.snapshot", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where the loop device is")
    parser.add_argument("--size", type=float, default=10.0, help="GiB of the disk")
    parser.add_argument("--extents", type=int, default=150_000, help="of the disk")
    parser.add_argument("--engine", choices=("c", "plain", "python"), default="c", help="what serves")
    parser.add_argument("--json", action="store_true", help="as an object")
    args = parser.parse_args(words)
    undo_at_sigterm()
    size = int(args.size * GIB)
    with (
        tempfile.TemporaryDirectory(dir=args.directory) as directory,
        small_filesystem("xfs", Path(directory) / "store", 3 * size, "loop", "-m", "reflink=1") as store,
        Lab(mtu=9000) as lab,
    ):
        disk = fragmented(store / "disk", size, args.extents)
        extents = count(disk)
        work = Path(directory)
        rows = [*snapshot(lab, work, disk, args.engine), cloned(lab, work, disk, args.engine)]
    if args.json:
        print(json.dumps({"extents": extents, "rows": [it._asdict() for it in rows]}))
        return
    print(f"{args.size:g} GiB, {extents} extents; 4 KiB random writes, {AT_ONCE} at once, ms\n")
    print("| | s | writes/s | p50 | p99 | p99.9 | longest |\n| --- | --- | --- | --- | --- | --- | --- |")
    for it in rows:
        print(it.line)


if __name__ == "__main__":
    main(sys.argv[1:])
