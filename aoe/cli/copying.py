"""Copy one disk onto another."""

import asyncio
import time
from typing import TextIO, cast

from aoe.disk.base import Disk
from aoe.errors import ConfigurationError, DiskError

_CHUNK = 1 << 20
_AT_A_TIME = 8
_SHOW_S = 0.2


class Progress:
    """How far it is: a bar with rate and time left on `shown`, if there is one."""

    def __init__(self, total: int, shown: TextIO | None) -> None:
        self.total = total
        self.done = 0
        self._shown = shown
        self._started = time.monotonic()
        self._last = 0.0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return max(time.monotonic() - self._started, 1e-9)

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.done / self.seconds

    def add(self, length: int) -> None:
        """So many bytes more are done."""
        self.done += length
        now = time.monotonic()
        if self._shown is not None and (now - self._last > _SHOW_S or self.done == self.total):
            self._last = now
            part = self.done / self.total
            left = (self.total - self.done) / self.rate
            bar = "#" * int(30 * part)
            end = "\n" if self.done == self.total else ""
            line = f"\r{bar:<30} {part:4.0%} {self.rate / 1e6:8.1f} MB/s {left:5.0f} s left"
            print(line, end=end, file=self._shown, flush=True)


async def copy(
    source: Disk, destination: Disk, progress: Progress, *, sparse: bool = False, verify: bool = False
) -> None:
    """Everything of `source` to the beginning of `destination`, then a flush. `sparse` leaves out what is
    zero, where the destination is known to be. ConfigurationError if it is too small, DiskError if what is
    read back differs."""
    if destination.size < source.size:
        raise ConfigurationError(
            f"the destination has {destination.size} bytes, the source {source.size}: enlarge it"
        )
    todo = iter(range(0, source.size, _CHUNK))
    zeroes = bytes(_CHUNK)

    async def work() -> None:
        buffer = bytearray(_CHUNK)
        for at in todo:
            if source.size - at < _CHUNK:
                buffer = bytearray(source.size - at)
            await source.read_into(at, buffer)
            if not sparse or buffer != zeroes[: len(buffer)]:
                await destination.write(at, cast(bytes, buffer))
            progress.add(len(buffer))

    await asyncio.gather(*(work() for _ in range(_AT_A_TIME)))
    await destination.flush()
    if verify:
        await compare(source, destination)


async def compare(source: Disk, destination: Disk) -> None:
    """DiskError with the first byte that differs."""
    for at in range(0, source.size, _CHUNK):
        length = min(_CHUNK, source.size - at)
        there, here = await asyncio.gather(destination.read(at, length), source.read(at, length))
        if there != here:
            first = next(n for n, (a, b) in enumerate(zip(there, here, strict=True)) if a != b)
            raise DiskError(f"what was copied differs at byte {at + first}", at + first)
