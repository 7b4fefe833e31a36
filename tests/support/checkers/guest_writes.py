"""Writes that can be recognised on a disk afterwards: who was promised what, and what is there."""

import hashlib
import random
import struct
from typing import NamedTuple

from aoe.wire import ata, frame
from aoe.wire.protocol import SECTOR
from tests.support.labs.raw_client import BUSY_DF_DRQ_ERR, FLUSH_EXT, WRITE_EXT, Client, ata_request

PIECE = 2
"""Sectors a write."""
PLACES = range(0, 30_000, 150)
"""The LBAs written to, over and over: few enough, and far apart."""
DISK_BYTES = 16 << 20

_WINDOW = 4
_FLUSH_EVERY = 16
_RESEND_S = 2.0


def stamp(slot: int, lba: int, version: int) -> bytes:
    """A sector that says where it belongs, and of which write to that place it is. 0 is before the first."""
    if version == 0:
        return bytes(SECTOR)
    head = struct.pack("!4sIII", b"cut!", slot, lba, version)
    return (head + hashlib.sha256(head).digest() * SECTOR)[:SECTOR]


def version_of(sector: bytes, slot: int, lba: int) -> int | None:
    """The version of a sector; None if it is no sector of that place."""
    (version,) = struct.unpack_from("!12xI", sector)
    return version if sector == stamp(slot, lba, version) else None


class Found(NamedTuple):
    """LBAs whose content is older than was vouched for, and LBAs that hold what nobody wrote there."""

    lost: list[int]
    wrong: list[int]


class _Request(NamedTuple):
    """A write of a version to a place, or a flush that vouches for several."""

    data: bytes
    covers: dict[int, int]
    due: float


class Writer:
    """Keeps some stamped writes open to one export, and notes what the export vouched for.

    That is, what it answered; in write-back mode, what it had answered before a flush that it answered.
    """

    def __init__(self, client: Client, write_back: bool) -> None:
        self.client = client
        self.sent: dict[int, int] = {}
        self.vouched: dict[int, int] = {}
        self.answers = 0
        self._write_back = write_back
        self._answered: dict[int, int] = {}
        self._open: dict[int, _Request] = {}
        self._flush_tag = 0
        self._spoilt: set[int] = set()
        self._free = list(PLACES)
        self._random = random.Random(client.slot)

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def send(self, now: float) -> None:
        """Fill the window; repeat what has not been answered for long."""
        for tag, request in self._open.items():
            if now > request.due:
                self._again(tag, request, now)
        if len(self._answered) >= _FLUSH_EVERY and self._flush_tag not in self._open:
            self._flush_tag = self._issue(ata_request(FLUSH_EXT), dict(self._answered), now)
        while len(self._open) < _WINDOW and self._free:
            self._write(self._free.pop(self._random.randrange(len(self._free))), now)

    def take(self, reply: bytes) -> None:
        """Note an answer, if it is one to this writer."""
        header, registers = frame.decode(reply), ata.decode_reply(reply)
        if isinstance(header, frame.Fault) or (request := self._open.pop(header.tag, None)) is None:
            return
        assert isinstance(registers, ata.AtaReply)
        assert not registers.status & BUSY_DF_DRQ_ERR, registers
        assert not header.flags & frame.FLAG_ERROR, header
        self.answers += 1
        if header.tag == self._flush_tag:
            self._vouch(request.covers)
        else:
            self._wrote(request.covers)

    def examine(self, disk: bytes) -> Found:
        """Compare a disk with what was promised of it."""
        found = Found([], [])
        for place, newest in self.sent.items():
            for lba in range(place, place + PIECE):
                version = version_of(disk[lba * SECTOR : (lba + 1) * SECTOR], self.client.slot, lba)
                if version is None or version > newest:
                    found.wrong.append(lba)
                elif version < self.vouched.get(place, 0):
                    found.lost.append(lba)
        return found

    def _write(self, place: int, now: float) -> None:
        version = self.sent[place] = self.sent.get(place, 0) + 1
        data = b"".join(stamp(self.client.slot, place + n, version) for n in range(PIECE))
        self._issue(ata_request(WRITE_EXT, place, PIECE, data), {place: version}, now)

    def _issue(self, registers: ata.AtaRequest, covers: dict[int, int], now: float) -> int:
        header = self.client.header(frame.Command.ATA)
        request = _Request(frame.encode(header, ata.encode(registers)), covers, now + _RESEND_S)
        self._open[header.tag] = request
        self.client.send(request.data)
        return header.tag

    def _again(self, tag: int, request: _Request, now: float) -> None:
        """A copy of this may still come late, over newer data: leave the place alone from now on."""
        self._open[tag] = request._replace(due=now + _RESEND_S)
        if tag != self._flush_tag:
            self._spoilt.update(request.covers)
        self.client.send(request.data)

    def _wrote(self, covers: dict[int, int]) -> None:
        self._free += [place for place in covers if place not in self._spoilt]
        if self._write_back:
            self._answered.update(covers)
        else:
            self._vouch(covers)

    def _vouch(self, covers: dict[int, int]) -> None:
        self.vouched.update(covers)
        self._answered = {p: v for p, v in self._answered.items() if v != covers.get(p)}
