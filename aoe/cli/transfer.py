"""`aoe read` and `aoe write`: sectors to standard output, and from standard input."""

import os
import stat
import sys
from typing import NamedTuple

from aoe import limits
from aoe.cli.aside import read_full, write_full
from aoe.cli.report import Report
from aoe.cli.where import Where, one_disk
from aoe.errors import RequestError
from aoe.initiator.remote import RemoteDisk
from aoe.wire import protocol


class Read(NamedTuple):
    """`sectors` from `lba` on to standard output; None is all that there are."""

    where: Where
    addresses: list[str]
    lba: int = 0
    sectors: int | None = None
    background: bool = False

    async def run(self, report: Report) -> None:
        """Nothing is written where not all of it exists."""
        report.bytes_go_out = True
        async with one_disk(self.where, self.addresses, report, self.background) as disk:
            start = _start(disk, self.lba)
            wanted = disk.size - start if self.sectors is None else self.sectors * protocol.SECTOR
            if start + wanted > disk.size:
                raise RequestError(
                    f"{disk.address} has {disk.size // protocol.SECTOR} sectors: "
                    f"--lba {self.lba} --sectors {self.sectors} goes past the end"
                )
            for at in range(start, start + wanted, limits.COPY_CHUNK):
                data = await disk.read(at, min(limits.COPY_CHUNK, start + wanted - at))
                await write_full(data)
            report.note(address=disk.address, lba=self.lba, bytes=wanted)


class Write(NamedTuple):
    """Standard input to the sectors from `lba` on, then a flush."""

    where: Where
    addresses: list[str]
    lba: int = 0
    background: bool = False

    async def run(self, report: Report) -> None:
        """A file is measured before anything is written; of a pipe it is said what was."""
        async with one_disk(self.where, self.addresses, report, self.background) as disk:
            start = _start(disk, self.lba)
            _measure(disk, start, _left_in_file(sys.stdin.fileno()))
            written = _Written(disk, start)
            try:
                await written.fill()
            except BaseException as error:
                error.add_note(f"{written.said} from --lba {self.lba} on were written")
                raise
            report.note(address=disk.address, lba=self.lba, bytes=written.at - start)


class _Written:
    """How far a disk was written."""

    def __init__(self, disk: RemoteDisk, start: int) -> None:
        self.at = start
        self._start = start
        self._in_flight = 0
        self._disk = disk

    async def fill(self) -> None:
        """Write whatever comes, then flush."""
        while data := await read_full(limits.COPY_CHUNK):
            _measure(self._disk, self.at, len(data))
            self._in_flight = len(data)
            await self._disk.write(self.at, data)
            self.at += len(data)
            self._in_flight = 0
        await self._disk.flush()

    @property
    def said(self) -> str:
        """How many bytes, and whether there may be more."""
        perhaps = f", perhaps up to {self._in_flight} more," if self._in_flight else ""
        return f"{self.at - self._start} bytes{perhaps}"


def _start(disk: RemoteDisk, lba: int) -> int:
    total = disk.size // protocol.SECTOR
    if lba >= total:
        raise RequestError(f"{disk.address} has {total} sectors: --lba {lba} is not one of them")
    return lba * protocol.SECTOR


def _left_in_file(descriptor: int) -> int:
    """Bytes from where it is read to its end; 0 where that is no file."""
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        return 0
    return max(0, facts.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))


def _measure(disk: RemoteDisk, at: int, length: int) -> None:
    """RequestError where so many bytes do not fit there."""
    if at + length > disk.size:
        raise RequestError(
            f"standard input does not end at a sector that {disk.address} has: it is longer than the "
            f"{disk.size - at} bytes from there to the end"
        )
    if length % protocol.SECTOR:
        raise RequestError(
            f"standard input does not end at a sector: {length} bytes are not a multiple of {protocol.SECTOR}"
        )
