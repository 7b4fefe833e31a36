"""The stream and the epoch of an ATA request (order rule T9).

They are where the standard has nothing: in the two reserved bytes (AoEr11 section 3.1), and in the Feature
register, which writes, FLUSH and IDENTIFY do not use. Others than us leave both zero.
"""

from typing import NamedTuple


class Stamp(NamedTuple):
    """`stream` is 1 to 65535, or 0 for none; `epoch` 0 to 255, after which it begins again."""

    stream: int
    epoch: int


UNSTAMPED = Stamp(0, 0)


def stamp_of(frame: bytes) -> Stamp:
    """Of a whole frame."""
    return Stamp(int.from_bytes(frame[34:36], "big"), frame[25])


def stamped(body: bytes, stamp: Stamp) -> bytes:
    """The bytes after the AoE header, with a stamp."""
    return body[:1] + bytes((stamp.epoch,)) + body[2:10] + stamp.stream.to_bytes(2, "big") + body[12:]


def earlier(one: int, other: int) -> bool:
    """Whether an epoch comes before another one; of 256, half are before."""
    return 0 < (other - one) % 256 < 128
