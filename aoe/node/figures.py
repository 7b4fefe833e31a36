"""What a status says in numbers, by the rows of `aoe.metrics.table`."""

from collections.abc import Iterator
from typing import Any

from aoe.metrics.snapshot import ClientNumbers, ExportNumbers
from aoe.metrics.table import CLIENT, EXPORT, Type
from aoe.node.status import ClientStatus
from aoe.wire.frame import format_mac

OTHER = "other"
"""What the clients are called that have no numbers of their own."""
_DONE = ("reads", "writes", "flushes", "trims", "read_bytes", "written_bytes", "queue")
_WRONG = tuple(row for row in EXPORT if row.label == "reason")
_HISTOGRAMS = tuple(row for row in EXPORT if row.type is Type.HISTOGRAM)


def of_export(found: ExportNumbers, now_ns: int) -> dict[str, Any]:
    """As `ExportStatus` has them; now is CLOCK_BOOTTIME."""
    return {
        **{name: found[name] for name in _DONE},
        "counted": {row.name: found[row.name] for row in _WRONG if found[row.name]},
        **{row.name: tuple(found.numbers[at] for at in row.places) for row in _HISTOGRAMS},
        "clients": tuple(_clients(found, now_ns)),
    }


def _clients(found: ExportNumbers, now_ns: int) -> Iterator[ClientStatus]:
    """The one that was heard last first, and all others at last."""
    for one in sorted(found.clients, key=lambda it: -it.heard_ns):
        yield _client(format_mac(one.mac), one, now_ns)
    if any(found.other):
        yield _client(OTHER, ClientNumbers(b"", found.other), now_ns)


def _client(name: str, one: ClientNumbers, now_ns: int) -> ClientStatus:
    counted = {row.name: one[row.name] for row in CLIENT if row.type is Type.COUNTER}
    return ClientStatus(name, heard_us=max(0, now_ns - one.heard_ns) // 1000, **counted)
