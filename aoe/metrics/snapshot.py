"""All numbers of a target at one time, as plain arrays.

`Target.snapshot()` makes it. It looks at memory that the threads write, asks none of them, and costs some
microseconds for each export. An array is laid out as `aoe.metrics.table` says: the number of a row is
`numbers[row.at]`; of a histogram `[numbers[it] for it in row.places]` are LATENCY_BUCKETS counts, by
`BUCKETS` and not yet added up, and at last the sum in nanoseconds.

    for export in target.snapshot().exports:
        for row in EXPORT:
            print(export.address, row.name, export.numbers[row.at], row.unit)

Counters only rise as long as an export is served, and a client keeps its place. What is served anew begins at
0 (`since_ns` tells that apart).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aoe.metrics.table import CLIENT, EXPORT, place_of

_HEARD, _WRITTEN = place_of(CLIENT, "heard"), place_of(CLIENT, "written_bytes")


@dataclass(frozen=True, slots=True)
class ClientNumbers:
    """`numbers` by the rows of CLIENT."""

    mac: bytes
    numbers: Sequence[int]

    def __getitem__(self, name: str) -> int:
        """The number of that name."""
        return self.numbers[place_of(CLIENT, name)]

    @property
    def heard_ns(self) -> int:
        """When it was last admitted something (CLOCK_BOOTTIME)."""
        return self.numbers[_HEARD]


@dataclass(frozen=True, slots=True)
class ExportNumbers:
    """`address` is `e<shelf>.<slot>`; `numbers` by the rows of EXPORT. At most CLIENTS_MAX clients (and of a
    target CLIENTS_IN_ALL_MAX) have numbers of their own, in no order; `other` by the rows of CLIENT are those
    of all others together, also of those that gave their place to another one. It is served since `since_ns`
    (CLOCK_BOOTTIME)."""

    address: str
    since_ns: int
    numbers: list[int]
    clients: Sequence[ClientNumbers]
    other: Sequence[int]

    def __getitem__(self, name: str) -> int:
        """The number of that name; of a histogram that of its first bucket."""
        return self.numbers[place_of(EXPORT, name)]

    @property
    def other_written(self) -> int:
        """Bytes that clients without numbers of their own have written."""
        return self.other[_WRITTEN]

    @property
    def heard_ns(self) -> int:
        """When a client was last admitted something (CLOCK_BOOTTIME); 0: never."""
        return max(self.other[_HEARD], *(it.heard_ns for it in self.clients), 0)


@dataclass(frozen=True, slots=True)
class ThreadNumbers:
    """`engine0` and so on are threads of the compiled engine, `python` is the event loop. `numbers` by the
    rows of THREAD."""

    name: str
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`target` has the numbers of TARGET by their names, without those that never were anything; `links`
    those of LINK by the name of the link, in the same way; `now_ns` is when (CLOCK_BOOTTIME)."""

    now_ns: int
    target: Mapping[str, int]
    links: Mapping[str, Mapping[str, int]]
    exports: Sequence[ExportNumbers]
    threads: Sequence[ThreadNumbers]
