"""All that is looked at on a host that serves disks."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aoe import limits, timing
from aoe.config.values import Config, ExportConfig
from aoe.doctor import (
    host,
    interfaces,
    of_host,
    of_interfaces,
    of_segment,
    of_service,
    of_state,
    of_stores,
    segment,
    service,
    state,
    stores,
)
from aoe.doctor.bounded import blocking, soon
from aoe.doctor.checks import Finding, fault, fine, gravest_first, halves, unseen
from aoe.doctor.of_service import SILENT, Process, Unit, dicts
from aoe.doctor.stores import Ids
from aoe.engine import why_unavailable

_LATE: Unit | None = SILENT
_OTHERS = segment.Heard([], {}, {})


class Given(NamedTuple):
    """Where to look: the `file`, what it says (None where it cannot be applied, by its `faults`, or not read,
    for a `problem`), and the control `socket` of the daemon. `state_dir` is where that keeps its state; None:
    only the file could tell. Its file takes so many `descriptors`. `here` looks at what a file names, without
    a daemon: whether it can be used, what it is, and a sentence."""

    file: str
    config: Config | None
    faults: Sequence[str]
    problem: str
    socket: Path
    state_dir: Path | None
    descriptors: int
    here: Callable[[Config], Iterable[tuple[bool, str, dict[str, Any]]]]


class _Daemon(NamedTuple):
    """What it `said`; None where it is not `there`, or does not answer, or not to this user."""

    said: dict[str, Any] | None
    process: Process | None
    findings: list[Finding]
    there: bool = True


async def examine(given: Given) -> list[Finding]:
    """Everything, gravest first. What hangs is left."""
    began_ns = host.ahead_ns()
    daemon, unit, seat = await asyncio.gather(
        _daemon(given),
        blocking(lambda: service.unit(service.UNIT), _LATE),
        blocking(lambda: service.seat(given.socket), None),
    )
    looks = (
        _host(daemon),
        _network(given, daemon),
        _state(given, daemon),
        _stores(given, daemon, unit),
        _unserved(given, daemon),
        _opener(unit),
    )
    found = [it for part in await asyncio.gather(*looks) for it in part]
    found += [*daemon.findings, *of_service.faults_of_file(given.file, given.faults)]
    if given.problem:
        found.append(unseen("config", given.file, given.problem, "sudo aoe-target doctor"))
    found += of_service.unit(unit, service.UNIT) if unit is not None else ()
    found += of_service.seat(seat) if seat is not None else ()
    found.append(of_host.clock(host.clock(of_service.steps(daemon.said or {}), began_ns)))
    return gravest_first(found)


# The daemon


async def _daemon(given: Given) -> _Daemon:
    late = service.Asked(None, 0, f"it does not answer for {timing.DOCTOR_LOOK_S:.0f} s", "lost")
    asked = await blocking(lambda: service.ask(given.socket), late)
    if asked.said is None:
        found = [of_service.no_daemon(asked.problem, asked.kind)]
        return _Daemon(None, None, found, there=asked.kind != "no-daemon")
    process = service.process(asked.pid)
    found = [*of_service.status(asked.said, asked.pid), *of_service.process(process, given.descriptors)]
    return _Daemon(asked.said, process, found)


async def _unserved(given: Given, daemon: _Daemon) -> list[Finding]:
    """Without a daemon, whether what the file names could be served."""
    config = given.config
    if daemon.there or config is None:
        return []
    found: list[Finding] = []

    def look() -> bool:
        for usable, text, facts in given.here(config):
            found.append(_looked(usable, text, facts))
        return True

    if not await blocking(look, late=False):
        remedy = f"aoe-target check {given.file}"
        found.append(unseen("store", given.file, "a disk of it does not answer", remedy))
    return found


def _looked(usable: bool, text: str, facts: dict[str, Any]) -> Finding:
    id = "store" if "address" in facts else "setting"
    about = str(facts.get("address") or facts.get("key") or facts.get("link") or "file")
    seen, remedy = halves(text.removeprefix(f"{about}: "))
    return fine(id, about, text) if usable else fault(id, about, seen, remedy or "aoe-target check")


async def _opener(unit: Unit | None) -> list[Finding]:
    """Of the service as the package has it."""
    if unit is None or not unit.has_opener:
        return []
    socket = await blocking(lambda: service.unit(service.OPENER), _LATE)
    return [of_service.opener(socket, service.OPENER)]


# The host


async def _host(daemon: _Daemon) -> list[Finding]:
    allowed = of_service.allowed_uring(daemon.said)
    exports = len(dicts(daemon.said.get("exports"))) if daemon.said else 0
    found = [of_host.watches(host.watches(), exports)]
    if not daemon.there:
        found.append(of_host.engine(why_unavailable() or ""))
    if not daemon.there or allowed is not None:
        found.append(of_host.uring(host.uring(), allowed))
    return found


# Its interfaces, and what is behind them


async def _network(given: Given, daemon: _Daemon) -> list[Finding]:
    names = _names(given, daemon)
    seen = [interfaces.look(name) for name in interfaces.chosen(names)]
    heard = await soon(
        segment.listen([it.name for it in seen if it.there and it.running and not it.bridge]),
        _OTHERS,
        timing.DOCTOR_S,
    )
    found: list[Finding] = []
    for it in seen:
        found += of_interfaces.judge(it._replace(problem=heard.problems.get(it.name, "")), client=False)
    if heard is _OTHERS:
        found.append(unseen("address-twice", "network", "the answers have no end", "aoe stat"))
    ours = of_segment.served(dicts(daemon.said.get("exports"))) if daemon.said else []
    found += of_segment.for_server(heard.answers, ours, interfaces.own_macs())
    held = await blocking(host.driver, None)
    addresses = {it.address: "this host serves it itself" for it in ours}
    found += of_host.driver(held, {**of_segment.several(heard.answers), **addresses})
    return found


def _names(given: Given, daemon: _Daemon) -> list[str]:
    """Where it serves, or is to serve."""
    if daemon.said is not None:
        named = [str(it.get("name")) for it in dicts(daemon.said.get("interfaces"))]
        return [it for it in named if not it.startswith("udp:")]
    return interfaces.named(given.config.interfaces if given.config else ())


# What it keeps, and its disks


async def _state(given: Given, daemon: _Daemon) -> list[Finding]:
    at = given.state_dir
    if at is None:
        return [
            unseen("state-dir", given.file, "it does not say where that is", f"aoe-target check {given.file}")
        ]
    found = await blocking(lambda: state.look(at), of_state.State(str(at), problem="it does not answer"))
    return [*of_state.judge(found, daemon.process.uid if daemon.process else None)]


async def _stores(given: Given, daemon: _Daemon, unit: Unit | None) -> list[Finding]:
    """A daemon says itself what it cannot open."""
    ids = _ids(unit) if not daemon.there and unit is not None else None
    room = asyncio.Semaphore(limits.CHANGED_AT_ONCE)

    async def look(export: ExportConfig) -> of_stores.Store | None:
        async with room:
            hangs = of_stores.Store(export.address, export.path, hangs=True)
            return await blocking(lambda: stores.look(export, ids), hangs)

    looks = [asyncio.ensure_future(look(it)) for it in (given.config.exports if given.config else ())]
    if not looks:
        return []
    done, left = await asyncio.wait(looks, timeout=timing.DOCTOR_S)
    found = [*of_stores.judge([it.result() for it in looks if it in done], unit.user if unit else "")]
    for it in left:
        it.cancel()
    if left:
        seen = f"no time was left for {len(left)} disks: too many others do not answer"
        found.append(unseen("store-silent", given.file, seen, "mend those first"))
    return found


def _ids(unit: Unit) -> Ids | None:
    """Of the service, unless an opener opens for it."""
    if not unit.user or unit.has_opener:
        return None
    found = service.ids_of(unit.user, unit.properties.get("SupplementaryGroups", ""))
    return Ids(*found, unit.properties.get("ProtectHome", "no") == "no") if found else None
