"""What speaks AoE with one server: tags, copies, round-trip times, window, retransmission; without I/O.

Frames and clock readings (CLOCK_BOOTTIME, nanoseconds) go in, effects come out in the order in which they
are to be done. Every transmission of a request has a tag and a fate of its own (order rules I1 and I2):
`Settled` says that no copy of a request can change data any more. csrc/initiator/channel.c does the same,
frame by frame.
"""

from collections import Counter

from aoe import limits
from aoe.initiator.debts import Debts
from aoe.initiator.exchange import FLUSH, Answered, Effect, Exchange, Kind, Peer, Settled, Transmit
from aoe.initiator.lane import Lane, Suspect
from aoe.initiator.window import Window
from aoe.timing import USUAL, Timing
from aoe.wire import ata, frame, protocol
from aoe.wire.frame import Command, Header
from aoe.wire.protocol import USER_TAG
from aoe.wire.stamp import UNSTAMPED, Stamp, earlier, stamped

STREAM_STEP = 0x9E37


class Channel:
    """Asks one `peer`. `window_max` is in requests, `first_tag` any number, `quiesce_ns` the time after which
    a copy of a change that was not answered can no longer be carried out there (order rule I2). What is sent
    over `port` is noted in `debts`."""

    def __init__(
        self,
        peer: Peer,
        *,
        window_max: int,
        first_tag: int,
        quiesce_ns: int,
        timing: Timing = USUAL,
        debts: Debts | None = None,
        port: int = 0,
    ) -> None:
        self.timing = timing
        self.peer = peer
        self.port = port
        self.debts = debts or Debts(timing)
        self.bound_ns = quiesce_ns
        """After which a copy counts as over for the next life, unless that is to hold."""
        self.window = Window(window_max)
        self.drains = False
        """Whether the peer answers a FLUSH only after every change that reached it before."""
        self.stamp = UNSTAMPED
        """Of what is sent now, once the peer knows our stream and drops writes of earlier epochs (order rule
        T9)."""
        self.trims = False
        """Whether the peer asks a TRIM for its stream, too."""
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
        self._lanes = [Lane(quiesce_ns if kind is Kind.CHANGES else harmless, timing) for kind in Kind]
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
        return self._lanes[Kind.READS].rtt.shown_ns

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
        del exchange.copies[tag]
        if exchange.open:
            exchange.tries -= 1
            self._send_anew(exchange, now_ns, effects)
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
        while self.debts.has(self.peer, self._streams):
            self._streams = (self._streams + STREAM_STEP) & 0xFFFF or 1
        return Stamp(self._streams, 0, instance)

    @property
    def stuck(self) -> bool:
        """Whether changes are not answered although they are sent again and again."""
        return any(self._lanes[kind].stuck for kind in (Kind.CHANGES, Kind.SYNCS))

    @property
    def ignores(self) -> bool:
        """Whether the peer has answered something else since changes that are stuck were last sent."""
        return any(self._lanes[kind].ignored(self.heard_ns) for kind in (Kind.CHANGES, Kind.SYNCS))

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

    def begin_anew(self, alone: int | None, now_ns: int) -> list[Effect]:
        """The peer is another process, which knows nothing of what the one before was asked: ask it. Copies
        that name another life of the peer than `alone`, if that is told, can do nothing any more."""
        effects: list[Effect] = []
        for lane in self._lanes:
            lane.probes = 0
            for exchange in [it for it in lane.unsettled if it.is_over(alone, self.trims)]:
                self._forget(exchange, effects)
            for exchange in list(lane.flying):
                if exchange.is_over(alone, self.trims):
                    self._forget_copies(exchange)
                    exchange.tries = 0
                    self._send_anew(exchange, now_ns, effects)
                else:
                    self._resend(lane, exchange, now_ns, effects)
        return effects

    def ask_again(self, question: Exchange, now_ns: int) -> list[Effect]:
        """The peer may have lost what it was asked, which changes nothing there; what was sent just now is
        on its way."""
        assert question.kind is Kind.READS, "copies of a change are rare enough to be remembered"
        effects: list[Effect] = []
        if now_ns - question.sent_ns >= self.timing.rto_first_ns:
            self._resend(self._lanes[question.kind], question, now_ns, effects)
        return effects

    def abandon(self, exchange: Exchange, now_ns: int) -> list[Effect]:
        """No answer is wanted any more. What was sent stays of unknown fate."""
        effects: list[Effect] = []
        self._waiting.pop(exchange, None)
        self._close(exchange, effects)
        return self._fill(now_ns, effects)

    def received(self, header: Header, raw: bytes, now_ns: int) -> list[Effect]:
        """A reply came in on the link of this channel."""
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
        if self.unsettled and self._lanes[Kind.CHANGES].quiesce_ns > self.bound_ns:
            self.debts.go_on(self.port, self.peer, now_ns)
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

    def _transmit(self, lane: Lane, exchange: Exchange, now_ns: int, effects: list[Effect]) -> None:
        tag = self.new_tag()
        if not exchange.tries and not lane.flying:
            lane.probes = 0
        if not exchange.tries and not self.outstanding:
            self.asked_ns = now_ns
        exchange.tries += 1
        exchange.guessed = False
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
        if exchange.kind is not Kind.READS:
            self._owe(exchange, tag, now_ns)
        effects.append(Transmit(frame.encode(header, body)))

    def _owe(self, exchange: Exchange, tag: int, now_ns: int) -> None:
        """A flush that says no epoch changes nothing."""
        stamp = self.stamp if exchange.is_stamped(self.trims) else UNSTAMPED
        if stamp.stream or exchange.kind is Kind.CHANGES:
            self.debts.owe(self.port, self.peer, stamp, tag % USER_TAG, self.bound_ns, now_ns)

    def _send_anew(self, exchange: Exchange, now_ns: int, effects: list[Effect]) -> None:
        """In place of copies that never were."""
        lane = self._lanes[exchange.kind]
        del lane.flying[exchange]
        self._transmit(lane, exchange, now_ns, effects)

    def _stamped(self, exchange: Exchange) -> bytes:
        """What is sent of something that is no read, and of which stream it is from now on."""
        stamp = self.stamp if exchange.is_stamped(self.trims) else UNSTAMPED
        same = exchange.tries == 1 or exchange.stamp.stream == stamp.stream
        exchange.stamp = stamp if same else UNSTAMPED
        return stamped(exchange.body, stamp) if stamp.stream else exchange.body

    def _resend(self, lane: Lane, exchange: Exchange, now_ns: int, effects: list[Effect]) -> None:
        self.counters["retransmits"] += 1
        self.window.lost(now_ns, lane.rtt.usual_ns)
        del lane.flying[exchange]
        self._transmit(lane, exchange, now_ns, effects)
        known = self.suspect.sectors if self.suspect else 0
        if exchange.sectors > known and lane.suspects(exchange):
            lba = ata.lba_in(exchange.body)
            self.suspect = Suspect(exchange.kind, exchange.sectors, lba)

    def _probe(self, lane: Lane, now_ns: int, effects: list[Effect]) -> None:
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
        youngest.guessed = True

    def _resend_overtaken(self, lane: Lane, now_ns: int, effects: list[Effect]) -> None:
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
        self._forget_copies(exchange)
        self._close(exchange, effects)

    def _forget_copies(self, exchange: Exchange) -> None:
        for tag in exchange.copies:
            del self._tags[tag]
        exchange.copies.clear()

    def _drop(self, reason: str) -> list[Effect]:
        self.counters[reason] += 1
        return []
