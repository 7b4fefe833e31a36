"""Which writes of an initiator may still be carried out (order rule T9).

Our initiator puts a stream (a number of its own) and an epoch into its writes. It registers the stream by
IDENTIFY. When it wants to know that nothing sent before can still be carried out, it sends a FLUSH with the
next epoch: from then on earlier writes of the stream are dropped, and the answer to the FLUSH comes after
those that had been admitted. Everybody else leaves both fields zero, as the standard has it, and is not
concerned.
"""

from typing import NamedTuple

from aoe.limits import STREAMS_MAX


class Stamp(NamedTuple):
    """Stream (1 to 65535; 0: none) and epoch (0 to 255) of a frame."""

    stream: int
    epoch: int


def stamp_of(raw: bytes) -> Stamp:
    """Of an ATA request: the reserved bytes 34 and 35, and the Feature register."""
    return Stamp(int.from_bytes(raw[34:36], "big"), raw[25])


def earlier(one: int, other: int) -> bool:
    """Whether an epoch comes before another one; of 256, half are before."""
    return 0 < (other - one) % 256 < 128


class Streams:
    """The epochs of one export's initiators: of those that were heard last, if there are too many."""

    def __init__(self) -> None:
        self._epochs: dict[tuple[bytes, int], int] = {}

    def register(self, mac: bytes, stamp: Stamp) -> None:
        """An initiator said IDENTIFY, or something that is carried out."""
        known = self._epochs.pop((mac, stamp.stream), None)
        if known is None or earlier(known, stamp.epoch):
            known = stamp.epoch
        self._epochs[mac, stamp.stream] = known
        if len(self._epochs) > STREAMS_MAX:
            del self._epochs[next(iter(self._epochs))]

    def stale(self, mac: bytes, stamp: Stamp) -> bool:
        """Whether a write or a FLUSH must not be carried out any more."""
        known = self._epochs.get((mac, stamp.stream))
        return known is None or earlier(stamp.epoch, known)
