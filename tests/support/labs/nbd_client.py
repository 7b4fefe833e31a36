"""A client that speaks just enough NBD to say exactly what was asked."""

import contextlib
import fcntl
import socket
import struct
import sys
import termios
from pathlib import Path
from typing import Self

READ, WRITE, DISCONNECT, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6
FUA, NO_HOLE = 1, 2
FLAG_READ_ONLY, FLAG_FLUSH, FLAG_FUA, FLAG_TRIM, FLAG_MULTI = 2, 4, 8, 32, 256


class NbdError(Exception):
    """The server's answer was an error: its number is the argument."""


class NbdClient:
    """One connection; one request at a time, or several sent before their answers are taken."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        magic, option_magic, flags = struct.unpack(">8s8sH", self._take(18))
        assert (magic, option_magic) == (b"NBDMAGIC", b"IHAVEOPT")
        self._socket.sendall(struct.pack(">I8sII", flags & 3, b"IHAVEOPT", 1, 0))
        self.size, self.flags = struct.unpack(">QH", self._take(10))
        if not flags & 2:
            self._take(124)
        self._handle = 0
        self._reads: dict[int, int] = {}

    def _take(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            assert part, "the server has closed the connection"
            data += part
        return bytes(data)

    def send(self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0) -> int:
        """Ask; the handle that the answer will have."""
        self._handle += 1
        self._reads[self._handle] = length if kind == READ else 0
        head = struct.pack(">IHHQQI", 0x25609513, flags, kind, self._handle, offset, length)
        self._socket.sendall(head + data)
        return self._handle

    def heard(self) -> bool:
        """Whether the server has read all that was sent (unix(7), SIOCOUTQ)."""
        return not int.from_bytes(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def answer(self) -> tuple[int, int, bytes]:
        """The next answer: handle, error, data."""
        magic, error, handle = struct.unpack(">IIQ", self._take(16))
        assert magic == 0x67446698
        length = self._reads.pop(handle)
        return handle, error, self._take(length) if not error else b""

    def ask(self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0) -> bytes:
        self.send(kind, offset, length, data, flags)
        _, error, answer = self.answer()
        if error:
            raise NbdError(error)
        return answer

    def read(self, offset: int, length: int) -> bytes:
        return self.ask(READ, offset, length)

    def write(self, offset: int, data: bytes, flags: int = 0) -> None:
        self.ask(WRITE, offset, len(data), data, flags)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.send(DISCONNECT)
        self._socket.close()

    def vanish(self) -> None:
        """Hang up without a word, as a client does that is killed."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
