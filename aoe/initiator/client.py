"""A plain initiator: one request at a time, sent again until it is answered."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aoe import limits
from aoe.drive.command import DEVICE_FAULT, ERROR, IDENTIFY_DEVICE
from aoe.errors import RequestError
from aoe.link.base import Link
from aoe.wire import ata, config, frame
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaReply, AtaRequest
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_ERROR, FLAG_RESPONSE, Command, Fault, Header

_FIRST_WAIT_S = 0.25
_TRIES = 6
_READ_EXT, _WRITE_EXT, _FLUSH_EXT = 0x24, 0x34, 0xEA
_USER_TAG = 1 << 31
"""The Linux driver ignores replies whose tag has this bit."""


class Found(NamedTuple):
    """A target that answered: its address, the MAC it has there, and what its config reply said."""

    shelf: int
    slot: int
    mac: bytes
    config: Config

    @property
    def address(self) -> str:
        """`e<shelf>.<slot>`."""
        return f"e{self.shelf}.{self.slot}"


class Client:
    """Asks over one link. Times are seconds, offsets and counts sectors of 512 bytes."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tag = random.getrandbits(31)
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._found: dict[tuple[int, int, bytes], Found] = {}

    async def discover(self, seconds: float = 0.5) -> list[Found]:
        """Everybody who answers within the time, by address."""
        body = config.encode(Config(ConfigCommand.READ))
        header = self._header(BROADCAST, limits.SHELF_ALL, limits.SLOT_ALL, Command.CONFIG)
        self._link.send(frame.encode(header, body))
        await asyncio.sleep(seconds)
        return [self._found[key] for key in sorted(self._found)]

    async def find(self, shelf: int, slot: int) -> Found:
        """The target with that address. RequestError if nobody answers."""
        raw = await self._ask(
            BROADCAST, shelf, slot, Command.CONFIG, config.encode(Config(ConfigCommand.READ))
        )
        header, message = frame.decode(raw), config.decode(raw)
        if isinstance(header, Fault) or isinstance(message, Fault):
            raise RequestError(f"e{shelf}.{slot} answered with a malformed config reply")
        return Found(header.shelf, header.slot, header.src, message)

    async def identify(self, target: Found) -> bytes:
        """The 512 bytes of IDENTIFY DEVICE."""
        return (await self.ata(target, AtaRequest(0, 0, 1, IDENTIFY_DEVICE, 0xA0 << 24))).data[
            : limits.SECTOR
        ]

    async def read(self, target: Found, lba: int, count: int) -> bytes:
        """`count` sectors from `lba`, in frames as large as the target and the link take."""
        pieces = []
        for at, sectors in self._pieces(target, lba, count):
            request = AtaRequest(AFLAG_EXTENDED, 0, sectors, _READ_EXT, at)
            reply = await self.ata(target, request)
            if len(reply.data) < sectors * limits.SECTOR:
                raise RequestError(f"{target.address} answered a read of sector {at} with too little data")
            pieces.append(reply.data[: sectors * limits.SECTOR])
        return b"".join(pieces)

    async def write(self, target: Found, lba: int, data: bytes) -> None:
        """Store whole sectors from `lba` on."""
        for at, sectors in self._pieces(target, lba, len(data) // limits.SECTOR):
            start = (at - lba) * limits.SECTOR
            piece = data[start : start + sectors * limits.SECTOR]
            await self.ata(
                target, AtaRequest(AFLAG_EXTENDED | AFLAG_WRITE, 0, sectors, _WRITE_EXT, at, piece)
            )

    async def flush(self, target: Found) -> None:
        """FLUSH CACHE EXT."""
        await self.ata(target, AtaRequest(AFLAG_EXTENDED, 0, 0, _FLUSH_EXT, 0))

    async def ata(self, target: Found, request: AtaRequest) -> AtaReply:
        """One ATA command; RequestError for no answer, an AoE error or an ATA error."""
        raw = await self._ask(target.mac, target.shelf, target.slot, Command.ATA, ata.encode(request))
        reply = ata.decode_reply(raw)
        if isinstance(reply, Fault):
            raise RequestError(f"{target.address} answered with a malformed ATA reply")
        if reply.status & (ERROR | DEVICE_FAULT):
            raise RequestError(
                f"{target.address}: command {request.command:#04x} at sector {reply.lba} failed: "
                f"status {reply.status:#04x}, error {reply.error:#04x}"
            )
        return reply

    # Listener

    def ready(self, link: Link) -> None:
        for received in link.take().frames:
            self._received(received.frame)

    def _received(self, raw: bytes) -> None:
        header = frame.decode(raw)
        if isinstance(header, Fault) or not header.flags & FLAG_RESPONSE:
            return
        waiting = self._answers.get(header.tag)
        if waiting is not None and not waiting.done():
            waiting.set_result(raw)
        message = config.decode(raw) if header.command == Command.CONFIG else Fault.TRUNCATED
        if isinstance(message, Config):
            found = Found(header.shelf, header.slot, header.src, message)
            self._found[header.shelf, header.slot, header.src] = found

    def changed(self, link: Link, came_up: bool) -> None:
        pass

    # Requests

    def _header(self, dst: bytes, shelf: int, slot: int, command: Command) -> Header:
        self._tag = (self._tag + 1) % _USER_TAG
        tag = _USER_TAG | self._tag
        return Header(dst, self._link.mac, frame.VERSION, 0, 0, shelf, slot, command, tag)

    async def _ask(self, dst: bytes, shelf: int, slot: int, command: Command, body: bytes) -> bytes:
        """Send, each time with a new tag, until any of the copies is answered."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        tags = []
        try:
            for attempt in range(_TRIES):
                header = self._header(dst, shelf, slot, command)
                tags.append(header.tag)
                self._answers[header.tag] = answer
                self._link.send(frame.encode(header, body))
                await asyncio.wait([answer], timeout=_FIRST_WAIT_S * 2**attempt)
                if answer.done():
                    return self._without_error(answer.result())
        finally:
            for tag in tags:
                del self._answers[tag]
        raise RequestError(
            f"e{shelf}.{slot} does not answer; is it served, and is this host allowed to use it?"
        )

    def _without_error(self, raw: bytes) -> bytes:
        header = frame.decode(raw)
        assert isinstance(header, Header), "only decoded replies complete a request"
        if header.flags & FLAG_ERROR:
            raise RequestError(f"e{header.shelf}.{header.slot} refused: AoE error {header.error}")
        return raw

    def _pieces(self, target: Found, lba: int, count: int) -> list[tuple[int, int]]:
        most = min(target.config.sector_count or 2, limits.sectors_per_frame(self._link.mtu))
        return [(at, min(most, lba + count - at)) for at in range(lba, lba + count, most)]


@asynccontextmanager
async def client(link: Link) -> AsyncIterator[Client]:
    """A client on a link, which is closed in the end."""
    asking = Client(link)
    link.start(asking)
    try:
        yield asking
    finally:
        link.close()
