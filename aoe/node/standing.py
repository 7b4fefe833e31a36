"""How an export that is served stands."""

import time
from collections.abc import Iterable

from aoe.node.drains import stays
from aoe.node.hands import Live
from aoe.node.status import ClientStatus, ExportStatus
from aoe.target.target import Target
from aoe.target.work import Figures, Host
from aoe.wire.frame import format_mac
from aoe.wire.protocol import SECTOR


def standing(one: Live, target: Target, state: str, reason: str) -> ExportStatus:
    """In that state, with what the target did of it."""
    export, config = one.export, one.config
    done = Figures() if one.going else target.figures(export)
    return ExportStatus(
        config.address,
        config.path,
        state,
        reason,
        export.identity.serial,
        export.drive.sectors * SECTOR,
        config.durability,
        export.drive.read_only,
        tuple(map(format_mac, export.state.mask)),
        tuple(map(format_mac, export.state.reserve)),
        None if one.going else target.unused_s(export),
        done.reads,
        done.writes,
        done.flushes,
        done.trims,
        done.read_bytes,
        done.written_bytes,
        done.queue,
        _clients(done.hosts),
        stays(target, config.key) if export.identity.draining and not one.going else None,
        config.limited,
    )


def _clients(hosts: Iterable[Host]) -> tuple[ClientStatus, ...]:
    """The one that was heard last first."""
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    latest = sorted(hosts, key=lambda it: -it.heard_ns)
    return tuple(
        ClientStatus(format_mac(it.mac), it.requests, max(0, now_ns - it.heard_ns) // 1000) for it in latest
    )
