"""What an initiator has under way, for the one that goes on where it dies; and what one before has left.

A process may die while copies of its changes are in the network, or wait at a server. The one that takes its
place knows nothing of them, and what it writes could be overwritten by one that arrives late (order rule
P3). So before a change leaves that an earlier note does not cover, it is noted from which host, to which
server and in which stream it goes (order rule T9), and up to which tag and until when that may be so. The
next life admits nothing before all of that is over. To a server that heeds the stream it sends a FLUSH of the
next epoch, whose tag is so far ahead that all earlier ones are behind the window of tags that is remembered
there; so it does not matter how often the 8 bits of the epoch have begun anew. Its answer comes after all
that was admitted before (T1). Everything else is over by time (I2). csrc/initiator/debts.c does the same.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from aoe import limits
from aoe.drive.command import FAILURES
from aoe.initiator.exchange import FLUSH, Peer
from aoe.timing import Timing
from aoe.wire import ata, frame, protocol
from aoe.wire.frame import FLAG_ERROR, Command, Header
from aoe.wire.protocol import USER_TAG
from aoe.wire.stamp import UNSTAMPED, Stamp, stamped


class Debt(NamedTuple):
    """Changes that went from `peer.own` to a server by a port. None has a tag after `tag` (without the bit
    that each has), or was made after `until_ns`; `quiesce_ns` later it can do nothing any more."""

    port: int
    peer: Peer
    stamp: Stamp
    tag: int
    until_ns: int
    quiesce_ns: int
    cached: bool = False
    """Not that, but that a volatile cache there has changes that no FLUSH vouches for."""

    @property
    def over_ns(self) -> int:
        """From when on no copy can do anything."""
        return self.until_ns + self.quiesce_ns

    def covers(self, epoch: int, tag: int, quiesce_ns: int, now_ns: int) -> bool:
        """Whether it says enough of a change that is made now."""
        leased = now_ns < self.until_ns and (self.tag - tag) % USER_TAG <= limits.DEBT_TAGS
        return leased and epoch == self.stamp.epoch and quiesce_ns <= self.quiesce_ns


class Legacy(NamedTuple):
    """What an earlier life had under way, which was dead at `since_ns`."""

    debts: tuple[Debt, ...] = ()
    since_ns: int = 0


NO_LEGACY = Legacy()
NO_MAC = bytes(6)
REST = Peer(NO_MAC, NO_MAC, 0, 0)
"""Under this name what there is no place for is noted: it is over by time. While there is place for each
server, it is noted under the server's name, without our own MAC."""
_Key = tuple[int, Peer, int, int]


def _key(port: int, peer: Peer, stamp: Stamp) -> _Key:
    return port, peer, stamp.stream, stamp.instance


class Left:
    """A debt of an earlier life, and how it is asked for."""

    def __init__(self, debt: Debt) -> None:
        self.debt = debt
        self.first: int | None = None
        """The first tag of the questions, which have all from there to the debt's."""
        self.again_ns = 0
        self.wait_ns = 0

    def question(self, now_ns: int, timing: Timing) -> bytes:
        """The next one."""
        ahead = limits.REPLAY_WINDOW if self.first is None else 1
        self.debt = self.debt._replace(tag=(self.debt.tag + ahead) % USER_TAG)
        self.first = self.debt.tag if self.first is None else self.first
        self.wait_ns = min(2 * self.wait_ns or timing.rto_first_ns, timing.rto_max_ns)
        self.again_ns = now_ns + self.wait_ns
        (own, mac, shelf, slot), stamp = self.debt.peer, self.debt.stamp
        tag = USER_TAG | self.debt.tag
        header = Header(mac, own, frame.VERSION, 0, 0, shelf, slot, Command.ATA, tag)
        return frame.encode(header, stamped(FLUSH, stamp._replace(epoch=(stamp.epoch + 1) & 0xFF)))

    def is_answered(self, port: int, header: Header, raw: bytes) -> bool:
        """Whether a frame is the answer to one, and says that it was done."""
        if self.first is None or port != self.debt.port or header.command != Command.ATA:
            return False
        asked = (header.tag - self.first) % USER_TAG <= (self.debt.tag - self.first) % USER_TAG
        known = (header.src, header.shelf, header.slot) == self.debt.peer[1:] and header.tag & USER_TAG
        done = not header.flags & FLAG_ERROR and len(raw) >= protocol.ATA_HEADER
        return bool(known and asked and done) and not ata.status_of(raw) & FAILURES


class Debts:
    """With `hold` nothing of the legacy is over by time. `news` rises with every change of `all`, which the
    next life is to know before what is to be sent leaves."""

    def __init__(self, timing: Timing, legacy: Legacy = NO_LEGACY, hold: bool = False) -> None:
        debts, since_ns = legacy
        self.timing = timing
        self.news = 0
        under_way = [debt for debt in debts if not debt.cached]
        self.left = [Left(debt._replace(until_ns=min(debt.until_ns, since_ns))) for debt in under_way]
        self.left_cache = next((debt for debt in debts if debt.cached), None)
        self._cache: Debt | None = None
        self._hold = hold
        self._own: dict[_Key, Debt] = {}

    @property
    def all(self) -> list[Debt]:
        """For the next life."""
        cached = [it for it in (self.left_cache or self._cache,) if it]
        return [it.debt for it in self.left] + list(self._own.values()) + cached

    # What is under way

    def owe(self, port: int, peer: Peer, stamp: Stamp, tag: int, quiesce_ns: int, now_ns: int) -> None:
        """A change is made, to be sent now."""
        key = _key(port, peer, stamp)
        known = self._own.get(key)
        if known is not None and known.covers(stamp.epoch, tag, quiesce_ns, now_ns):
            return
        if known is None:
            self._make_room(now_ns)
        else:
            quiesce_ns = max(quiesce_ns, known.quiesce_ns)
        until_ns, tag = now_ns + self.timing.debt_ns, (tag + limits.DEBT_TAGS) % USER_TAG
        self._own[key] = Debt(port, peer, stamp, tag, until_ns, quiesce_ns)
        self.news += 1

    def go_on(self, port: int, peer: Peer, now_ns: int) -> None:
        """Copies that go there stay of unknown fate, however old they are."""
        for key, debt in self._own.items():
            if (debt.port, debt.peer[1:]) == (port, peer[1:]) and now_ns >= debt.until_ns:
                self._own[key] = debt._replace(until_ns=now_ns + self.timing.debt_ns)
                self.news += 1

    def sent(self, since_ns: int, until_ns: int) -> None:
        """What was made since then had left only by `until_ns`, as the process was held up between."""
        late = [key for key, it in self._own.items() if since_ns < it.until_ns < until_ns]
        for key in late:
            self._own[key] = self._own[key]._replace(until_ns=until_ns)
        self.news += len(late)

    def cache(self, port: int, peer: Peer, instance: int) -> None:
        """That life of a server has changes in a volatile cache."""
        cached = Debt(port, peer, Stamp(0, 0, instance), 0, 0, 0, cached=True)
        self.news += cached != self._cache
        self._cache = cached

    def flushed(self) -> None:
        """None has."""
        self.news += self._cache is not None
        self._cache = None

    def has(self, peer: Peer, stream: int) -> bool:
        """Whether the number of a stream was used there."""
        return any(it.peer == peer and it.stamp.stream == stream for it in self.all)

    def _make_room(self, now_ns: int) -> None:
        self._own = {key: it for key, it in self._own.items() if now_ns < it.over_ns}
        while len(self._own) >= limits.DEBTS_MAX - 2:
            self._fold()

    def _fold(self) -> None:
        """The oldest becomes one that is over by time: its server's; where all are, that of the rest."""
        may = [key for key in self._own if key != _key(0, REST, UNSTAMPED)]
        oldest = self._own.pop(next((key for key in may if key[1].own != NO_MAC), may[0]))
        peer = REST if oldest.peer.own == NO_MAC else oldest.peer._replace(own=NO_MAC)
        key = _key(0, peer, UNSTAMPED)
        known = self._own.get(key, oldest)
        until_ns = max(oldest.until_ns, known.until_ns)
        quiesce_ns = max(oldest.quiesce_ns, known.quiesce_ns)
        self._own[key] = Debt(0, peer, UNSTAMPED, 0, until_ns, quiesce_ns)

    # What was left

    def tick(self, may_ask: Callable[[Debt], bool], now_ns: int) -> Iterator[tuple[int, bytes]]:
        """Time has passed; what is to be sent, and by which port."""
        if not self._hold:
            self._drop([it for it in self.left if now_ns >= it.debt.over_ns])
        for it in self.left:
            if it.debt.stamp.stream and now_ns >= it.again_ns and may_ask(it.debt):
                self.news += 1
                yield it.debt.port, it.question(now_ns, self.timing)

    def received(self, port: int, header: Header, raw: bytes) -> bool:
        """Whether a reply was to a question of ours."""
        answered = [it for it in self.left if it.is_answered(port, header, raw)]
        self._drop(answered)
        return bool(answered)

    def learned(self, peer: Peer, alone: int | None) -> None:
        """A server lives; `alone` is the one life of it that carries out what names a life, where that is
        told (order rules T8 to T10)."""
        there = [it for it in self.left if it.debt.peer[1:] == peer[1:] and it.debt.stamp.stream]
        self._drop([it for it in there if alone is not None and it.debt.stamp.instance != alone])

    def fenced(self, peer: Peer) -> None:
        """A server was made sure to do nothing any more (I4)."""
        self.over(peer[1:])

    def over(self, server: tuple[bytes, int, int] | None = None) -> None:
        """The same of one that may have no path: its MAC and address; None: of all of them."""
        self._drop([it for it in self.left if server in (None, it.debt.peer[1:])])

    def _drop(self, over: list[Left]) -> None:
        self.left = [it for it in self.left if it not in over]
        self.news += len(over)
