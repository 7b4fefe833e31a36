"""Which writes of an initiator may still be carried out (order rule T9).

Our initiator puts a stream (a number of its own) and an epoch into its writes. It registers the stream by
IDENTIFY. When it wants to know that nothing sent before can still be carried out, it sends a FLUSH with the
next epoch: from then on earlier writes of the stream are dropped, and the answer to the FLUSH comes after
those that had been admitted. Everybody else leaves both fields zero, as the standard has it, and is not
concerned.
"""

from aoe.limits import STREAMS_MAX
from aoe.wire.stamp import Stamp, earlier


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
