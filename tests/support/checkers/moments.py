"""Does a snapshot of disks show one moment of a history of writes?

Each write has a number, which it leaves in every sector that it writes: a disk may have some sectors of a
write without the others. The snapshot has a number of each; 0 where nothing was written. Times are
nanoseconds of one clock (CLOCK_MONOTONIC).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

BLOCK, SECTOR = 4096, 512


class Write(NamedTuple):
    """When it was sent, and when it was acknowledged (infinity: never). A place is a disk and a sector."""

    number: int
    places: tuple[tuple[int, int], ...]
    sent: float
    acknowledged: float = math.inf


def stamped(number: int, blocks: int = 1) -> bytes:
    """What it writes."""
    return number.to_bytes(8, "little") * (BLOCK // 8 * blocks)


def stamps(snapshot: bytes) -> list[int]:
    """The number in each sector; -1 where there are several."""
    found = []
    for at in range(0, len(snapshot), SECTOR):
        sector = snapshot[at : at + SECTOR]
        found.append(int.from_bytes(sector[:8], "little") if sector == sector[:8] * (SECTOR // 8) else -1)
    return found


def faults(
    writes: Sequence[Write], disks: Sequence[Sequence[int]], asked: float, over: float
) -> Iterator[str]:
    """What is wrong with the stamps of disks, where the snapshot was asked for and its moment was over at
    these times; nothing if it shows one moment between both."""
    known = {write.number: write for write in writes}
    seen = {(disk, at): number for disk, them in enumerate(disks) for at, number in enumerate(them)}
    strange = [(place, number) for place, number in seen.items() if number and number not in known]
    if strange:
        yield f"{strange[0][0]} holds {strange[0][1]}, which nobody wrote there"
        return
    yield from _from_later(known, seen, over)
    newest = max((known[number].sent for number in seen.values() if number), default=-math.inf)
    yield from _missing(writes, known, seen, max(newest, asked))


Known = Mapping[int, Write]
Seen = Mapping[tuple[int, int], int]


def _from_later(known: Known, seen: Seen, over: float) -> Iterator[str]:
    for place, number in seen.items():
        if number and known[number].sent > over:
            yield f"{place} holds {number}, which was sent after the moment"
        if number and place not in known[number].places:
            yield f"{place} holds {number}, which was written elsewhere"


def _missing(writes: Sequence[Write], known: Known, seen: Seen, until: float) -> Iterator[str]:
    """What was acknowledged before something that is in was sent, or before the snapshot was asked for."""
    for write in writes:
        if write.acknowledged >= until:
            continue
        for place in write.places:
            other = seen.get(place, 0)
            if other != write.number and (not other or known[other].acknowledged < write.sent):
                yield f"{place} holds {other}; {write.number} is missing, which was acknowledged before"
