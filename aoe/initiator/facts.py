"""What IDENTIFY says of the disk at the end of a path, and why it cannot be used.

csrc/initiator/facts.c is the same.
"""

import enum
from typing import NamedTuple

from aoe.drive import identify
from aoe.drive.identify import NO_STORE_ID, StoreId
from aoe.timing import USUAL, Timing


class Reason(enum.IntEnum):
    """Why a path is not usable."""

    NONE = 0
    LINK_DOWN = 1
    SILENT = 2
    SLOW = 3
    IDENTIFY_FAILS = 4
    OTHER_SIZE = 5
    OTHER_DISK = 6
    VOLATILE = 7
    NO_ZEROES = 8
    CHECKSUM = 9
    NO_LBA = 10
    NO_SECTORS = 11
    TOO_LARGE = 12
    OTHER_STORE = 13
    OTHER_DATA = 14
    NOT_SEEN = 15


REASON_TEXTS = {
    Reason.NONE: "",
    Reason.LINK_DOWN: "link down",
    Reason.SILENT: "silent",
    Reason.SLOW: "slow: it answers, but not what is read and written",
    Reason.IDENTIFY_FAILS: "IDENTIFY fails",
    Reason.OTHER_SIZE: "another size than the disk had: look at the other server, or open the disk again",
    Reason.OTHER_DISK: "another disk: its serial differs; if it is the same, give both servers one --serial",
    Reason.VOLATILE: "a volatile write cache, with several servers: serve write-through",
    Reason.NO_ZEROES: "its TRIM leaves no zeroes, as the disk's did when it was opened: open the disk again",
    Reason.CHECKSUM: "IDENTIFY has a wrong checksum: look at the server and its network card",
    Reason.NO_LBA: "IDENTIFY names no drive with LBA addresses (word 49): look at what is served there",
    Reason.NO_SECTORS: "IDENTIFY names no sectors: look at what is served there",
    Reason.TOO_LARGE: "IDENTIFY names more sectors than can be addressed: look at what is served there",
    Reason.OTHER_STORE: "another disk: the id of its store differs; give every disk a serial of its own",
    Reason.OTHER_DATA: "another disk: LBA {lba} differs; give every disk a serial of its own",
    Reason.NOT_SEEN: "another disk, or not in step: what was written at LBA {lba} is not there",
}


class Facts(NamedTuple):
    """What IDENTIFY said that decides whether a path leads to the disk."""

    serial: bytes
    sectors: int
    volatile: bool
    instance: int | None
    age_ns: int
    streams: bool
    alone: bool
    """Whether what names another instance can take effect no more."""
    trims: bool
    """Whether all that holds for TRIM, too."""
    heeded: bool
    """Whether what is sent of the stream that was named is carried out; it was not before this release that
    a target said so."""
    store: StoreId
    draining: bool
    data: bytes


def facts_of(data: bytes, timing: Timing = USUAL) -> Facts:
    """Read them off the 512 bytes; `timing` says what holds for a target that makes no promise."""
    vendor = identify.vendor_of(data)
    return Facts(
        identify.serial_words(data),
        identify.sectors_of(data),
        identify.caches(data),
        vendor.instance if vendor else None,
        vendor.frame_age_ms * 1_000_000 if vendor else timing.foreign_age_ns,
        vendor is not None and vendor.streams,
        vendor is not None and vendor.alone,
        vendor is not None and vendor.trims,
        vendor is not None and vendor.heeded,
        vendor.store_id if vendor else NO_STORE_ID,
        vendor is not None and vendor.draining,
        data,
    )


def unfit(data: bytes) -> Reason:
    """Why the 512 bytes cannot describe a disk that AoE could serve (ATA8-ACS section 7.16)."""
    sectors = identify.sectors_of(data)
    if not identify.sums_up(data):
        return Reason.CHECKSUM
    if not identify.has_lba(data):
        return Reason.NO_LBA
    if not sectors:
        return Reason.NO_SECTORS
    return Reason.TOO_LARGE if sectors > identify.sectors_max(data) else Reason.NONE
