"""A target that is told to take snapshots, a client that writes meanwhile, and the judgement of both."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.checkers import linear
from tests.support.checkers.linear import Call
from tests.support.checkers.moments import BLOCK, Write, faults, stamps
from tests.support.labs.network import Lab
from tests.support.programs import cut_target, cut_writer

MIB = 1 << 20
PATIENCE_S = 60
READERS = 2
Place = tuple[int, int]


def fragmented(path: Path, size: int, piece: int = 4 * BLOCK) -> Path:
    """A file with a hole behind each piece, so that it has many extents."""
    with path.open("wb") as file:
        file.truncate(size)
        for at in range(0, size, 2 * piece):
            os.pwrite(file.fileno(), bytes(piece), at)
        os.fsync(file.fileno())
    return path


class Program:
    """A process that says lines of JSON."""

    def __init__(self, process: "subprocess.Popen[bytes]", errors: Path) -> None:
        self.process = process
        self._errors = errors

    def line(self) -> bytes:
        """The next one."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE_S)[0], self._errors.read_text()
        return self.process.stdout.readline()

    def has_said(self) -> bool:
        """Whether there is a line, or it has ended."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def said(self) -> Any:
        """What it says next."""
        line = self.line()
        if not line.endswith(b"\n"):
            status = self.process.wait(PATIENCE_S)
            raise AssertionError(f"{line[-80:]!r}, then it ended with {status}: {self._errors.read_text()}")
        return json.loads(line)

    def tell(self, *words: str | Path) -> None:
        """A line."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        """No more lines; what it says to that."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.said()


@contextmanager
def started(lab: Lab, side: str, module: Any, errors: Path, *words: str | Path) -> Iterator[Program]:
    """A program on a side, killed at the end of the block."""
    command = lab.command(side, sys.executable, "-m", module.__name__, *words)
    with (
        errors.open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
        ) as process,
    ):
        try:
            yield Program(process, errors)
        finally:
            process.kill()


class Cutting:
    """Disks under load."""

    def __init__(self, target: Program, writer: Program, work: Path) -> None:
        self.target = target
        self.writer = writer
        self._work = work
        self._rounds: list[tuple[list[Path], Any]] = []
        self.reads: list[tuple[Place, Call]] = []

    def cut(self, count: int) -> Any:
        """Snapshots of all disks; what the target says of them."""
        into = [self._work / f"snapshot{len(self._rounds)}-{slot}" for slot in range(count)]
        self.target.tell(*into)
        said = self.target.said()
        if "over" in said:
            said = self.target.said()
        self._rounds.append((into, said))
        return said

    def history(self) -> list[Write]:
        """No more writes, and no more `reads`; the writes that there were."""
        history = [
            Write(number, tuple(map(tuple, places)), sent, float("inf") if done is None else done)
            for number, places, sent, done in self.writer.end()
        ]
        self.reads = [
            ((disk, sector), Call(False, number, sent, done))
            for (disk, sector), number, sent, done in self.writer.said()
        ]
        return history

    def faults(self, history: Sequence[Write]) -> list[str]:
        """What is wrong with the snapshots, of each one fault is enough; and with what was read meanwhile."""
        found = read_faults(history, self.reads)[:1]
        for into, said in self._rounds:
            disks = [stamps(path.read_bytes()) for path in into]
            found += list(faults(history, disks, said["asked"], said["over"]))[:1]
        return found


def read_faults(history: Sequence[Write], reads: Sequence[tuple[Place, Call]]) -> list[str]:
    """What is wrong with what was read of sectors that held zeroes at first."""
    calls: dict[Place, list[Call]] = {}
    for place, read in reads:
        calls.setdefault(place, []).append(read)
    for write in history:
        for place in calls.keys() & set(write.places):
            calls[place].append(Call(True, write.number, write.sent, write.acknowledged))
    return [f"{place}: {said}" for place, them in calls.items() for said in linear.faults(them, 0)]


@contextmanager
def cutting(
    lab: Lab, store: Path, work: Path, engine: str, *, disks: int = 1, size: int = 24 * MIB, seed: int = 1
) -> Iterator[Cutting]:
    """Fragmented disks in a store with reflink, served past the page cache and written to. At the end the
    store is empty."""
    files = [fragmented(store / f"disk{slot}", size) for slot in range(disks)]
    try:
        with started(lab, "target", cut_target, work / "target.log", engine, "direct", *files) as target:
            assert target.said() == {"ready": True}
            words = map(str, (disks, seed, cut_writer.AT_ONCE, cut_writer.BLOCKS_MAX, READERS))
            with started(lab, "client", cut_writer, work / "writer.log", *words) as writer:
                assert writer.line() == b"writing\n", (work / "writer.log").read_text()
                yield Cutting(target, writer, store)
    finally:
        for path in store.iterdir():
            if path.is_file():
                path.unlink()


def run(store: Path, work: Path, engine: str, *, seed: int, times: int) -> tuple[int, list[str]]:
    """So many snapshots of three disks under load: how many writes there were, and what is wrong."""
    with Lab(mtu=9000) as lab, cutting(lab, store, work, engine, disks=3, seed=seed) as it:
        said = [it.cut(3) for _ in range(times)]
        refused = [one["error"] for one in said if "error" in one]
        history = it.history()
        return len(history), refused or it.faults(history)
