"""What a target counted, as Prometheus reads it: the rows of `aoe.metrics.table`, the numbers of a snapshot.

One label tells whose number it is, `export="e1.0"`, `link="eth0"` or `thread="engine0"`; of a client there is
`client` besides. What is told apart within a family has the label of its row. What an export is tells
`aoe_export_info`, by the same label: a query joins the two.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aoe.metrics.exposition import ALONE, Family, Number, Part, Sheet, labels, of_histogram
from aoe.metrics.snapshot import ExportNumbers, Snapshot
from aoe.metrics.table import BUCKETS, CLIENT, EXPORT, LINK, TARGET, THREAD, Row, Scope, Type, Unit, place_of
from aoe.wire.frame import format_mac

OTHER = "other"
"""The label `client` of all that have no numbers of their own."""

_NS = 1_000_000_000
_UNITS = {Unit.BYTES: "_bytes", Unit.NANOSECONDS: "_seconds"}
_HEARD = place_of(CLIENT, "heard")


class Told(NamedTuple):
    """A family, and its rows, which follow each other in the table."""

    family: Family
    rows: Sequence[Row]
    parts: Sequence[Part]

    def of(self, numbers: Sequence[int]) -> Iterable[Number]:
        """Those of its rows in an array, in the units in which they are told."""
        first, last = self.rows[0], self.rows[-1]
        found = numbers[first.at : last.places.stop]
        if first.type is Type.HISTOGRAM:
            upto = list(itertools.accumulate(found[:-1]))
            return (*upto, found[-1] / _NS, upto[-1])
        return [it / _NS for it in found] if first.unit is Unit.NANOSECONDS else found


def _families(rows: Sequence[Row]) -> tuple[Told, ...]:
    return tuple(_told(list(them)) for _, them in itertools.groupby(rows, key=lambda it: it.family))


def _told(rows: Sequence[Row]) -> Told:
    first = rows[0]
    text = " ".join(f"{it.name}: {it.help}" for it in rows) if first.label else first.help
    family = Family(name_of(first), first.type.value, text)
    if first.type is Type.HISTOGRAM:
        return Told(family, rows, of_histogram([bound / _NS for bound in BUCKETS]))
    return Told(family, rows, [Part("", labels({it.label: it.name}) if it.label else "") for it in rows])


def name_of(row: Row) -> str:
    """Of its family, as Prometheus wants names: with the unit, and of counters `_total`."""
    total = "_total" if row.type is Type.COUNTER else ""
    dated = "_timestamp" if (row.scope, row.at) == (Scope.CLIENT, _HEARD) else ""
    return f"aoe_{row.scope}_{row.family}{dated}{_UNITS.get(row.unit, '')}{total}"


OF_TARGET, OF_LINK, OF_EXPORT = map(_families, (TARGET, LINK, EXPORT))
OF_CLIENT, OF_THREAD = map(_families, (CLIENT, THREAD))


class Owners:
    """The labels of owners, which have these names; made anew only when the values are others."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._last: Sequence[tuple[str, ...]] = ()
        self._made: Sequence[str] = ()

    def of(self, values: Sequence[tuple[str, ...]]) -> Sequence[str]:
        """Of each owner, in this order; the same object as the last time if nothing changed."""
        if values != self._last:
            self._last = values
            self._made = [labels(dict(zip(self._names, them, strict=True))) for them in values]
        return self._made


class Text:
    """Writes snapshots on a sheet, a thousand lines at a time."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._links = Owners("link")
        self._exports = Owners("export")
        self._clients = Owners("export", "client")
        self._threads = Owners("thread")

    def pieces(self, snapshot: Snapshot, *, clients: bool, real_ns: int) -> Iterator[bytes]:
        """All of it; with `clients` also what each of them did. `real_ns` is CLOCK_REALTIME at that time."""
        yield from self._named(OF_TARGET, ALONE, [snapshot.target])
        links = self._links.of([(name,) for name in snapshot.links])
        yield from self._named(OF_LINK, links, list(snapshot.links.values()))
        threads = self._threads.of([(it.name,) for it in snapshot.threads])
        yield from self._all(OF_THREAD, threads, [it.numbers for it in snapshot.threads])
        exports = self._exports.of([(it.address,) for it in snapshot.exports])
        yield from self._all(OF_EXPORT, exports, [it.numbers for it in snapshot.exports])
        if clients:
            yield from self._of_clients(snapshot, real_ns)

    def _named(
        self, families: Sequence[Told], owners: Sequence[str], found: Sequence[Mapping[str, int]]
    ) -> Iterator[bytes]:
        """What has numbers by name, and none where that is 0."""
        for told in families:
            values = (it.get(row.name, 0) for it in found for row in told.rows)
            yield from self._sheet.write(told.family, owners, values, told.parts)

    def _all(
        self, families: Sequence[Told], owners: Sequence[str], arrays: Sequence[Sequence[int]]
    ) -> Iterator[bytes]:
        for told in families:
            values = itertools.chain.from_iterable(map(told.of, arrays))
            yield from self._sheet.write(told.family, owners, values, told.parts)

    def _of_clients(self, snapshot: Snapshot, real_ns: int) -> Iterator[bytes]:
        began_ns = real_ns - snapshot.now_ns
        found = [(export.address, *it) for export in snapshot.exports for it in _each(export)]
        owners = self._clients.of([(address, client) for address, client, _ in found])
        arrays = [_dated(numbers, began_ns) for _, _, numbers in found]
        yield from self._all(OF_CLIENT, owners, arrays)


def _each(export: ExportNumbers) -> Iterator[tuple[str, Sequence[int]]]:
    """The clients of an export, by what they are called."""
    for client in sorted(export.clients, key=lambda it: it.mac):
        yield format_mac(client.mac), client.numbers
    yield OTHER, export.other


def _dated(numbers: Sequence[int], began_ns: int) -> Sequence[int]:
    """With a date for when it was heard."""
    dated = list(numbers)
    dated[_HEARD] += began_ns if dated[_HEARD] else 0
    return dated
