"""A disk behind AoE, as a Disk (asyncio)."""

import asyncio
import errno
import logging
import random
import re
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aoe import limits
from aoe.disk.base import Disk
from aoe.drive import identify
from aoe.drive.command import DEVICE_FAULT, ERROR, IDENTIFY_DEVICE
from aoe.errors import ConfigurationError, DiskError, RequestError, TargetRefused, Unreachable
from aoe.initiator.admin import Admin
from aoe.initiator.discover import Found, find
from aoe.initiator.path import Path, Peer
from aoe.initiator.session import Answered, Effect, Operation, Send, Session, Settled, State, Way, facts_of
from aoe.link.base import Link
from aoe.link.packet import PacketLink, only_interface
from aoe.target.order import OrderQueue, Ticket
from aoe.wire import ata
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaReply, AtaRequest
from aoe.wire.frame import FLAG_ERROR, Command, Fault, format_mac

_READ_EXT, _WRITE_EXT, _WRITE_FUA_EXT, _TRIM = 0x24, 0x34, 0x3D, 0x06
log = logging.getLogger("aoe.initiator")

_RANGE = struct.Struct("<Q")
_RANGE_SECTORS_MAX = 0xFFFF
_PLACES = 1 << 30
TIMEOUT_S = 30.0
"""How long a request is repeated unless the caller says so."""
_DRAIN_POLL_S = 0.005
ADDRESS = re.compile(r"e?(\d{1,5})\.(\d{1,3})")


class PathStatus(NamedTuple):
    """One way to a disk: `owner` carries reads and writes, `rtt_us` is the smoothed round trip of reads."""

    name: str
    state: str
    reason: str
    owner: bool
    rtt_us: float


class _Turn:
    """A change's hold on its range: from when nothing before it can touch the range any more until nothing
    of its own can (order rule I2)."""

    def __init__(self) -> None:
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ticket: Ticket[_Turn] | None = None
        self.unsettled: set[Operation] = set()
        self.over = False


class RemoteDisk(Disk):
    """What `attach` gives. Any byte range may be read and written; odd ends are read, patched and written
    back. Writes that overlap are done one after the other, in the order in which they were called.

    `timeout_s` is how long a request is repeated before it fails with Unreachable, None for ever. A write
    that failed so, or was cancelled, may still be carried out: its range takes no new write before that is
    out of the question. All sizes in bytes.
    """

    def __init__(self, ways: Sequence[tuple[Link, Found]], timeout_s: float | None) -> None:
        self.address = "/".join(dict.fromkeys(found.address for _, found in ways))
        self.timeout_s = timeout_s
        self.identity_data = b""
        self._links = list(dict.fromkeys(link for link, _ in ways))
        self._link_of = {_way(link, found): link for link, found in ways}
        self._way_of = {(link, *way.path.peer[1:]): way for way, link in self._link_of.items()}
        self._session = Session(list(self._link_of))
        self._piece = min(
            min(found.config.sector_count or 2, limits.sectors_per_frame(link.mtu)) for link, found in ways
        )
        self._order: OrderQueue[_Turn] = OrderQueue(limits.SECTOR, _PLACES)
        self._answers: dict[Operation, asyncio.Future[Answered]] = {}
        self._turns: dict[Operation, _Turn] = {}
        self._news = asyncio.Event()
        self.admin = Admin(self._ask_servers, self._own)
        """Config string, mask list and reservation."""
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
        changes = self._session.changes()
        if self._flush is not None:
            await self._ata(AtaRequest(0, 0, 0, self._flush, 0), changes=True)
        if not self._session.flushed(changes):
            raise DiskError(
                f"{self.address}: a server lost its cache, and what was not flushed", 0, errno.EIO
            )

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
        self._session.facts = facts_of(data)
        self._describe(data)

    def _describe(self, data: bytes) -> None:
        self.identity_data = data
        self.size = identify.sectors_of(data) * limits.SECTOR
        self.identity = identify.serial_of(data)
        self.physical_block = identify.physical_block_of(data)
        self.trims = bool(identify.trim_blocks_of(data))
        self.trim_zeroes = self.trims and identify.trims_to_zeroes(data)
        self._trim_blocks = identify.trim_blocks_of(data)
        self._has_fua = identify.has_fua(data)
        self._flush = identify.flush_of(data)

    async def begin(self) -> None:
        """Look at every way until one is usable. RequestError if none is."""
        for link in self._links:
            link.start(self)
        self._perform(self._session.begin(time.monotonic_ns()))
        try:
            async with asyncio.timeout(self.timeout_s):
                while self._session.owner is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise Unreachable(f"{self.address}: {self._reasons()}") from error

    def close(self) -> None:
        """Ask nothing more; what is open fails."""
        self._closed = True
        for link in self._links:
            link.stop()
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
        """What was counted so far on all paths, by reason."""
        total: Counter[str] = Counter()
        for way in self._session.ways:
            total.update(way.path.counters)
        return dict(total)

    @property
    def paths(self) -> list[PathStatus]:
        """How the ways to the disk are."""
        return [
            PathStatus(way.name, way.state, way.reason, way is self._session.owner, way.path.rtt_ns / 1000)
            for way in self._session.ways
        ]

    @property
    def peers(self) -> list[bytes]:
        """The MAC at the other end of each path."""
        return [way.path.peer.mac for way in self._session.ways]

    def prefer(self, name: str) -> None:
        """Make the usable path of that name the owner. RequestError if there is none."""
        for way in self._session.ways:
            if way.name == name and way.state is State.USABLE:
                self._perform(self._session.switch(way, time.monotonic_ns()))
                return
        raise RequestError(f"{self.address} has no usable path {name}: {self._reasons()}")

    def fenced(self, name: str) -> None:
        """The server at the other end of a path was made sure to do nothing any more (order rule I4): what
        is of unknown fate there is settled."""
        for way in self._session.ways:
            if way.name == name:
                self._perform(self._session.fenced(way, time.monotonic_ns()))

    def _reasons(self) -> str:
        return "; ".join(f"{way.name} is {way.state} {way.reason}".strip() for way in self._session.ways)

    # Requests

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DiskError(
                f"{self.address} has {self.size} bytes: {length} at {offset} are not inside",
                offset,
                errno.EINVAL,
            )

    async def _read_sectors(self, first: int, last: int) -> bytes:
        operations = [
            _operation(
                AtaRequest(AFLAG_EXTENDED, 0, count, _READ_EXT, lba), reply_bytes=count * limits.SECTOR
            )
            for lba, count in self._pieces(first, last)
        ]
        replies = await self._ask(operations)
        sizes = (operation.reply_min - limits.ATA_HEADER for operation in operations)
        return b"".join(reply.data[:size] for reply, size in zip(replies, sizes, strict=True))

    async def _write_sectors(self, turn: _Turn, command: int, first: int, data: bytes) -> None:
        flags = AFLAG_EXTENDED | AFLAG_WRITE
        operations = []
        for lba, count in self._pieces(first, first + len(data) // limits.SECTOR):
            start = (lba - first) * limits.SECTOR
            piece = data[start : start + count * limits.SECTOR]
            operations.append(_operation(AtaRequest(flags, 0, count, command, lba, piece), changes=True))
        await self._ask(operations, turn)

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
        (reply,) = await self._ask([_operation(request, changes=changes, reply_bytes=reply_bytes)], turn)
        return reply

    async def _ask(self, operations: list[Operation], turn: _Turn | None = None) -> list[AtaReply]:
        """All at once, as far as the window goes; the replies, or the first error."""
        return [self._judged(answer) for answer in await self._answers_to(operations, turn)]

    async def _answers_to(self, operations: list[Operation], turn: _Turn | None = None) -> list[Answered]:
        if self._closed:
            raise RequestError(f"{self.address} is closed")
        loop = asyncio.get_running_loop()
        answers = [self._answers.setdefault(operation, loop.create_future()) for operation in operations]
        if turn is not None:
            turn.unsettled.update(operations)
            self._turns.update(dict.fromkeys(operations, turn))
        try:
            for operation in operations:
                self._perform(self._session.start(operation, time.monotonic_ns()))
            async with asyncio.timeout(self.timeout_s):
                return [self._accepted(await answer) for answer in answers]
        except TimeoutError as error:
            raise Unreachable(f"{self.address} does not answer any more") from error
        finally:
            for operation, answer in zip(operations, answers, strict=True):
                del self._answers[operation]
                answer.cancel()
                if operation.open:
                    self._perform(self._session.abandon(operation, time.monotonic_ns()))

    async def _ask_servers(self, command: Command, body: bytes, least: int) -> list[bytes]:
        """Every server that can be reached, once."""
        servers = {way.path.peer[1:]: way for way in self._session.ways if way.state is State.USABLE}
        if not servers:
            raise Unreachable(f"{self.address}: {self._reasons()}")
        replies = []
        for way in servers.values():
            operation = Operation(body, changes=False, reply_min=least, command=command, only=way)
            replies += [answer.raw for answer in await self._answers_to([operation])]
        return replies

    def _own(self) -> list[bytes]:
        return list(dict.fromkeys(link.mac for link in self._links))

    def _accepted(self, answer: Answered) -> Answered:
        if answer.header.flags & FLAG_ERROR:
            raise TargetRefused(f"{self.address} refused: AoE error {answer.header.error}")
        return answer

    def _judged(self, answer: Answered) -> AtaReply:
        raw = answer.raw
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
            raw = received.frame
            way = self._way_of.get(
                (link, raw[6:12], int.from_bytes(raw[16:18], "big"), int.from_bytes(raw[18:19]))
            )
            if way is not None:
                self._perform(self._session.received(way, raw, time.monotonic_ns()))

    def changed(self, link: Link, came_up: bool) -> None:
        for way, over in self._link_of.items():
            if over is link:
                way.path.peer = way.path.peer._replace(own=link.mac)
                self._perform(self._session.link_changed(way, link.up, time.monotonic_ns()))

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._link_of[effect.way].send(effect.frame)
            elif isinstance(effect, Answered):
                answer = self._answers.get(effect.operation)
                if answer is not None and not answer.done():
                    answer.set_result(effect)
            elif isinstance(effect, Settled):
                self._settled(effect.operation)
            else:
                self._tell(effect.way)
        if self._timer is None and self._session.busy and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(limits.RTO_MIN_NS / 1e9, self._tick)

    def _settled(self, operation: Operation) -> None:
        turn = self._turns.pop(operation, None)
        if turn is not None:
            turn.unsettled.discard(operation)
            self._leave(turn)

    def _tick(self) -> None:
        self._timer = None
        self._perform(self._session.tick(time.monotonic_ns()))

    def _tell(self, way: Way) -> None:
        self._news.set()
        facts = self._session.facts
        if facts is not None and facts.data != self.identity_data:
            self._describe(facts.data)
        owner = self._session.owner
        log.info(
            "%s: %s is %s %s; owner is %s",
            self.address,
            way.name,
            way.state,
            way.reason,
            owner and owner.name,
        )


def _operation(request: AtaRequest, *, changes: bool = False, reply_bytes: int = 0) -> Operation:
    least = limits.ATA_HEADER + reply_bytes
    return Operation(ata.encode(request), changes=changes, reply_min=least)


def _sectors(offset: int, length: int) -> tuple[int, int]:
    """The sectors [first, last) that bytes lie in."""
    return offset // limits.SECTOR, -(-(offset + length) // limits.SECTOR)


def _way(link: Link, found: Found) -> Way:
    path = Path(
        Peer(link.mac, found.mac, found.shelf, found.slot),
        window_max=max(1, min(found.config.buffer_count, link.frames_that_fit)),
        first_tag=random.getrandbits(31),
        quiesce_ns=limits.NETWORK_LIFETIME_NS + limits.FOREIGN_AGE_NS + limits.COMPLETION_NS,
    )
    return Way(f"{link.name} {format_mac(found.mac)} {found.address}", path)


async def connect(ways: Sequence[tuple[Link, Found]], timeout_s: float | None = TIMEOUT_S) -> RemoteDisk:
    """Use targets that were found, all of which serve one disk. Closing the disk leaves the links open."""
    disk = RemoteDisk(ways, timeout_s)
    try:
        await disk.begin()
    except BaseException:
        disk.close()
        raise
    return disk


@asynccontextmanager
async def attach(
    *addresses: str,
    interface: str | Sequence[str] = (),
    link: Link | Sequence[Link] = (),
    find_s: float = 5.0,
    timeout_s: float | None = TIMEOUT_S,
) -> AsyncIterator[RemoteDisk]:
    """The one disk that is at all `addresses` ("e0.0"), over Ethernet interfaces (the only one that is up,
    unless named) or over links, which are closed in the end. Every server that answers there is a path to it.

    `find_s` is how long targets are looked for, `timeout_s` how long a request is repeated (None: for ever).
    ConfigurationError for a bad address or interface, RequestError if nobody answers there.
    """
    wanted = [parse_address(address) for address in addresses]
    links = [link] if isinstance(link, Link) else list(link)
    names = [interface] if isinstance(interface, str) else list(interface)
    try:
        links += [PacketLink(name) for name in names or ([] if links else [only_interface()])]
        found = await asyncio.gather(*(find(over, wanted, find_s) for over in links))
        ways = [(over, it) for over, answers in zip(links, found, strict=True) for it in answers]
        if not ways:
            where = " or ".join(over.name for over in links)
            raise RequestError(
                f"{'/'.join(addresses)} does not answer on {where}; "
                "is it served there, and is this host allowed to use it?"
            )
        disk = await connect(ways, timeout_s)
        try:
            yield disk
            await disk.drain()
        finally:
            disk.close()
    finally:
        for over in links:
            over.close()


def parse_address(text: str) -> tuple[int, int]:
    """`e0.0` -> (0, 0)."""
    match = ADDRESS.fullmatch(text)
    if match is None or int(match[1]) > limits.SHELF_MAX or int(match[2]) > limits.SLOT_MAX:
        raise ConfigurationError(f"{text!r} is not an address; write it as e0.0")
    return int(match[1]), int(match[2])
