"""A request to one server, its copies of unknown fate, and what a channel says of it, without I/O."""

import enum
from typing import NamedTuple

from aoe.drive.command import FAILURES
from aoe.wire import ata, opcodes, protocol
from aoe.wire.ata import AtaRequest
from aoe.wire.frame import FLAG_ERROR, Command, Header
from aoe.wire.stamp import UNSTAMPED


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
    opcodes.DATA_SET_MANAGEMENT,
)
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
        "guessed",
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
        self.guessed = False
        """Whether its last copy was sent although nothing but time spoke against the one before."""
        self.stamp = UNSTAMPED
        """Of its last transmission (order rule T9); none, if its copies belong to several streams."""
        self.generation = 0
        """To which process of the peer it was sent; -1, if its copies were to several."""

    def is_stamped(self, trims: bool) -> bool:
        """Whether it says which stream it belongs to, where the peer knows ours; `trims`: also a TRIM."""
        if self.command != Command.ATA:
            return False
        opcode = ata.command_in(self.body)
        return opcode in _STAMPED and (trims or opcode != opcodes.DATA_SET_MANAGEMENT)

    def is_over(self, alone: int | None, trims: bool) -> bool:
        """Whether no copy can do anything any more, once the peer is another process, and where `alone` is
        the one life of it that carries out what names a life (order rules T8 to T10); `trims`: TRIM, too."""
        named = alone is not None and self.stamp.stream > 0 and self.stamp.instance != alone
        return (named and self.is_stamped(trims)) or self.kind is Kind.READS

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
