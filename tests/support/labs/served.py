"""A target of ours as a process, over UDP on the loopback."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tests.support.labs.ports import UdpPort
from tests.support.labs.raw_client import Client

SECTORS = 2048
FRIEND = b"\x02\0\0\0\0\x01"
"""The MAC of a client."""


class Served:
    """A target over UDP and the first line that it said."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._read = b""
        self.facts = json.loads(self.line())
        host, _, port = self.facts["interfaces"][0]["name"].removeprefix("udp:").rpartition(":")
        self.remote = (host, int(port))

    def line(self, seconds: float = 30) -> str:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        while b"\n" not in self._read:
            assert select.select([fd], [], [], seconds)[0], f"no more than {self._read!r}"
            if not (more := os.read(fd, 1 << 16)):
                break
            self._read += more
        line, end, self._read = self._read.partition(b"\n")
        return (line + end).decode()

    def client(self, mac: bytes = FRIEND) -> Client:
        return Client(UdpPort(self.remote, mac), 0, 0)

    def tell(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> tuple[int, str, str]:
        self.tell(signal.SIGTERM)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, self._read.decode() + out, err


@contextmanager
def serving(
    *arguments: str | Path,
    launcher: Sequence[str] = ("-m", "aoe.cli.target"),
    stdin: IO[Any] | None = None,
) -> Iterator[Served]:
    """Serve, in Python, until the end of the block."""
    command = [sys.executable, *launcher, "serve", "--engine", "python", *map(str, arguments), "--json"]
    with subprocess.Popen(
        [*command, "--link", "udp:127.0.0.1:0,mtu=9000"],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        try:
            yield Served(process)
        finally:
            process.kill()
