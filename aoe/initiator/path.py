"""One way to a target: tags, copies, round-trip times, window and retransmission, without I/O.

Frames and clock readings (CLOCK_BOOTTIME, nanoseconds) go in, effects come out in the order in which they
are to be done. Every transmission of a request has a tag and a fate of its own (order rules I1 and I2):
`Settled` says that no copy of a request can change data any more. csrc/initiator/path.c does the same,
frame by frame.
"""

import enum
from collections import Counter
from typing import NamedTuple

from aoe import limits
from aoe.drive.command import FAILURES
from aoe.initiator.rtt import Rtt
from aoe.initiator.window import Window
from aoe.timing import USUAL, Timing
from aoe.wire import ata, frame, opcodes, protocol
from aoe.wire.ata import AtaRequest
from aoe.wire.frame import FLAG_ERROR, Command, Header
from aoe.wire.protocol import USER_TAG
from aoe.wire.stamp import UNSTAMPED, Stamp, earlier, stamped


class Peer(NamedTuple):
    """Which server is asked: the MACs at both ends and the address."""

    own: bytes
    mac: bytes
    shelf: int
    slot: int


class Kind(enum.IntEnum):
    """Requests that take alike long, and whose copies are alike harmless."""

    READS = 0
    CHANGES = 1
    SYNCS = 2


_STAMPED = (
    opcodes.WRITE_SECTORS_EXT,
    opcodes.WRITE_DMA_FUA_EXT,
    opcodes.FLUSH_CACHE,
    opcodes.FLUSH_CACHE_EXT,
)
STREAM_STEP = 0x9E37
FLUSH = ata.encode(AtaRequest(0, 0, 0, opcodes.FLUSH_CACHE_EXT, 0))


class Exchange:
    """A request, the bytes after its AoE header, and the copies of it whose fate is not known.

    `reply_min` is how long a reply without an error is at least, in bytes, `sectors` how many go with it.
    """

    __slots__ = (
        "body",
        "command",
        "copies",
        "generation",
        "kind",
        "open",
        "reply_min",
        "sectors",
        "sent_ns",
        "since_ns",
        "stamp",
        "tries",
    )

    def __init__(
        self,
        command: Command,
        body: bytes,
        *,
        kind: Kind = Kind.READS,
        reply_min: int = 0,
        sectors: int = 0,
    ) -> None:
        self.command = command
        self.body = body
        self.kind = kind
        self.reply_min = reply_min
        self.sectors = sectors
        self.copies: dict[int, int] = {}
        """When each was sent, by its tag."""
        self.open = True
        """Whether an answer is still wanted."""
        self.sent_ns = 0
        self.since_ns = 0
        """From when it is waited for: `sent_ns`, and the time since in which we did not run."""
        self.tries = 0
        self.stamp = UNSTAMPED
        """Of its last transmission (order rule T9); none, if its copies belong to several streams."""
        self.generation = 0
        """To which process of the peer it was sent; -1, if its copies were to several."""

    @property
    def stamped(self) -> bool:
        """Whether it says which stream it belongs to, where the peer knows ours."""
        return self.command == Command.ATA and ata.command_in(self.body) in _STAMPED

    def judge(self, header: Header, raw: bytes) -> bool | None:
        """Whether a reply says that it was done; None where the frame cannot be the reply to this."""
        if header.command != self.command:
            return None
        if header.flags & FLAG_ERROR:
            return False
        if self.command == Command.ATA:
            if len(raw) < protocol.ATA_HEADER:
                return None
            if ata.status_of(raw) & FAILURES:
                return False
        return True if len(raw) >= self.reply_min else None


class Suspect(NamedTuple):
    """What was lost again and again, perhaps because it is large."""

    kind: Kind
    sectors: int
    lba: int


class Transmit(NamedTuple):
    """Put a frame on the wire."""

    frame: bytes


class Answered(NamedTuple):
    """The reply to a request; there is only one of these. `good`: it was done."""

    exchange: Exchange
    header: Header
    raw: bytes
    good: bool


class Settled(NamedTuple):
    """A request that is no longer open has no copy left that could do anything."""

    exchange: Exchange


Effect = Transmit | Answered | Settled


class _Lane:
    """The requests of one kind. `quiesce_ns` after its last transmission a copy can do nothing any more."""

    def __init__(self, quiesce_ns: int, timing: Timing) -> None:
        self.quiesce_ns = quiesce_ns
        self._timing = timing
        self.rtt = Rtt(timing)
        self.patience = 1.0
        """How many times the usual round trip an overtaken request is waited for."""
        self.flying: dict[Exchange, None] = {}
        """Open and sent, in the order of their last transmission."""
        self.unsettled: dict[Exchange, None] = {}
        """Not open any more, but with copies of unknown fate."""
        self.newest_ns = 0
        """When the youngest copy that was answered had been sent."""
        self.probes = 0
        """How often something was sent again, since the last answer, although nothing told of a loss."""
        self.probed_ns = 0
        self.resumed_ns = 0
        """When we last ran again: what was sent before tells nothing of round trips."""
        self.large = (0, 0)
        """How many sectors went with a large request that has passed of late, and when it was sent."""

    def passed(self, sectors: int, sent_ns: int) -> None:
        """A request with so many has."""
        if sectors >= self.large[0] or sent_ns - self.large[1] > self._timing.size_wait_ns:
            self.large = (sectors, sent_ns)

    def suspects(self, exchange: Exchange) -> bool:
        """Whether a request is lost again and again, and nothing as large passed since it was first sent."""
        again = exchange.tries >= limits.SIZE_LOSSES or self.probes >= limits.SIZE_LOSSES - 1
        if exchange.sectors <= 1 or not again:
            return False
        sectors, sent_ns = self.large
        return sectors < exchange.sectors or sent_ns < next(iter(exchange.copies.values()))

    def wait_ns(self, exchange: Exchange) -> int:
        """How long after its last transmission a request counts as lost."""
        wait = int(self.rtt.usual_ns * self.patience) if self.overtook(exchange) else self.rtt.timeout_ns
        return min(wait << min(exchange.tries - 1, 16), self._timing.rto_max_ns)

    def overtook(self, exchange: Exchange) -> bool:
        """Whether something was answered that was sent later: the sign of a loss."""
        return exchange.sent_ns < self.newest_ns

    def late(self, exchange: Exchange, now_ns: int) -> bool:
        """Whether it is waited for no longer."""
        return now_ns - exchange.since_ns >= self.wait_ns(exchange)

    def may_probe(self, now_ns: int) -> bool:
        """Whether the last probe was long enough ago."""
        wait = min(self.rtt.timeout_ns << min(self.probes, 16), self._timing.rto_max_ns)
        return not self.probes or now_ns - self.probed_ns >= wait

    @property
    def stuck(self) -> bool:
        """Whether it is not answered although it is sent again and again."""
        first = next(iter(self.flying), None)
        tries = max(self.probes + 1, first.tries) if first else 0
        return tries > limits.STUCK_TRIES

    def stand_still(self, gap_ns: int, now_ns: int) -> None:
        """As for `Path`."""
        self.resumed_ns = now_ns
        self.probed_ns += gap_ns
        for exchange in self.flying:
            exchange.since_ns += gap_ns

    def answered(self, exchange: Exchange, sent_ns: int, now_ns: int) -> None:
        if sent_ns >= self.resumed_ns:
            self.rtt.sample(now_ns - sent_ns)
        self.newest_ns = max(self.newest_ns, sent_ns)
        self.probes = 0
        if sent_ns < exchange.sent_ns:
            self.rtt.spurious()
            self.patience = min(2 * self.patience, limits.PATIENCE_MAX)
            return
        if exchange.tries > 1 and exchange.open:
            self.rtt.lost()
        self.patience += (1 - self.patience) / 256


class Path:
    """Asks one `peer`. `window_max` is in requests, `first_tag` any number, `quiesce_ns` the time after which
    a copy of a change that was not answered can no longer be carried out there (order rule I2)."""

    def __init__(
        self, peer: Peer, *, window_max: int, first_tag: int, quiesce_ns: int, timing: Timing = USUAL
    ) -> None:
        self.timing = timing
        self.peer = peer
        self.window = Window(window_max)
        self.drains = False
        """Whether the peer answers a FLUSH only after every change that reached it before."""
        self.stamp = UNSTAMPED
        """Of what is sent now, once the peer knows our stream and drops writes of earlier epochs (order rule
        T9)."""
        self._streams = first_tag & 0xFFFF
        """Where the numbers of the streams have come to."""
        self.generation = 1
        """Rises when the peer is another process, which cannot speak for what the one before had begun."""
        self.counters: Counter[str] = Counter()
        self._tag = first_tag % USER_TAG
        self.heard_ns = 0
        """When the peer last answered anything."""
        self.quiet_from_ns = 0
        """From when it counts as silent: `heard_ns`, and the time since in which we did not run."""
        self.asked_ns = 0
        """When something was asked while nothing else was outstanding."""
        self._tags: dict[int, Exchange] = {}
        self._waiting: dict[Exchange, None] = {}
        harmless = self.timing.network_lifetime_ns
        self._lanes = [_Lane(quiesce_ns if kind is Kind.CHANGES else harmless, timing) for kind in Kind]
        self._drain: Exchange | None = None
        self._swept_ns = 0
        self._drained_ns = 0
        """When the last drain began."""
        self.suspect: Suspect | None = None
        """The largest since the last look."""

    def quiesce_after(self, quiesce_ns: int) -> None:
        """What is known of the target has changed."""
        self._lanes[Kind.CHANGES].quiesce_ns = quiesce_ns

    @property
    def outstanding(self) -> int:
        """Requests sent and still open."""
        return sum(len(lane.flying) for lane in self._lanes)

    @property
    def load(self) -> int:
        """Requests that are open."""
        return self.outstanding + len(self._waiting)

    @property
    def unsettled(self) -> int:
        """Changes of unknown fate whose answer is not waited for."""
        return len(self._lanes[Kind.CHANGES].unsettled)

    @property
    def uncertain(self) -> bool:
        """Whether there are copies of unknown fate whose answer is not waited for."""
        return any(lane.unsettled for lane in self._lanes)

    @property
    def rtt_ns(self) -> int:
        """Smoothed round-trip time of reads, 0 if there were none."""
        return self._lanes[Kind.READS].rtt.smoothed_ns

    def quiet_ns(self, now_ns: int) -> int:
        """For how long the peer has owed an answer without a word."""
        return now_ns - max(self.quiet_from_ns, self.asked_ns) if self.outstanding else 0

    def heard(self, now_ns: int) -> None:
        """The peer answered something."""
        self.heard_ns = self.quiet_from_ns = now_ns

    def stand_still(self, gap_ns: int, now_ns: int) -> None:
        """We did not run for so long. What may be late is given that time; copies are as old as they are."""
        self.asked_ns += gap_ns
        self.quiet_from_ns += gap_ns
        for lane in self._lanes:
            lane.stand_still(gap_ns, now_ns)

    def make_anew(self, tag: int, now_ns: int) -> list[Effect]:
        """A copy was never sent, and is too old for it now: another one takes its place."""
        exchange, effects = self._tags.pop(tag), list[Effect]()
        lane = self._lanes[exchange.kind]
        del exchange.copies[tag]
        if exchange.open:
            exchange.tries -= 1
            del lane.flying[exchange]
            self._transmit(lane, exchange, now_ns, effects)
        else:
            self._close(exchange, effects)
        return effects

    def new_tag(self) -> int:
        """A tag that no other transmission has."""
        self._tag = (self._tag + 1) % USER_TAG
        return USER_TAG | self._tag

    def new_stream(self, instance: int) -> Stamp:
        """A stream that was not used here before, for that life of the peer."""
        self._streams = (self._streams + STREAM_STEP) & 0xFFFF or 1
        return Stamp(self._streams, 0, instance)

    @property
    def stuck(self) -> bool:
        """Whether changes are not answered although they are sent again and again."""
        return any(self._lanes[kind].stuck for kind in (Kind.CHANGES, Kind.SYNCS))

    def knows(self, tag: int) -> bool:
        """Whether a copy with that tag is of unknown fate."""
        return tag in self._tags

    def settle_all(self) -> list[Effect]:
        """The peer was fenced: what was sent and is not open any more can do nothing."""
        effects: list[Effect] = []
        for lane in self._lanes:
            for exchange in list(lane.unsettled):
                self._forget(exchange, effects)
        return effects

    def start(self, exchange: Exchange, now_ns: int) -> list[Effect]:
        """Ask; at once if the window has room."""
        self._waiting[exchange] = None
        return self._fill(now_ns, [])

    def start_now(self, exchange: Exchange, now_ns: int) -> list[Effect]:
        """Ask, however full the window is."""
        effects: list[Effect] = []
        self._transmit(self._lanes[exchange.kind], exchange, now_ns, effects)
        return effects

    def send_changes_again(self, now_ns: int) -> list[Effect]:
        """The peer did not heed those that it got."""
        effects: list[Effect] = []
        for lane in (self._lanes[Kind.CHANGES], self._lanes[Kind.SYNCS]):
            for exchange in list(lane.flying):
                self._resend(lane, exchange, now_ns, effects)
        return effects

    def abandon(self, exchange: Exchange, now_ns: int) -> list[Effect]:
        """No answer is wanted any more. What was sent stays of unknown fate."""
        effects: list[Effect] = []
        self._waiting.pop(exchange, None)
        self._close(exchange, effects)
        return self._fill(now_ns, effects)

    def received(self, header: Header, raw: bytes, now_ns: int) -> list[Effect]:
        """A reply came in on the link of this path."""
        exchange = self._tags.get(header.tag)
        if exchange is None:
            return self._drop("unknown_tag")
        good = exchange.judge(header, raw)
        if good is None or (header.src, header.shelf, header.slot) != self.peer[1:]:
            return self._drop("unfit_reply")
        lane = self._lanes[exchange.kind]
        del self._tags[header.tag]
        self.heard(now_ns)
        sent_ns = exchange.copies.pop(header.tag)
        lane.answered(exchange, sent_ns, now_ns)
        effects: list[Effect] = []
        if exchange.sectors > 1 and (good or exchange.kind is Kind.CHANGES):
            lane.passed(exchange.sectors, sent_ns)
        if exchange is self._drain:
            self._drain = None
            if good:
                self._drained(sent_ns, exchange, effects)
        elif exchange.open:
            self.window.answered()
            effects.append(Answered(exchange, header, raw, good))
        else:
            self.counters["late_replies"] += 1
        self._close(exchange, effects)
        self._resend_overtaken(lane, now_ns, effects)
        return self._fill(now_ns, effects)

    def tick(self, now_ns: int) -> list[Effect]:
        """Time has passed: send again what seems lost, give up on copies that nothing will come of."""
        effects: list[Effect] = []
        for lane in self._lanes:
            for exchange in list(lane.flying):
                if lane.overtook(exchange) and lane.late(exchange, now_ns):
                    self._resend(lane, exchange, now_ns, effects)
            self._probe(lane, now_ns, effects)
        if now_ns - self._swept_ns >= self.timing.sweep_ns:
            self._swept_ns = now_ns
            self._sweep(now_ns, effects)
        if self._drain is None and self._wants_drain(now_ns):
            self._begin_drain(now_ns, effects)
        return self._fill(now_ns, effects)

    # Inside

    def _fill(self, now_ns: int, effects: list[Effect]) -> list[Effect]:
        while self._waiting and self.outstanding < self.window.size:
            exchange = next(iter(self._waiting))
            if exchange.kind is Kind.CHANGES and self.unsettled >= limits.UNSETTLED_MAX:
                break
            del self._waiting[exchange]
            self._transmit(self._lanes[exchange.kind], exchange, now_ns, effects)
        return effects

    def _sweep(self, now_ns: int, effects: list[Effect]) -> None:
        """Copies that are too old settle by their age."""
        for lane in self._lanes:
            for exchange in list(lane.unsettled):
                if now_ns - exchange.sent_ns >= lane.quiesce_ns:
                    self._forget(exchange, effects)
        if self._drain is not None and not self.unsettled:
            self._close(self._drain, effects)
            self._drain = None

    def _wants_drain(self, now_ns: int) -> bool:
        """A FLUSH settles what came before it (T1): what the peer will not carry out any more, as it belongs
        to an earlier epoch (T9), and what the network can no longer deliver."""
        oldest = next(iter(self._lanes[Kind.CHANGES].unsettled), None)
        if oldest is None or not self.drains:
            return False
        if oldest.stamp.stream and oldest.stamp.stream == self.stamp.stream:
            return now_ns - self._drained_ns >= self.timing.drain_ns
        return now_ns - oldest.sent_ns >= self.timing.network_lifetime_ns

    def _begin_drain(self, now_ns: int, effects: list[Effect]) -> None:
        self._drained_ns = now_ns
        if self.stamp.stream:
            self.stamp = self.stamp._replace(epoch=(self.stamp.epoch + 1) & 0xFF)
        self._drain = Exchange(Command.ATA, FLUSH, kind=Kind.SYNCS, reply_min=protocol.ATA_HEADER)
        self.counters["drains"] += 1
        self._transmit(self._lanes[Kind.SYNCS], self._drain, now_ns, effects)

    def _drained(self, sent_ns: int, drain: Exchange, effects: list[Effect]) -> None:
        stamp = drain.stamp
        for exchange in list(self._lanes[Kind.CHANGES].unsettled):
            if exchange.generation != drain.generation or drain.generation < 0:
                continue
            dropped = stamp.stream and exchange.stamp.stream == stamp.stream
            before = dropped and earlier(exchange.stamp.epoch, stamp.epoch)
            if before or exchange.sent_ns + self.timing.network_lifetime_ns <= sent_ns:
                self._forget(exchange, effects)

    def _transmit(self, lane: _Lane, exchange: Exchange, now_ns: int, effects: list[Effect]) -> None:
        tag = self.new_tag()
        if not exchange.tries and not lane.flying:
            lane.probes = 0
        if not exchange.tries and not self.outstanding:
            self.asked_ns = now_ns
        exchange.tries += 1
        exchange.sent_ns = exchange.since_ns = now_ns
        same = exchange.tries == 1 or exchange.generation == self.generation
        exchange.generation = self.generation if same else -1
        exchange.copies[tag] = now_ns
        if len(exchange.copies) > limits.COPIES_MAX:
            oldest = next(iter(exchange.copies))
            del exchange.copies[oldest], self._tags[oldest]
        self._tags[tag] = exchange
        lane.flying[exchange] = None
        own, mac, shelf, slot = self.peer
        header = Header(mac, own, frame.VERSION, 0, 0, shelf, slot, exchange.command, tag)
        body = exchange.body if exchange.kind is Kind.READS else self._stamped(exchange)
        effects.append(Transmit(frame.encode(header, body)))

    def _stamped(self, exchange: Exchange) -> bytes:
        """What is sent of something that is no read, and of which stream it is from now on."""
        stamp = self.stamp if exchange.stamped else UNSTAMPED
        same = exchange.tries == 1 or exchange.stamp.stream == stamp.stream
        exchange.stamp = stamp if same else UNSTAMPED
        return stamped(exchange.body, stamp) if stamp.stream else exchange.body

    def _resend(self, lane: _Lane, exchange: Exchange, now_ns: int, effects: list[Effect]) -> None:
        self.counters["retransmits"] += 1
        self.window.lost(now_ns, lane.rtt.usual_ns)
        del lane.flying[exchange]
        self._transmit(lane, exchange, now_ns, effects)
        known = self.suspect.sectors if self.suspect else 0
        if exchange.sectors > known and lane.suspects(exchange):
            lba = ata.lba_in(exchange.body)
            self.suspect = Suspect(exchange.kind, exchange.sectors, lba)

    def _probe(self, lane: _Lane, now_ns: int, effects: list[Effect]) -> None:
        """Send one again of those that only time speaks against. A server that pauses has the others still
        before it; one that lost them shows it by answering this one, the youngest (as RFC 8985 has it)."""
        youngest = next(reversed(lane.flying), None)
        if youngest is None or not lane.late(youngest, now_ns) or not lane.may_probe(now_ns):
            return
        lane.probes += 1
        lane.probed_ns = now_ns
        if lane.probes > limits.PROBES_FORGIVEN:
            self.window.halve()
        self._resend(lane, youngest, now_ns, effects)

    def _resend_overtaken(self, lane: _Lane, now_ns: int, effects: list[Effect]) -> None:
        """What was sent before something that is already answered, and is late (RFC 8985 has the idea)."""
        while lane.flying:
            exchange = next(iter(lane.flying))
            if not lane.overtook(exchange) or not lane.late(exchange, now_ns):
                return
            self._resend(lane, exchange, now_ns, effects)

    def _close(self, exchange: Exchange, effects: list[Effect]) -> None:
        """No answer is wanted any more, or a copy less is of unknown fate."""
        lane = self._lanes[exchange.kind]
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
