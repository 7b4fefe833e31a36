"""One disk over several ways: which there are, which of them carries what, and when to change, without I/O.

Ways are found by config queries on every port, for every address, as long as there is one without a usable
way. One way, the owner, carries everything; reads that overlap no change may be spread over all (order rule
I5). When a way is lost, what is open there goes to another one at once, with the same bytes (I3); the copies
on the old way keep their ranges closed until their fate is known (I2), as `aoe.initiator.path` says. A way is
used only while IDENTIFY vouches for it: that it is the same disk, and the same process as before (I6). One
that answers queries but no I/O is slow, not dead, and is given more time (I7). csrc/initiator/session.c does
the same.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aoe import limits, timing
from aoe.drive import identify
from aoe.drive.command import ABRT, ERROR, FAILURES
from aoe.initiator import path as one_way
from aoe.initiator.facts import Facts, Reason, facts_of, unfit
from aoe.initiator.life import TABLE, Do, Happens, State
from aoe.initiator.path import Exchange, Kind, Path, Peer
from aoe.initiator.sizes import Direction, Probe, Sizes
from aoe.initiator.strangers import IDENTIFY, Stranger, Strangers
from aoe.initiator.trial import Trial, other_store, same_server
from aoe.timing import USUAL, Timing
from aoe.wire import ata, config, frame, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AtaReply, AtaRequest
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_ERROR, FLAG_RESPONSE, Command, Error, Fault, Header
from aoe.wire.opcodes import IDENTIFY_DEVICE, READ_SECTORS_EXT
from aoe.wire.protocol import USER_TAG
from aoe.wire.stamp import UNSTAMPED, Stamp, stamped

Address = tuple[int, int]
TAG_STEP = 0x1E3779B1
_READ_FIRST_SECTOR = ata.encode(AtaRequest(AFLAG_EXTENDED, 0, 1, READ_SECTORS_EXT, 0))


class Port(NamedTuple):
    """Our end: `sectors` is the most that fit a frame there, `window` how many frames its buffer holds."""

    mac: bytes
    sectors: int
    window: int
    up: bool


class Policy(NamedTuple):
    """`spread` reads over all proved ways; `hold` ranges of unknown fate closed until the server answers or
    is fenced; go back to a proved way named earlier when it was usable for `failback_ns` (None: never);
    `require` a proof of a server that takes over; `timing` is how long things are waited for."""

    spread: bool = False
    hold: bool = False
    failback_ns: int | None = None
    require: bool = False
    timing: Timing = USUAL


class Way:
    """A path, and what is known of it. `number` is its name, `rank` the place of its address among those
    given."""

    def __init__(self, number: int, port: int, rank: int, path: Path) -> None:
        self.number = number
        self.port = port
        self.rank = rank
        self.path = path
        self.offers = 0
        """How many sectors its server says that it takes in one request."""
        self.sectors = 0
        """How many both ends take."""
        self.sizes = Sizes(path.timing)
        """How many pass between them."""
        self.shown = self.sizes.shown
        self.state = State.CHECKING
        self.reason = Reason.NONE
        self.facts: Facts | None = None
        self.trial = Trial()
        """Of its server, together with the other ways there."""
        self.vouched = False
        """Whether nothing happened since the last IDENTIFY that would make it another server."""
        self.slow = False
        """Whether it has to answer a read before it is usable again."""
        self.check: Exchange | None = None
        self.claim = UNSTAMPED
        """The stream that the check asks the server to know, if any (order rule T9)."""
        self.heeds = False
        """Whether the server has said that it heeds streams."""
        self.claim_after_ns = 0
        """Before that no other stream is asked for: there was no place, or the last one is still young."""
        self.question: Exchange | None = None
        """The config query that is under way."""
        self.refused: dict[Operation, bool] = {}
        """What its server refused, perhaps as too large for it now; whether the query began after that."""
        self.renewed = 0
        """How often another one was taken as the last was not heeded."""
        self.check_after_ns = 0
        self.probed_ns = 0
        self.io_ns = 0
        """When the last read or write was answered."""
        self.usable_ns = 0
        """Since when it is."""

    @property
    def sampling(self) -> bool:
        """Whether its samples are to be compared with the owner's."""
        return self.state in (State.COMPARED, State.RETRIED)

    @property
    def lost(self) -> bool:
        """Whether it is looked at from time to time, as it may come back."""
        return self.state in (State.DOWN, State.REFUSED, State.RETRIED)

    def most(self, kind: Kind) -> int:
        """How many sectors may go with a request."""
        return self.sizes.limit(Direction.BACK if kind is Kind.READS else Direction.THERE)

    def replaceable(self, by_good: bool) -> bool:
        """Whether it makes room: what was never usable, when it is lost, or at any time for a server that
        answered well; what was usable for such a server only, when no copy is of unknown fate there."""
        if self.state is State.USABLE or self.path.load != (self.check is not None):
            return False
        over = self.lost and not self.path.uncertain
        return by_good and over if self.usable_ns else by_good or over


class Operation:
    """A request of one frame, carried by one exchange for each way it was sent on; `only` is the way where it
    is meant for one server and no other, `free` whether any way will do. `sectors` go with it one way or the
    other: a way may take fewer, and then it has to become several."""

    __slots__ = (
        "body",
        "command",
        "exchanges",
        "free",
        "kind",
        "only",
        "open",
        "refusal",
        "refused_by",
        "reply_min",
        "sectors",
        "user",
    )

    def __init__(
        self,
        body: bytes,
        *,
        kind: Kind,
        reply_min: int,
        command: Command = Command.ATA,
        only: Way | None = None,
        free: bool = False,
        sectors: int = 0,
        user: object = None,
    ) -> None:
        self.body = body
        self.command = command
        self.kind = kind
        self.only = only
        self.free = free
        self.reply_min = reply_min
        self.sectors = sectors
        self.user = user
        self.refused_by: Way | None = None
        self.refusal: one_way.Answered | None = None
        self.exchanges: dict[Exchange, Way] = {}
        self.open = True

    @property
    def waits(self) -> bool:
        """Whether it would be sent as soon as there is room."""
        return any(exchange.open and not exchange.tries for exchange in self.exchanges)


class Answered(NamedTuple):
    """The reply to an operation; there is only one of these. `good`: it was done."""

    operation: Operation
    way: Way
    header: Header
    raw: bytes
    good: bool


class TooLarge(NamedTuple):
    """An operation was given up: where it has to go, `sectors` is the most that a request may have."""

    operation: Operation
    sectors: int


class Settled(NamedTuple):
    """An operation that is no longer open has no copy left that could do anything."""

    operation: Operation


Event = Answered | TooLarge | Settled


class Note(NamedTuple):
    """Something has happened to a way."""

    happens: Happens
    reason: Reason = Reason.NONE


class Session:
    """Carries operations to the servers of `addresses` (in order of preference), by way of `ports`.

    `out` is what is to be sent, by port; `events` what became of operations; `news` rises with every change
    of a way or of the disk.
    """

    def __init__(
        self, ports: int, addresses: Sequence[Address], first_tag: int, policy: Policy = Policy()
    ) -> None:
        self.ports: list[Port | None] = [None] * ports
        self.addresses = list(addresses)
        self.policy = policy
        self.timing = policy.timing
        self.ways: list[Way] = []
        self.owner: Way | None = None
        self.facts: Facts | None = None
        """Of the disk, as the first way described it, less what one of those before the choice cannot do."""
        self.out: list[tuple[int, bytes]] = []
        self.events: deque[Event] = deque()
        self._todo: deque[tuple[Way, one_way.Effect | Note]] = deque()
        """What is to be seen to, one after the other."""
        self.news = 0
        self.chosen = False
        """Whether there was an owner yet."""
        self._lost_ns = 0
        """When the last one was lost."""
        self.counters: Counter[str] = Counter()
        self._losses = 0
        """How often a server with a volatile cache was replaced before it was flushed (I6)."""
        self._losses_told = 0
        self._unflushed: Way | None = None
        """Which way's volatile cache holds changes that no flush vouches for."""
        self._changes = 0
        self._open: dict[Operation, None] = {}
        self._held: dict[Operation, None] = {}
        self._of: dict[Exchange, Operation] = {}
        self._tag = first_tag % USER_TAG
        self._first_tag = self._tag
        self._strangers = Strangers(self._tag, self.timing)
        self._ways_made = 0
        self._asked: deque[int] = deque(maxlen=limits.ASKED_MAX)
        self._seek_ns = 0
        self._seek_wait_ns = self.timing.query_first_ns
        self._usable_ns = 0
        """When the first way became usable."""
        self._last: Way | None = None
        """Where the last spread read went."""

    @property
    def pulse_ns(self) -> int:
        """How soon `tick` is wanted."""
        if not self.chosen or any(way.path.load for way in self.ways if way.state is not State.DOWN):
            return self.timing.rto_min_ns
        return self.timing.pulse_ns

    # What comes in

    def set_port(self, number: int, port: Port, now_ns: int) -> None:
        """A port is like this from now on. One over which no sector fits is down."""
        port = port._replace(up=port.up and port.sectors > 0)
        was = self.ports[number]
        came_up = port.up and not (was is not None and was.up)
        renamed = was is not None and was.mac != port.mac
        self.ports[number] = port
        here = [way for way in self.ways if way.port == number]
        for way in here:  # first: losing one way sends on others
            way.path.peer = way.path.peer._replace(own=port.mac)
            self._fit(way, now_ns)
            if renamed:  # to the server that is another host: what was sent before settles by time
                way.path.stamp = UNSTAMPED
                way.claim_after_ns = now_ns
            if renamed or not port.up:
                way.vouched = False
        for way in here:
            if not port.up:
                self._note(way, Happens.UNPLUGGED, Reason.LINK_DOWN)
                continue
            self._resized(way, now_ns)
            if came_up or renamed:
                self._look(way, now_ns)
        if came_up:
            self._seek_wait_ns = self.timing.query_first_ns
            self._seek(now_ns)
        self._run(now_ns)

    def start(self, operation: Operation, now_ns: int) -> None:
        """Carry it out."""
        self._open[operation] = None
        self._dispatch(operation, now_ns)
        self._run(now_ns)

    def abandon(self, operation: Operation, now_ns: int) -> None:
        """No answer is wanted any more. What was sent stays of unknown fate."""
        self._abandon(operation, now_ns)
        self._run(now_ns)

    def _abandon(self, operation: Operation, now_ns: int) -> None:
        operation.open = False
        self._open.pop(operation, None)
        self._held.pop(operation, None)
        if operation.refused_by is not None:
            operation.refused_by.refused.pop(operation, None)
        self._close(operation, now_ns)

    def received(self, port: int, raw: bytes, now_ns: int) -> None:
        """A frame came in on a port."""
        header = frame.decode(raw)
        if isinstance(header, Fault) or not header.flags & FLAG_RESPONSE:
            return  # others ask, too
        way = self._way_of(port, header)
        if way is not None and way.path.knows(header.tag):
            self._follow(way, way.path.received(header, raw, now_ns))
        elif way is not None and (probe := way.sizes.asked(header.tag)) is not None:
            self._probe_reply(way, probe, header, raw, now_ns)
        elif self._tells_of_itself(header):
            self._config_reply(port, way, header, raw, now_ns)
        elif way is None and self._strangers.tag(stranger := _stranger(port, header)) == header.tag:
            self._stranger_reply(stranger, header, raw)
        else:
            self.counters["unknown_tag"] += 1
        self._run(now_ns)

    def switch(self, way: Way, now_ns: int) -> bool:
        """Make a way the owner that is usable, or is being compared, once one was chosen. What the old one
        has under way ends there."""
        usable = way.state in (State.USABLE, State.COMPARED)
        if not usable or not self.chosen or self._is_barred(way):
            return False
        if way is not self.owner:
            self._note(way, Happens.CHOSEN)
            self._run(now_ns)
        return True

    def fenced(self, way: Way, now_ns: int) -> None:
        """The server of a way was made sure to do nothing any more (I4)."""
        for other in self.ways:
            if other.path.peer[1:] == way.path.peer[1:]:
                self._follow(other, other.path.settle_all())
        self._run(now_ns)

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        for way in self.ways:
            self._follow(way, way.path.tick(now_ns))
        self._run(now_ns)
        for way in self.ways:
            self._watch(way, now_ns)
            self._run(now_ns)
            self._tend(way, now_ns)
            self._run(now_ns)
        if now_ns >= self._seek_ns:
            self._seek(now_ns)
        if not self.chosen:
            self._settle_in(now_ns)
        elif self.owner is None:
            self._inherit(now_ns)
        elif self.policy.failback_ns is not None:
            self._go_back(self.policy.failback_ns, now_ns)
        self._run(now_ns)

    def stand_still(self, gap_ns: int, now_ns: int) -> None:
        """We did not run for so long, which was no server's silence. Only what waits for a sign of life is
        put off: fates (I2), and for how long a way is vouched for (I6), go by true time."""
        self._usable_ns += gap_ns if self._usable_ns else 0
        self._lost_ns += gap_ns
        for way in self.ways:
            way.path.stand_still(gap_ns, now_ns)
            way.io_ns += gap_ns
            way.probed_ns += gap_ns
            way.sizes.stand_still(gap_ns)
            way.usable_ns += gap_ns if way.usable_ns else 0
        self._make_anew(now_ns)
        self._run(now_ns)

    def _make_anew(self, now_ns: int) -> None:
        """What was not sent by now has a time of sending that is not true, and with it all that is told from
        that: it goes out as another copy. Queries are due again anyway."""
        unsent = self.out.copy()
        self.out.clear()
        for _, raw in unsent:
            tag = frame.tag_of(raw)
            way = next((way for way in self.ways if way.path.knows(tag)), None)
            if way is None:
                self._seek_ns = now_ns
            else:
                self._follow(way, way.path.make_anew(tag, now_ns))

    # What is to be seen to

    def _follow(self, way: Way, done: list[one_way.Effect]) -> None:
        """What a path did. Frames leave at once; what else it means is seen to in its turn."""
        for effect in done:
            if isinstance(effect, one_way.Transmit):
                self.out.append((way.port, effect.frame))
            else:
                self._todo.append((way, effect))

    def _note(self, way: Way, happens: Happens, reason: Reason = Reason.NONE) -> None:
        self._todo.append((way, Note(happens, reason)))

    def _run(self, now_ns: int) -> None:
        """See to one after the other, to its end; nothing is left to be done now."""
        while self._todo:
            way, it = self._todo.popleft()
            if isinstance(it, one_way.Answered):
                self._replied(way, it, now_ns)
            elif isinstance(it, one_way.Settled):
                self._settled(it.exchange)
            elif isinstance(it, Note):
                self._happened(way, it, now_ns)

    def _replied(self, way: Way, answer: one_way.Answered, now_ns: int) -> None:
        if answer.exchange is way.check:
            self._checked(way, answer, now_ns)
        elif answer.exchange is way.question:
            self._told(way, answer, now_ns)
        elif answer.exchange in self._of:
            self._answered(way, answer, now_ns)

    def _settled(self, exchange: Exchange) -> None:
        operation = self._of.pop(exchange, None)
        if operation is None:
            return
        del operation.exchanges[exchange]
        if not operation.open and not operation.exchanges:
            self.events.append(Settled(operation))

    def _happened(self, way: Way, note: Note, now_ns: int) -> None:
        """As the table of a path's life has it."""
        row = TABLE.get((way.state, note.happens))
        assert row is not None, f"{note.happens.name} does not happen to a path that is {way.state.name}"
        if row.to is not None:
            self._become(way, row.to, note.reason, now_ns)
        for do in row.do:
            _DOING[do](self, way, now_ns)

    # Operations

    def _dispatch(self, operation: Operation, now_ns: int) -> None:
        if operation.only is not None:
            self._send(operation, operation.only, now_ns)
            return
        way = self.owner
        if way is not None and operation.free and self.policy.spread:
            way = self._least_loaded(way, now_ns)
        if way is None:
            self._held[operation] = None
        elif not self._vouched(way, now_ns):
            self._held[operation] = None
            self._look(way, now_ns)
        elif operation.sectors > way.most(operation.kind):
            self._give_back(operation, way, now_ns)
        else:
            self._send(operation, way, now_ns)

    def _give_back(self, operation: Operation, way: Way, now_ns: int) -> None:
        """It has to become several. What was sent of it stays of unknown fate."""
        self.events.append(TooLarge(operation, way.most(operation.kind)))
        self._abandon(operation, now_ns)

    def frame(self, kind: Kind) -> int:
        """How many sectors the owner takes in one request, or any way while there is no owner."""
        ways = self.ways if self.owner is None else [self.owner]
        return max((way.most(kind) for way in ways), default=1)

    def _vouched(self, way: Way, now_ns: int) -> bool:
        return way.vouched and now_ns - way.path.heard_ns < self.timing.silence_ns

    def _least_loaded(self, owner: Way, now_ns: int) -> Way:
        """The proved way with the fewest requests; of equals, the one after the last that was chosen."""
        at = self.ways.index(self._last) + 1 if self._last in self.ways else 0
        best = None
        for way in self.ways[at:] + self.ways[:at]:
            if way.state is not State.USABLE or not (way.trial.proved or self.leads_to_owner(way)):
                continue
            if not self._vouched(way, now_ns):
                self._look(way, now_ns)
            elif best is None or way.path.load < best.path.load:
                best = way
        self._last = best or owner
        return self._last

    def _send(self, operation: Operation, way: Way, now_ns: int) -> None:
        exchange = Exchange(
            operation.command,
            operation.body,
            kind=operation.kind,
            reply_min=operation.reply_min,
            sectors=operation.sectors,
        )
        operation.exchanges[exchange] = way
        self._of[exchange] = operation
        self._follow(way, way.path.start(exchange, now_ns))

    def _close(self, operation: Operation, now_ns: int) -> None:
        """No answer to it is wanted any more."""
        if not operation.exchanges:
            self.events.append(Settled(operation))
        for exchange, way in list(operation.exchanges.items()):
            if exchange.open:
                self._follow(way, way.path.abandon(exchange, now_ns))

    def _answered(self, way: Way, answer: one_way.Answered, now_ns: int) -> None:
        operation = self._of[answer.exchange]
        if operation.command == Command.ATA:
            way.io_ns = now_ns
        if operation.kind is not Kind.READS and way.facts is not None and way.facts.volatile:
            self._unflushed = way
            self._changes += 1
        if not operation.open:
            return
        if operation.sectors > 1 and _refuses(answer):
            operation.refused_by, operation.refusal = way, answer
            way.refused[operation] = False
            self._ask_size(way, now_ns)
        else:
            self._conclude(operation, way, answer, now_ns)

    def _conclude(self, operation: Operation, way: Way, answer: one_way.Answered, now_ns: int) -> None:
        operation.open = False
        del self._open[operation]
        self.events.append(Answered(operation, way, answer.header, answer.raw, answer.good))
        self._close(operation, now_ns)

    def changes(self) -> tuple[int, int]:
        """Changes answered so far, which a flush that begins now vouches for, and losses already told of."""
        return self._changes, self._losses_told

    def flushed(self, began: tuple[int, int]) -> bool:
        """A flush that began when `changes` was so was answered; whether it vouches for them all. A loss is
        told to every flush that was under way then."""
        changes, told = began
        if changes + 1 >= self._changes:  # the flush itself is one
            self._unflushed = None
        self._losses_told = self._losses
        return self._losses == told

    # Finding ways

    def _seek(self, now_ns: int) -> None:
        """Ask for every address on every port where no usable way is known."""
        for port, facts in enumerate(self.ports):
            for address in self.addresses:
                if facts is not None and facts.up and not self._leads(port, address):
                    self._query(port, BROADCAST, address)
        self._seek_ns = now_ns + self._seek_wait_ns
        most = self.timing.query_max_ns if self.owner is None else self.timing.query_idle_ns
        self._seek_wait_ns = min(2 * self._seek_wait_ns, most)

    def _leads(self, port: int, address: Address) -> bool:
        """Whether there is a usable way. Behind one that is refused a good server may be hidden."""
        return any(
            way.state is State.USABLE and way.port == port and way.path.peer[2:] == address
            for way in self.ways
        )

    def _looked_at(self, address: Address) -> bool:
        """Whether a way there, on any port, has been checked and found well, or not ours."""
        known = (State.USABLE, State.REFUSED)
        return any(way.state.shown in known and way.path.peer[2:] == address for way in self.ways)

    def _query(self, port: int, mac: bytes, address: Address) -> None:
        self._tag = (self._tag + 1) % USER_TAG
        tag = USER_TAG | self._tag
        self._asked.append(tag)
        self._say(port, mac, address, Command.CONFIG, tag, config.encode(Config(ConfigCommand.READ)))

    def _say(self, port: int, mac: bytes, address: Address, command: Command, tag: int, body: bytes) -> None:
        """A question of our own, for no caller."""
        ours = self.ports[port]
        assert ours is not None, "what is heard is heard by a port"
        header = Header(mac, ours.mac, frame.VERSION, 0, 0, *address, command, tag)
        self.out.append((port, frame.encode(header, body)))

    def _tells_of_itself(self, header: Header) -> bool:
        """Whether a frame is the answer to a query of ours, or an advertisement."""
        expected = not header.tag & USER_TAG or header.tag in self._asked
        return header.command == Command.CONFIG and not header.flags & FLAG_ERROR and expected

    def _way_of(self, port: int, header: Header) -> Way | None:
        there = (header.src, header.shelf, header.slot)
        return next((way for way in self.ways if way.port == port and way.path.peer[1:] == there), None)

    def _config_reply(self, port: int, way: Way | None, header: Header, raw: bytes, now_ns: int) -> None:
        said = config.decode(raw)
        address = (header.shelf, header.slot)
        facts = self.ports[port]
        if isinstance(said, Fault) or address not in self.addresses or facts is None or not facts.up:
            self.counters["unfit_reply"] += 1
            return
        if way is None:
            if self._has_room(_stranger(port, header), now_ns):
                self._join(port, facts, header, said, now_ns)
            return
        if header.tag & USER_TAG:
            way.path.heard(now_ns)
        else:  # an advertisement: the server may have started again
            way.vouched = False
        self._takes(way, said, facts, now_ns)
        self._note(way, Happens.ANSWERS if header.tag & USER_TAG else Happens.TELLS)

    def _join(self, port: int, facts: Port, header: Header, said: Config, now_ns: int) -> None:
        self._ways_made += 1
        path = Path(
            Peer(facts.mac, header.src, header.shelf, header.slot),
            window_max=max(1, min(said.buffer_count, facts.window)),
            first_tag=self._first_tag + self._ways_made * TAG_STEP,
            quiesce_ns=self._quiesce_ns(self.timing.foreign_age_ns),
            timing=self.timing,
        )
        rank = self.addresses.index((header.shelf, header.slot))
        way = Way(self._ways_made, port, rank, path)
        way.offers = said.sector_count or 2
        self._fit(way, now_ns)
        at = sum((other.rank, other.port) <= (rank, port) for other in self.ways)
        self.ways.insert(at, way)
        self.news += 1
        self._look(way, now_ns)

    def _has_room(self, stranger: Stranger, now_ns: int) -> bool:
        """Whether a server gets a place; if there is none, it is asked what it is."""
        if len(self.ways) < limits.WAYS_MAX:
            return True
        welcome = self._strangers.welcome(stranger)
        left = [way for way in self.ways if way.replaceable(welcome) and way is not self._unflushed]
        if left:
            self._forget(min(left, key=lambda it: (it.usable_ns > 0, it.path.heard_ns, it.number)))
            return True
        self.counters["too_many_ways"] += 1
        if self._strangers.may_ask(now_ns):
            tag, address = self._strangers.tag(stranger), (stranger.shelf, stranger.slot)
            self._say(stranger.port, stranger.mac, address, Command.ATA, tag, IDENTIFY)
        return False

    def _forget(self, way: Way) -> None:
        """A way that nothing was asked of but what it leads to makes room."""
        self._follow(way, way.path.settle_all())
        self.ways.remove(way)
        self.counters += way.path.counters
        self._last = None

    def _stranger_reply(self, stranger: Stranger, header: Header, raw: bytes) -> None:
        """A server without a place says what it is."""
        least, port = protocol.ATA_HEADER + protocol.SECTOR, self.ports[stranger.port]
        told = header.command == Command.ATA and not header.flags & FLAG_ERROR and len(raw) >= least
        expected = (stranger.shelf, stranger.slot) in self.addresses and port is not None and port.up
        if not told or not expected or ata.status_of(raw) & FAILURES:
            self.counters["unfit_reply"] += 1
            return
        data = raw[protocol.ATA_HEADER : least]
        known = self.facts is None or not self.chosen or self.facts.serial == facts_of(data).serial
        if known and unfit(data) is Reason.NONE:
            self._strangers.invite(stranger)
            self._query(stranger.port, stranger.mac, (stranger.shelf, stranger.slot))

    def _quiesce_ns(self, age_ns: int) -> int:
        if self.policy.hold:
            return timing.NEVER_NS
        return self.timing.network_lifetime_ns + age_ns + self.timing.completion_ns

    # How much ways take

    def _takes(self, way: Way, said: Config, facts: Port, now_ns: int) -> None:
        """Its server says how much."""
        way.offers = said.sector_count or 2
        way.path.window.limit(max(1, min(said.buffer_count, facts.window)))
        self._fit(way, now_ns)
        self._resized(way, now_ns)

    def _fit(self, way: Way, now_ns: int) -> None:
        """One of its ends may take another size now."""
        port = self.ports[way.port]
        assert port is not None, "a way has a port"
        sectors = max(1, min(way.offers, port.sectors))
        if sectors != way.sectors:
            way.sectors = sectors
            way.sizes.fit(sectors, now_ns)
            self.news += 1

    def _resized(self, way: Way, now_ns: int) -> None:
        """What was sent there, or waits for it, and is too large now, is sent again in parts."""
        if way.sizes.shown == way.shown:
            return
        way.shown = way.sizes.shown
        self.news += 1
        for it in [it for it in self._open if it.only is way and it.sectors > way.most(it.kind)]:
            self._give_back(it, way, now_ns)
        large = [it for it in self._under_way(way) if it.sectors > way.most(it.kind)]
        if large:
            self._take_back(way, large, now_ns)
            self._release(now_ns)

    def _ask_size(self, way: Way, now_ns: int) -> None:
        if way.question is None:
            way.refused = dict.fromkeys(way.refused, True)
            body = config.encode(Config(ConfigCommand.READ))
            way.question = Exchange(Command.CONFIG, body, reply_min=protocol.CONFIG_HEADER)
            self._follow(way, way.path.start_now(way.question, now_ns))

    def _told(self, way: Way, answer: one_way.Answered, now_ns: int) -> None:
        """The answer to a query. What was refused before it, though it is not too large, has failed."""
        way.question = None
        said, facts = config.decode(answer.raw), self.ports[way.port]
        if answer.good and not isinstance(said, Fault) and facts is not None:
            self._takes(way, said, facts, now_ns)
        for operation in [operation for operation, asked in way.refused.items() if asked]:
            del way.refused[operation]
            if operation.sectors > way.most(operation.kind):
                self._give_back(operation, way, now_ns)
            else:
                assert operation.refusal is not None, "it was refused"
                self._conclude(operation, way, operation.refusal, now_ns)
        if way.refused:
            self._ask_size(way, now_ns)

    def _measure(self, way: Way, now_ns: int) -> None:
        """See how large frames may be there."""
        port, lost = self.ports[way.port], way.path.suspect
        assert port is not None, "a way has a port"
        way.path.suspect = None
        if lost is not None and lost.sectors <= way.most(lost.kind):
            direction = Direction.BACK if lost.kind is Kind.READS else Direction.THERE
            way.sizes.doubt(direction, lost.lba, now_ns)
            self._ask_size(way, now_ns)
        if way.sizes.again(port.sectors, now_ns):
            self._ask_size(way, now_ns)
        for probe in way.sizes.turn(now_ns):
            self._send_probe(way, probe)
        self._resized(way, now_ns)

    def _send_probe(self, way: Way, probe: Probe) -> None:
        assert self.facts is not None, "it was asked what it leads to"
        tag, count, filler = way.path.new_tag(), min(_read_by(probe), self.facts.sectors), 0
        if probe.direction is Direction.THERE:
            filler = probe.sectors * protocol.SECTOR + protocol.STAMP_TRAILER * (way.path.stamp.stream > 0)
        way.sizes.sent(tag, probe)
        lba = max(0, min(way.sizes.lba, self.facts.sectors - count))
        own, mac, shelf, slot = way.path.peer
        header = Header(mac, own, frame.VERSION, 0, 0, shelf, slot, Command.ATA, tag)
        body = ata.encode(AtaRequest(AFLAG_EXTENDED, 0, count, READ_SECTORS_EXT, lba, bytes(filler)))
        self.out.append((way.port, frame.encode(header, body)))

    def _probe_reply(self, way: Way, probe: Probe, header: Header, raw: bytes, now_ns: int) -> None:
        """Also an error says that frames get there, and if it is told at once, nothing of others."""
        least = protocol.ATA_HEADER + protocol.SECTOR * min(
            _read_by(probe), self.facts.sectors if self.facts else 0
        )
        if Exchange(Command.ATA, b"", reply_min=least).judge(header, raw) is None:
            self.counters["unfit_reply"] += 1
            return
        way.path.heard_ns = now_ns
        way.sizes.answered(header.tag)
        self._resized(way, now_ns)

    # Judging ways

    def look(self, way: Way, now_ns: int) -> None:
        """Ask a way what it leads to."""
        self._look(way, now_ns)
        self._run(now_ns)

    def _look(self, way: Way, now_ns: int) -> None:
        port = self.ports[way.port]
        refused = way.state.shown is State.REFUSED and now_ns < way.check_after_ns
        if way.check is not None or refused or port is None or not port.up:
            return
        way.claim = self._claim(way, now_ns)
        self._check(way, stamped(IDENTIFY, way.claim) if way.claim.stream else IDENTIFY, now_ns)

    def _check(self, way: Way, body: bytes, now_ns: int) -> None:
        way.check = Exchange(Command.ATA, body, reply_min=protocol.ATA_HEADER + protocol.SECTOR)
        self._follow(way, way.path.start_now(way.check, now_ns))

    def _checked(self, way: Way, answer: one_way.Answered, now_ns: int) -> None:
        assert way.check is not None, "what was answered was asked"
        identifies = ata.command_in(way.check.body) == IDENTIFY_DEVICE
        way.check = None
        if not identifies:
            way.slow = False
            self._fits(way)
        elif not answer.good:
            self._note(way, Happens.UNFIT, Reason.IDENTIFY_FAILS)
        else:
            self._identified(way, answer.raw, way.claim, now_ns)

    def identified(self, way: Way, raw: bytes, claim: Stamp, now_ns: int) -> bool:
        """A way answered IDENTIFY, which asked to know a stream or not; whether it leads to the disk."""
        it_does = self._identified(way, raw, claim, now_ns)
        self._run(now_ns)
        return it_does

    def _identified(self, way: Way, raw: bytes, claim: Stamp, now_ns: int) -> bool:
        data = raw[protocol.ATA_HEADER : protocol.ATA_HEADER + protocol.SECTOR]
        nonsense = unfit(data)
        if nonsense is not Reason.NONE:
            self._note(way, Happens.ANOTHER, nonsense)
            return False
        facts = facts_of(data, self.timing)
        was, way.facts = way.facts, facts
        if was is not None and was.instance != facts.instance:
            way.path.generation += 1
            self._losses += self._unflushed is way
        born = was is None or was.instance != facts.instance
        if born:
            self._meet(way)
        reason = self._mismatch(way, facts)
        if reason in (Reason.OTHER_DISK, Reason.OTHER_STORE, Reason.VOLATILE):
            self._note(way, Happens.ANOTHER, reason)
            return False
        if reason is not Reason.NONE:
            self._note(way, Happens.UNFIT, reason)
            return True
        if born and way is self.owner and self._is_replaced(way):
            self._note(way, Happens.REPLACED)
            return True
        self._believe(way, facts)
        way.path.quiesce_after(self._quiesce_ns(facts.age_ns))
        way.path.drains = facts.instance is not None
        if not self._registered(way, facts, claim, now_ns):
            return True
        if way.slow:
            self._check(way, _READ_FIRST_SECTOR, now_ns)
        else:
            self._fits(way)
        return True

    def _fixed(self, way: Way) -> Facts | None:
        """What the disk is known to be; before the choice only while another way that is usable says so, or
        a server that answered first and was gone would keep the others out."""
        others = any(other.state is State.USABLE for other in self.ways if other is not way)
        return self.facts if self.chosen or others else None

    def _mismatch(self, way: Way, facts: Facts) -> Reason:
        """Why a way does not lead to the disk, or cannot be used beside the others."""
        was = self._fixed(way)
        servers = {other.path.peer.mac for other in self.ways if other.state is State.USABLE}
        if was is not None and facts.serial != was.serial:
            return Reason.OTHER_DISK
        if self._has_other_store(way, facts):
            return Reason.OTHER_STORE
        if facts.volatile and servers - {way.path.peer.mac}:
            return Reason.VOLATILE
        if was is not None and facts.sectors != was.sectors and not self._grew(way, facts, was):
            return Reason.OTHER_SIZE  # while a disk grows, its servers notice at different times
        return Reason.NO_ZEROES if self._breaks_promise(facts) else Reason.NONE

    def _believe(self, way: Way, facts: Facts) -> None:
        """The disk is what a way says that it is, less what was not promised before."""
        was, before = self._fixed(way), self.facts
        if was is None:
            self.facts = facts
        elif facts.sectors != was.sectors:
            self.facts = facts._replace(data=identify.lessened(facts.data, was.data))
        else:
            self.facts = was._replace(data=identify.lessened(was.data, facts.data))
        self.news += before is None or before.data != self.facts.data

    # Streams (order rule T9)

    def _may_claim(self, way: Way, now_ns: int) -> bool:
        return way.heeds and way.sectors >= protocol.STAMPED_SECTORS_MIN and now_ns >= way.claim_after_ns

    def _claim(self, way: Way, now_ns: int) -> Stamp:
        """What IDENTIFY asks the server to know: the stream in use, or one where there is none and may be."""
        if way.path.stamp.stream or way.facts is None or way.facts.instance is None:
            return way.path.stamp
        return way.path.new_stream(way.facts.instance) if self._may_claim(way, now_ns) else UNSTAMPED

    def _registered(self, way: Way, facts: Facts, claim: Stamp, now_ns: int) -> bool:
        """Whether the way can be used as it is. A server that may know our stream is told of it first: only a
        question that names its present life counts there."""
        if claim.stream and claim.instance == facts.instance:
            if not facts.streams:
                way.claim_after_ns = now_ns + self.timing.stream_again_ns
            self._use_stream(way, claim if facts.streams else UNSTAMPED, now_ns)
            return True
        way.heeds = facts.streams
        if way.path.stamp.stream and way.path.stamp.instance == facts.instance:
            return True
        self._use_stream(way, UNSTAMPED, now_ns)
        if not self._may_claim(way, now_ns):
            return True
        self._look(way, now_ns)
        return False

    def _use_stream(self, way: Way, stamp: Stamp, now_ns: int) -> None:
        """From now on; what the server drops as it does not know the last one is sent again at once."""
        last = way.path.stamp
        if last.stream == stamp.stream:
            return
        way.path.stamp = stamp
        if last.stream:
            self._follow(way, way.path.send_changes_again(now_ns))

    def _claim_another(self, way: Way, now_ns: int) -> None:
        """Changes are not answered: the server has forgotten our stream, or another host forged its end. What
        is sent until it knows another one carries none."""
        if now_ns < way.claim_after_ns:
            return
        way.renewed += 1
        self.news += 1
        way.vouched = False
        self._use_stream(way, UNSTAMPED, now_ns)
        self._look(way, now_ns)
        way.claim_after_ns = now_ns + self.timing.recheck_ns

    def _grew(self, way: Way, facts: Facts, was: Facts) -> bool:
        """Whether the disk has become larger; the owner is believed, or any server while there is none."""
        return self.owner in (None, way) and facts.sectors > was.sectors

    def _breaks_promise(self, facts: Facts) -> bool:
        """Whether a TRIM there leaves anything, where the disk was said to leave zeroes. What a server cannot
        do at all it refuses, and it does not count as done."""
        if self.facts is None or not self.chosen:
            return False
        promised = identify.trim_blocks_of(self.facts.data) and identify.trims_to_zeroes(self.facts.data)
        trims = identify.trim_blocks_of(facts.data) > 0
        return bool(promised and trims) and not identify.trims_to_zeroes(facts.data)

    def _fits(self, way: Way) -> None:
        """IDENTIFY says nothing against it."""
        condemned = way.trial.condemned
        if condemned is Reason.OTHER_DATA:
            self._note(way, Happens.DIFFERENT, condemned)
        elif condemned is not Reason.NONE:
            self._note(way, Happens.UNSEEN, condemned)
        else:
            self._note(way, Happens.UNSURE if self._is_unsure(way) else Happens.FIT)

    def _put_to_use(self, way: Way, now_ns: int) -> None:
        if self.owner is None and self.chosen and self._may_inherit(way):
            self._take_over(way, now_ns)
        else:
            self._release(now_ns)

    def _may_inherit(self, way: Way) -> bool:
        """Whether it takes over at once where there is no owner: a proved one goes first."""
        better = any(other.state is State.USABLE and other.trial.proved for other in self.ways)
        return way.trial.proved or not (better or self._is_barred(way))

    def _is_barred(self, way: Way) -> bool:
        """Whether it has to be proved before: as long as one that is may come back. When all have started
        again, there is none, and it is as it was at first."""
        unproved = self.policy.require and not way.trial.proved
        return unproved and any(other.trial.proved for other in self.ways)

    def _inherit(self, now_ns: int) -> None:
        """The proved ones do not answer, either."""
        there = [way for way in self.ways if way.state is State.USABLE and way.check is None]
        heirs = [way for way in there if way.vouched and not self._is_barred(way)]
        if heirs and now_ns - self._lost_ns >= self.timing.probe_ns:
            self._note(min(heirs, key=lambda way: not way.trial.proved), Happens.CHOSEN)

    # Whether servers have one disk: what aoe.initiator.proof finds out means this for ways

    def _same_server(self, way: Way, other: Way) -> bool:
        return way is other or same_server(way.path, way.facts, other.path, other.facts)

    def _kin(self, way: Way) -> list[Way]:
        """The ways to the same server, this one among them."""
        return [other for other in self.ways if self._same_server(other, way)]

    def leads_to_owner(self, way: Way) -> bool:
        """Whether it is another way to the server of the owner."""
        return self.owner is not None and self._same_server(way, self.owner)

    def _meet(self, way: Way) -> None:
        """A server that is new, or has started again: its trial begins, or another way there has begun it."""
        kin = [other for other in self._kin(way) if other is not way]
        way.trial = kin[0].trial if kin else Trial()

    def _is_replaced(self, way: Way) -> bool:
        """The owner has started again: whether a proved server, if there is one, is the owner from now on.
        Else this is what the disk is; it counts as proved where there never was another."""
        if way.trial.proved:  # another way there has seen to it
            return False
        others = [other for other in self.ways if not self._same_server(other, way) and other.trial.proved]
        if others and (self.policy.require or any(other.state is State.USABLE for other in others)):
            return True
        self._refer_to(way)
        way.trial.proved = not others
        self._compare_all()
        return False

    def _refer_to(self, way: Way) -> None:
        """What others were compared with is no more: the disk is what this server has."""
        for other in self.ways:
            if not self._same_server(other, way):
                other.trial.reopen()

    def _has_other_store(self, way: Way, facts: Facts) -> bool:
        usable = [other for other in self.ways if other.state is State.USABLE]
        compared = usable if self.owner is None else [self.owner]
        others = [other for other in compared if not self._same_server(other, way)]
        return any(other.facts is not None and other_store(facts, other.facts) for other in others)

    def _is_unsure(self, way: Way) -> bool:
        """Whether it has to be compared with the owner before it is usable."""
        known = way.trial.sampled or way.trial.proved
        return self.owner is not None and not known and not self.leads_to_owner(way)

    def _compare_all(self) -> None:
        """Others with one that is the owner from now on."""
        for way in self.ways:
            if way.state is State.USABLE and self._is_unsure(way):
                self._note(way, Happens.DOUBTED)

    def sampled(self, way: Way, now_ns: int) -> None:
        """Its samples are equal to the owner's."""
        way.trial.sampled, way.trial.condemned = True, Reason.NONE
        for other in self._kin(way):
            if other.sampling:
                self._note(other, Happens.EQUAL)
        self._run(now_ns)

    def silent(self, way: Way, now_ns: int) -> None:
        """It does not answer what is read to compare it."""
        self._note(way, Happens.SILENT, Reason.SILENT)
        self._run(now_ns)

    def condemn(self, way: Way, reason: Reason, lba: int, now_ns: int) -> None:
        """It has another disk, as is seen there."""
        way.trial.condemned, way.trial.lba = reason, lba
        for other in self._kin(way):
            self._note(other, Happens.CONDEMNED, reason)
        self._run(now_ns)

    def prove(self, way: Way, now_ns: int) -> None:
        """It has the disk of the owner, which thereby is proved, too."""
        assert self.owner is not None, "it acknowledged the write"
        self.news += 1
        for trial in (self.owner.trial, way.trial):
            trial.proved, trial.condemned, trial.misses = True, Reason.NONE, 0
        for other in self._kin(way):
            if other.state.shown is State.REFUSED:
                other.check_after_ns = now_ns
                self._look(other, now_ns)
        self._run(now_ns)

    # Choosing

    def _settle_in(self, now_ns: int) -> None:
        """Choose the first owner: when every address has a way, or those that have none take too long."""
        usable = [way for way in self.ways if way.state is State.USABLE]
        if not usable:
            return
        waited_ns = now_ns - self._usable_ns
        all_looked_at = all(self._looked_at(address) for address in self.addresses)
        if waited_ns >= (self.timing.settle_in_ns if all_looked_at else self.timing.query_max_ns):
            self.chosen = True
            usable[0].trial.proved = True
            self._note(usable[0], Happens.CHOSEN)

    def _take_over(self, way: Way, now_ns: int) -> None:
        if self._unflushed not in (None, way):
            self._losses += 1
        if not way.trial.proved:
            self._refer_to(way)
        self.owner = way
        way.io_ns = now_ns
        self.news += 1
        self._compare_all()
        self._release(now_ns)

    def _release(self, now_ns: int) -> None:
        held, self._held = self._held, {}
        for operation in held:
            self._dispatch(operation, now_ns)

    def _become(self, way: Way, state: State, reason: Reason, now_ns: int) -> None:
        if (way.state, way.reason) != (state, reason):
            if state is State.USABLE:
                way.usable_ns = now_ns
                self._usable_ns = self._usable_ns or now_ns
            way.state, way.reason = state, reason
            self.news += 1

    def _give_up(self, way: Way, now_ns: int) -> None:
        way.vouched = False
        looks, way.check, way.question = (way.check, way.question), None, None
        if way is self.owner:
            self.owner = None
            self._lost_ns = now_ns
        self._take_back(way, self._under_way(way), now_ns)
        self._held |= dict.fromkeys(operation for operation in way.refused if operation.only is None)
        way.refused.clear()
        for exchange in looks:
            if exchange is not None:
                self._follow(way, way.path.abandon(exchange, now_ns))

    def _turn(self, _: Way, now_ns: int) -> None:
        if self.owner is not None:
            self._release(now_ns)
            return
        for other in self.ways:
            if now_ns >= other.check_after_ns:
                self._look(other, now_ns)

    def _vouch(self, way: Way, _: int) -> None:
        self.news += not way.vouched
        way.vouched = True

    def _resize(self, way: Way, now_ns: int) -> None:
        way.sizes.restart(now_ns)

    def _look_again_soon(self, way: Way, now_ns: int) -> None:
        way.check_after_ns = now_ns + self.timing.recheck_ns

    def _look_again_if_slow(self, way: Way, now_ns: int) -> None:
        way.check_after_ns = now_ns + self.timing.slow_ns

    def _look_again_if_refused(self, way: Way, now_ns: int) -> None:
        others = self.owner not in (None, way)
        way.check_after_ns = now_ns + (self.timing.query_idle_ns if others else self.timing.recheck_ns)

    def _look_again_if_condemned(self, way: Way, now_ns: int) -> None:
        way.check_after_ns = now_ns + self.timing.condemned_ns

    def _under_way(self, way: Way) -> list[Exchange]:
        """What is open there and could go elsewhere, in the order of the operations."""
        return [
            exchange
            for operation in self._open
            if operation.only is None
            for exchange, carrier in operation.exchanges.items()
            if carrier is way and exchange.open
        ]

    def _take_back(self, way: Way, exchanges: list[Exchange], now_ns: int) -> None:
        """They wait for a way again. What was sent stays of unknown fate."""
        self._held |= {self._of[exchange]: None for exchange in exchanges}
        for sent in (False, True):  # or what waits would be sent as soon as there is room
            for exchange in exchanges:
                if bool(exchange.tries) is sent:
                    self._follow(way, way.path.abandon(exchange, now_ns))

    def _watch(self, way: Way, now_ns: int) -> None:
        """Look for what has been quiet for too long."""
        if way.state is State.USABLE or way.sampling:
            self._measure(way, now_ns)
        waits = way.state in (State.CHECKING, State.COMPARED)
        if way.state is State.USABLE:
            self._judge(way, now_ns)
        elif waits and way.path.quiet_ns(now_ns) >= self.timing.dead_ns:
            self._note(way, Happens.SILENT, Reason.SILENT)

    def _tend(self, way: Way, now_ns: int) -> None:
        """Look at what was not looked at for long."""
        if way.check is not None:
            return
        if way.sectors < protocol.STAMPED_SECTORS_MIN:
            self._use_stream(way, UNSTAMPED, now_ns)
        if way.state is State.USABLE and way.path.stuck and way.path.stamp.stream:
            self._claim_another(way, now_ns)
        due = way.lost and now_ns >= way.check_after_ns
        idle = way.state is State.USABLE and now_ns - way.path.heard_ns >= self.timing.standby_ns
        unknown = way.state is State.USABLE and not way.path.stamp.stream and self._may_claim(way, now_ns)
        if due or idle or unknown:
            self._look(way, now_ns)

    def _judge(self, way: Way, now_ns: int) -> None:
        """Is it alive? Only where there is another one to turn to."""
        if all(other.state.shown is State.REFUSED for other in self.ways if other is not way):
            return
        quiet_ns = way.path.quiet_ns(now_ns)
        if quiet_ns >= self.timing.probe_ns and now_ns - way.probed_ns >= self.timing.probe_ns:
            way.probed_ns = now_ns
            _, mac, *address = way.path.peer
            self._query(way.port, mac, (address[0], address[1]))
        if quiet_ns >= self.timing.dead_ns:
            self._note(way, Happens.SILENT, Reason.SILENT)
        elif way.path.outstanding and now_ns - max(way.io_ns, way.path.asked_ns) >= self.timing.slow_ns:
            way.slow = True
            self._note(way, Happens.SLOW, Reason.SLOW)

    def _go_back(self, failback_ns: int, now_ns: int) -> None:
        for way in self.ways:
            if way is self.owner:
                return
            if way.state is State.USABLE and way.trial.proved and now_ns - way.usable_ns >= failback_ns:
                self._note(way, Happens.CHOSEN)
                return


_DOING: dict[Do, Callable[[Session, Way, int], None]] = {
    Do.GIVE_UP: Session._give_up,
    Do.TURN: Session._turn,
    Do.VOUCH: Session._vouch,
    Do.LOOK: Session._look,
    Do.RESIZE: Session._resize,
    Do.MEASURE: Session._measure,
    Do.USE: Session._put_to_use,
    Do.OWN: Session._take_over,
    Do.AGAIN_SOON: Session._look_again_soon,
    Do.AGAIN_SLOW: Session._look_again_if_slow,
    Do.AGAIN_REFUSED: Session._look_again_if_refused,
    Do.AGAIN_CONDEMNED: Session._look_again_if_condemned,
}


def _stranger(port: int, header: Header) -> Stranger:
    return Stranger(port, header.src, header.shelf, header.slot)


def _read_by(probe: Probe) -> int:
    """How many sectors it reads."""
    return probe.sectors if probe.direction is Direction.BACK else 1


def _refuses(answer: one_way.Answered) -> bool:
    """Whether this is how a server says that it does not take so much in one request: ours and ggaoed abort
    the command, vblade calls it a bad argument."""
    if answer.good:
        return False
    if answer.header.flags & FLAG_ERROR:
        return answer.header.error == Error.BAD_ARGUMENT
    said = ata.decode_reply(answer.raw)
    return isinstance(said, AtaReply) and said.status & FAILURES == ERROR and bool(said.error & ABRT)
