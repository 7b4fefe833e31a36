"""Which writes of an initiator may still be carried out (order rule T9).

Our initiator puts a stream (a number of its own) and an epoch into its writes. It registers the stream by
IDENTIFY. When it wants to know that nothing sent before can still be carried out, it sends a FLUSH with the
next epoch: from then on earlier writes of the stream are dropped, and the answer to the FLUSH comes after
those that had been admitted. A frame that the network delivers twice is carried out once: each transmission
has a tag of its own. Everybody else leaves both fields zero, as the standard has it, and is not
concerned.
"""

from aoe.limits import REPLAY_WINDOW, STREAMS_MAX
from aoe.wire.stamp import Stamp, earlier

_TAGS = 1 << 31
"""Tags of our initiator rise with each transmission, below a bit that is always set."""


class _Stream:
    """Its latest epoch and tag, and which of the tags before that were seen; bit 0 is the latest."""

    __slots__ = ("epoch", "newest", "seen")

    def __init__(self, epoch: int, tag: int) -> None:
        self.epoch = epoch
        self.newest = tag
        self.seen = 1

    def repeats(self, tag: int) -> bool:
        """Whether a frame was here already, or is so far behind that it may have been."""
        behind = (self.newest - tag) % _TAGS
        return behind < _TAGS // 2 and (behind >= REPLAY_WINDOW or bool(self.seen >> behind & 1))

    def see(self, tag: int) -> None:
        """A frame is carried out."""
        ahead = (tag - self.newest) % _TAGS
        if ahead < _TAGS // 2:
            self.seen = (self.seen << min(ahead, REPLAY_WINDOW) | 1) % (1 << REPLAY_WINDOW)
            self.newest = tag
        else:
            self.seen |= 1 << (self.newest - tag) % _TAGS


class Streams:
    """The epochs of one export's initiators: of those that were heard last, if there are too many."""

    def __init__(self) -> None:
        self._streams: dict[tuple[bytes, int], _Stream] = {}

    def register(self, mac: bytes, stamp: Stamp, tag: int, *, changes: bool = True) -> None:
        """An initiator said IDENTIFY, or something that is carried out and `changes` what is stored."""
        stream = self._streams.pop((mac, stamp.stream), None)
        if stream is None:
            stream = _Stream(stamp.epoch, tag)
        elif earlier(stream.epoch, stamp.epoch):
            stream.epoch = stamp.epoch
        if changes:
            stream.see(tag)
        self._streams[mac, stamp.stream] = stream
        if len(self._streams) > STREAMS_MAX:
            del self._streams[next(iter(self._streams))]

    def stale(self, mac: bytes, stamp: Stamp, tag: int) -> bool:
        """Whether a write or a FLUSH must not be carried out any more."""
        stream = self._streams.get((mac, stamp.stream))
        return stream is None or earlier(stamp.epoch, stream.epoch) or stream.repeats(tag)
