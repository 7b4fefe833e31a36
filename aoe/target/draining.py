"""Handing clients over to another server before maintenance: which addresses of a target drain.

IDENTIFY says so (`identify.VENDOR_DRAINS`), and an advertisement makes initiators of ours ask again (order
rule I6). They go on with another server where they have one that is proved to have the disk; others stay, and
are served as before.
"""

import time
from collections.abc import Collection, Mapping

from aoe import timing
from aoe.metrics.snapshot import ClientNumbers
from aoe.target.export import Export
from aoe.target.server import Server

Key = tuple[int, int]


class Draining:
    """Of one target: which of its disks clients are to use elsewhere. An address drains until it is told to
    `end`, also while it is not served."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.keys: frozenset[Key] = frozenset()
        """Addresses that drain."""
        self._told_ns: dict[Key, int] = {}
        """When they were last advertised."""

    def begin(self, keys: Collection[Key]) -> None:
        """Have clients leave these addresses. May be asked for again: those that stay are told again."""
        self.keys |= frozenset(keys)
        self._tell(keys, on=True)

    def end(self, keys: Collection[Key]) -> None:
        """Clients may come back: where they lose the server that they use, or have another reason."""
        self.keys -= frozenset(keys)
        for key in keys:
            self._told_ns.pop(key, None)
        self._tell(keys, on=False)

    def take_up(self, export: Export) -> None:
        """One that is to be served drains if its address does."""
        export.drain(export.key in self.keys, _now_ns())

    def _tell(self, keys: Collection[Key], *, on: bool) -> None:
        now_ns = _now_ns()
        exports = [export for key, export in self._server.exports.items() if key in keys]
        news = [export for export in exports if self._is_news(export, now_ns, on=on)]
        for export in news:
            export.drain(on, now_ns)
            export.departures.ask(now_ns)
            self._told_ns[export.key] = now_ns
        self._server.advertise(news)

    def _is_news(self, export: Export, now_ns: int, *, on: bool) -> bool:
        last_ns = self._told_ns.get(export.key, 0)
        return export.identity.draining != on or (on and now_ns - last_ns >= timing.DRAIN_TOLD_NS)

    def staying(self, export: Export) -> Mapping[bytes, str]:
        """Which hosts have not left an export that drains, and why."""
        if not export.identity.draining:
            return {}
        return export.departures.staying(self._server.counting.export(export).clients, _now_ns())

    def others_stay(self, export: Export) -> bool:
        """Whether clients use an export that drains for which there was no room to count them one by one."""
        other = ClientNumbers(b"", self._server.counting.export(export).other)
        return export.identity.draining and _now_ns() - other.heard_ns < timing.DRAIN_ASKED_NS


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
