"""`aoe nbd` as a process of a lab, and a client that speaks just enough NBD to say exactly what was asked."""

import contextlib
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.support.net import Lab, wait_for
from tests.support.tools import need, unavailable

READ, WRITE, DISCONNECT, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6
FUA, NO_HOLE = 1, 2
FLAG_READ_ONLY, FLAG_FLUSH, FLAG_FUA, FLAG_TRIM, FLAG_MULTI = 2, 4, 8, 32, 256
START_S, STOP_S = 8.0, 15.0


def need_door() -> None:
    """Skip unless the plugin is built and nbdkit is there."""
    from aoe.nbd.door import PLUGIN

    need("nbdkit")
    if not PLUGIN.exists():
        unavailable("the NBD plugin is not built: apt-get install nbdkit-plugin-dev")


class Door:
    """`aoe nbd`, with its socket under `work`."""

    def __init__(self, lab: Lab | None, work: Path, *arguments: str | Path, side: str = "client") -> None:
        need_door()
        self.path = work / "nbd.sock"
        self.argv = [sys.executable, "-m", "aoe.cli.client", "nbd", *map(str, arguments)]
        self.argv += ["--socket", str(self.path)]
        self.uri = f"nbd+unix:///?socket={self.path}"
        self._lab, self._side = lab, side
        self._out, self._err = work / "nbd.out", work / "nbd.err"

    def launch(self) -> Self:
        with self._out.open("w") as out, self._err.open("w") as err:
            if self._lab is None:
                self.process: subprocess.Popen[Any] = subprocess.Popen(self.argv, stdout=out, stderr=err)
            else:
                self.process = self._lab.popen(self._side, *self.argv, stdout=out, stderr=err)
        return self

    def start(self) -> Self:
        self.launch()
        wait_for(lambda: self.output.endswith("\n") or self.process.poll() is not None, START_S)
        assert self.process.poll() is None, self.errors
        return self

    @property
    def output(self) -> str:
        return self._out.read_text()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    @property
    def said(self) -> dict[str, Any]:
        """What it printed with --json."""
        said: dict[str, Any] = json.loads(self.output)
        return said

    @property
    def child(self) -> int:
        """The process id of nbdkit."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        (child,) = text.split()
        return int(child)

    def connect(self) -> "NbdClient":
        return NbdClient(self.path)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(STOP_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
