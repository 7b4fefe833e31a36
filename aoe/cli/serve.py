"""`aoe-target serve`: from what was typed to disks that are served, until a signal ends it."""

import asyncio
import functools
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aoe.cli import loop, stdio
from aoe.cli.ending import Ended
from aoe.cli.journal import start_log
from aoe.cli.opening import Hands, hands_of
from aoe.cli.paths import Wanted, check_stores
from aoe.cli.privilege import allow_descriptors, drop_privileges
from aoe.cli.records import find_records
from aoe.cli.report import Report
from aoe.cli.serving import Serve, meaning
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening
from aoe.engine import EngineUnavailable
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.link.packet import PacketLink
from aoe.printable import plain
from aoe.target.accelerator import EngineOptions
from aoe.target.export import Export
from aoe.target.legacy import Legacy
from aoe.target.marks import Marks
from aoe.target.offer import Offer
from aoe.target.records import StateStore, default_directory
from aoe.target.served import release
from aoe.target.server import TargetOptions
from aoe.target.system import System
from aoe.target.target import Target
from aoe.wire import protocol

log = logging.getLogger("aoe")

OPEN_ALWAYS = 19
"""Descriptors: three standard ones, ten of the event loop, two that watch, and four for a moment now and
then. Besides, each disk has two, each link up to four and one for each engine thread, which has three."""

PROTECTED = (
    "is read-only for the kernel (its medium is, or blockdev --setro was said), and is served read-only; "
    "once it can be written, serve it anew"
)
_NOT_TO_END = (signal.SIGHUP, signal.SIGUSR1)
"""What serving is told by; before and after that they are ignored."""


class Words:
    """What was typed behind `serve`; each word is in order by itself."""

    def __init__(self, *, json: bool, verbose: bool, **others: Any) -> None:
        self._json = json
        self._verbose = verbose
        self._others = others

    def meaning(self) -> Serve:
        """What they mean together; ConfigurationError if that is nothing."""
        return meaning(**self._others)

    def run(self, report: Report) -> int:
        """Serve. 0 after a clean stop, 1 if work was left behind, 2 if it could not start."""
        report.as_json = self._json

        def begin() -> Coroutine[Any, Any, bool]:
            command = self.meaning()
            _allow_descriptors(command)
            return _serve(command, report, hands_of(command))

        return guarded(begin, report, verbose=self._verbose)


def guarded(begin: Callable[[], Coroutine[Any, Any, bool]], report: Report, *, verbose: bool) -> int:
    """Serve, whatever becomes of the standard streams, and of the signals before and after. False of what
    `begin` made means that work was left behind."""
    clean = True

    def serve() -> int:
        nonlocal clean
        serving = begin()
        try:
            with _interruptible():
                clean = loop.run(serving, ring=False)
        except Ended as ended:
            report.interrupted(f"{ended} before it served anything")
            return ended.status
        finally:
            _be_deaf()  # the loop has gone, and with it what it did for a signal
        return 0 if clean else 1

    with _deaf(), stdio.unblocked("aoe-target", report.as_json):
        start_log()
        log.setLevel(logging.DEBUG if verbose else logging.INFO)
        status = report.outcome(serve)
    if not clean:
        os._exit(status)  # a thread that hangs in the disk would keep the interpreter from ending
    if status == 128 + signal.SIGTERM:  # as of a process that does nothing about it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    return status


def _be_deaf() -> None:
    """Nothing is to be looked at or counted while nothing is served: no reason to end."""
    for number in _NOT_TO_END:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _deaf() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _NOT_TO_END}
    _be_deaf()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Interrupted(KeyboardInterrupt):
    """By a signal, which the first argument is."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ended for what ends it at once, also out of waiting for a disk; later the loop has these signals."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Interrupted as error:
        raise Ended(error.args[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: object) -> None:
    raise _Interrupted(number)


def _allow_descriptors(command: Serve) -> None:
    """As many as will be open; an event loop that has too few ends in a traceback, or serves less."""
    disks, links = len(command.wanted), len(command.interfaces) + len(command.links) or 1
    threads = 0 if command.engine == "python" else command.threads.threads
    needed = OPEN_ALWAYS + 2 * disks + links * (4 + threads) + 3 * threads
    allow_descriptors(needed, for_good=True)


# From words to a server


async def _serve(command: Serve, report: Report, hands: Hands) -> bool:
    try:
        return await _served(command, report, hands)
    finally:
        hands.close()


async def _served(command: Serve, report: Report, hands: Hands) -> bool:
    disks: list[FileDisk] = []
    links: list[Link] = []
    if not (command.opening.read_only or command.opening.shared):
        check_stores(command.wanted)  # our own lock would be waited for
    try:
        for one in command.wanted:
            disks.append(_open(hands, one, command.opening))
        links += hands.links()
        # Only now: a process that still served these disks has ended, and written what it acknowledged.
        store = StateStore(command.state_dir or default_directory(), _replaced(command))
        warn_of_damage(store)
        offers = _offers(command, disks, store)
        target = _open_target(command, links, hands)
    except BaseException:
        release(disks, links)
        raise
    try:
        stdio.start()
        exports = await target.add(*offers, force=command.force)
    except BaseException:
        await target.stop(0)
        release(disks, [])
        raise
    stopped = _listen_to_signals(target, report)
    hands.serving(target.server.look_again)
    await target.refresh()  # for a signal that came before
    for export in exports:
        announce(report, target, export, links)
    await stopped.wait()
    clean = await target.stop()
    print_counters(target, report)
    if not clean:
        stdio.complain("aoe-target", f"{target.left_behind} requests hang in the disk")
    return clean


def _replaced(command: Serve) -> Sequence[str]:
    """What of a record gets another value, so that it is no matter if it is damaged."""
    if command.reset_state:
        return "config", "mask", "reserve"
    return ("mask",) if command.mask is not None else ()


def _open(hands: Hands, one: Wanted, how: Opening) -> FileDisk:
    try:
        return hands.disk(one, how)
    except ConfigurationError as error:
        raise one.quoting(error) from error


def _offers(command: Serve, disks: list[FileDisk], store: StateStore) -> list[Offer]:
    write_back = command.durability == "write-back"
    records = find_records(store, command.wanted, disks, command.opening)
    return [
        Offer(
            disk,
            one.shelf,
            one.slot,
            it.serial,
            write_back,
            it,
            command.mask,
            command.reset_state,
            limits=command.limits,
            copy_of=command.copy_of,
        )
        for one, disk, it in zip(command.wanted, disks, records, strict=True)
    ]


def _open_target(command: Serve, links: list[Link], hands: Hands) -> Target:
    how, engine, threads = command.options, command.engine, command.threads
    return open_target(links, how, engine, threads, confined=hands.confine, system=hands.system)


def open_target(
    links: list[Link],
    how: TargetOptions,
    engine: str,
    threads: EngineOptions,
    *,
    confined: Callable[[], None] = drop_privileges,
    system: System | None = None,
    legacy: Legacy | None = None,
    paused: bool = False,
    marks: Marks | None = None,
) -> Target:
    """A target with that engine: `auto`, `c` or `python`. The process is `confined` before there are threads:
    what opens stores later gives up privileges, and no more than that."""
    opened = functools.partial(
        Target.open, links, before_threads=confined, legacy=legacy, paused=paused, system=system, marks=marks
    )
    by_name = engine == "c"
    is_meant_for_it = all(isinstance(link, PacketLink) for link in links)
    if engine == "python" or not (by_name or is_meant_for_it):
        log.debug("served in Python%s", "" if is_meant_for_it else ": the engine is for Ethernet interfaces")
        return opened(how)
    try:
        return opened(how._replace(engine=threads))
    except EngineUnavailable as error:
        if by_name:
            raise ConfigurationError(f"--engine c: {error}; or say --engine python") from error
        stdio.complain("aoe-target", f"serving without the compiled engine: {error}")
        target = opened(how)
        target.without_engine = str(error)
        return target


def warn_of_damage(store: StateStore) -> None:
    """One line: whatever is served does not need these, or is refused later."""
    if store.damaged:
        first, *others = store.damaged.values()
        more = f" ({len(others)} more like it)" if others else ""
        stdio.complain("aoe-target", f"{first.problem}{more}")


# What it says


def announce(report: Report, target: Target, export: Export, links: Sequence[Link]) -> None:
    """That an export is served, where and how."""
    _, disk, record = target.server.served(export)
    assert isinstance(disk, FileDisk), "the command serves paths"
    facts = {
        "event": "serving",
        "address": export.address,
        "path": record.key.place if record else "",
        "bytes": disk.size,
        "unserved_bytes": disk.tail,
        "serial": export.identity.serial,
        "durability": "write-back" if export.identity.cache else "write-through",
        "direct": disk.direct,
        "read_only": export.drive.read_only,
        "interfaces": [{"name": link.name, "mtu": link.mtu, "payload": _payload(link)} for link in links],
    }
    _warn_of_rest(export.address, disk)
    if disk.protected and not disk.store.read_only:
        stdio.complain(
            "aoe-target", f"{export.address}: {plain(record.key.place if record else '')} {PROTECTED}"
        )
    report.say(_sentence(facts), **facts)


def _warn_of_rest(address: str, disk: FileDisk) -> None:
    """What of a store is left out, why, and how to have it served."""
    if not disk.tail:
        return
    unit = f"blocks of {disk.block} bytes in direct I/O" if disk.direct else f"sectors of {disk.block} bytes"
    remedy = ", or say --buffered" if disk.direct and disk.tail >= protocol.SECTOR else ""
    stdio.complain(
        "aoe-target",
        f"{address}: the last {disk.tail} bytes are not served, as a disk has whole {unit}; "
        f"append {disk.block - disk.tail} bytes{remedy}",
    )


def _payload(link: Link) -> int:
    return protocol.sectors_per_frame(link.mtu) * protocol.SECTOR


def _sentence(facts: dict[str, Any]) -> str:
    where = ", ".join("{name} (MTU {mtu}, payload {payload})".format(**it) for it in facts["interfaces"])
    how = "direct" if facts["direct"] else "buffered"
    access = ", read-only" if facts["read_only"] else ""
    less = f" (without the last {facts['unserved_bytes']})" if facts["unserved_bytes"] else ""
    return (
        f"{facts['address']}: {plain(facts['path'])}, {facts['bytes']} bytes{less}, on {where}, "
        f"{facts['durability']}, {how}{access}, serial {facts['serial']}"
    )


def print_counters(target: Target, report: Report) -> None:
    """Everything that was counted."""
    counted = dict(sorted(target.counters().items()))
    words = " ".join(f"{name}={n}" for name, n in counted.items()) or "none"
    report.say(f"counters: {words}", event="counters", **counted)


def _listen_to_signals(target: Target, report: Report) -> asyncio.Event:
    """What is set when it is to stop."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    handlers: dict[int, Callable[[], None]] = {
        signal.SIGTERM: stopped.set,
        signal.SIGINT: stopped.set,
        signal.SIGHUP: lambda: target.server.spawn(refresh(target, report)),
        signal.SIGUSR1: lambda: print_counters(target, report),
    }
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    return stopped


async def refresh(target: Target, report: Report) -> None:
    """Look at the sizes of the disks again, and say which have changed."""
    for export in await target.refresh():
        disk, size = target.server.served(export).disk, export.drive.sectors * protocol.SECTOR
        assert isinstance(disk, FileDisk), "the command serves paths"
        facts = {"event": "size", "address": export.address, "bytes": size, "unserved_bytes": disk.tail}
        _warn_of_rest(export.address, disk)
        report.say(f"{export.address}: now {size} bytes", **facts)
