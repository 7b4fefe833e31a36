"""What a register file asks of a drive, and what the registers say afterwards (ATA8-ACS section 7)."""

import enum
import struct
from collections.abc import Iterable
from typing import NamedTuple

from aoe.errors import DiskError, DiskFailed
from aoe.wire import opcodes
from aoe.wire.ata import AtaReply, AtaRequest
from aoe.wire.opcodes import (
    CHECK_POWER_MODE,
    DATA_SET_MANAGEMENT,
    DSM_TRIM,
    EXECUTE_DEVICE_DIAGNOSTIC,
    FLUSHES,
    IDENTIFY_DEVICE,
    READ_VERIFY_SECTORS,
    READ_VERIFY_SECTORS_EXT,
    SET_FEATURES,
)
from aoe.wire.protocol import SECTOR

BUSY = 0x80
READY = 0x40
DEVICE_FAULT = 0x20
DATA_REQUEST = 0x08
ERROR = 0x01
FAILURES = BUSY | DEVICE_FAULT | DATA_REQUEST | ERROR
"""A drive whose status has any of these has not done what it was asked (ATA8-ACS section 6.2)."""

UNC = 0x40
IDNF = 0x10
ABRT = 0x04

LBA28_MASK = 0x0FFFFFFF
LBA48_MASK = 0xFFFFFFFFFFFF
POWER_ACTIVE = 0xFF


class Kind(enum.StrEnum):
    """What an operation does to the disk; the value names its counter, and is the same key."""

    __hash__ = str.__hash__  # Enum's own hashes the name, in Python, for each request

    READ = "reads"
    WRITE = "writes"
    VERIFY = "verifies"
    TRIM = "trims"
    FLUSH = "flushes"
    CACHE_ON = "cache_on"
    CACHE_OFF = "cache_off"


A_READ, A_WRITE = Kind.READ, Kind.WRITE
"""For each request: members of an enumeration are looked up in Python."""
CHANGES_DATA = frozenset({Kind.WRITE, Kind.TRIM})


class Drive(NamedTuple):
    """What decides whether a command is admitted: capacity and transfer limits in sectors.

    `trim_blocks` is the most 512-byte range blocks a TRIM may carry, 0 where TRIM is not supported.
    """

    sectors: int
    read_only: bool = False
    trim_blocks: int = 0


class Extent(NamedTuple):
    """A run of sectors from `lba`."""

    lba: int
    sectors: int


class Operation(NamedTuple):
    """A command that touches the disk, validated: every extent lies inside it.

    `extents` is empty for FLUSH and the cache switches; `data` is exactly what a WRITE stores.
    """

    kind: Kind
    extents: tuple[Extent, ...] = ()
    data: bytes = b""
    fua: bool = False

    @property
    def moves(self) -> int:
        """Bytes that go over the wire: a VERIFY and a TRIM are a request alone."""
        if self.kind is A_READ:
            return self.extents[0].sectors * SECTOR
        return len(self.data)


class Identify(enum.Enum):
    """The one command whose answer the drive itself does not know."""

    DEVICE = enum.auto()


class _Transfer(NamedTuple):
    """An opcode that moves sectors."""

    kind: Kind
    extended: bool
    fua: bool = False


_TRANSFERS = {
    **dict.fromkeys(opcodes.READS, _Transfer(Kind.READ, False)),
    **dict.fromkeys(opcodes.READS_EXT, _Transfer(Kind.READ, True)),
    **dict.fromkeys(opcodes.WRITES, _Transfer(Kind.WRITE, False)),
    **dict.fromkeys(opcodes.WRITES_EXT, _Transfer(Kind.WRITE, True)),
    **dict.fromkeys(opcodes.WRITES_FUA_EXT, _Transfer(Kind.WRITE, True, fua=True)),
}
_VERIFIES = {READ_VERIFY_SECTORS: False, READ_VERIFY_SECTORS_EXT: True}
STAMPED = (
    FLUSHES | {DATA_SET_MANAGEMENT} | {opcode for opcode, it in _TRANSFERS.items() if it.kind is Kind.WRITE}
)
"""What order rule T9 is about."""
_POWER_NO_OPS = frozenset(
    {
        opcodes.STANDBY_IMMEDIATE,
        opcodes.IDLE_IMMEDIATE,
        opcodes.STANDBY,
        opcodes.IDLE,
        opcodes.SLEEP,
    }
)
_FEATURES = {0x02: Kind.CACHE_ON, 0x82: Kind.CACHE_OFF, 0x03: None, 0x55: None, 0xAA: None}
_RANGE = struct.Struct("<Q")


def interpret(request: AtaRequest, drive: Drive, sectors_max: int) -> Operation | Identify | AtaReply:
    """What is to be done, or the reply where nothing is.

    `sectors_max` is the most sectors one frame may carry on the interface the request came by.
    """
    command = request.command
    transfer = _TRANSFERS.get(command)
    if transfer is not None:
        return _transfer(request, drive, sectors_max, *transfer)
    if command == IDENTIFY_DEVICE:
        return Identify.DEVICE
    if command in FLUSHES:
        return Operation(Kind.FLUSH)
    if command in _VERIFIES:
        return _verify(request, drive, _VERIFIES[command])
    if command == DATA_SET_MANAGEMENT:
        return _trim(request, drive)
    if command == SET_FEATURES and request.feature in _FEATURES:
        kind = _FEATURES[request.feature]
        return Operation(kind) if kind else done(request)
    if command in _POWER_NO_OPS:
        return done(request)
    if command == CHECK_POWER_MODE:
        return done(request)._replace(sector_count=POWER_ACTIVE)
    if command == EXECUTE_DEVICE_DIAGNOSTIC:
        return AtaReply(request.aflags, 1, 1, READY, 1)
    return failed(request, ABRT)


def done(request: AtaRequest, data: bytes = b"") -> AtaReply:
    """Success: nothing remains, the address is echoed."""
    return AtaReply(request.aflags, 0, 0, READY, request.lba, data)


def failed(request: AtaRequest, error: int, lba: int | None = None, status: int = READY | ERROR) -> AtaReply:
    """An ATA error (never an AoE error: the Linux driver throws those away and stalls).

    `lba` is the first failing sector where one is known; the device bits of an LBA28 register stay.
    """
    if lba is None:
        where = request.lba
    elif is_extended(request.command):
        where = lba & LBA48_MASK
    else:
        where = request.lba & ~LBA28_MASK | lba & LBA28_MASK
    return AtaReply(request.aflags, error, request.sector_count, status, where)


def is_extended(command: int) -> bool:
    """Whether the opcode takes a 48-bit address (the opcode decides, not the E flag of AoE)."""
    if command in _TRANSFERS:
        return _TRANSFERS[command].extended
    return _VERIFIES.get(command, False) or command == DATA_SET_MANAGEMENT


def _address(request: AtaRequest, extended: bool) -> int:
    return request.lba if extended else request.lba & LBA28_MASK


def _transfer(
    request: AtaRequest, drive: Drive, sectors_max: int, kind: Kind, extended: bool, fua: bool
) -> Operation | AtaReply:
    count = request.sector_count
    if not 0 < count <= sectors_max:
        return failed(request, ABRT)
    data = b""
    if kind is A_WRITE:
        data = request.data[: count * SECTOR]
        if drive.read_only or len(data) < count * SECTOR:
            return failed(request, ABRT)
    lba = _address(request, extended)
    if lba + count > drive.sectors:
        return failed(request, IDNF)
    return Operation(kind, (Extent(lba, count),), data, fua)


def _verify(request: AtaRequest, drive: Drive, extended: bool) -> Operation | AtaReply:
    lba = _address(request, extended)
    count = request.sector_count or (65536 if extended else 256)
    if lba + count > drive.sectors:
        return failed(request, IDNF)
    return Operation(Kind.VERIFY, (Extent(lba, count),))


def _trim(request: AtaRequest, drive: Drive) -> Operation | AtaReply:
    blocks = request.sector_count
    data = request.data[: blocks * SECTOR]
    supported = drive.trim_blocks and not drive.read_only and request.feature == DSM_TRIM
    if not supported or not 0 < blocks <= drive.trim_blocks or len(data) < blocks * SECTOR:
        return failed(request, ABRT)
    ranges = (entry for (entry,) in _RANGE.iter_unpack(data))
    extents = tuple(Extent(entry & LBA48_MASK, entry >> 48) for entry in ranges if entry >> 48)
    if any(lba + sectors > drive.sectors for lba, sectors in extents):
        return failed(request, IDNF)
    return Operation(Kind.TRIM, extents)


def joined(extents: Iterable[Extent]) -> list[Extent]:
    """The same sectors in fewer pieces, where one extent begins at the end of the one before: a range of a
    TRIM has at most 65,535 sectors."""
    found: list[Extent] = []
    for extent in extents:
        if found and found[-1].lba + found[-1].sectors == extent.lba:
            found[-1] = Extent(found[-1].lba, found[-1].sectors + extent.sectors)
        else:
            found.append(extent)
    return found


def conclude(request: AtaRequest, operation: Operation, data: bytes, error: DiskError | None) -> AtaReply:
    """The registers after the disk did, or failed to do, an operation; `data` is what a READ returned."""
    if error is None:
        return done(request, data)
    if isinstance(error, DiskFailed):
        return failed(request, ABRT, status=READY | DEVICE_FAULT | ERROR)
    if not operation.extents:
        return failed(request, ABRT)
    reads = operation.kind in (Kind.READ, Kind.VERIFY)
    return failed(request, UNC if reads else ABRT, _inside(operation, error.offset // SECTOR))


def _inside(operation: Operation, lba: int) -> int:
    """The failing sector, or where the request begins if a block around it failed."""
    if any(first <= lba < first + sectors for first, sectors in operation.extents):
        return lba
    return operation.extents[0].lba
