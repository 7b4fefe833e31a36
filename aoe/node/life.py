"""The legacy of a life of the service, in memory that its manager holds (memfd_create(2))."""

import os

from aoe.node.held import Held, Kind
from aoe.target import legacy
from aoe.target.legacy import Legacy

_KEY = ""


def blank() -> int:
    """What a legacy is left in: made while that can still be made."""
    return os.memfd_create("aoe-target", os.MFD_CLOEXEC)


def leave(left: Legacy, held: Held, fd: int) -> None:
    """To the next life, for it alone, in a `blank`, which is closed. Only after a clean end."""
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(legacy.written(left))
        held.keep(Kind.LIFE, _KEY, fd)
    finally:
        os.close(fd)


def take(held: Held) -> Legacy:
    """Of the last life, if it ended clean; nothing else can take it from now on."""
    fd = held.take(Kind.LIFE, _KEY)
    if fd is None:
        return {}
    try:
        data = os.pread(fd, legacy.LEGACY_ROOM, 0)
        os.pwrite(fd, b"\1", legacy.USED_AT)
    finally:
        os.close(fd)
    held.forget(Kind.LIFE, _KEY)
    return legacy.read(data)
