"""Is a history of reads and writes of one register linearizable, where every write has a value of its own?

For each value, its write and its reads span a zone (Gibbons and Korach, "Testing shared memories"): forward
from the first end to the last beginning of them, if that is later, or else backward. A history is
linearizable if no two forward zones overlap, no backward zone lies inside a forward one, and nothing is read
before it is written.
"""

import itertools
import math
from collections.abc import Hashable, Iterable
from typing import NamedTuple


class Call(NamedTuple):
    """A read or a write of `value`, when it was called and when it returned: infinity if it never did."""

    writes: bool
    value: Hashable
    called: float
    returned: float = math.inf


def faults(calls: Iterable[Call], initial: Hashable = None) -> list[str]:
    """What is wrong with a history; nothing, if there is an order of it that explains all reads."""
    by_value: dict[Hashable, list[Call]] = {initial: [Call(True, initial, -math.inf, -math.inf)]}
    for call in sorted(calls, key=lambda call: not call.writes):
        if not call.writes and call.value not in by_value:
            return [f"{call.value} was read, but never written"]
        if call.writes and call.value in by_value:
            raise ValueError(f"{call.value} was written twice")
        by_value.setdefault(call.value, []).append(call)
    found = []
    forward, backward = [], []
    for value, (write, *asked) in by_value.items():
        reads = [read for read in asked if read.returned < math.inf]
        if any(read.returned < write.called for read in reads):
            found.append(f"{value} was read before it was written")
        if not reads and write.returned == math.inf:
            continue  # it may never have been carried out
        first_end = min(call.returned for call in (write, *reads))
        last_begin = max(call.called for call in (write, *reads))
        if first_end < last_begin:
            forward.append((first_end, last_begin, value))
        else:
            backward.append((last_begin, first_end, value))
    forward.sort(key=lambda zone: zone[:2])
    for (_, end, one), (begin, _, other) in itertools.pairwise(forward):
        if begin < end:
            found.append(f"{one} was read after {other} was there already")
    for begin, end, value in backward:
        if any(first < begin and end < last for first, last, _ in forward):
            found.append(f"{value} came and went while another value stayed")
    return found
