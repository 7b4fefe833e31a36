"""Which writes of an initiator may still be carried out (order rule T9).

Our initiator puts a stream (a number of its own) and an epoch into its writes. It registers the stream by an
IDENTIFY that names this life of the target. When it wants to know that nothing sent before can still be
carried out, it sends a FLUSH with the next epoch: from then on earlier writes of the stream are dropped, and
the answer to the FLUSH comes after those that had been admitted. A frame that the network delivers twice is
carried out once: each transmission has a tag of its own. Frames of other clients do not come here.

No other stream empties what keeps old frames out: as long as the network or a queue may still hold a
frame of a stream, no other takes its place. Times are those at which the kernel received frames, nanoseconds.
"""

import enum
from collections.abc import Iterable

from aoe.limits import REPLAY_WINDOW, STREAMS_MAX
from aoe.wire.protocol import USER_TAG
from aoe.wire.stamp import Stamp, StreamLeft, earlier

_TAGS = USER_TAG
"""Tags of our initiator rise with each transmission, below a bit that is always set."""
_ALL_SEEN = (1 << REPLAY_WINDOW) - 1


class Place(enum.IntEnum):
    """What an IDENTIFY comes to that names its stream: aoe_up.registered in C says the same."""

    NONE = 0
    KNOWN = 1
    """From now on, or it was before."""
    ANEW = 2
    """The last stream of this host was ended by a FLUSH that was not its own: no host goes back in epochs."""
    OVER = 3
    """It has a place, but what asks is of an epoch that is over, or its tag is behind all that is taken."""


class _Stream:
    """Its latest epoch and tag, and which of the tags before that were seen; bit 0 is the latest. What was
    sent before it registered is none of its own: all seen."""

    __slots__ = ("epoch", "forged", "heard_ns", "newest", "seen")

    def __init__(self, epoch: int, tag: int, heard_ns: int) -> None:
        self.epoch = epoch
        self.newest = tag % _TAGS
        self.seen = _ALL_SEEN
        self.heard_ns = heard_ns
        self.forged = False
        """Whether another host sent what ended its epoch: its own frames go on in an earlier one."""

    def repeats(self, tag: int) -> bool:
        """Whether a frame was here already, or is so far behind that it may have been."""
        behind = (self.newest - tag) % _TAGS
        return self.lags(tag) or (not self.ahead(tag) and bool(self.seen >> behind & 1))

    def lags(self, tag: int) -> bool:
        """Whether a frame is so far behind that it may have been here."""
        return not self.ahead(tag) and (self.newest - tag) % _TAGS >= REPLAY_WINDOW

    def ahead(self, tag: int) -> bool:
        """Whether a frame was sent after all that were seen."""
        return 0 < (tag - self.newest) % _TAGS < _TAGS // 2

    def see(self, epoch: int, tag: int) -> None:
        """A frame is carried out."""
        if earlier(self.epoch, epoch):
            self.epoch = epoch
        if self.ahead(tag):
            ahead = (tag - self.newest) % _TAGS
            self.seen = (self.seen << min(ahead, REPLAY_WINDOW) | 1) & _ALL_SEEN
            self.newest = tag % _TAGS
        else:
            self.seen |= 1 << (self.newest - tag) % _TAGS

    def hear(self, heard_ns: int) -> None:
        """Something of it was received then."""
        self.heard_ns = max(self.heard_ns, heard_ns)


def _adopted(left: StreamLeft, now_ns: int) -> _Stream:
    stream = _Stream(left.epoch, left.newest, now_ns)
    stream.seen = _by_tag(stream.newest, left.seen)
    stream.forged = left.forged
    return stream


def _by_tag(newest: int, seen: int) -> int:
    """From bits by how far a tag is behind the newest to bits by tag modulo the window, and the same back."""
    found = (behind for behind in range(REPLAY_WINDOW) if seen >> behind & 1)
    return sum(1 << (newest - behind) % REPLAY_WINDOW for behind in found)


class Streams:
    """The streams of one export; what an earlier life of the target has `left` is heard at `now_ns`."""

    def __init__(self, left: Iterable[StreamLeft] = (), now_ns: int = 0) -> None:
        self._streams = {(one.mac, one.number): _adopted(one, now_ns) for one in left}

    def left(self) -> list[StreamLeft]:
        """For the next life."""
        return [
            StreamLeft(mac, number, one.epoch, one.forged, one.newest, _by_tag(one.newest, one.seen))
            for (mac, number), one in self._streams.items()
        ]

    def register(self, mac: bytes, stamp: Stamp, tag: int, heard_ns: int, since_ns: int) -> Place:
        """An initiator said IDENTIFY; whether its stream is known from now on. If there are too many, one
        that was not heard since `since_ns` makes room."""
        key = mac, stamp.stream
        if key in self._streams:
            self._streams[key].hear(heard_ns)
            return self.place(mac, stamp, tag)
        if len(self._streams) >= STREAMS_MAX and not self._make_room(since_ns):
            return Place.NONE
        self._streams[key] = _Stream(stamp.epoch, tag, heard_ns)
        return Place.ANEW if self._takes_forged(mac) else Place.KNOWN

    def place(self, mac: bytes, stamp: Stamp, tag: int) -> Place:
        """Whether a stream is known, and what its initiator sends behind that IDENTIFY is carried out."""
        stream = self._streams.get((mac, stamp.stream))
        if stream is None:
            return Place.NONE
        return Place.OVER if earlier(stamp.epoch, stream.epoch) or stream.lags(tag) else Place.KNOWN

    def see(self, mac: bytes, stamp: Stamp, tag: int, heard_ns: int) -> None:
        """A write or a FLUSH that is not stale is carried out."""
        stream = self._streams[mac, stamp.stream]
        stream.see(stamp.epoch, tag)
        stream.hear(heard_ns)

    def stale(self, mac: bytes, stamp: Stamp, tag: int) -> bool:
        """Whether a write or a FLUSH must not be carried out any more. Notes what tells of a forgery."""
        stream = self._streams.get((mac, stamp.stream))
        if stream is None:
            return True
        over = earlier(stamp.epoch, stream.epoch)
        stream.forged |= over and stream.ahead(tag)
        return over or stream.repeats(tag)

    def clock_stepped(self, now_ns: int) -> None:
        """It is not known how long ago anything was: count from now on."""
        for stream in self._streams.values():
            stream.heard_ns = now_ns

    def _make_room(self, since_ns: int) -> bool:
        key, oldest = min(self._streams.items(), key=lambda item: item[1].heard_ns)
        if oldest.heard_ns >= since_ns:
            return False
        del self._streams[key]
        return True

    def _takes_forged(self, mac: bytes) -> bool:
        """Whether another host ended a stream of this one; told once."""
        found = [stream for (owner, _), stream in self._streams.items() if owner == mac and stream.forged]
        for stream in found:
            stream.forged = False
        return bool(found)
