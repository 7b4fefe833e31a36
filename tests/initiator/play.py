"""A core of either language and the servers around it, in virtual time: every frame is seen."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from aoe.drive import identify
from aoe.drive.identify import Identity
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.core import Core
from aoe.initiator.debts import NO_LEGACY, Legacy
from aoe.initiator.path import Address, PathSnapshot, Policy, Port
from aoe.initiator.request import Result, Verb
from aoe.wire import ata, config, frame, protocol
from aoe.wire.ata import AtaReply, AtaRequest
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_RESPONSE, Command, Header
from tests.support.tools import need_engine

MS = 1_000_000
ADDRESS = (7, 3)
SECTORS = 4096
TRIP_NS = MS // 10
READY = 0x40

both = pytest.mark.parametrize("make", [Core, CompiledCore], ids=["python", "c"])
"""For tests of either arithmetic."""


def mac(number: int) -> bytes:
    return bytes((2, 0, 0, 1, *number.to_bytes(2, "big")))


def resealed(data: bytes | bytearray, **words: int) -> bytes:
    """IDENTIFY data with other words (`w49=0`), and the right checksum."""
    changed = bytearray(data)
    for name, value in words.items():
        at = 2 * int(name[1:])
        changed[at : at + 2] = value.to_bytes(2, "little")
    changed[511] = -sum(changed[:511]) & 0xFF
    return bytes(changed)


class Asked(NamedTuple):
    """A command that a server was sent."""

    at_ns: int
    opcode: int
    lba: int
    sectors: int
    data: bytes


class Server:
    """Answers queries and drives a disk, `store`; two servers of one store are two primaries of one disk.

    `identity` is what IDENTIFY says, None for no answer to it; `status` what it says after each command;
    `fails` are opcodes that end in an error,
    `deaf` drops every frame, `spoil` may change what was read, `bad` sectors cannot be read, `frame` sectors
    are what it takes in one request; `heard` is what it was asked.
    """

    def __init__(
        self, number: int, store: bytearray | None = None, *, serial: str = "S", **facts: Any
    ) -> None:
        self.mac = mac(number)
        self.address: Address = ADDRESS
        self.store = bytearray(SECTORS * protocol.SECTOR) if store is None else store
        facts = {"frame_age_ms": 1000, "instance": number + 1, **facts}
        self._facts = Identity(len(self.store) // protocol.SECTOR, serial, **facts)
        self._words: dict[str, int] = {}
        self.identity: bytes | None = self._said()
        self.bad: set[int] = set()
        self.fails: set[int] = set()
        self.frame = 16
        self.status = READY
        self.deaf = False
        self.port = 0
        self.spoil: Callable[[int, bytes], bytes] = lambda _, data: data
        self.heard: list[Asked] = []

    def answer(self, raw: bytes, now_ns: int) -> bytes | None:
        """To a frame, if any."""
        header = frame.decode(raw)
        assert isinstance(header, Header)
        if self.deaf or header.dst not in (self.mac, BROADCAST) or header[5:7] != self.address:
            return None
        back = header._replace(dst=header.src, src=self.mac, flags=FLAG_RESPONSE)
        if header.command == Command.CONFIG:
            return frame.encode(back, config.encode(self._config._replace(sector_count=self.frame)))
        request = ata.decode_request(raw)
        assert isinstance(request, AtaRequest)
        self.heard.append(Asked(now_ns, request.command, request.lba, request.sector_count, request.data))
        data = self._drive(request)
        if data is None:
            return None
        if request.sector_count > self.frame:
            return frame.encode(back, ata.encode(AtaReply(0, 4, 0, 0x41, request.lba, b"")))
        asked = range(request.lba, request.lba + request.sector_count)
        unreadable = request.command == 0x24 and self.bad.intersection(asked)
        hit = unreadable or request.command in self.fails
        reply = AtaReply(0, 0, 0, 0x41 if hit else self.status, request.lba, b"" if hit else data)
        return frame.encode(back, ata.encode(reply))

    _config = Config(ConfigCommand.READ, b"", 64, 0, 16, 1)

    def _drive(self, request: AtaRequest) -> bytes | None:
        at, size = request.lba * protocol.SECTOR, request.sector_count * protocol.SECTOR
        if request.command == 0xEC:
            return self.identity
        if request.command == 0x24:
            return self.spoil(request.lba, bytes(self.store[at : at + size]))
        if request.command in (0x34, 0x3D):
            self.store[at : at + size] = request.data
        return b""

    def restart(self, instance: int) -> None:
        """As another process."""
        self._facts = self._facts._replace(instance=instance)
        self.identity = self._said()

    def drain(self, on: bool = True) -> None:
        """As its administrator has it."""
        self._facts = self._facts._replace(draining=on)
        self.identity = self._said()

    def says(self, **words: int) -> None:
        """Other words in IDENTIFY (`w138=2`), in each life."""
        self._words = words
        self.identity = self._said()

    def _said(self) -> bytes:
        return resealed(identify.build(self._facts), **self._words)

    def advertisement(self) -> bytes:
        """As after a start."""
        header = Header(BROADCAST, self.mac, 0, FLAG_RESPONSE, 0, *self.address, Command.CONFIG, 0)
        return frame.encode(header, config.encode(self._config._replace(sector_count=self.frame)))

    def count(self, opcode: int) -> int:
        """How often it was asked so."""
        return sum(asked.opcode == opcode for asked in self.heard)


class Play:
    """The core made by `make`, with `servers` on as many ports as they use. `cut` loses what it is true of:
    (port, frame, whether it comes from a server)."""

    def __init__(
        self,
        make: type[Core] | type[CompiledCore],
        *servers: Server,
        addresses: Sequence[Address] = (ADDRESS,),
        policy: Policy = Policy(),
        first_tag: int = 7,
        legacy: Legacy = NO_LEGACY,
        now: int = 1000 * MS,
    ) -> None:
        if make is CompiledCore:
            need_engine()
        self.servers = list(servers)
        ports = 1 + max((server.port for server in servers), default=0)
        self.core: Any = make(ports, addresses, first_tag, policy, legacy)
        self.now = now
        self.cut: Callable[[int, bytes, bool], bool] = lambda *_: False
        self.said: list[bytes] = []
        """Every frame of the core."""
        self._coming: list[tuple[int, int, int, bytes]] = []
        self._numbers = itertools.count()
        for port in range(ports):
            self.core.set_port(port, Port(bytes((2, 0, 0, 0, 9, port)), 16, 64, True), self.now)
        self._carry()

    def _carry(self) -> None:
        frames = list(self.core.out)
        self.core.out.clear()
        for port, raw in frames:
            self.said.append(raw)
            for server in self.servers:
                if server.port == port and not self.cut(port, raw, False):
                    answer = server.answer(raw, self.now)
                    if answer is not None and not self.cut(port, answer, True):
                        self.arrive(port, answer, TRIP_NS)

    def arrive(self, port: int, raw: bytes, later_ns: int = 0) -> None:
        """A frame comes in."""
        heapq.heappush(self._coming, (self.now + later_ns, next(self._numbers), port, raw))

    def run(self, ms: float) -> "Play":
        """For so long."""
        end = self.now + int(ms * MS)
        while self.now < end:
            due = min(end, self.now + self.core.pulse_ns)
            while self._coming and self._coming[0][0] <= due:
                at, _, port, raw = heapq.heappop(self._coming)
                self.now = max(self.now, at)
                self.core.received(port, raw, self.now)
                self._carry()
            self.now = due
            self.core.tick(self.now)
            self._carry()
        return self

    def stop(self, ms: float) -> None:
        """The process does not run for so long; what comes in waits for it."""
        self.now += int(ms * MS)

    def start(self, verb: Verb, offset: int = 0, length: int = 0, data: bytes = b"") -> Any:
        """Begin a request."""
        request = self.core.start(verb, offset, length or len(data), data, self.now)
        self._carry()
        return request

    def do(
        self, verb: Verb, offset: int = 0, length: int = 0, data: bytes = b"", ms: float = 5000
    ) -> Result | None:
        """Carry a request out; None if it does not end in time."""
        request = self.start(verb, offset, length, data)
        return self.wait(request, ms)

    def wait(self, request: Any, ms: float = 5000) -> Result | None:
        """For its end."""
        end = self.now + int(ms * MS)
        while True:
            while self.core.done:
                self.core.done.popleft()
            if request.result is not None or self.now >= end:
                result: Result | None = request.result
                return result
            self.run(1)

    def write(self, lba: int, data: bytes) -> Result | None:
        return self.do(Verb.WRITE, lba * protocol.SECTOR, data=data)

    def read(self, lba: int, sectors: int = 1) -> bytes:
        result = self.do(Verb.READ, lba * protocol.SECTOR, sectors * protocol.SECTOR)
        assert result is not None
        return result.data

    def path(self, server: Server) -> PathSnapshot:
        """The one to a server."""
        paths: list[PathSnapshot] = self.core.paths
        return next(path for path in paths if path.mac == server.mac)

    @property
    def owner(self) -> bytes:
        """The MAC of the owner, if any."""
        return next((path.mac for path in self.core.paths if path.owner), b"")
