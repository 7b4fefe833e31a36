"""One way to a target: tags, copies, round-trip times, window and retransmission, without I/O.

Frames and clock readings (CLOCK_MONOTONIC, nanoseconds) go in, effects come out in the order in which they
are to be done. Every transmission of a request has a tag and a fate of its own (order rules I1 and I2):
`Settled` says that no copy of a request can change data any more.
"""

from collections import Counter
from typing import NamedTuple

from aoe import limits
from aoe.drive.command import DEVICE_FAULT, ERROR
from aoe.initiator.rtt import Rtt
from aoe.initiator.window import Window
from aoe.wire import frame
from aoe.wire.frame import FLAG_ERROR, FLAG_RESPONSE, Command, Fault, Header

USER_TAG = 1 << 31
"""The Linux driver ignores replies whose tag has this bit."""


class Peer(NamedTuple):
    """Who is asked: the MACs at both ends and the address."""

    own: bytes
    mac: bytes
    shelf: int
    slot: int


class Exchange:
    """A request, the bytes after its AoE header, and the copies of it whose fate is not known.

    `reply_min` is how long a reply without an error is at least, in bytes; `changes` whether it changes data.
    """

    __slots__ = ("body", "changes", "command", "copies", "open", "reply_min", "sent_ns", "tries")

    def __init__(self, command: Command, body: bytes, *, changes: bool = False, reply_min: int = 0) -> None:
        self.command = command
        self.body = body
        self.changes = changes
        self.reply_min = reply_min
        self.copies: dict[int, int] = {}
        """When each was sent, by its tag."""
        self.open = True
        """Whether an answer is still wanted."""
        self.sent_ns = 0
        self.tries = 0

    def accepts(self, header: Header, raw: bytes) -> bool:
        """Whether a frame can be the reply to this."""
        if header.command != self.command:
            return False
        if header.flags & FLAG_ERROR:
            return True
        if header.command != Command.ATA:
            return len(raw) >= self.reply_min
        return len(raw) >= limits.ATA_HEADER and (
            bool(raw[27] & (ERROR | DEVICE_FAULT)) or len(raw) >= self.reply_min
        )


class Transmit(NamedTuple):
    """Put a frame on the wire."""

    frame: bytes


class Answered(NamedTuple):
    """The reply to a request; there is only one of these."""

    exchange: Exchange
    header: Header
    raw: bytes


class Settled(NamedTuple):
    """A request that is no longer open has no copy left that could do anything."""

    exchange: Exchange


Effect = Transmit | Answered | Settled


class _Lane:
    """Requests that take alike long: reads, or what changes data."""

    def __init__(self, quiesce_ns: int) -> None:
        self.quiesce_ns = quiesce_ns
        self.rtt = Rtt()
        self.patience = 1.0
        """How many times the usual round trip an overtaken request is waited for."""
        self.flying: dict[Exchange, None] = {}
        """Open and sent, in the order of their last transmission."""
        self.unsettled: dict[Exchange, None] = {}
        """Not open any more, but with copies of unknown fate."""
        self.newest_ns = 0
        """When the youngest copy that was answered had been sent."""

    def wait_ns(self, exchange: Exchange) -> int:
        """How long after its last transmission a request counts as lost."""
        overtaken = exchange.sent_ns < self.newest_ns
        wait = int(self.rtt.usual_ns * self.patience) if overtaken else self.rtt.timeout_ns
        return min(wait << min(exchange.tries - 1, 16), limits.RTO_MAX_NS)

    def answered(self, sent_ns: int, now_ns: int, spurious: bool) -> None:
        self.rtt.sample(now_ns - sent_ns)
        self.newest_ns = max(self.newest_ns, sent_ns)
        if spurious:
            self.patience = min(2 * self.patience, limits.PATIENCE_MAX)
        else:
            self.patience += (1 - self.patience) / 256


class Path:
    """Asks one `peer`. `window_max` is in requests, `first_tag` any number, `quiesce_ns` the time after which
    a copy of a change that was not answered can no longer be carried out there (order rule I2)."""

    def __init__(self, peer: Peer, *, window_max: int, first_tag: int, quiesce_ns: int) -> None:
        self.peer = peer
        self.window = Window(window_max)
        self.counters: Counter[str] = Counter()
        self._tag = first_tag % USER_TAG
        self.heard_ns = 0
        """When the peer last answered anything."""
        self.asked_ns = 0
        """When something was asked while nothing else was outstanding."""
        self._tags: dict[int, Exchange] = {}
        self._waiting: dict[Exchange, None] = {}
        self._reads = _Lane(limits.NETWORK_LIFETIME_NS)
        self._changes = _Lane(quiesce_ns)

    def quiesce_after(self, quiesce_ns: int) -> None:
        """What is known of the target has changed."""
        self._changes.quiesce_ns = quiesce_ns

    @property
    def busy(self) -> bool:
        """Whether `tick` has anything to wait for."""
        return bool(self._waiting or self._tags)

    @property
    def outstanding(self) -> int:
        """Requests sent and still open."""
        return len(self._reads.flying) + len(self._changes.flying)

    @property
    def rtt_ns(self) -> int:
        """Smoothed round-trip time of reads, 0 if there were none."""
        return self._reads.rtt.smoothed_ns

    def quiet_ns(self, now_ns: int) -> int:
        """For how long the peer has owed an answer without a word."""
        return now_ns - max(self.heard_ns, self.asked_ns) if self.outstanding else 0

    def new_tag(self) -> int:
        """A tag that no other transmission has."""
        self._tag = (self._tag + 1) % USER_TAG
        return USER_TAG | self._tag

    def settle_all(self) -> list[Effect]:
        """The peer was fenced: what was sent and is not open any more can do nothing."""
        effects: list[Effect] = []
        for lane in (self._reads, self._changes):
            for exchange in list(lane.unsettled):
                self._forget(exchange, effects)
        return effects

    def start(self, exchange: Exchange, now_ns: int) -> list[Effect]:
        """Ask; at once if the window has room."""
        self._waiting[exchange] = None
        return self._fill(now_ns, [])

    def abandon(self, exchange: Exchange, now_ns: int) -> list[Effect]:
        """No answer is wanted any more. What was sent stays of unknown fate."""
        effects: list[Effect] = []
        self._waiting.pop(exchange, None)
        self._close(exchange, effects)
        return self._fill(now_ns, effects)

    def received(self, raw: bytes, now_ns: int) -> list[Effect]:
        """A frame came in on the link of this path."""
        header = frame.decode(raw)
        if isinstance(header, Fault) or not header.flags & FLAG_RESPONSE:
            return self._drop("not_a_reply")
        exchange = self._tags.get(header.tag)
        if exchange is None:
            return self._drop("unknown_tag")
        if (header.src, header.shelf, header.slot) != self.peer[1:] or not exchange.accepts(header, raw):
            return self._drop("unfit_reply")
        lane = self._lane(exchange)
        del self._tags[header.tag]
        self.heard_ns = now_ns
        sent_ns = exchange.copies.pop(header.tag)
        lane.answered(sent_ns, now_ns, spurious=sent_ns < exchange.sent_ns)
        effects: list[Effect] = []
        if exchange.open:
            self.window.answered()
            effects.append(Answered(exchange, header, raw))
        else:
            self.counters["late_replies"] += 1
        self._close(exchange, effects)
        self._resend_overtaken(lane, now_ns, effects)
        return self._fill(now_ns, effects)

    def tick(self, now_ns: int) -> list[Effect]:
        """Time has passed: send again what seems lost, give up on copies that nothing will come of."""
        effects: list[Effect] = []
        for lane in (self._reads, self._changes):
            for exchange in list(lane.flying):
                if now_ns - exchange.sent_ns >= lane.wait_ns(exchange):
                    self._resend(lane, exchange, now_ns, effects)
            for exchange in list(lane.unsettled):
                if now_ns - exchange.sent_ns >= lane.quiesce_ns:
                    self._forget(exchange, effects)
        return self._fill(now_ns, effects)

    # Inside

    def _lane(self, exchange: Exchange) -> _Lane:
        return self._changes if exchange.changes else self._reads

    def _fill(self, now_ns: int, effects: list[Effect]) -> list[Effect]:
        while self._waiting and self.outstanding < self.window.size:
            exchange = next(iter(self._waiting))
            del self._waiting[exchange]
            self._transmit(self._lane(exchange), exchange, now_ns, effects)
        return effects

    def _transmit(self, lane: _Lane, exchange: Exchange, now_ns: int, effects: list[Effect]) -> None:
        tag = self.new_tag()
        if not self.outstanding:
            self.asked_ns = now_ns
        exchange.tries += 1
        exchange.sent_ns = now_ns
        exchange.copies[tag] = now_ns
        if len(exchange.copies) > limits.COPIES_MAX:
            oldest = next(iter(exchange.copies))
            del exchange.copies[oldest], self._tags[oldest]
        self._tags[tag] = exchange
        lane.flying[exchange] = None
        own, mac, shelf, slot = self.peer
        header = Header(mac, own, frame.VERSION, 0, 0, shelf, slot, exchange.command, tag)
        effects.append(Transmit(frame.encode(header, exchange.body)))

    def _resend(self, lane: _Lane, exchange: Exchange, now_ns: int, effects: list[Effect]) -> None:
        self.counters["retransmits"] += 1
        self.window.lost(now_ns, lane.rtt.usual_ns)
        del lane.flying[exchange]
        self._transmit(lane, exchange, now_ns, effects)

    def _resend_overtaken(self, lane: _Lane, now_ns: int, effects: list[Effect]) -> None:
        """What was sent before something that is already answered, and is late (RFC 8985 has the idea)."""
        while lane.flying:
            exchange = next(iter(lane.flying))
            late = now_ns - exchange.sent_ns >= lane.wait_ns(exchange)
            if not late or exchange.sent_ns >= lane.newest_ns:
                return
            self._resend(lane, exchange, now_ns, effects)

    def _close(self, exchange: Exchange, effects: list[Effect]) -> None:
        """No answer is wanted any more, or a copy less is of unknown fate."""
        lane = self._lane(exchange)
        exchange.open = False
        lane.flying.pop(exchange, None)
        if exchange.copies:
            lane.unsettled[exchange] = None
        else:
            lane.unsettled.pop(exchange, None)
            effects.append(Settled(exchange))

    def _forget(self, exchange: Exchange, effects: list[Effect]) -> None:
        """Whatever became of its copies, they can do nothing any more."""
        self.counters["unanswered"] += 1
        for tag in exchange.copies:
            del self._tags[tag]
        exchange.copies.clear()
        self._close(exchange, effects)

    def _drop(self, reason: str) -> list[Effect]:
        self.counters[reason] += 1
        return []
