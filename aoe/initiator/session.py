"""One disk over several ways: which of them carries what, and when to change, without I/O.

One way, the owner, carries everything (order rule I5). When it is lost, what is open goes to another one at
once, with the same bytes (I3); the copies on the old way keep their ranges closed until their fate is known
(I2), as `aoe.initiator.path` says. A way is used for a change only while IDENTIFY vouches for it: that it is
the same disk, and the same process as before (I6). One that answers queries but no I/O is slow, not dead, and
is given more time (I7).
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple

from aoe import limits
from aoe.drive import identify
from aoe.drive.command import DEVICE_FAULT, ERROR, IDENTIFY_DEVICE
from aoe.initiator import path as one_way
from aoe.initiator.path import USER_TAG, Exchange, Path
from aoe.wire import ata, config, frame
from aoe.wire.ata import AtaRequest
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import FLAG_ERROR, FLAG_RESPONSE, Command, Header


class Facts(NamedTuple):
    """What IDENTIFY said that decides whether a way leads to the disk."""

    serial: str
    sectors: int
    volatile: bool
    instance: int | None
    age_ns: int
    data: bytes


def facts_of(data: bytes) -> Facts:
    """Read them off the 512 bytes."""
    vendor = identify.vendor_of(data)
    return Facts(
        identify.serial_of(data),
        identify.sectors_of(data),
        identify.caches(data),
        vendor.instance if vendor else None,
        vendor.frame_age_ms * 1_000_000 if vendor else limits.FOREIGN_AGE_NS,
        data,
    )


class State(enum.StrEnum):
    """Of a way."""

    CHECKING = "checking"
    USABLE = "usable"
    DOWN = "down"
    REFUSED = "refused"


class Way:
    """A path, and what is known of it. `state` and `reason` are for people, too."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.state = State.CHECKING
        self.reason = ""
        self.link_up = True
        self.facts: Facts | None = None
        self.vouched = False
        """Whether nothing happened since the last IDENTIFY that would make it another server."""
        self.check: Exchange | None = None
        self.check_after_ns = 0
        self.probed_ns = 0
        self.probe_tag = -1
        self.io_ns = 0
        """When the last read or write was answered."""


class Operation:
    """A request of the user's, carried by one exchange for each way it was sent on; `only` is the way where
    it is meant for one server and no other."""

    __slots__ = ("body", "changes", "command", "exchanges", "only", "open", "reply_min")

    def __init__(
        self,
        body: bytes,
        *,
        changes: bool,
        reply_min: int,
        command: Command = Command.ATA,
        only: Way | None = None,
    ) -> None:
        self.body = body
        self.command = command
        self.only = only
        self.changes = changes
        self.reply_min = reply_min
        self.exchanges: dict[Exchange, Way] = {}
        self.open = True


class Send(NamedTuple):
    """Put a frame on the link of a way."""

    way: Way
    frame: bytes


class Answered(NamedTuple):
    """The reply to an operation; there is only one of these."""

    operation: Operation
    header: Header
    raw: bytes


class Settled(NamedTuple):
    """An operation that is no longer open has no copy left that could do anything."""

    operation: Operation


class Changed(NamedTuple):
    """The state of a way, or whether it is the owner."""

    way: Way


Effect = Send | Answered | Settled | Changed


class Session:
    """Carries operations over `ways`, the first usable of which is the owner."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self.ways = list(ways)
        self.owner: Way | None = None
        self.facts: Facts | None = None
        """Of the disk, as the first way described it."""
        self.cache_lost = False
        """Whether a server with a volatile cache was replaced since the last flush (I6)."""
        self._unflushed: Way | None = None
        """Which way's volatile cache holds changes that no flush vouches for."""
        self._changes = 0
        self._open: dict[Operation, None] = {}
        self._held: dict[Operation, None] = {}
        self._of: dict[Exchange, Operation] = {}

    @property
    def busy(self) -> bool:
        """Whether `tick` has anything to wait for."""
        return bool(self._held) or any(way.path.busy for way in self.ways)

    # What comes in

    def begin(self, now_ns: int) -> list[Effect]:
        """Look at every way."""
        effects: list[Effect] = []
        for way in self.ways:
            self._look(way, now_ns, effects)
        return effects

    def start(self, operation: Operation, now_ns: int) -> list[Effect]:
        """Carry it out."""
        effects: list[Effect] = []
        self._open[operation] = None
        self._dispatch(operation, now_ns, effects)
        return effects

    def abandon(self, operation: Operation, now_ns: int) -> list[Effect]:
        """No answer is wanted any more. What was sent stays of unknown fate."""
        effects: list[Effect] = []
        self._end(operation, now_ns, effects)
        return effects

    def received(self, way: Way, raw: bytes, now_ns: int) -> list[Effect]:
        """A frame from the peer of a way."""
        effects: list[Effect] = []
        header = frame.decode(raw)
        if isinstance(header, Header) and self._says_it_is_there(way, header):
            self._config_reply(way, header, now_ns)
        else:
            self._follow(way, way.path.received(raw, now_ns), now_ns, effects)
        return effects

    def link_changed(self, way: Way, up: bool, now_ns: int) -> list[Effect]:
        """The link of a way went down or came up."""
        effects: list[Effect] = []
        came_up = up and not way.link_up
        way.link_up = up
        if not up:
            self._lose(way, "link down", now_ns, effects)
        elif came_up:
            self._look(way, now_ns, effects)
        return effects

    def switch(self, way: Way, now_ns: int) -> list[Effect]:
        """Make a usable way the owner. What the old one has under way ends there."""
        effects: list[Effect] = []
        if way.state is State.USABLE and way is not self.owner:
            self._take_over(way, now_ns, effects)
        return effects

    def fenced(self, way: Way, now_ns: int) -> list[Effect]:
        """Somebody made sure that the server of a way does nothing any more (I4)."""
        effects: list[Effect] = []
        self._follow(way, way.path.settle_all(), now_ns, effects)
        return effects

    def tick(self, now_ns: int) -> list[Effect]:
        """Time has passed."""
        effects: list[Effect] = []
        for way in self.ways:
            self._follow(way, way.path.tick(now_ns), now_ns, effects)
            if way.state is State.DOWN and way.check is None and now_ns >= way.check_after_ns:
                self._look(way, now_ns, effects)
        if self.owner is not None:
            self._judge(self.owner, now_ns, effects)
        return effects

    # Operations

    def _dispatch(self, operation: Operation, now_ns: int, effects: list[Effect]) -> None:
        way = self.owner
        if operation.only is not None:
            self._send(operation, operation.only, now_ns, effects)
        elif way is None:
            self._held[operation] = None
        elif operation.changes and not self._vouched(way, now_ns):
            self._held[operation] = None
            self._look(way, now_ns, effects)
        else:
            self._send(operation, way, now_ns, effects)

    def _vouched(self, way: Way, now_ns: int) -> bool:
        return way.vouched and now_ns - way.path.heard_ns < limits.SILENCE_NS

    def _send(self, operation: Operation, way: Way, now_ns: int, effects: list[Effect]) -> None:
        changes, least = operation.changes, operation.reply_min
        exchange = Exchange(operation.command, operation.body, changes=changes, reply_min=least)
        operation.exchanges[exchange] = way
        self._of[exchange] = operation
        self._follow(way, way.path.start(exchange, now_ns), now_ns, effects)

    def _end(self, operation: Operation, now_ns: int, effects: list[Effect]) -> None:
        operation.open = False
        self._open.pop(operation, None)
        self._held.pop(operation, None)
        if not operation.exchanges:
            effects.append(Settled(operation))
        for exchange, way in list(operation.exchanges.items()):
            if exchange.open:
                self._follow(way, way.path.abandon(exchange, now_ns), now_ns, effects)

    def _follow(self, way: Way, done: list[one_way.Effect], now_ns: int, effects: list[Effect]) -> None:
        """What a path did means this for operations."""
        for effect in done:
            if isinstance(effect, one_way.Transmit):
                effects.append(Send(way, effect.frame))
            elif isinstance(effect, one_way.Answered):
                if effect.exchange is way.check:
                    self._checked(way, effect, now_ns, effects)
                else:
                    self._answered(way, effect, now_ns, effects)
            elif effect.exchange in self._of:
                operation = self._of.pop(effect.exchange)
                del operation.exchanges[effect.exchange]
                if not operation.open and not operation.exchanges:
                    effects.append(Settled(operation))

    def _answered(self, way: Way, answer: one_way.Answered, now_ns: int, effects: list[Effect]) -> None:
        operation = self._of[answer.exchange]
        way.io_ns = now_ns
        if operation.changes and way.facts is not None and way.facts.volatile:
            self._unflushed = way
            self._changes += 1
        if not operation.open:
            return
        effects.append(Answered(operation, answer.header, answer.raw))
        operation.open = False
        del self._open[operation]
        for exchange, other in list(operation.exchanges.items()):
            if exchange.open:
                self._follow(other, other.path.abandon(exchange, now_ns), now_ns, effects)

    def changes(self) -> int:
        """Changes answered so far: what a flush that begins now will vouch for."""
        return self._changes

    def flushed(self, changes: int) -> bool:
        """A flush that began after so many changes was answered; whether it vouches for them all."""
        if changes + 1 >= self._changes:  # the flush itself is one
            self._unflushed = None
        lost, self.cache_lost = self.cache_lost, False
        return not lost

    # Ways

    def _look(self, way: Way, now_ns: int, effects: list[Effect]) -> None:
        """Ask a way what it leads to."""
        if way.check is not None or not way.link_up or way.state is State.REFUSED:
            return
        body = ata.encode(AtaRequest(0, 0, 1, IDENTIFY_DEVICE, 0xA0 << 24))
        way.check = Exchange(Command.ATA, body, reply_min=limits.ATA_HEADER + limits.SECTOR)
        self._follow(way, way.path.start(way.check, now_ns), now_ns, effects)

    def _checked(self, way: Way, answer: one_way.Answered, now_ns: int, effects: list[Effect]) -> None:
        way.check = None
        raw = answer.raw
        if answer.header.flags & FLAG_ERROR or raw[27] & (ERROR | DEVICE_FAULT):
            way.check_after_ns = now_ns + limits.RECHECK_NS
            self._lose(way, "IDENTIFY fails", now_ns, effects)
            return
        facts = facts_of(raw[limits.ATA_HEADER : limits.ATA_HEADER + limits.SECTOR])
        if self.facts is None or (way is self.owner and facts.sectors > self.facts.sectors):
            self.facts = facts
            effects.append(Changed(way))
        if facts.sectors != self.facts.sectors:  # while a disk grows, its servers notice at different times
            way.check_after_ns = now_ns + limits.RECHECK_NS
            size = f"another size: {facts.sectors} sectors, not {self.facts.sectors}"
            self._lose(way, size, now_ns, effects)
            return
        reason = self._mismatch(way, facts)
        if reason:
            self._lose(way, reason, now_ns, effects, State.REFUSED)
            return
        if self._unflushed is way and way.facts is not None and way.facts.instance != facts.instance:
            self.cache_lost = True
        way.facts = facts
        way.vouched = True
        way.path.quiesce_after(limits.NETWORK_LIFETIME_NS + facts.age_ns + limits.COMPLETION_NS)
        self._become(way, State.USABLE, "", effects)
        if self.owner is None:
            self._take_over(way, now_ns, effects)
        elif way is self.owner:
            self._release(now_ns, effects)

    def _mismatch(self, way: Way, facts: Facts) -> str:
        assert self.facts is not None, "set by the first way that is checked"
        if facts.serial != self.facts.serial:
            return f"another disk: serial {facts.serial}, not {self.facts.serial}"
        servers = {other.path.peer.mac for other in self.ways if other.state is State.USABLE}
        if facts.volatile and servers - {way.path.peer.mac}:
            return "a volatile write cache, with several servers"
        return ""

    def _take_over(self, way: Way, now_ns: int, effects: list[Effect]) -> None:
        if self._unflushed not in (None, way):
            self.cache_lost = True
        self.owner = way
        way.io_ns = now_ns
        effects.append(Changed(way))
        self._release(now_ns, effects)

    def _release(self, now_ns: int, effects: list[Effect]) -> None:
        held, self._held = self._held, {}
        for operation in held:
            self._dispatch(operation, now_ns, effects)

    def _become(self, way: Way, state: State, reason: str, effects: list[Effect]) -> None:
        if (way.state, way.reason) != (state, reason):
            way.state, way.reason = state, reason
            effects.append(Changed(way))

    def _lose(
        self, way: Way, reason: str, now_ns: int, effects: list[Effect], state: State = State.DOWN
    ) -> None:
        """A way is of no use for now: what it had under way goes to another one."""
        way.vouched = False
        if way.check is not None:
            check, way.check = way.check, None
            self._follow(way, way.path.abandon(check, now_ns), now_ns, effects)
        self._become(way, state, reason, effects)
        if way is not self.owner:
            return
        self.owner = None
        for operation in [it for it in self._open if it.only is None]:
            self._held[operation] = None
            for exchange, carrier in list(operation.exchanges.items()):
                if carrier is way and exchange.open:
                    self._follow(way, way.path.abandon(exchange, now_ns), now_ns, effects)
        for other in self.ways:
            if now_ns >= other.check_after_ns:
                self._look(other, now_ns, effects)

    def _judge(self, way: Way, now_ns: int, effects: list[Effect]) -> None:
        """Is the owner alive? Only where there is another one to turn to."""
        if not any(other.state is not State.REFUSED for other in self.ways if other is not way):
            return
        quiet_ns = way.path.quiet_ns(now_ns)
        if quiet_ns >= limits.PROBE_NS and now_ns - way.probed_ns >= limits.PROBE_NS:
            way.probed_ns = now_ns
            self._probe(way, effects)
        if quiet_ns >= limits.DEAD_NS:
            self._lose(way, "silent", now_ns, effects)
        elif way.path.outstanding and now_ns - max(way.io_ns, way.path.asked_ns) >= limits.SLOW_NS:
            way.check_after_ns = now_ns + limits.SLOW_NS
            self._lose(way, "slow: it answers, but not what is read and written", now_ns, effects)

    def _probe(self, way: Way, effects: list[Effect]) -> None:
        peer = way.path.peer
        way.probe_tag = way.path.new_tag()
        header = Header(
            peer.mac, peer.own, frame.VERSION, 0, 0, peer.shelf, peer.slot, Command.CONFIG, way.probe_tag
        )
        effects.append(Send(way, frame.encode(header, config.encode(Config(ConfigCommand.READ)))))

    def _says_it_is_there(self, way: Way, header: Header) -> bool:
        """Whether a frame is the answer to a probe, or an advertisement."""
        unasked = not header.tag & USER_TAG or header.tag == way.probe_tag
        return header.command == Command.CONFIG and bool(header.flags & FLAG_RESPONSE) and unasked

    def _config_reply(self, way: Way, header: Header, now_ns: int) -> None:
        if header.tag == way.probe_tag:
            way.path.heard_ns = now_ns
        else:  # an advertisement: the server may have started again
            way.vouched = False
