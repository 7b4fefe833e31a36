"""What a caller wants of a disk, the pieces of it, and how it ended, without I/O."""

import enum
from typing import NamedTuple

from aoe.initiator.exchange import Kind
from aoe.initiator.path import Operation
from aoe.initiator.ranges import RangeLock
from aoe.wire import protocol


class Verb(enum.IntEnum):
    """What may be asked for."""

    READ = 0
    WRITE = 1
    WRITE_FUA = 2
    FLUSH = 3
    TRIM = 4
    IDENTIFY = 5
    ASK = 6
    """Of one server: a message of another kind than ATA, in `data`, its command in `offset`."""


class Outcome(enum.IntEnum):
    """How it ended."""

    OK = 0
    ATA_ERROR = 1
    AOE_ERROR = 2
    CACHE_LOST = 3
    """A flush cannot vouch for what a server forgot."""
    OUT_OF_RANGE = 4
    TOO_MANY = 5
    UNSUPPORTED = 6
    REFUSED = 7
    """What the server said of its disk cannot be, or is not of this disk."""
    NO_MEMORY = 8
    """Only in C: here, Python raises MemoryError."""


class Result(NamedTuple):
    """`status` and `error` are the drive's registers, or `error` is the AoE error, `lba` the failing sector;
    `data` what was read."""

    outcome: Outcome = Outcome.OK
    status: int = 0
    error: int = 0
    lba: int = 0
    data: bytes = b""


class Request:
    """What a caller wants; `result` is None until it is in `done`."""

    __slots__ = (
        "buffer",
        "changes",
        "data",
        "flushes",
        "left",
        "length",
        "offset",
        "pieces",
        "result",
        "verb",
        "worst",
    )

    def __init__(self, verb: Verb, offset: int, length: int, data: bytes) -> None:
        self.verb = verb
        self.offset = offset
        self.length = length
        self.data = data
        self.result: Result | None = None
        self.worst: Result | None = None
        """The failure with the lowest lba so far."""
        self.pieces: list[Piece] = []
        """While a caller waits for it."""
        self.left = 0
        self.flushes = False
        self.changes = (0, 0)
        self.buffer = bytearray()


class Piece(RangeLock):
    """A part of a request. `request` is None when no caller waits for it any more, `count` how many sectors
    go with it."""

    __slots__ = ("at", "count", "data", "echo", "free", "kind", "older", "operation", "request")

    def __init__(self, request: Request, lba: int, sectors: int, count: int = 0) -> None:
        super().__init__(lba, lba + sectors)
        self.request: Request | None = request
        self.count = count or sectors
        self.at = 0
        """How many of them were answered."""
        self.kind = Kind.READS
        self.free = False
        self.operation: Operation | None = None
        self.older = 0
        """Changes of it before `operation` of which there are copies of unknown fate."""
        self.data: bytearray | None = None
        """What is written, where that is not a part of the request's data."""
        self.echo = False
        """Whether the proof keeps its range closed."""

    @property
    def patches(self) -> bool:
        """Whether the request covers only a part of its sectors."""
        request = self.request
        assert request is not None, "it is asked while a caller waits"
        if request.verb is Verb.TRIM:
            return False
        end = request.offset + request.length
        return self.first * protocol.SECTOR < request.offset or self.last * protocol.SECTOR > end
