"""One socket that writes to each of many exports until it has answered: a thousand disks that are attached in
one process have a packet socket each, and every frame passes all of them."""

import threading
import time
from collections.abc import Sequence

from aoe.wire import ata, frame
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaRequest
from aoe.wire.frame import FLAG_ERROR, FLAG_RESPONSE, Command, Header
from aoe.wire.protocol import SECTOR
from tests.support.labs.ports import Port
from tests.support.labs.raw_client import WRITE_EXT, new_tag

LBA = 1 << 13
AGAIN_S = 0.25
AT_ONCE = 50
Address = tuple[int, int]


class Asker:
    """Asks from when it is entered; as a thread. `answered_s` is when each was answered by (monotonic)."""

    def __init__(self, port: Port, addresses: Sequence[Address]) -> None:
        self._port = port
        self._open = dict.fromkeys(addresses)
        self._tags: dict[int, Address] = {}
        self.answered_s: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Asker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while self._open and not self._over.is_set():
            until_s, left = time.monotonic() + AGAIN_S, list(self._open)
            for at in range(0, len(left), AT_ONCE):
                for address in left[at : at + AT_ONCE]:
                    self._ask(*address)
                self._hear(0)
            self._hear(until_s)

    def _ask(self, shelf: int, slot: int) -> None:
        tag = new_tag()
        self._tags[tag] = shelf, slot
        header = Header(frame.BROADCAST, self._port.mac, frame.VERSION, 0, 0, shelf, slot, Command.ATA, tag)
        asked = AtaRequest(AFLAG_EXTENDED | AFLAG_WRITE, 0, 1, WRITE_EXT, LBA, bytes(SECTOR))
        self._port.send(frame.encode(header, ata.encode(asked)))

    def _hear(self, until_s: float) -> None:
        while self._open and (raw := self._port.receive(max(0.0, until_s - time.monotonic()))) is not None:
            header = frame.decode(raw)
            if isinstance(header, Header) and header.flags & FLAG_RESPONSE and not header.flags & FLAG_ERROR:
                self._answered(header.tag)

    def _answered(self, tag: int) -> None:
        address = self._tags.pop(tag, None)
        if address in self._open:
            del self._open[address]
            self.answered_s.append(time.monotonic())
