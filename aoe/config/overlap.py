"""Which exports serve the same sectors of one store."""

from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")
_NO_END = 1 << 63


class Part(NamedTuple):
    """Sectors of a store, from `offset` on, `length` of them (None: all that follow)."""

    store: Hashable
    offset: int
    length: int | None
    read_only: bool

    @property
    def end(self) -> int:
        """The sector behind the last."""
        return _NO_END if self.length is None else self.offset + self.length


def overlapping(parts: Iterable[tuple[Part, T]]) -> Iterator[tuple[T, T]]:
    """Each of what has sectors that may change under another, with that other, in no order of importance."""
    by_store: dict[Hashable, list[tuple[Part, T]]] = {}
    for part, whose in parts:
        by_store.setdefault(part.store, []).append((part, whose))
    for of_one in by_store.values():
        if len(of_one) > 1:
            yield from _of_one(sorted(of_one, key=lambda it: it[0].offset))


def _of_one(parts: list[tuple[Part, T]]) -> Iterator[tuple[T, T]]:
    """In the order of their offsets; the earlier ones that reach furthest are compared."""
    furthest: tuple[int, T] | None = None
    written: tuple[int, T] | None = None
    for part, whose in parts:
        before = written if part.read_only else furthest
        if before is not None and before[0] > part.offset:
            yield whose, before[1]
        if furthest is None or part.end > furthest[0]:
            furthest = part.end, whose
        if not part.read_only and (written is None or part.end > written[0]):
            written = part.end, whose
