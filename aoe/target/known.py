"""Records by all that a disk may be known by: a thousand disks find theirs without comparing each with each.

What is found for a disk is every record that `aoe.target.keys` could choose or refuse for it, or more.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from aoe.target.keys import Known, StoreKey

K = TypeVar("K", bound=Known)

Thing = Callable[[str], Hashable | None]
"""What a path leads to now; None where there is nothing."""


class Index(Generic[K]):
    """As things are when it is made; records that are made later are to be added."""

    def __init__(self, records: Iterable[K], thing: Thing) -> None:
        self._thing = thing
        self._found: dict[Hashable, list[K]] = defaultdict(list)
        self._order: dict[str, int] = {}
        self._paths: list[K] = []
        """Of those it was not yet looked where their paths lead."""
        for record in records:
            self.add(record)

    def add(self, record: K) -> None:
        """One more."""
        self._order.setdefault(record.serial, len(self._order))
        self._paths.append(record)
        for name in (("serial", record.serial), ("device", record.key.device), *_names(record.key)):
            if name[1]:
                self._found[name].append(record)

    def of(self, key: StoreKey) -> list[K]:
        """Those that may be of a disk, in the order in which they came."""
        self._look()
        names = [("serial", key.old_serial), ("device", key.device), ("device", key.device + key.part)]
        thing = ("thing", self._thing(key.whereabouts))
        found = {
            record.serial: record
            for name in (*names, *_names(key), thing)
            if name[1]
            for record in self._found.get(name, ())
        }
        return sorted(found.values(), key=lambda record: self._order[record.serial])

    def _look(self) -> None:
        for record in self._paths:
            self._found["thing", self._thing(record.key.whereabouts)].append(record)
        self._paths.clear()


def _names(key: StoreKey) -> tuple[tuple[str, Hashable], ...]:
    return ("path", key.path), ("shown", key.shown), ("id", key.name if key.name.kind else None)
