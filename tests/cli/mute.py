"""A target that answers config queries and nothing else, as one does whose disk hangs."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aoe.wire import config, frame
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import FLAG_RESPONSE, Command, Fault
from aoe.wire.protocol import SHELF_ALL

MAC = b"\x02\0\0\0\xee\x01"


class Mute:
    """On the loopback, at some addresses."""

    def __init__(self, addresses: Sequence[tuple[int, int]]) -> None:
        self._addresses = list(addresses)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.remote: tuple[str, int] = self._socket.getsockname()
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._socket.sendto(b"", self.remote)
        self._thread.join()
        self._socket.close()

    def _answer(self) -> None:
        while True:
            raw, sender = self._socket.recvfrom(9014)
            if not raw:
                return
            for reply in self._replies(raw):
                self._socket.sendto(reply, sender)

    def _replies(self, raw: bytes) -> Iterator[bytes]:
        header = frame.decode(raw)
        if isinstance(header, Fault) or header.command != Command.CONFIG:
            return
        for shelf, slot in self._addresses:
            if header.shelf in (shelf, SHELF_ALL):
                said = Config(ConfigCommand.READ, b"", 16, 0x4011, 2)
                answer = header._replace(dst=header.src, src=MAC, flags=FLAG_RESPONSE, shelf=shelf, slot=slot)
                yield frame.encode(answer, config.encode(said))


@contextmanager
def mute(*addresses: tuple[int, int]) -> Iterator[Mute]:
    """One that answers until the end of the block."""
    made = Mute(addresses)
    made.start()
    try:
        yield made
    finally:
        made.stop()
