"""How an export that is served stands."""

import time

from aoe.node.drains import stays
from aoe.node.figures import of_export
from aoe.node.hands import Live
from aoe.node.status import EngineStatus, ExportStatus
from aoe.target.target import Target
from aoe.wire.frame import format_mac
from aoe.wire.protocol import SECTOR


def standing(
    one: Live, target: Target, state: str, reason: str, cut: tuple[str, float] = ("", 0.0)
) -> ExportStatus:
    """In that state, with what the target did of it, and the snapshot that is being cut of it."""
    export, config = one.export, one.config
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    done = {} if one.going else of_export(target.numbers(export), now_ns)
    return ExportStatus(
        config.address,
        config.path,
        state,
        reason,
        export.identity.serial,
        export.drive.sectors * SECTOR,
        config.durability,
        export.drive.read_only,
        one.held.opened.store.direct,
        one.held.opened.store.shared,
        tuple(map(format_mac, export.state.mask)),
        tuple(map(format_mac, export.state.reserve)),
        None if one.going else target.unused_s(export),
        stays=stays(target, config.key) if export.identity.draining and not one.going else None,
        limits=config.limited,
        cutting=cut[0],
        cut=round(cut[1], 3),
        **done,
    )


def engine_of(target: Target) -> EngineStatus:
    """What serves."""
    uring = target.server.uses_uring
    return EngineStatus("python" if uring is None else "c", target.without_engine, bool(uring))
