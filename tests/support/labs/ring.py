"""One io_uring(7) through bare system calls, for what a process tries or leaves behind with it."""

import ctypes
import mmap
import os
import struct

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_PARAMS = struct.Struct("IIIIIII12x40s40s")
_SQ_OFFSETS = struct.Struct("7I")
_SQE = struct.Struct("BBHiQQIIQ24x")
_CQE = struct.Struct("QiI")
_SQES_AT = 0x10000000
_GET_EVENTS = 1

READV, WRITEV, FSYNC, OPENAT, READ, WRITE, SOCKET = 1, 2, 3, 18, 22, 23, 45
CQSIZE, R_DISABLED = 1 << 3, 1 << 6
UNREGISTER_FILES, ENABLE_RINGS = 3, 12
AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


class Ring:
    """A ring; OSError where the kernel refuses it. `fd` is one that there is, made with the same numbers."""

    def __init__(self, entries: int = 8, flags: int = 0, done: int = 0, fd: int = -1) -> None:
        parameters = ctypes.create_string_buffer(
            _PARAMS.pack(0, done, flags | (CQSIZE if done else 0), 0, 0, 0, 0, b"", b""), _PARAMS.size
        )
        self.fd = _call(_SETUP, entries, parameters)
        entries, self._cq_entries, *_, sq, cq = _PARAMS.unpack(parameters.raw)
        if fd >= 0:
            os.close(self.fd)
            self.fd = fd
        _, self._tail_at, _, _, _, _, array_at = _SQ_OFFSETS.unpack(sq[: _SQ_OFFSETS.size])
        self._head_at, _, _, _, _, self._cqes_at, _ = _SQ_OFFSETS.unpack(cq[: _SQ_OFFSETS.size])
        size = max(array_at + 4 * entries, self._cqes_at + _CQE.size * self._cq_entries)
        self._rings = mmap.mmap(self.fd, size)  # one mapping for both since 5.4
        self._sqes = mmap.mmap(self.fd, 64 * entries, offset=_SQES_AT)
        for index in range(entries):
            struct.pack_into("I", self._rings, array_at + 4 * index, index)
        self._entries = entries

    def register(self, what: int) -> int:
        """io_uring_register(2) without arguments."""
        return _call(_REGISTER, self.fd, what, 0, 0)

    def submit(
        self, opcode: int, fd: int, address: int, length: int, offset: int, sqe_flags: int = 0
    ) -> None:
        """Hand one request over; it is under way when this returns."""
        (tail,) = struct.unpack_from("I", self._rings, self._tail_at)
        entry = _SQE.pack(opcode, sqe_flags, 0, fd, offset, address, length, 0, 0)
        at = 64 * (tail % self._entries)
        self._sqes[at : at + _SQE.size] = entry
        struct.pack_into("I", self._rings, self._tail_at, (tail + 1) & 0xFFFFFFFF)
        _call(_ENTER, self.fd, 1, 0, 0, 0, 0)

    def result(self) -> int:
        """What the next one ends with: as the system call, or a negative errno."""
        _call(_ENTER, self.fd, 0, 1, _GET_EVENTS, 0, 0)
        (head,) = struct.unpack_from("I", self._rings, self._head_at)
        _, result, _ = _CQE.unpack_from(self._rings, self._cqes_at + _CQE.size * (head % self._cq_entries))
        struct.pack_into("I", self._rings, self._head_at, (head + 1) & 0xFFFFFFFF)
        return int(result)
