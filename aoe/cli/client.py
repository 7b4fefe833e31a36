"""`aoe`: talk to targets from the command line."""

import argparse
import asyncio
import functools
import json
import shlex
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from aoe import limits
from aoe.cli import stdio
from aoe.cli.bench import RW, Load, measure, size_of
from aoe.cli.copying import Progress, copy
from aoe.cli.links import check_distinct, open_datagrams, open_links
from aoe.disk.base import Disk
from aoe.disk.open import Opening, open_disk
from aoe.errors import ConfigurationError, RequestError
from aoe.initiator.discover import discover
from aoe.initiator.remote import (
    ADDRESS,
    FIND_S,
    Options,
    PathStatus,
    RemoteDisk,
    attach,
    connect,
    parse_address,
)
from aoe.link.packet import only_interface
from aoe.nbd.door import THREADS, Plan, serve
from aoe.wire.frame import format_mac, parse_mac

_AOE_STAT = {"usable": "up", "checking": "checking", "down": "down", "refused": "down"}
_CHUNK = 2048 * limits.SECTOR
"""Bytes between two looks at the terminal."""


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 if it did what was asked, 1 if a target did not, 2 if it could not be asked."""
    return stdio.run("aoe", functools.partial(_main, arguments))


def _main(arguments: list[str] | None) -> int:
    # Not before the standard descriptors are open: its loop would take their numbers.
    import uvloop  # noqa: PLC0415

    options = parser().parse_args(arguments)

    def ask() -> int:
        uvloop.run(options.run(options))
        return 0

    if options.command != "nbd":
        return ask()
    with stdio.unblocked("aoe", options.json):
        stdio.start()
        return stdio.outcome("aoe", ask)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="aoe", description="Talk to ATA over Ethernet targets.")
    commands = top.add_subparsers(dest="command", required=True)
    add = _adder(commands)
    add("discover", _discover, "list the targets that answer")
    add("stat", _stat, "list them as aoe-stat does, with round-trip times")
    for name, run, what in (
        ("identify", _identify, "what a target says of its disk"),
        ("ping", _ping, "how long its answers take"),
        ("read", _read, "copy sectors to standard output"),
        ("write", _write, "copy standard input to sectors, then flush"),
        ("bench", _bench, "how fast it is"),
    ):
        command = add(name, run, what)
        command.add_argument(
            "address", metavar="eSHELF.SLOT", nargs="+", help="several are paths to one disk"
        )
        if name in ("read", "write"):
            command.add_argument("--lba", type=int, default=0, metavar="N", help="first sector (0)")
        if name == "read":
            command.add_argument("--sectors", type=int, metavar="N", help="how many (all)")
        if name == "ping":
            command.add_argument("--count", "-c", type=int, default=3, metavar="N")
            command.add_argument("--interval", "-i", type=float, default=1.0, metavar="S")
        if name == "bench":
            command.add_argument("--rw", choices=RW, default="randread")
            command.add_argument(
                "--bs", type=size_of, default="4k", metavar="BYTES", help="of a request (4k)"
            )
            command.add_argument(
                "--iodepth", type=int, default=64, metavar="N", help="requests at a time (64)"
            )
            command.add_argument("--runtime", type=float, default=3.0, metavar="S")
    command = add("config", _config, "show, test or set the config string")
    verb = command.add_mutually_exclusive_group()
    verb.add_argument("--set", metavar="TEXT", help="refused if there is another one")
    verb.add_argument("--force-set", metavar="TEXT")
    verb.add_argument("--test", metavar="TEXT", help="whether this is it: exit status 1 if not")
    verb.add_argument("--prefix", metavar="TEXT", help="whether it begins so")
    command = add("mask", _mask, "show or edit the list of MACs that are served")
    command.add_argument("--add", type=_macs, default=[], metavar="MAC,...")
    command.add_argument("--delete", type=_macs, default=[], metavar="MAC,...")
    command = add("reserve", _reserve, "show, take or give up the reservation")
    command.add_argument("--set", action="store_true", help="for this host; refused if another one holds it")
    command.add_argument("--release", action="store_true")
    command.add_argument("--force", action="store_true", help="whoever holds it")
    for name in ("config", "mask", "reserve"):
        commands.choices[name].add_argument("address", metavar="eSHELF.SLOT", nargs="+")
    command = add("copy", _copy, "from a disk or file to a disk or file")
    for end in ("source", "destination"):
        command.add_argument(end, metavar=end.upper(), help="eSHELF.SLOT[,eSHELF.SLOT...], file or device")
    command.add_argument("--verify", action="store_true", help="read it back and compare")
    _add_nbd(add("nbd", _nbd, "serve a disk over NBD on a Unix socket"))
    return top


def _add_nbd(command: argparse.ArgumentParser) -> None:
    command.add_argument("address", metavar="eSHELF.SLOT", nargs="+", help="several are paths to one disk")
    command.add_argument("--socket", type=Path, required=True, metavar="PATH")
    command.add_argument("--read-only", action="store_true")
    command.add_argument(
        "--timeout",
        type=_seconds,
        default=None,
        metavar="S|none",
        help="of a request (none: repeat for ever)",
    )
    command.add_argument("--find", type=float, default=FIND_S, metavar="S", help="look for it so long (5)")
    command.add_argument("--spread", action="store_true", help="read over all paths")
    command.add_argument(
        "--hold", action="store_true", help="ranges of unknown fate stay closed until the server answers"
    )
    command.add_argument(
        "--fence",
        type=_words,
        default=[],
        metavar="CMD",
        help="makes sure that a lost server does nothing more",
    )
    command.add_argument(
        "--failback", type=_seconds, metavar="S", help="go back to a path named earlier after so long"
    )
    command.add_argument(
        "--threads",
        type=_threads,
        default=THREADS,
        metavar="N",
        help=f"requests of each client under way at once ({THREADS})",
    )


Run = Callable[[argparse.Namespace], Coroutine[Any, Any, None]]


def _adder(commands: Any) -> Callable[[str, Run, str], argparse.ArgumentParser]:
    def add(name: str, run: Run, what: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=what)
        command.set_defaults(run=run)
        command.add_argument("--interface", action="append", default=[], metavar="IF")
        command.add_argument("--link", action="append", default=[], metavar="udp:BIND:PORT,peer=HOST:PORT")
        command.add_argument("--json", action="store_true", help="one JSON object a line")
        return command

    return add


def _seconds(text: str) -> float | None:
    if text == "none":
        return None
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return seconds


def _threads(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1024:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 1024")
    return number


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a command: {error}") from error


def _say(options: argparse.Namespace, text: str, **facts: Any) -> None:
    print(json.dumps(facts) if options.json else text, flush=True)


def _attached(options: argparse.Namespace, *addresses: str) -> AbstractAsyncContextManager[RemoteDisk]:
    for address in addresses:
        parse_address(address)
    check_distinct(options.interface, "interface")
    return attach(*addresses, interface=options.interface, link=open_datagrams(options.link))


# Whoever is there


async def _found(options: argparse.Namespace) -> AsyncIterator[tuple[RemoteDisk, PathStatus]]:
    """Every disk, and path to it, of the targets that answer."""
    links = open_links(options.interface, options.link)
    try:
        for link in links:
            for shelf, slot in sorted({found[:2] for found in await discover(link)}):
                disk = await connect([link], [(shelf, slot)])
                for path in disk.paths:
                    yield disk, path
                disk.close()
    finally:
        for link in links:
            link.close()


async def _discover(options: argparse.Namespace) -> None:
    async for disk, path in _found(options):
        _say(
            options,
            f"{path.address}\t{path.mac}\t{disk.size} bytes\t{path.sectors} sectors a frame",
            address=path.address,
            mac=path.mac,
            size=disk.size,
            sectors=path.sectors,
            interface=path.interface,
        )


async def _stat(options: argparse.Namespace) -> None:
    async for disk, path in _found(options):
        size, payload = f"{disk.size / 1e9:.3f}GB", path.sectors * limits.SECTOR
        retransmits = disk.counters.get("retransmits", 0)
        _say(
            options,
            f"{path.address:>10}{size:>15} {path.interface:>10} {payload:<5} {_AOE_STAT[path.state]:<14}"
            f"{path.rtt_us:8.0f} us {retransmits:5} retransmits {path.mac}",
            address=path.address,
            size=disk.size,
            interface=path.interface,
            payload=payload,
            state=_AOE_STAT[path.state],
            rtt_us=path.rtt_us,
            retransmits=retransmits,
            mac=path.mac,
            serial=disk.identity,
        )


# One disk


async def _identify(options: argparse.Namespace) -> None:
    async with _attached(options, *options.address) as disk:
        _say(
            options,
            f"{disk.address}: {disk.size} bytes, serial {disk.identity}",
            address=disk.address,
            size=disk.size,
            serial=disk.identity,
            block=disk.physical_block,
            trim=disk.trims,
            paths=[path._asdict() for path in disk.paths],
        )


async def _ping(options: argparse.Namespace) -> None:
    async with _attached(options, *options.address) as disk:
        for number in range(1, options.count + 1):
            started = time.perf_counter()
            await disk.revalidate()
            took_us = (time.perf_counter() - started) * 1e6
            text = f"{disk.size} bytes of disk at {disk.address}: seq={number} time={took_us:.0f} us"
            _say(options, text, address=disk.address, seq=number, time_us=took_us)
            if number < options.count:
                await asyncio.sleep(options.interval)


async def _read(options: argparse.Namespace) -> None:
    async with _attached(options, *options.address) as disk:
        start = _start(disk, options.lba)
        end = (
            disk.size if options.sectors is None else min(disk.size, start + options.sectors * limits.SECTOR)
        )
        for at in range(start, end, _CHUNK):
            sys.stdout.buffer.write(await disk.read(at, min(_CHUNK, end - at)))
        sys.stdout.buffer.flush()


async def _write(options: argparse.Namespace) -> None:
    async with _attached(options, *options.address) as disk:
        at = _start(disk, options.lba)
        while data := sys.stdin.buffer.read(_CHUNK):
            if len(data) % limits.SECTOR or at + len(data) > disk.size:
                raise RequestError(f"standard input does not end at a sector that {disk.address} has")
            await disk.write(at, data)
            at += len(data)
        await disk.flush()


def _start(disk: RemoteDisk, lba: int) -> int:
    total = disk.size // limits.SECTOR
    if not 0 <= lba < total:
        raise RequestError(f"{disk.address} has {total} sectors: --lba {lba} is not one of them")
    return lba * limits.SECTOR


async def _bench(options: argparse.Namespace) -> None:
    async with _attached(options, *options.address) as disk:
        found = await measure(disk, Load(options.rw, options.bs, options.iodepth, options.runtime))
        found["retransmits"] = disk.counters.get("retransmits", 0)
        _say(
            options,
            f"{found['iops']:.0f} IOPS, {found['mbps']:.1f} MB/s, p50 {found['p50_us']:.0f} us, "
            f"p99 {found['p99_us']:.0f} us, p99.9 {found['p999_us']:.0f} us, "
            f"{found['retransmits']} retransmits, {found['errors']} errors",
            **found,
        )


async def _nbd(options: argparse.Namespace) -> None:
    how = Options(options.timeout, options.spread, options.hold, options.fence, options.failback)
    addresses = ["e{}.{}".format(*parse_address(text)) for text in options.address]
    names = options.interface or ([] if options.link else [only_interface()])
    check_distinct([*names, *options.link], "interface")
    plan = Plan(
        options.socket,
        addresses,
        names,
        options.link,
        options.read_only,
        how,
        options.find,
        options.threads,
    )

    def ready(size: int) -> None:
        text = f"nbd: {plan.path} serves {' '.join(addresses)}, {size} bytes"
        _say(options, text, socket=str(plan.path), addresses=addresses, size=size)

    await serve(plan, ready)


# Its administration


def _macs(text: str) -> list[bytes]:
    try:
        return [parse_mac(word) for word in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


async def _config(options: argparse.Namespace) -> None:
    async with _attached(options, *options.address) as disk:
        if options.test is not None:
            await _test(disk, options.test, prefix=False)
        if options.prefix is not None:
            await _test(disk, options.prefix, prefix=True)
        new = options.set if options.force_set is None else options.force_set
        if new is None:
            text = await disk.admin.config()
        else:
            text = await disk.admin.set_config(new.encode(), force=options.force_set is not None)
        shown = text.decode("utf-8", "backslashreplace")
        _say(options, shown, address=disk.address, config=shown)


async def _test(disk: RemoteDisk, text: str, *, prefix: bool) -> None:
    if not await disk.admin.test_config(text.encode(), prefix=prefix):
        verb = "does not begin with" if prefix else "is not"
        raise RequestError(f"{disk.address}: the config string {verb} {text!r}")


async def _mask(options: argparse.Namespace) -> None:
    async with _attached(options, *options.address) as disk:
        if options.add or options.delete:
            macs = await disk.admin.edit_mask(add=options.add, delete=options.delete)
        else:
            macs = await disk.admin.mask()
        _list(options, disk, macs)


async def _reserve(options: argparse.Namespace) -> None:
    if options.set and options.release:
        raise ConfigurationError("--set and --release exclude each other")
    async with _attached(options, *options.address) as disk:
        if options.set:
            macs = await disk.admin.reserve(force=options.force)
        elif options.release:
            macs = await disk.admin.release(force=options.force)
        else:
            macs = await disk.admin.reserved()
        _list(options, disk, macs)


def _list(options: argparse.Namespace, disk: RemoteDisk, macs: list[bytes]) -> None:
    shown = [format_mac(mac) for mac in macs]
    _say(options, "\n".join(shown) or "all", address=disk.address, macs=shown)


# Copying


async def _copy(options: argparse.Namespace) -> None:
    for end in (options.source, options.destination):
        _addresses(end)
    if _addresses(options.source) and _addresses(options.destination) and options.link:
        raise ConfigurationError("a UDP link leads to one target; copy by way of a file")
    async with _opened(options, options.source, Opening(read_only=True)) as source:
        fresh = not _addresses(options.destination) and not Path(options.destination).exists()
        if fresh:
            _create(Path(options.destination), source.size)
        async with _opened(options, options.destination, Opening()) as destination:
            shown = None if options.json or not sys.stderr.isatty() else sys.stderr
            progress = Progress(source.size, shown)
            await copy(source, destination, progress, sparse=fresh, verify=options.verify)
            verified = ", verified" if options.verify else ""
            _say(
                options,
                f"{source.size} bytes in {progress.seconds:.2f} s, {progress.rate / 1e6:.1f} MB/s{verified}",
                bytes=source.size,
                seconds=progress.seconds,
                verified=options.verify,
            )


def _create(path: Path, size: int) -> None:
    try:
        with path.open("xb") as file:
            file.truncate(size)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; name a file that can be made") from error


def _addresses(end: str) -> list[str]:
    """The addresses that an end of a copy names; none, if it is a path."""
    words = end.split(",")
    return words if all(ADDRESS.fullmatch(word) and word.startswith("e") for word in words) else []


@asynccontextmanager
async def _opened(options: argparse.Namespace, end: str, how: Opening) -> AsyncIterator[Disk]:
    if addresses := _addresses(end):
        async with _attached(options, *addresses) as remote:
            yield remote
        return
    path = Path(end)
    if path.is_file() and path.stat().st_size % limits.SECTOR:
        raise ConfigurationError(
            f"{path} does not end at a sector; a multiple of {limits.SECTOR} bytes is needed"
        )
    disk = open_disk(path, how)
    try:
        yield disk
    finally:
        disk.close()


if __name__ == "__main__":
    sys.exit(main())
