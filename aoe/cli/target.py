"""`aoe-target`: serve disks over AoE."""

import argparse
import asyncio
import functools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aoe import limits, timing
from aoe.cli import stdio, words
from aoe.cli.links import open_links
from aoe.cli.paths import Wanted, plain, plan
from aoe.cli.privilege import allow_descriptors, drop_privileges
from aoe.cli.records import find_records
from aoe.cli.state import add_state, list_state
from aoe.cli.version import Version
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening, open_disk
from aoe.engine import EngineUnavailable
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.link.packet import PacketLink
from aoe.target.accelerator import EngineOptions
from aoe.target.export import Export
from aoe.target.served import release
from aoe.target.server import TargetOptions
from aoe.target.store import StateStore, default_directory
from aoe.target.target import Offer, Target
from aoe.wire import protocol
from aoe.wire.frame import is_group, parse_mac

log = logging.getLogger("aoe")

_OPEN_ALWAYS = 19
"""Descriptors: three standard ones, ten of the event loop, two that watch, and four for a moment now and
then. Besides, each disk has two, each link up to three and one for each engine thread, which has three."""

_NOT_TO_END = (signal.SIGHUP, signal.SIGUSR1)
"""What serving is told by; before and after that they are ignored."""


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 after a clean stop, 1 if work was left behind, 2 if it could not start."""
    return stdio.run("aoe-target", functools.partial(_main, arguments))


def _main(arguments: list[str] | None) -> int:
    options = parser().parse_args(arguments)
    if options.command == "state":
        return list_state(options)
    clean = True

    def serve() -> int:
        nonlocal clean
        _allow_descriptors(options)
        # At once, also out of waiting for a disk; later the loop has the signal.
        before = signal.signal(signal.SIGINT, _interrupt)
        try:
            clean = _run(_serve(options))
        except KeyboardInterrupt:
            stdio.complain("aoe-target", "interrupted before it served anything")
            return 128 + signal.SIGINT
        finally:
            signal.signal(signal.SIGINT, before)
            _be_deaf()  # the loop has gone, and with it what it did for a signal
        return 0 if clean else 1

    with _deaf(), stdio.unblocked("aoe-target", options.json):
        _start_log()
        log.setLevel(logging.DEBUG if options.verbose else logging.INFO)
        status = stdio.outcome("aoe-target", serve)
    if not clean:
        os._exit(status)  # a thread that hangs in the disk would keep the interpreter from ending
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


class _OneLine(logging.Formatter):
    """A message stays one line whatever is in the names that it quotes."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return " ".join(super().formatMessage(record).splitlines())


def _start_log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("aoe-target: %(message)s"))
    logging.basicConfig(handlers=[handler])


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = words.Parser(prog="aoe-target", description="Serve disks over ATA over Ethernet.")
    top.add_argument("--version", action=Version)
    commands = top.add_subparsers(dest="command", required=True)
    add_state(commands)
    serve = commands.add_parser("serve", help="serve files or block devices until stopped")
    add = serve.add_argument
    add("paths", nargs="+", metavar="PATH[=SHELF.SLOT][,serial=TEXT]", help="a file or block device")
    add("--interface", action="append", default=[], metavar="IF", help="Ethernet interface (repeatable)")
    add("--link", action="append", default=[], metavar="udp:BIND:PORT[,peer=HOST:PORT...][,mtu=N]")
    add("--shelf", type=int, default=0, metavar="N", help="shelf of the first PATH (0)")
    add("--slot", type=int, default=0, metavar="N", help="slot of the first PATH (0); others follow")
    add("--buffer-count", type=int, metavar="N", help="messages a client may have outstanding (2-65535)")
    add("--read-only", action="store_true", help="refuse writes")
    add("--direct", action="store_true", help="bypass the page cache (default for block devices)")
    add("--buffered", action="store_true", help="use the page cache (default for files)")
    add("--shared", action="store_true", help="another host serves the store too: no lock, direct I/O")
    add(
        "--durability",
        choices=("write-through", "write-back"),
        default="write-through",
        help="write-through (default): a write reply means stable storage; write-back: a FLUSH reply does",
    )
    add("--max-frame-age", type=float, default=timing.FRAME_AGE_DEFAULT_S, metavar="S")
    add("--mask", metavar="MAC,...", help="serve only these hosts, whatever was persisted")
    add("--no-remote-admin", action="store_true", help="refuse config, mask and reserve changes")
    add("--no-remote-masks", action="store_true", help="refuse mask changes: who is served is decided here")
    add("--offset", type=int, default=0, metavar="SECTORS", help="serve from this sector on")
    add("--length", type=int, metavar="SECTORS", help="serve only so many sectors")
    add(
        "--serial",
        metavar="TEXT",
        help=f"serial number, up to {protocol.SERIAL_MAX} characters (one PATH only)",
    )
    add("--state-dir", type=Path, metavar="DIR", help="where config string, lists and serials are kept")
    add("--reset-state", action="store_true", help="forget config string, mask list and reservation")
    add("--engine", choices=("auto", "python", "c"), default="auto", help="which code moves the sectors")
    add("--cpus", type=_cpus, metavar="N,...", help="one engine thread on each of these CPUs")
    add("--no-spin", action="store_true", help="let the engine sleep at once when there is nothing to do")
    add("--force", action="store_true", help="serve even if another target has the address")
    add("--json", action="store_true", help="print JSON, one object a line")
    add("-v", "--verbose", action="store_true")
    return top


def _allow_descriptors(options: argparse.Namespace) -> None:
    """As many as will be open; an event loop that has too few ends in a traceback, or serves less."""
    disks, links = len(options.paths), len(options.interface) + len(options.link) or 1
    threads = 0 if options.engine == "python" else len(options.cpus or (0,))
    needed = _OPEN_ALWAYS + 2 * disks + links * (3 + threads) + 3 * threads
    allow_descriptors(needed, for_good=True)


def _run(main_task: Coroutine[Any, Any, bool]) -> bool:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.run(main_task)
    return uvloop.run(main_task)


# From options to a server


async def _serve(options: argparse.Namespace) -> bool:
    wanted = plan(options.paths, options.shelf, options.slot, options.serial)
    mask = _mask(options.mask)
    _check_options(options)
    disks: list[FileDisk] = []
    links: list[Link] = []
    try:
        for one in wanted:
            disks.append(_open(one, _opening(options)))
        links += open_links(options.interface, options.link)
        # Only now: a process that still served these disks has ended, and written what it acknowledged.
        store = StateStore(options.state_dir or default_directory())
        _warn_of_damage(store)
        offers = _offers(options, wanted, disks, store, mask)
        target = _open_target(options, links, len(offers))
    except BaseException:
        release(disks, links)
        raise
    try:
        stdio.start()
        exports = await target.add(*offers, force=options.force)
    except BaseException:
        await target.stop(0)
        release(disks, [])
        raise
    stopped = _listen_to_signals(options, target)
    target.refresh()  # for a signal that came before
    _announce(options, zip(exports, offers, strict=True), links)
    await stopped.wait()
    clean = await target.stop()
    _print_counters(options, target)
    if not clean:
        stdio.complain("aoe-target", f"{target.left_behind} requests hang in the disk")
    return clean


def _check_options(options: argparse.Namespace) -> None:
    if options.direct and options.buffered:
        raise ConfigurationError("--direct and --buffered exclude each other; choose one")
    if options.shared and options.buffered:
        raise ConfigurationError("--shared forces direct I/O (a page cache is one host's); drop --buffered")
    if options.buffer_count is not None and not (
        protocol.BUFFER_COUNT_MIN <= options.buffer_count <= protocol.BUFFER_COUNT_MAX
    ):
        raise ConfigurationError(f"--buffer-count {options.buffer_count} is not 2 to 65535")
    if not timing.FRAME_AGE_MIN_S <= options.max_frame_age <= 3600:
        raise ConfigurationError(
            f"--max-frame-age {options.max_frame_age} is not {timing.FRAME_AGE_MIN_S} to 3600"
        )
    if options.offset < 0 or (options.length is not None and options.length < 1):
        raise ConfigurationError("--offset and --length are sectors, and --length is at least 1")


def _cpus(text: str) -> list[int]:
    """For argparse: CPU numbers this process may run on."""
    usable = sorted(os.sched_getaffinity(0))
    cpus = [words.whole(0, 1 << 16)(number) for number in text.split(",")]
    if not set(cpus) <= set(usable):
        may = ", ".join(map(str, usable))
        raise argparse.ArgumentTypeError(
            f"{text!r} names a CPU that this process may not use; it may use {may}"
        )
    return cpus


def _mask(text: str | None) -> tuple[bytes, ...] | None:
    if text is None:
        return None
    try:
        macs = tuple(dict.fromkeys(parse_mac(mac) for mac in text.split(",")))
    except ValueError as error:
        raise ConfigurationError(f"--mask: {error}; write it as 02:00:00:00:00:01") from error
    if len(macs) > protocol.MACS_MAX:
        raise ConfigurationError(f"--mask: {len(macs)} hosts; a list holds up to {protocol.MACS_MAX}")
    for mac in macs:
        if is_group(mac):
            raise ConfigurationError(f"--mask: {mac.hex(':')} is a group address; name single hosts")
    return macs


def _opening(options: argparse.Namespace) -> Opening:
    direct = True if options.direct else False if options.buffered else None
    return Opening(options.read_only, direct, options.shared, options.offset, options.length)


def _open(one: Wanted, how: Opening) -> FileDisk:
    try:
        return open_disk(one.path, how)
    except ConfigurationError as error:
        raise one.quoting(error) from error


def _offers(
    options: argparse.Namespace,
    wanted: list[Wanted],
    disks: list[FileDisk],
    store: StateStore,
    mask: tuple[bytes, ...] | None,
) -> list[Offer]:
    write_back = options.durability == "write-back"
    records = find_records(store, wanted, disks, _opening(options))
    return [
        Offer(disk, one.shelf, one.slot, record.serial, write_back, record, mask, options.reset_state)
        for one, disk, record in zip(wanted, disks, records, strict=True)
    ]


def _open_target(options: argparse.Namespace, links: list[Link], exports_max: int) -> Target:
    how = TargetOptions(
        options.max_frame_age,
        options.buffer_count,
        not options.no_remote_admin,
        not options.no_remote_masks,
        exports_max=exports_max,
    )
    by_name = options.engine == "c"
    is_meant_for_it = all(isinstance(link, PacketLink) for link in links)
    if options.engine == "python" or not (by_name or is_meant_for_it):
        log.debug("served in Python%s", "" if is_meant_for_it else ": the engine is for Ethernet interfaces")
        return Target.open(links, how, before_threads=drop_privileges)
    cpus = tuple(options.cpus or ())
    engine = EngineOptions(len(cpus) or 1, cpus, 0 if options.no_spin else limits.SPIN_US)
    try:
        return Target.open(links, how._replace(engine=engine), before_threads=drop_privileges)
    except EngineUnavailable as error:
        if by_name:
            raise ConfigurationError(f"--engine c: {error}; or say --engine python") from error
        stdio.complain("aoe-target", f"serving without the compiled engine: {error}")
        return Target.open(links, how, before_threads=drop_privileges)


def _warn_of_damage(store: StateStore) -> None:
    """One line: whatever is served does not need these, or is refused later."""
    if store.damaged:
        first, *others = store.damaged.values()
        more = f" ({len(others)} more like it)" if others else ""
        stdio.complain("aoe-target", f"{first.problem}{more}")


# What it says


def _announce(options: argparse.Namespace, served: Iterable[tuple[Export, Offer]], links: list[Link]) -> None:
    for export, offer in served:
        disk, record = offer.disk, offer.record
        assert isinstance(disk, FileDisk), "the command serves paths"
        facts = {
            "event": "serving",
            "address": export.address,
            "path": record.key.place if record else "",
            "bytes": disk.size,
            "unserved_bytes": disk.tail,
            "serial": export.identity.serial,
            "durability": options.durability,
            "direct": disk.direct,
            "read_only": disk.read_only,
            "interfaces": [{"name": link.name, "mtu": link.mtu, "payload": _payload(link)} for link in links],
        }
        _warn_of_rest(export.address, disk)
        print(json.dumps(facts) if options.json else _sentence(facts), flush=True)


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


def _print_counters(options: argparse.Namespace, target: Target) -> None:
    counted = dict(sorted(target.counters().items()))
    if options.json:
        print(json.dumps({"event": "counters", **counted}), flush=True)
    else:
        print("counters:", " ".join(f"{name}={n}" for name, n in counted.items()) or "none", flush=True)


def _listen_to_signals(options: argparse.Namespace, target: Target) -> asyncio.Event:
    """What is set when it is to stop."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    handlers: dict[int, Callable[[], None]] = {
        signal.SIGTERM: stopped.set,
        signal.SIGINT: stopped.set,
        signal.SIGHUP: lambda: _refresh(options, target),
        signal.SIGUSR1: lambda: _print_counters(options, target),
    }
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    return stopped


def _refresh(options: argparse.Namespace, target: Target) -> None:
    for export in target.refresh():
        disk, size = target.server.served(export).disk, export.drive.sectors * protocol.SECTOR
        assert isinstance(disk, FileDisk), "the command serves paths"
        facts = {"event": "size", "address": export.address, "bytes": size, "unserved_bytes": disk.tail}
        _warn_of_rest(export.address, disk)
        print(json.dumps(facts) if options.json else f"{export.address}: now {size} bytes", flush=True)


if __name__ == "__main__":
    sys.exit(main())
