"""A path to a disk: the channel to one server, what is known of it, and the operations that it carries."""

import enum
from dataclasses import dataclass
from typing import NamedTuple

from aoe.initiator import exchange as on_channel
from aoe.initiator.channel import Channel
from aoe.initiator.exchange import Exchange, Kind
from aoe.initiator.facts import Facts, Reason
from aoe.initiator.life import Happens, State
from aoe.initiator.sizes import Direction, Narrow, Sizes
from aoe.timing import USUAL, Timing
from aoe.wire.frame import Command, Header
from aoe.wire.stamp import UNSTAMPED

Address = tuple[int, int]
Server = tuple[bytes, int, int]
"""Its MAC, and the address that is asked."""


class Port(NamedTuple):
    """Our end: `sectors` is the most that fit a frame there, `window` how many frames its buffer holds."""

    mac: bytes
    sectors: int
    window: int
    up: bool


class Policy(NamedTuple):
    """`spread` reads over all proved paths; `hold` ranges of unknown fate closed until the server answers or
    is fenced; go back to a proved path named earlier when it was usable for `failback_ns` (None: never);
    `require` a proof of a server that takes over; `background`: what is asked for can wait while others ask;
    `timing` is how long things are waited for."""

    spread: bool = False
    hold: bool = False
    failback_ns: int | None = None
    require: bool = False
    background: bool = False
    timing: Timing = USUAL


@dataclass(slots=True)
class Trial:
    """Of one life of a server, as `aoe.initiator.proof` finds it out. All paths to the server share it."""

    sampled: bool = False
    """Whether its samples were equal to the owner's."""
    proved: bool = False
    """Whether a write of ours that another server acknowledged was seen there, or it is what the disk is."""
    copy: bool = False
    """Whether it counts as proved because both have a copy of one image that is never written to."""
    condemned: Reason = Reason.NONE
    """Why it has another disk."""
    lba: int = 0
    """Where that was seen last."""
    misses: int = 0
    """How many writes were not seen there."""
    again_ns: int = 0
    """When the next write may be looked for there."""

    def reopen(self) -> None:
        """What it was compared with is no more."""
        self.sampled = self.proved = self.copy = False
        self.condemned = Reason.NONE
        self.misses = 0


class Mute(enum.IntEnum):
    """What was done about changes that are not answered, although they were sent again and again."""

    NOT = 0
    SILENT = 1
    ASKED_AGAIN = 2
    """It got them once more, as it was silent and spoke, or said that it heeds them; no answer came yet."""
    ASKED = 3
    """It answers all else, and was asked whether it heeds them."""


class Path:
    """A channel, and what is known of it. `number` is its name, `rank` the place of its address among those
    given."""

    def __init__(self, number: int, port: int, rank: int, channel: Channel) -> None:
        self.number = number
        self.port = port
        self.rank = rank
        self.channel = channel
        self.offers = 0
        """How many sectors its server says that it takes in one request."""
        self.sectors = 0
        """How many both ends take."""
        self.sizes = Sizes(channel.timing)
        """How many pass between them."""
        self.shown = self.sizes.shown
        self.state = State.CHECKING
        self.reason = Reason.NONE
        self.facts: Facts | None = None
        self.trial = Trial()
        """Of its server, together with the other paths there."""
        self.vouched = False
        """Whether nothing happened since the last IDENTIFY that would make it another server."""
        self.slow = False
        """Whether it has to answer a read before it is usable again."""
        self.check: Exchange | None = None
        self.registering = UNSTAMPED
        """The stream that the check asks the server to know, if any (order rule T9)."""
        self.looked_ns = 0
        """When that was asked first."""
        self.late = False
        """Whether it was asked anew, as the last one may have been too old to register anything."""
        self.heeded = False
        """Whether the server has said that it heeds the stream in use, since it was asked that."""
        self.told = 0
        """What the last question told a server that drains of our staying there."""
        self.heeds = False
        """Whether the server has said that it heeds streams."""
        self.reborn = False
        """Whether its server began another life, and what the one before was asked was not asked again."""
        self.register_after_ns = 0
        """Before that no other stream is asked for: there was no place, or the last one is still young."""
        self.question: Exchange | None = None
        """The config query that is under way."""
        self.refused: dict[Operation, bool] = {}
        """What its server refused, perhaps as too large for it now; whether the query began after that."""
        self.mute = Mute.NOT
        self.renewed = 0
        """How often another one was taken as the last was not heeded."""
        self.check_after_ns = 0
        self.probed_ns = 0
        self.io_ns = 0
        """When the last read or write was answered."""
        self.usable_ns = 0
        """Since when it is."""

    @property
    def draining(self) -> bool:
        """Whether its server is to be left."""
        return self.facts is not None and self.facts.draining

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
        if self.state is State.USABLE or self.channel.load != (self.check is not None):
            return False
        over = self.lost and not self.channel.uncertain
        return by_good and over if self.usable_ns else by_good or over


class Operation:
    """A request of one frame, carried by one exchange for each path it was sent on; `only` is the path where
    it is meant for one server and no other, `free` whether any path will do. `sectors` go with it there or
    back: a path may take fewer, and then it has to become several."""

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
        only: Path | None = None,
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
        self.refused_by: Path | None = None
        self.refusal: on_channel.Answered | None = None
        self.exchanges: dict[Exchange, Path] = {}
        self.open = True

    @property
    def waits(self) -> bool:
        """Whether it would be sent as soon as there is room."""
        return any(exchange.open and not exchange.tries for exchange in self.exchanges)


class Answered(NamedTuple):
    """The reply to an operation; there is only one of these. `good`: it was done."""

    operation: Operation
    path: Path
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
    """Something has happened to a path."""

    happens: Happens
    reason: Reason = Reason.NONE


class PathSnapshot(NamedTuple):
    """A path to the disk as it is now: `number` is its name, `owner` whether it carries what changes,
    `sectors` the most that a request has, `sectors_max` the most that both ends take and `narrow` why that is
    more, `unsettled` how many changes there are of unknown fate, `renewed` how often its server was told of
    another stream because the last was not heeded (order rule T9), `proved` whether it is known to lead to
    the disk, `lba` where it was seen that it does not, `draining` whether its server is to be left, `copy`
    whether that has a copy of its own of an image that is never written to."""

    number: int
    port: int
    mac: bytes
    shelf: int
    slot: int
    state: State
    reason: Reason
    owner: bool
    rtt_ns: int
    sectors: int
    sectors_max: int
    narrow: Narrow
    unsettled: int
    renewed: int = 0
    proved: bool = True
    lba: int = 0
    draining: bool = False
    copy: bool = False

    @property
    def server(self) -> Server:
        """What is at the other end."""
        return self.mac, self.shelf, self.slot
