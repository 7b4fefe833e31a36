"""What a server counts: of both engines together, and of its links."""

import time
from collections import Counter
from collections.abc import Sequence

from aoe.drive.command import Kind
from aoe.metrics.snapshot import ClientNumbers, ExportNumbers, Snapshot, ThreadNumbers
from aoe.metrics.table import EXPORT, THREAD, length_of, place_of
from aoe.target.accelerator import Accelerator
from aoe.target.export import Export
from aoe.target.health import Health
from aoe.target.ports import Ports
from aoe.target.responder import Responder
from aoe.target.work import plus
from aoe.wire.protocol import SECTOR

_BUSY, _IDLE = (place_of(THREAD, name) for name in ("busy", "idle"))
_QUEUE = place_of(EXPORT, "queue")
_GAUGES = tuple(place_of(EXPORT, name) for name in ("clients", "failed", "size"))


class Counting:
    """Looks at what the parts of a server have counted. It begins with the event loop's thread."""

    def __init__(
        self, responder: Responder, ports: Ports, health: Health, accelerator: Accelerator | None
    ) -> None:
        self._responder, self._ports, self._health = responder, ports, health
        self._accelerator = accelerator
        self._began = _clocks()

    def counters(self) -> Counter[str]:
        """Everything counted so far, by reason; what links counted has their name before it."""
        total = self._target()
        total.update(self._ports.counters())
        return total

    def _target(self) -> Counter[str]:
        total = Counter(self._responder.counters)
        if self._accelerator is not None:
            served = self._accelerator.engine.counters()
            total.update(served)
            for kind in (Kind.READ, Kind.WRITE, Kind.FLUSH):
                total[kind] += served[f"engine_{kind}"]
        return total

    def export(self, export: Export) -> ExportNumbers:
        """Of one export, as things stand."""
        found = export.work.numbers(export.address, len(export.queue))
        if self._accelerator is not None:
            found = _together(found, *self._accelerator.numbers(export))
        failed = self._health.failure(export) is not None
        size = export.drive.sectors * SECTOR
        for place, now in zip(_GAUGES, (len(found.clients), int(failed), size), strict=True):
            found.numbers[place] = now
        return found

    def snapshot(self, exports: Sequence[ExportNumbers] | None = None) -> Snapshot:
        """All of it; with `exports` that were looked at just before."""
        if exports is None:
            exports = tuple(self.export(export) for export in self._responder.exports.values())
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        links = {name: dict(counted) for name, counted in self._ports.by_link().items()}
        return Snapshot(now_ns, dict(self._target()), links, exports, tuple(self._threads()))

    def _threads(self) -> list[ThreadNumbers]:
        engine = self._accelerator.threads() if self._accelerator is not None else []
        found = [ThreadNumbers(f"engine{at}", numbers) for at, numbers in enumerate(engine)]
        wall_ns, cpu_ns = (now - then for now, then in zip(_clocks(), self._began, strict=True))
        numbers = [0] * length_of(THREAD)
        numbers[_BUSY], numbers[_IDLE] = cpu_ns, max(0, wall_ns - cpu_ns)
        return [*found, ThreadNumbers("python", numbers)]


def _clocks() -> tuple[int, int]:
    """The event loop waits wherever it does not compute."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.thread_time_ns()


def _together(
    here: ExportNumbers, numbers: list[int], clients: list[tuple[bytes, list[int]]], other: list[int]
) -> ExportNumbers:
    """With the engine, which alone hears the clients, and knows what is under way."""
    assert not here.clients, "the engine hears them"
    both = plus(here.numbers, numbers)
    both[_QUEUE] = numbers[_QUEUE]
    return ExportNumbers(here.address, here.since_ns, both, [ClientNumbers(*it) for it in clients], other)
