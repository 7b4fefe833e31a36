"""A client that speaks raw AoE: stop and wait, values back, exceptions for what went wrong."""

import itertools
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Self, TypeVar

from aoe.wire import ata as ata_wire
from aoe.wire import config as config_wire
from aoe.wire import frame
from aoe.wire import mask as mask_wire
from aoe.wire import reserve as reserve_wire
from aoe.wire.protocol import SECTOR
from tests.support.labs.ports import Port
from tests.support.waiting import PATIENCE_S

BUSY_DF_DRQ_ERR = 0xA9
IDENTIFY = 0xEC
READ, READ_EXT = 0x20, 0x24
WRITE, WRITE_EXT, WRITE_FUA_EXT = 0x30, 0x34, 0x3D
FLUSH, FLUSH_EXT = 0xE7, 0xEA
_EXTENDED = {0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x3D, 0x42, 0xCE, 0xEA}
_USER_TAG = 1 << 31
TIMEOUT_S = 1.0
"""A frame age: what is sent again after that is not carried out twice because a busy machine was slow."""

T = TypeVar("T")

_tags = itertools.count(1)


class NoAnswer(Exception):
    """Every transmission of a request went unanswered."""


class Refused(Exception):
    """A reply with the E flag; `message` is what its body says."""

    def __init__(self, code: int, message: object) -> None:
        super().__init__(f"AoE error {code}: {message!r:.200}")
        self.code = code
        self.message = message


class AtaFailed(Exception):
    """A reply whose status register says that the command failed."""

    def __init__(self, reply: ata_wire.AtaReply) -> None:
        super().__init__(f"ATA status {reply.status:#04x} error {reply.error:#04x} LBA {reply.lba}")
        self.reply = reply


def new_tag() -> int:
    """A tag not used before, in the half that the kernel driver leaves to user space (bit 31)."""
    return _USER_TAG | next(_tags)


class Client:
    """A stop-and-wait initiator for one address: decoded values back, exceptions for what went wrong.

    Each transmission has a new tag; a reply to any of a request's transmissions is its answer.
    """

    def __init__(
        self,
        port: Port,
        shelf: int = 1,
        slot: int = 1,
        *,
        dst: bytes = frame.BROADCAST,
        timeout: float = TIMEOUT_S,
        retries: int = int(PATIENCE_S) - 1,
    ) -> None:
        self.port = port
        self.shelf = shelf
        self.slot = slot
        self.dst = dst
        self.timeout = timeout
        self.retries = retries

    @property
    def mac(self) -> bytes:
        return self.port.mac

    def close(self) -> None:
        self.port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Frames

    def send(self, data: bytes) -> None:
        self.port.send(data)

    def receive(self, timeout: float) -> bytes | None:
        return self.port.receive(timeout)

    def header(self, command: int, **fields: Any) -> frame.Header:
        """A request header for this address; any field can be given instead."""
        header = frame.Header(
            self.dst, self.mac, frame.VERSION, 0, 0, self.shelf, self.slot, command, new_tag()
        )
        return header._replace(**fields)

    def request(self, command: int, body: bytes = b"", **fields: Any) -> bytes:
        """A request frame, padded to 60 bytes."""
        return frame.encode(self.header(command, **fields), body)

    def ask(self, command: int, body: bytes = b"", **fields: Any) -> bytes | None:
        """The reply frame to one request, or None when every transmission went unanswered."""
        tags = set()
        for _ in range(1 + self.retries):
            request = self.header(command, **fields)
            tags.add(request.tag)
            self.send(frame.encode(request, body))
            for reply in self.replies(tags, self.timeout):
                return reply
        return None

    def replies(self, tags: set[int], seconds: float) -> Iterator[bytes]:
        """Replies that carry one of the tags, as they come, for some seconds."""
        deadline = time.monotonic() + seconds
        while (reply := self.receive(max(0.0, deadline - time.monotonic()))) is not None:
            header = frame.decode(reply)
            if isinstance(header, frame.Header) and header.flags & frame.FLAG_RESPONSE and header.tag in tags:
                yield reply

    def ask_all(
        self, command: int, body: bytes = b"", *, seconds: float = 0.5, least: int = 0, **fields: Any
    ) -> list[bytes]:
        """Every reply to one transmission, what a wildcard brings: so many at least, and what comes within
        some seconds after those."""
        request = self.header(command, **fields)
        self.send(frame.encode(request, body))
        expected = islice(self.replies({request.tag}, PATIENCE_S), least)
        return [*expected, *self.replies({request.tag}, seconds)]

    def drain(self) -> int:
        """Forget what has arrived and was not read; returns how many frames that was."""
        return sum(1 for _ in iter(lambda: self.receive(0), None))

    def silence(self, data: bytes, seconds: float = 0.3) -> bool:
        """Whether a frame brings nothing back. Advertisements, being broadcast, do not count."""
        self.drain()
        self.send(data)
        deadline = time.monotonic() + seconds
        while (reply := self.receive(max(0.0, deadline - time.monotonic()))) is not None:
            if reply[:6] != frame.BROADCAST:
                return False
        return True

    # Commands

    def _answer(self, command: int, body: bytes, fields: dict[str, Any]) -> tuple[frame.Header, bytes]:
        reply = self.ask(command, body, **fields)
        if reply is None:
            raise NoAnswer(f"{frame.Command(command).name} to {self.shelf}.{self.slot}")
        header = frame.decode(reply)
        assert isinstance(header, frame.Header)
        return header, reply

    def _decoded(
        self, command: int, body: bytes, decode: Callable[[bytes], T | frame.Fault], fields: dict[str, Any]
    ) -> T:
        header, reply = self._answer(command, body, fields)
        message = decode(reply)
        if header.flags & frame.FLAG_ERROR:
            raise Refused(header.error, message)
        if isinstance(message, frame.Fault):
            raise AssertionError(f"undecodable reply ({message}): {reply.hex()}")
        return message

    def config(
        self, ccmd: int = config_wire.ConfigCommand.READ, text: bytes = b"", **fields: Any
    ) -> config_wire.Config:
        body = config_wire.encode(config_wire.Config(ccmd, text))
        return self._decoded(frame.Command.CONFIG, body, config_wire.decode, fields)

    def mask(self, *directives: mask_wire.Directive, **fields: Any) -> mask_wire.Mask:
        """Edit the mask list; with no directive, read it."""
        message = mask_wire.edit(*directives) if directives else mask_wire.Mask(mask_wire.MaskCommand.READ)
        return self._decoded(frame.Command.MASK, mask_wire.encode(message), mask_wire.decode, fields)

    def reserve(
        self, rcmd: int = reserve_wire.ReserveCommand.READ, *macs: bytes, **fields: Any
    ) -> reserve_wire.Reserve:
        body = reserve_wire.encode(reserve_wire.Reserve(rcmd, macs))
        return self._decoded(frame.Command.RESERVE, body, reserve_wire.decode, fields)

    def ata(
        self,
        command: int,
        lba: int = 0,
        count: int = 0,
        data: bytes = b"",
        *,
        feature: int = 0,
        aflags: int | None = None,
        **fields: Any,
    ) -> ata_wire.AtaReply:
        """Issue one ATA command; the reply comes back whatever its status says."""
        request = ata_request(command, lba, count, data, feature=feature, aflags=aflags)
        return self._decoded(frame.Command.ATA, ata_wire.encode(request), ata_wire.decode_reply, fields)

    def _good(self, reply: ata_wire.AtaReply) -> ata_wire.AtaReply:
        if reply.status & BUSY_DF_DRQ_ERR:
            raise AtaFailed(reply)
        return reply

    def identify(self, **fields: Any) -> bytes:
        """The 512 bytes of IDENTIFY DEVICE."""
        reply = self._good(self.ata(IDENTIFY, count=1, **fields))
        assert len(reply.data) >= SECTOR
        return reply.data[:SECTOR]

    def read(self, lba: int, count: int = 1, **fields: Any) -> bytes:
        reply = self._good(self.ata(READ_EXT, lba, count, **fields))
        assert len(reply.data) >= count * SECTOR
        return reply.data[: count * SECTOR]

    def write(self, lba: int, data: bytes, fua: bool = False, **fields: Any) -> None:
        count, rest = divmod(len(data), SECTOR)
        assert rest == 0
        self._good(self.ata(WRITE_FUA_EXT if fua else WRITE_EXT, lba, count, data, **fields))

    def flush(self, **fields: Any) -> None:
        self._good(self.ata(FLUSH_EXT, **fields))


def ata_request(
    command: int,
    lba: int = 0,
    count: int = 0,
    data: bytes = b"",
    *,
    feature: int = 0,
    aflags: int | None = None,
) -> ata_wire.AtaRequest:
    """Registers with the flags that the command needs, unless flags are given."""
    if aflags is None:
        extended = ata_wire.AFLAG_EXTENDED if command in _EXTENDED else 0
        aflags = extended | (ata_wire.AFLAG_WRITE if data else 0)
    return ata_wire.AtaRequest(aflags, feature, count, command, lba, data)


def sectors_of(identify: bytes) -> int:
    """Capacity that IDENTIFY words 100-103 tell."""
    return int.from_bytes(identify[200:208], "little")


def text_of(identify: bytes, first_word: int, words: int) -> str:
    """An ASCII field of IDENTIFY (two characters a word, the first in the high byte), unpadded."""
    raw = identify[2 * first_word : 2 * (first_word + words)]
    return b"".join(raw[at + 1 : at + 2] + raw[at : at + 1] for at in range(0, len(raw), 2)).decode().strip()
