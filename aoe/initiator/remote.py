"""A disk behind AoE, as a Disk (asyncio)."""

import asyncio
import errno
import random
import re
import struct
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

from aoe import limits
from aoe.disk.base import Disk
from aoe.drive import identify
from aoe.drive.command import DEVICE_FAULT, ERROR, IDENTIFY_DEVICE
from aoe.errors import ConfigurationError, DiskError, RequestError, TargetRefused, Unreachable
from aoe.initiator.discover import Found, find
from aoe.initiator.path import Answered, Effect, Exchange, Path, Peer, Transmit
from aoe.link.base import Link
from aoe.link.packet import PacketLink, only_interface
from aoe.target.order import OrderQueue, Ticket
from aoe.wire import ata
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaReply, AtaRequest
from aoe.wire.frame import FLAG_ERROR, Command, Fault

_READ_EXT, _WRITE_EXT, _WRITE_FUA_EXT, _TRIM = 0x24, 0x34, 0x3D, 0x06
_RANGE = struct.Struct("<Q")
_RANGE_SECTORS_MAX = 0xFFFF
_PLACES = 1 << 30
TIMEOUT_S = 30.0
"""How long a request is repeated unless the caller says so."""
_DRAIN_POLL_S = 0.005
_ADDRESS = re.compile(r"e?(\d{1,5})\.(\d{1,3})")


class _Turn:
    """A change's hold on its range: from when nothing before it can touch the range any more until nothing
    of its own can (order rule I2)."""

    def __init__(self) -> None:
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ticket: Ticket[_Turn] | None = None
        self.unsettled: set[Exchange] = set()
        self.over = False


class RemoteDisk(Disk):
    """What `attach` gives. Any byte range may be read and written; odd ends are read, patched and written
    back. Writes that overlap are done one after the other, in the order in which they were called.

    `timeout_s` is how long a request is repeated before it fails with Unreachable, None for ever. A write
    that failed so, or was cancelled, may still be carried out: its range takes no new write before that is
    out of the question. All sizes in bytes.
    """

    def __init__(self, link: Link, found: Found, timeout_s: float | None) -> None:
        self.address = found.address
        self.timeout_s = timeout_s
        self.identity_data = b""
        self._link = link
        fits = min(found.config.buffer_count or 1, link.frames_that_fit)
        self._path = Path(
            Peer(link.mac, found.mac, found.shelf, found.slot),
            window_max=fits,
            first_tag=random.getrandbits(31),
            quiesce_ns=limits.NETWORK_LIFETIME_NS + limits.FOREIGN_AGE_NS + limits.COMPLETION_NS,
        )
        self._piece = min(found.config.sector_count or 2, limits.sectors_per_frame(link.mtu))
        self._order: OrderQueue[_Turn] = OrderQueue(limits.SECTOR, _PLACES)
        self._answers: dict[Exchange, asyncio.Future[Answered]] = {}
        self._turns: dict[Exchange, _Turn] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    # Disk

    async def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        first, last = _sectors(offset, length)
        data = await self._read_sectors(first, last)
        start = offset - first * limits.SECTOR
        return data if length == len(data) else data[start : start + length]

    async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        self._check(offset, len(data))
        if not data:
            return
        first, last = _sectors(offset, len(data))
        data = bytes(data)  # every copy of a frame has the same bytes (order rule I1)
        async with self._turn(first, last) as turn:
            if len(data) % limits.SECTOR or offset % limits.SECTOR:
                data = await self._patched(first, last, offset, data)
            command = _WRITE_FUA_EXT if fua and self._has_fua else _WRITE_EXT
            await self._write_sectors(turn, command, first, data)
        if fua and not self._has_fua:
            await self.flush()

    async def flush(self) -> None:
        if self._flush is not None:
            await self._ata(AtaRequest(0, 0, 0, self._flush, 0), changes=True)

    async def trim(self, offset: int, length: int) -> None:
        self._check(offset, length)
        if not self.trims:
            raise DiskError(f"{self.address} has no TRIM", offset, errno.EOPNOTSUPP)
        first = -(-offset // limits.SECTOR)
        last = (offset + length) // limits.SECTOR
        per_frame = min(self._trim_blocks, self._piece) * (limits.SECTOR // _RANGE.size)
        ranges = [
            _RANGE.pack(lba | min(_RANGE_SECTORS_MAX, last - lba) << 48)
            for lba in range(first, last, _RANGE_SECTORS_MAX)
        ]
        if not ranges:
            return
        async with self._turn(first, last) as turn:
            for at in range(0, len(ranges), per_frame):
                data = b"".join(ranges[at : at + per_frame])
                blocks = -(-len(data) // limits.SECTOR)
                padded = data.ljust(blocks * limits.SECTOR, b"\0")
                request = AtaRequest(AFLAG_EXTENDED | AFLAG_WRITE, 1, blocks, _TRIM, 0, padded)
                await self._ata(request, turn=turn, changes=True)

    async def write_zeroes(self, offset: int, length: int) -> None:
        for at in range(offset, offset + length, limits.ZEROES_CHUNK):
            await self.write(at, bytes(min(limits.ZEROES_CHUNK, offset + length - at)))

    def refresh(self) -> None:
        """The size is what the last `revalidate` found."""

    async def revalidate(self) -> None:
        """Ask what the target says of its disk again; `size` follows, as do the other properties."""
        request = AtaRequest(0, 0, 1, IDENTIFY_DEVICE, 0xA0 << 24)
        data = (await self._ata(request, reply_bytes=limits.SECTOR)).data[: limits.SECTOR]
        self.identity_data = data
        self.size = identify.sectors_of(data) * limits.SECTOR
        self.identity = identify.serial_of(data)
        self.physical_block = identify.physical_block_of(data)
        self.trims = bool(identify.trim_blocks_of(data))
        self.trim_zeroes = self.trims and identify.trims_to_zeroes(data)
        self._trim_blocks = identify.trim_blocks_of(data)
        self._has_fua = identify.has_fua(data)
        self._flush = identify.flush_of(data)
        vendor = identify.vendor_of(data)
        age_ns = vendor.frame_age_ms * 1_000_000 if vendor else limits.FOREIGN_AGE_NS
        self._path.quiesce_after(limits.NETWORK_LIFETIME_NS + age_ns + limits.COMPLETION_NS)

    def close(self) -> None:
        """Ask nothing more; what is open fails."""
        self._closed = True
        self._link.stop()
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RequestError(f"{self.address} was closed"))

    async def drain(self, timeout_s: float = limits.STOP_TIMEOUT_S) -> None:
        """Wait for what is under way. RequestError if it is not answered in time."""
        deadline = time.monotonic() + timeout_s
        while self._answers:
            if time.monotonic() > deadline:
                raise RequestError(f"{self.address}: {len(self._answers)} requests were not answered")
            await asyncio.sleep(_DRAIN_POLL_S)

    @property
    def counters(self) -> dict[str, int]:
        """What was counted so far, by reason."""
        return dict(self._path.counters)

    @property
    def rtt_us(self) -> float:
        """Smoothed round-trip time of reads, in microseconds."""
        return self._path.rtt_ns / 1000

    # Requests

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DiskError(
                f"{self.address} has {self.size} bytes: {length} at {offset} are not inside",
                offset,
                errno.EINVAL,
            )

    async def _read_sectors(self, first: int, last: int) -> bytes:
        exchanges = [
            _exchange(AtaRequest(AFLAG_EXTENDED, 0, count, _READ_EXT, lba), reply_bytes=count * limits.SECTOR)
            for lba, count in self._pieces(first, last)
        ]
        replies = await self._ask(exchanges)
        sizes = (exchange.reply_min - limits.ATA_HEADER for exchange in exchanges)
        return b"".join(reply.data[:size] for reply, size in zip(replies, sizes, strict=True))

    async def _write_sectors(self, turn: _Turn, command: int, first: int, data: bytes) -> None:
        flags = AFLAG_EXTENDED | AFLAG_WRITE
        exchanges = []
        for lba, count in self._pieces(first, first + len(data) // limits.SECTOR):
            start = (lba - first) * limits.SECTOR
            piece = data[start : start + count * limits.SECTOR]
            exchanges.append(_exchange(AtaRequest(flags, 0, count, command, lba, piece), changes=True))
        await self._ask(exchanges, turn)

    async def _patched(self, first: int, last: int, offset: int, data: bytes) -> bytes:
        """The data with what the sectors at its ends hold around it."""
        before = offset - first * limits.SECTOR
        behind = (last - first) * limits.SECTOR - before - len(data)
        head = (await self._read_sectors(first, first + 1))[:before] if before else b""
        tail = (await self._read_sectors(last - 1, last))[limits.SECTOR - behind :] if behind else b""
        return head + data + tail

    async def _ata(
        self, request: AtaRequest, *, turn: _Turn | None = None, changes: bool = False, reply_bytes: int = 0
    ) -> AtaReply:
        (reply,) = await self._ask([_exchange(request, changes=changes, reply_bytes=reply_bytes)], turn)
        return reply

    async def _ask(self, exchanges: list[Exchange], turn: _Turn | None = None) -> list[AtaReply]:
        """All at once, as far as the window goes; the replies, or the first error."""
        if self._closed:
            raise RequestError(f"{self.address} is closed")
        loop = asyncio.get_running_loop()
        answers = [self._answers.setdefault(exchange, loop.create_future()) for exchange in exchanges]
        if turn is not None:
            turn.unsettled.update(exchanges)
            self._turns.update(dict.fromkeys(exchanges, turn))
        try:
            for exchange in exchanges:
                self._perform(self._path.start(exchange, time.monotonic_ns()))
            async with asyncio.timeout(self.timeout_s):
                return [self._judged(await answer) for answer in answers]
        except TimeoutError as error:
            raise Unreachable(f"{self.address} does not answer any more") from error
        finally:
            for exchange, answer in zip(exchanges, answers, strict=True):
                del self._answers[exchange]
                answer.cancel()
                if exchange.open:
                    self._perform(self._path.abandon(exchange, time.monotonic_ns()))

    def _judged(self, answer: Answered) -> AtaReply:
        header, raw = answer.header, answer.raw
        if header.flags & FLAG_ERROR:
            raise TargetRefused(f"{self.address} refused: AoE error {header.error}")
        reply = ata.decode_reply(raw)
        assert not isinstance(reply, Fault), "the path lets only whole replies through"
        if reply.status & (ERROR | DEVICE_FAULT):
            at = reply.lba * limits.SECTOR
            what = f"status {reply.status:#04x}, error {reply.error:#04x}"
            raise DiskError(f"{self.address} failed at byte {at}: {what}", at, errno.EIO)
        return reply

    def _pieces(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        for lba in range(first, last, self._piece):
            yield lba, min(self._piece, last - lba)

    # Changes in their order

    @asynccontextmanager
    async def _turn(self, first: int, last: int) -> AsyncIterator[_Turn]:
        turn = _Turn()
        self._order.admit(turn, [(first, last - first)], True)
        self._next_turns()
        try:
            await turn.come
            yield turn
        finally:
            turn.over = True
            self._leave(turn)

    def _next_turns(self) -> None:
        while (ticket := self._order.take()) is not None:
            turn = ticket.job
            turn.ticket = ticket
            if turn.over:
                self._leave(turn)
            elif not turn.come.done():
                turn.come.set_result(None)

    def _leave(self, turn: _Turn) -> None:
        if turn.over and turn.ticket is not None and not turn.unsettled:
            ticket, turn.ticket = turn.ticket, None
            self._order.done(ticket)
            self._next_turns()

    # Effects, and what leads to them

    def ready(self, link: Link) -> None:
        for received in link.take().frames:
            self._perform(self._path.received(received.frame, time.monotonic_ns()))

    def changed(self, link: Link, came_up: bool) -> None:
        self._path.peer = self._path.peer._replace(own=link.mac)

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                self._link.send(effect.frame)
            elif isinstance(effect, Answered):
                answer = self._answers.get(effect.exchange)
                if answer is not None and not answer.done():
                    answer.set_result(effect)
            else:
                self._settled(effect.exchange)
        if self._timer is None and self._path.busy and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(limits.RTO_MIN_NS / 1e9, self._tick)

    def _settled(self, exchange: Exchange) -> None:
        turn = self._turns.pop(exchange, None)
        if turn is not None:
            turn.unsettled.discard(exchange)
            self._leave(turn)

    def _tick(self) -> None:
        self._timer = None
        self._perform(self._path.tick(time.monotonic_ns()))


def _exchange(request: AtaRequest, *, changes: bool = False, reply_bytes: int = 0) -> Exchange:
    least = limits.ATA_HEADER + reply_bytes
    return Exchange(Command.ATA, ata.encode(request), changes=changes, reply_min=least)


def _sectors(offset: int, length: int) -> tuple[int, int]:
    """The sectors [first, last) that bytes lie in."""
    return offset // limits.SECTOR, -(-(offset + length) // limits.SECTOR)


async def connect(link: Link, found: Found, timeout_s: float | None = TIMEOUT_S) -> RemoteDisk:
    """Use a target that was found. Closing the disk leaves the link open."""
    disk = RemoteDisk(link, found, timeout_s)
    link.start(disk)
    try:
        await disk.revalidate()
    except BaseException:
        disk.close()
        raise
    return disk


@asynccontextmanager
async def attach(
    address: str,
    *,
    interface: str | None = None,
    link: Link | None = None,
    find_s: float = 5.0,
    timeout_s: float | None = TIMEOUT_S,
) -> AsyncIterator[RemoteDisk]:
    """The disk at `address` ("e0.0"), over an Ethernet interface (the only one that is up, unless named) or
    over a link, which is closed in the end.

    `find_s` is how long the target is looked for, `timeout_s` how long a request is repeated (None: for
    ever).
    ConfigurationError for a bad address or interface, RequestError if nobody answers there.
    """
    shelf, slot = parse_address(address)
    over = link or PacketLink(interface or only_interface())
    try:
        disk = await connect(over, await find(over, shelf, slot, find_s), timeout_s)
        try:
            yield disk
            await disk.drain()
        finally:
            disk.close()
    finally:
        over.close()


def parse_address(text: str) -> tuple[int, int]:
    """`e0.0` -> (0, 0)."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[1]) > limits.SHELF_MAX or int(match[2]) > limits.SLOT_MAX:
        raise ConfigurationError(f"{text!r} is not an address; write it as e0.0")
    return int(match[1]), int(match[2])
