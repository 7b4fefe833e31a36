"""`aoe copy`: one disk onto another, a file to a disk, a disk to a file."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple, cast

from aoe import limits, timing
from aoe.cli import ends, stdio
from aoe.cli.ends import Addresses, End, Named, Standard
from aoe.cli.report import Report
from aoe.cli.transfer import Read, Write
from aoe.cli.where import Where, one_disk
from aoe.disk.file import FileDisk
from aoe.errors import ConfigurationError, DiskError, RequestError
from aoe.initiator.remote import RemoteDisk

_HOLE = 4096
"""Zeroes of this length, where they are aligned, become a hole in a file."""


class Copy(NamedTuple):
    """`sparse`: zeroes become holes in what is there already, too; `full_speed`: others that ask the same
    server do not go first."""

    where: Where
    source: str
    destination: str
    verify: bool = False
    sparse: bool = False
    full_speed: bool = False

    async def run(self, report: Report) -> None:
        """What cannot be meant is refused before anything is asked."""
        source, destination = ends.named(self.source), ends.named(self.destination)
        self._check(source, destination)
        if isinstance(source, Standard) and isinstance(destination, Addresses):
            await Write(self.where, destination.each, background=not self.full_speed).run(report)
        elif isinstance(destination, Standard) and isinstance(source, Addresses):
            await Read(self.where, source.each, background=not self.full_speed).run(report)
        else:
            await self._between(source, destination, report)

    def _check(self, source: Named, destination: Named) -> None:
        disks = [end.each for end in (source, destination) if isinstance(end, Addresses)]
        if not disks:
            raise ConfigurationError(
                f"neither {self.source!r} nor {self.destination!r} is a disk at an address such as e0.0; "
                "cp copies files"
            )
        if len(disks) == 2 and self.where.links:
            raise ConfigurationError("a UDP link leads to one target; copy by way of a file")
        if len(disks) == 2 and set(disks[0]) & set(disks[1]):
            raise ConfigurationError(f"{self.destination} is the source, too; name another disk")
        if self.verify and Standard() in (source, destination):
            raise ConfigurationError(
                "--verify reads both sides again, which standard input and output cannot"
            )
        if isinstance(source, Path):
            ends.check_source(source)
        if isinstance(destination, Path):
            ends.check_destination(destination)

    async def _between(self, source: Named, destination: Named, report: Report) -> None:
        async with self._from(source, report) as origin:
            size = origin.disk.size
            fresh = isinstance(destination, Path) and ends.check_destination(destination)
            async with self._to(destination, size, fresh, report) as target:
                _check_different(origin, target)
                if target.disk.size < size:
                    raise RequestError(
                        f"{target.name} has {target.disk.size} bytes, {origin.name} {size}: enlarge it"
                    )
                clock = time.monotonic()
                try:
                    await self._fill(origin, target, fresh, report)
                except BaseException as error:
                    if not fresh:
                        ends.is_partly_new(target, error)
                    raise
                left, took_s = ends.excess(target, size), max(time.monotonic() - clock, 1e-9)
            self._say(report, size, left, took_s)

    async def _fill(self, origin: End, target: End, fresh: bool, report: Report) -> None:
        shown = not report.as_json
        holes = _holes(target, fresh) if fresh or self.sparse else None
        with _not_waiting(shown):
            with Progress("copied", origin.disk.size, shown) as progress:
                await copy(origin, target, progress.add, holes)
            if self.verify:
                ends.forget_cached(target)
                with Progress("verified", origin.disk.size, shown) as progress:
                    await compare(origin, target, progress.add)

    def _from(self, end: Named, report: Report) -> AbstractAsyncContextManager[End]:
        if isinstance(end, Addresses):
            return self._disk(end, report)
        assert isinstance(end, Path), "standard input goes another way"
        return ends.source_file(end)

    def _to(self, end: Named, size: int, fresh: bool, report: Report) -> AbstractAsyncContextManager[End]:
        if isinstance(end, Addresses):
            return self._disk(end, report)
        assert isinstance(end, Path), "standard output goes another way"
        return (ends.new_file if fresh else ends.old_file)(end, size)

    @asynccontextmanager
    async def _disk(self, end: Addresses, report: Report) -> AsyncIterator[End]:
        async with one_disk(self.where, end.each, report, not self.full_speed) as disk:
            yield End(disk.address, disk)

    def _say(self, report: Report, size: int, left: int, took_s: float) -> None:
        rate = size / took_s
        address = self.destination if isinstance(ends.named(self.destination), Addresses) else self.source
        verified = ", verified" if self.verify else ""
        larger = f"; {self.destination} is larger, its last {left} bytes are as before" if left else ""
        report.say(
            f"{size} bytes in {took_s:.2f} s, {rate / 1e6:.1f} MB/s{verified}{larger}",
            address=address.replace(",", "/"),
            source=self.source,
            destination=self.destination,
            bytes=size,
            left_bytes=left,
            took_us=round(took_s * 1e6),
            bytes_per_s=rate,
            verified=self.verify,
        )


def _check_different(origin: End, target: End) -> None:
    """What others write meanwhile to a disk that is copied onto itself would be undone."""
    serials = [end.disk.identity for end in (origin, target) if isinstance(end.disk, RemoteDisk)]
    if len(serials) == 2 and serials[0] == serials[1]:
        raise RequestError(f"{origin.name} and {target.name} are one disk: both have the serial {serials[0]}")


@contextmanager
def _not_waiting(shown: bool) -> Iterator[None]:
    """Inside, a copy does not wait for the reader of its output, unless that is a terminal."""
    if not shown or sys.stderr.isatty():
        yield
        return
    with stdio.unblocked("aoe", False):
        stdio.start()
        yield


class Progress:
    """How far it is, where it is `shown`: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, what: str, total: int, shown: bool) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._shown = shown
        self._bar = shown and sys.stderr.isatty()
        self._started = self._last = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            stdio.tell("")

    def add(self, length: int) -> None:
        """So many bytes more are done."""
        self._done += length
        now = time.monotonic()
        ended = self._done == self._total
        every_s = timing.PROGRESS_SHOWN_S if self._bar else timing.PROGRESS_TOLD_S
        due = now - self._last > every_s or (self._bar and ended)
        if self._shown and due:
            self._last = now
            self._show(now)

    def _show(self, now: float) -> None:
        rate = self._done / max(now - self._started, 1e-9)
        left_s = (self._total - self._done) / rate
        part = self._done / self._total
        line = f"{part:4.0%} {self._what}, {rate / 1e6:8.1f} MB/s, {left_s:5.0f} s left"
        if self._bar:
            stdio.tell(f"\r{'#' * int(30 * part):<30} {line}", end="")
        else:
            stdio.tell(f"aoe: {line}")


class Holes(NamedTuple):
    """What becomes of zeroes in steps of `step` bytes: they are there already, or are `cleared`."""

    step: int
    cleared: bool


def _holes(target: End, fresh: bool) -> Holes:
    step = _HOLE if isinstance(target.disk, FileDisk) else limits.COPY_CHUNK
    return Holes(step, not fresh)


async def copy(origin: End, target: End, done: Callable[[int], None], holes: Holes | None = None) -> None:
    """Everything of `origin` to the beginning of `target`, then a flush; `done` is told of each step."""

    async def move(at: int, buffer: bytearray) -> None:
        await origin.read_into(at, buffer)
        if holes is None:
            await target.write(at, cast(bytes, buffer))
        else:
            await _write_around(target, at, buffer, holes)
        done(len(buffer))

    await _all_of(origin.disk.size, move)
    await target.flush()


async def compare(origin: End, target: End, done: Callable[[int], None]) -> None:
    """DiskError with the first byte that differs."""

    async def look(at: int, buffer: bytearray) -> None:
        there = bytearray(len(buffer))
        await asyncio.gather(origin.read_into(at, buffer), target.read_into(at, there))
        if there != buffer:
            first = at + next(n for n, (a, b) in enumerate(zip(there, buffer, strict=True)) if a != b)
            raise DiskError(f"{target.name} differs from {origin.name} at byte {first}", first)
        done(len(buffer))

    await _all_of(origin.disk.size, look)


async def _all_of(size: int, step: Callable[[int, bytearray], Awaitable[None]]) -> None:
    """Take the steps of a disk, some at a time; the first failure ends the others before it is raised."""
    todo = iter(range(0, size, limits.COPY_CHUNK))

    async def work() -> None:
        buffer = bytearray(limits.COPY_CHUNK)
        for at in todo:
            if size - at < limits.COPY_CHUNK:
                buffer = bytearray(size - at)
            await step(at, buffer)

    tasks = [asyncio.ensure_future(work()) for _ in range(limits.COPIED_AT_ONCE)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _write_around(target: End, at: int, buffer: bytearray, holes: Holes) -> None:
    """Write what is not zero."""
    for start, end, zero in _runs(buffer, holes.step):
        if not zero:
            part = buffer if end - start == len(buffer) else buffer[start:end]
            await target.write(at + start, cast(bytes, part))
        elif holes.cleared:
            await target.clear(at + start, end - start)


def _runs(buffer: bytearray, step: int) -> Iterator[tuple[int, int, bool]]:
    """Parts that are all zero or not, in steps: where they begin, where they end, and which they are."""
    begun = end = 0
    for at in _zero_steps(buffer, step):
        if at > end:
            if end > begun:
                yield begun, end, True
            yield end, at, False
            begun = at
        end = min(at + step, len(buffer))
    if end > begun:
        yield begun, end, True
    if end < len(buffer):
        yield end, len(buffer), False


def _zero_steps(buffer: bytearray, step: int) -> Iterator[int]:
    """Where steps of zeroes begin. Only those that begin with one are looked at."""
    zeroes, heads = bytes(step), buffer[::step]
    found = heads.find(0)
    while found >= 0:
        part = buffer[found * step : (found + 1) * step]
        if part == zeroes[: len(part)]:
            yield found * step
        found = heads.find(0, found + 1)
