"""A test's initiator on any link: many requests at a time, each sent again until it is answered."""

import asyncio
from typing import Any

from aoe.link.base import Link
from aoe.wire import ata, config, frame, reserve
from aoe.wire.ata import AtaReply
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_ERROR, FLAG_RESPONSE, Command, Header
from aoe.wire.protocol import SECTOR
from aoe.wire.reserve import Reserve, ReserveCommand
from tests.support.waiting import PATIENCE_S

IDENTIFY, TRIM = 0xEC, 0x06
READ_EXT, WRITE_EXT, WRITE_FUA_EXT, FLUSH_EXT, VERIFY_EXT = 0x24, 0x34, 0x3D, 0xEA, 0x42
_FAILED = 0xA9  # BUSY, DF, DRQ, ERR
_LATE_TURNS = 50
RETRANSMIT_S = 5.0
"""Longer than the frame age, and than a thread waits for a processor: what is asked once is counted once."""


class NoAnswer(Exception):
    """Nobody answered in time."""


class Refused(Exception):
    """An AoE error."""

    def __init__(self, code: int) -> None:
        super().__init__(f"AoE error {code}")
        self.code = code


class AtaFailed(Exception):
    """An ATA error."""

    def __init__(self, reply: AtaReply) -> None:
        super().__init__(f"status {reply.status:#04x} error {reply.error:#04x} LBA {reply.lba}")
        self.reply = reply


class Initiator:
    """Listens on `link`, keeps every frame that comes, and asks `shelf.slot` at `dst`.

    `looks` has the number of frames that each look at the link brought.
    """

    def __init__(
        self,
        link: Link,
        shelf: int = 0,
        slot: int = 0,
        *,
        dst: bytes = BROADCAST,
        retransmit_s: float = RETRANSMIT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.link = link
        self.shelf = shelf
        self.slot = slot
        self.dst = dst
        self.retransmit_s = retransmit_s
        self.patience_s = patience_s
        self.frames: list[bytes] = []
        self.looks: list[int] = []
        self._tag = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        link.start(self)

    # Listener

    def ready(self, link: Link) -> None:
        batch = link.take()
        self.looks.append(len(batch.frames))
        for received in batch.frames:
            self.frames.append(received.frame)
            header = decoded(received.frame)
            waiting = self._waiting.get(header.tag)
            if header.flags & FLAG_RESPONSE and waiting is not None and not waiting.done():
                waiting.set_result(received.frame)

    def changed(self, link: Link, came_up: bool) -> None:
        pass

    @property
    def headers(self) -> list[Header]:
        return [decoded(data) for data in self.frames]

    @property
    def sent(self) -> int:
        """How many frames, those that were sent again among them."""
        return self._tag

    # Requests

    def request(self, command: int, body: bytes, **fields: Any) -> bytes:
        """A request frame with a tag of its own; any header field can be given instead."""
        self._tag += 1
        header = Header(
            self.dst, self.link.mac, frame.VERSION, 0, 0, self.shelf, self.slot, command, self._tag
        )
        return frame.encode(header._replace(**fields), body)

    async def ask(self, command: int, body: bytes, **fields: Any) -> bytes:
        """The reply to any of the transmissions."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        tags: list[int] = []
        try:
            for _ in range(round(self.patience_s / self.retransmit_s)):
                raw = self.request(command, body, **fields)
                tags.append(decoded(raw).tag)
                self._waiting[tags[-1]] = answer
                self.link.send(raw)
                if await self._comes(answer):
                    return self._good(answer.result())
        finally:
            for tag in tags:
                del self._waiting[tag]
        raise NoAnswer(f"{Command(command).name} to e{self.shelf}.{self.slot}")

    async def _comes(self, answer: asyncio.Future[bytes]) -> bool:
        """In time, or by what is on its way in this process: a loop that was held up is late for both."""
        await asyncio.wait([answer], timeout=self.retransmit_s)
        for _ in range(_LATE_TURNS):
            if answer.done():
                break
            await asyncio.sleep(0)
        return answer.done()

    def _good(self, raw: bytes) -> bytes:
        header = decoded(raw)
        if header.flags & FLAG_ERROR:
            raise Refused(header.error)
        return raw

    async def ata(
        self, command: int, lba: int = 0, count: int = 0, data: bytes = b"", feature: int = 0
    ) -> AtaReply:
        """One command, whatever its status says."""
        aflags = ata.AFLAG_EXTENDED | (ata.AFLAG_WRITE if data else 0)
        request = ata.AtaRequest(aflags, feature, count, command, lba, data)
        reply = ata.decode_reply(await self.ask(Command.ATA, ata.encode(request)))
        assert isinstance(reply, AtaReply)
        return reply

    async def _done(self, command: int, *arguments: Any, **more: Any) -> AtaReply:
        reply = await self.ata(command, *arguments, **more)
        if reply.status & _FAILED:
            raise AtaFailed(reply)
        return reply

    async def identify(self) -> bytes:
        return (await self._done(IDENTIFY, 0, 1)).data[:SECTOR]

    async def read(self, lba: int, count: int = 1) -> bytes:
        return (await self._done(READ_EXT, lba, count)).data[: count * SECTOR]

    async def write(self, lba: int, data: bytes, fua: bool = False) -> None:
        await self._done(WRITE_FUA_EXT if fua else WRITE_EXT, lba, len(data) // SECTOR, data)

    async def flush(self) -> None:
        await self._done(FLUSH_EXT)

    async def verify(self, lba: int, count: int) -> None:
        await self._done(VERIFY_EXT, lba, count)

    async def trim(self, *extents: tuple[int, int]) -> None:
        entries = b"".join((lba | sectors << 48).to_bytes(8, "little") for lba, sectors in extents)
        blocks = -(-len(entries) // SECTOR)
        await self._done(TRIM, 0, blocks, entries.ljust(blocks * SECTOR, b"\0"), feature=1)

    async def config(self, ccmd: int = ConfigCommand.READ, text: bytes = b"", **fields: Any) -> Config:
        body = config.encode(Config(ccmd, text))
        reply = config.decode(await self.ask(Command.CONFIG, body, **fields))
        assert isinstance(reply, Config)
        return reply

    async def reserve(self, rcmd: int = ReserveCommand.READ, *macs: bytes) -> Reserve:
        reply = reserve.decode(await self.ask(Command.RESERVE, reserve.encode(Reserve(rcmd, macs))))
        assert isinstance(reply, Reserve)
        return reply


def decoded(raw: bytes) -> Header:
    header = frame.decode(raw)
    assert isinstance(header, Header), raw.hex()
    return header


def word(identify: bytes, number: int) -> int:
    """One 16-bit word of IDENTIFY data."""
    return int.from_bytes(identify[2 * number : 2 * number + 2], "little")


def mac(number: int) -> bytes:
    """A host's MAC."""
    return bytes((0x02, 0, 0, 0, number >> 8, number & 0xFF))
