"""Which disks servers have, asked without attaching any: config queries, IDENTIFY, and how large frames are.

Many are asked at a time, as far as the receive buffer has room for the answers. What is lost is asked again.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from aoe import limits, timing
from aoe.initiator import health
from aoe.initiator.clock import now_ns
from aoe.initiator.exchange import Exchange
from aoe.initiator.facts import Facts, Reason, facts_of, unfit
from aoe.initiator.sizes import Narrow, Sizes
from aoe.initiator.strangers import IDENTIFY
from aoe.link.base import Link
from aoe.wire import config, frame, protocol
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_RESPONSE, Command, Fault, Header
from aoe.wire.protocol import USER_TAG

Address = tuple[int, int]
Take = Callable[[Header, bytes], None]


class Found(NamedTuple):
    """A target that answered at `address`: the MAC that it has there, what its config reply said, and on
    which interface of ours it came in."""

    shelf: int
    slot: int
    mac: bytes
    config: Config
    interface: str = ""

    @property
    def address(self) -> str:
        """As `attach` takes it: `e1.0`."""
        return f"e{self.shelf}.{self.slot}"


class Told(NamedTuple):
    """What a server said of its disk: `rtt_ns` after it was asked last, having been asked `again` so often.
    A request may have `sectors`, where both ends take `sectors_max` in a frame and `narrow` says why not."""

    found: Found
    facts: Facts
    rtt_ns: int
    again: int
    sectors: int
    sectors_max: int
    narrow: Narrow


class _Measuring:
    """How large frames may be between a server and us: `heard` says that it answered there at all. A disk
    that hangs tells nothing, so the next one of the same server is asked."""

    def __init__(self) -> None:
        self.sizes = Sizes()
        self.heard = False
        self.tries = 0
        self.turn = asyncio.Lock()

    @property
    def patience_ns(self) -> int:
        """How long it is tried."""
        return timing.INQUIRY_SIZE_NS if self.heard else timing.INQUIRY_MUTE_NS

    def take(self, asked: Exchange, header: Header, raw: bytes) -> None:
        """The answer to a probe, and perhaps to one of an earlier disk."""
        if asked.judge(header, raw) is not None:
            self.heard = True
            if self.sizes.asked(header.tag) is not None:
                self.sizes.answered(header.tag)


class Inquiry:
    """Asks over one link, whose only listener it is from `start` to `stop`."""

    def __init__(self, link: Link, on_found: Callable[[Found], object] = bool) -> None:
        self.found: dict[tuple[int, int, bytes], Found] = {}
        """Those that answered, by address and MAC."""
        self._link = link
        self._on_found = on_found
        self._tag = random.getrandbits(31)
        self._heard_ns = 0
        """When the last answer to a config query came."""
        self._room = asyncio.Semaphore(max(1, min(limits.SURVEYED_AT_ONCE, link.frames_that_fit)))
        self._waiting: dict[int, tuple[Found, Take]] = {}
        """What is done with the answer to a question, by its tag, and which server was asked."""
        self._sizes: dict[tuple[bytes, int], _Measuring] = {}
        """By MAC of a server, and by how many sectors were tried."""

    def start(self) -> None:
        """Listen."""
        self._link.start(self)

    def stop(self) -> None:
        """Ask nothing more."""
        self._link.stop()

    async def ask_all(self, seconds: float) -> None:
        """Every target on the link. The question or its answer may be lost, so it is asked several times,
        again when all answers are there. Where they are many, that may take longer than so many seconds;
        then it is over once they tell nothing new."""
        everywhere, query = (protocol.SHELF_ALL, protocol.SLOT_ALL), config.encode(Config(ConfigCommand.READ))
        late_ns = now_ns() + int(seconds * 1e9) + timing.DISCOVER_PAUSE_NS
        for turn in range(1, limits.DISCOVER_QUERIES + 1):
            before, tag = len(self.found), self._new_tag()
            self._link.send(frame.encode(self._header(BROADCAST, everywhere, Command.CONFIG, tag), query))
            await asyncio.sleep(seconds / limits.DISCOVER_QUERIES)
            await self._until_quiet(timing.DISCOVER_PAUSE_NS, late_ns)
            if now_ns() > late_ns and turn >= limits.DISCOVER_QUERIES_LATE and len(self.found) == before:
                break
        await asyncio.sleep(timing.LAST_LOOK_S)
        await self._until_quiet(timing.DISCOVER_QUIET_NS, late_ns)

    async def ask(self, found: Found) -> Told | None:
        """One server at one address: which disk it has. None where it does not say, or where that can be no
        disk: attaching to it tells why."""
        async with self._room:
            answer = await self._identify(found)
        if answer is None:
            return None
        data, rtt_ns, again = answer
        facts = facts_of(data)
        sectors_max = max(1, min(found.config.sector_count or 2, protocol.sectors_per_frame(self._link.mtu)))
        sectors, narrow = await self._passes(found, facts, sectors_max)
        return Told(found, facts, rtt_ns, again, sectors, sectors_max, narrow)

    # As a listener

    def ready(self, link: Link) -> None:
        """The link has frames."""
        for received in link.take().frames:
            header = frame.decode(received.frame)
            if not isinstance(header, Fault) and header.flags & FLAG_RESPONSE:
                self._hear(header, received.frame)

    def changed(self, link: Link, came_up: bool) -> None:
        """The link is another one now."""

    # Inside

    async def _until_quiet(self, quiet_ns: int, late_ns: int) -> None:
        """Until no answer came in for so long."""
        while now_ns() < min(late_ns + timing.DISCOVER_LATE_NS, self._heard_ns + quiet_ns):
            await asyncio.sleep(timing.LAST_LOOK_S)

    def _hear(self, header: Header, raw: bytes) -> None:
        if header.command == Command.CONFIG:
            self._hear_config(header, raw)
        elif (asked := self._waiting.get(header.tag)) is not None:
            found, take = asked
            if found[:3] == (header.shelf, header.slot, header.src):
                take(header, raw)

    def _hear_config(self, header: Header, raw: bytes) -> None:
        self._heard_ns = now_ns()
        message, key = config.decode(raw), (header.shelf, header.slot, header.src)
        known = key in self.found or len(self.found) >= limits.DISCOVERED_MAX
        if not isinstance(message, Fault) and not known:
            found = self.found[key] = Found(*key, message, self._link.name)
            self._on_found(found)

    async def _identify(self, found: Found) -> tuple[bytes, int, int] | None:
        """The 512 bytes, the time they took, and how often it was asked again."""
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asked = Exchange(Command.ATA, IDENTIFY, reply_min=protocol.ATA_HEADER + protocol.SECTOR)
        tag = self._expect(found, partial(_take, asked, answered))
        try:
            for again in range(limits.INQUIRY_TRIES):
                since_ns = now_ns()
                self._send(found, tag, IDENTIFY)
                await asyncio.wait([answered], timeout=timing.INQUIRY_WAIT_S)
                if answered.done():
                    return (answered.result(), now_ns() - since_ns, again) if answered.result() else None
        finally:
            del self._waiting[tag]
        return None

    async def _passes(self, found: Found, facts: Facts, most: int) -> tuple[int, Narrow]:
        """How many sectors pass, and why no more do. It is found out once for each server: all of its disks
        are behind the same switches. Of a disk that is smaller than that no request is as large."""
        tried = min(most, facts.sectors)
        if tried <= limits.SECTORS_SURE:
            return most, Narrow.NOT
        measuring = self._sizes.setdefault((found.mac, tried), _Measuring())
        async with measuring.turn:
            if not measuring.heard and measuring.tries < limits.INQUIRY_TRIES:
                measuring.tries += 1
                async with self._room:
                    await self._measure(found, facts, tried, measuring)
        sectors, narrow = min(measuring.sizes.shown[:2]), measuring.sizes.narrow
        return (sectors, narrow) if narrow is not Narrow.NOT else (most, narrow)

    async def _measure(self, found: Found, facts: Facts, most: int, measuring: "_Measuring") -> None:
        sizes = measuring.sizes = Sizes()
        sizes.fit(most, now_ns())
        since_ns, tags = now_ns(), list[int]()
        while sizes.narrow is Narrow.TRIED and now_ns() < since_ns + measuring.patience_ns:
            for probe in sizes.turn(now_ns()):
                asked = health.probe_exchange(probe, facts.sectors, 0, protocol.STAMP_TRAILER * facts.streams)
                tag = self._expect(found, partial(measuring.take, asked))
                tags.append(tag)
                sizes.sent(tag, probe)
                self._send(found, tag, asked.body)
            await asyncio.sleep(timing.INQUIRY_POLL_S)
        for tag in tags:
            del self._waiting[tag]

    def _expect(self, found: Found, take: Take) -> int:
        """A tag, and what is done with the answers to it."""
        tag = self._new_tag()
        self._waiting[tag] = found, take
        return tag

    def _new_tag(self) -> int:
        self._tag = (self._tag + 1) % USER_TAG
        return USER_TAG | self._tag

    def _send(self, found: Found, tag: int, body: bytes) -> None:
        header = self._header(found.mac, found[:2], Command.ATA, tag)
        self._link.send(frame.encode(header, body))

    def _header(self, dst: bytes, address: Address, command: Command, tag: int) -> Header:
        return Header(dst, self._link.mac, frame.VERSION, 0, 0, *address, command, tag)


def _take(asked: Exchange, answered: asyncio.Future[bytes], header: Header, raw: bytes) -> None:
    """The 512 bytes of IDENTIFY; none where the server refuses, or where they cannot describe a disk."""
    good = asked.judge(header, raw)
    if good is None or answered.done():
        return
    data = raw[protocol.ATA_HEADER : asked.reply_min] if good else b""
    answered.set_result(data if data and unfit(data) is Reason.NONE else b"")
