"""A FUSE server of one file, `disk`, whose writes pass each other, as in a disk's queue, and are recorded.

recording_disk.py MOUNT WORK: what is stored is WORK/store. While there is WORK/wait, the next write renames
it to WORK/waits, and lasts as long as there is that; the others overtake it, one of the same bytes, too.
(With other FUSE servers none would: there the kernel lets one write at a time into a file.) Before a write is
answered it is a line of WORK/record: when it began and ended (CLOCK_MONOTONIC), its first sector, and what
each of its sectors is known by. Numbers and layouts are those of <linux/fuse.h>.
"""

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aoe.wire.protocol import SECTOR
from tests.support.labs.recorded import known_by

ROOT, DISK = 1, 2
"""Nodes."""
LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, STATFS = 1, 2, 3, 14, 15, 16, 17
RELEASE, FSYNC, FLUSH, INIT, INTERRUPT, BATCH_FORGET = 18, 20, 25, 26, 36, 42
BIG_WRITES, WRITES_END_LATER = 1 << 5, 1 << 15
DIRECT, WRITES_PASS_EACH_OTHER = 1 << 0, 1 << 6
"""What OPEN answers."""
WRITE_MAX = 1 << 20
ASKED, ANSWER = struct.Struct("<IIQQ16x"), struct.Struct("<IiQ")
EXTENT = struct.Struct("<8xQI20x")
POLL_S = 0.02
PR_SET_PDEATHSIG = 1


class Disk:
    """The one file."""

    def __init__(self, device: int, work: Path) -> None:
        self._device = device
        self._work = work
        self._store = os.open(work / "store", os.O_RDWR)
        self._record = os.open(work / "record", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._answers: dict[int, Callable[[int, bytes], bytes]] = {
            INIT: lambda *_: struct.pack(
                "<4IHHIIHHI28x", 7, 38, 0, BIG_WRITES | WRITES_END_LATER, 16, 12, WRITE_MAX, 1, 0, 0, 0
            ),
            LOOKUP: self._looked_up,
            GETATTR: lambda node, _: struct.pack("<QII", 0, 0, 0) + self._attributes(node),
            OPEN: lambda *_: struct.pack("<QII", 0, DIRECT | WRITES_PASS_EACH_OTHER, 0),
            READ: self._read,
            WRITE: self._write,
            STATFS: lambda *_: bytes(80),
            **dict.fromkeys((RELEASE, FSYNC, FLUSH), lambda *_: b""),
        }

    def serve(self) -> None:
        """Until it is unmounted."""
        while True:
            asked = os.read(self._device, WRITE_MAX + 4096)
            _, opcode, unique, node = ASKED.unpack_from(asked)
            work = unique, opcode, node, asked[ASKED.size :]
            if opcode == WRITE:
                threading.Thread(target=self._answer, args=work, daemon=True).start()
            elif opcode not in (FORGET, INTERRUPT, BATCH_FORGET):
                self._answer(*work)

    def _answer(self, unique: int, opcode: int, node: int, body: bytes) -> None:
        error, data = 0, b""
        try:
            data = self._answers[opcode](node, body)
        except KeyError:
            error = errno.ENOSYS
        except OSError as failed:
            error = failed.errno or errno.EIO
        os.write(self._device, ANSWER.pack(ANSWER.size + len(data), -error, unique) + data)

    def _attributes(self, node: int) -> bytes:
        kind, size = (stat.S_IFDIR, 0) if node == ROOT else (stat.S_IFREG, os.fstat(self._store).st_size)
        return struct.pack(
            "<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, kind | 0o700, 1, 0, 0, 0, 4096, 0
        )

    def _looked_up(self, _: int, name: bytes) -> bytes:
        if name != b"disk\0":
            raise FileNotFoundError(errno.ENOENT, "there is one file")
        return struct.pack("<4QII", DISK, 0, 0, 0, 0, 0) + self._attributes(DISK)

    def _read(self, _: int, body: bytes) -> bytes:
        at, size = EXTENT.unpack_from(body)
        return os.pread(self._store, size, at)

    def _write(self, _: int, body: bytes) -> bytes:
        at, size = EXTENT.unpack_from(body)
        data = body[EXTENT.size : EXTENT.size + size]
        with suppress(FileNotFoundError):
            held = (self._work / "wait").rename(self._work / "waits")
            while held.exists():
                time.sleep(POLL_S)
        began_s = time.monotonic()
        written = os.pwrite(self._store, data, at)
        sectors = " ".join(known_by(data[it : it + SECTOR]) for it in range(0, size, SECTOR))
        line = f"{began_s} {time.monotonic()} {at // SECTOR} {sectors}\n"
        os.write(self._record, line.encode())
        return struct.pack("<II", written, 0)


def mounted(where: str) -> int:
    """The kernel's end of the mount."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"recording", where.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), "mount")
    return device


def end_with_parent() -> None:
    """A mount that nobody serves keeps those that look at it waiting."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    Disk(mounted(sys.argv[1]), Path(sys.argv[2])).serve()
