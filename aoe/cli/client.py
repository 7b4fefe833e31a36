"""`aoe`: talk to targets from the command line."""

import argparse
import asyncio
import sys

from aoe import limits
from aoe.cli.links import open_links
from aoe.errors import AoeError, ConfigurationError, RequestError
from aoe.initiator.discover import discover
from aoe.initiator.remote import RemoteDisk, attach, connect, parse_address
from aoe.link.base import Link
from aoe.wire.frame import format_mac

_CHUNK = 2048 * limits.SECTOR
"""Bytes between two looks at the terminal."""


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 if it did what was asked, 1 if a target did not, 2 if it could not be asked."""
    options = parser().parse_args(arguments)
    try:
        asyncio.run(_run(options))
    except ConfigurationError as error:
        print(f"aoe: {error}", file=sys.stderr)
        return 2
    except AoeError as error:
        print(f"aoe: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="aoe", description="Talk to ATA over Ethernet targets.")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("discover", help="list the targets that answer")
    for name, what in (
        ("identify", "what a target says of its disk"),
        ("read", "copy sectors to standard output"),
        ("write", "copy standard input to sectors, then flush"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("address", metavar="eSHELF.SLOT")
        if name in ("read", "write"):
            command.add_argument("--lba", type=int, default=0, metavar="N", help="first sector (0)")
        if name == "read":
            command.add_argument("--sectors", type=int, metavar="N", help="how many (all)")
    for command in commands.choices.values():
        command.add_argument("--interface", action="append", default=[], metavar="IF")
        command.add_argument("--link", action="append", default=[], metavar="udp:BIND:PORT,peer=HOST:PORT")
    return top


async def _run(options: argparse.Namespace) -> None:
    if options.command != "discover":
        parse_address(options.address)
    links = open_links(options.interface, options.link)
    for link in links[1:]:
        link.close()
    if len(links) > 1:
        links[0].close()
        raise ConfigurationError("this command asks over one link; name one")
    if options.command == "discover":
        await _discover(links[0])
        return
    async with attach(options.address, link=links[0]) as disk:
        await _use(disk, options)


async def _discover(link: Link) -> None:
    try:
        for found in await discover(link):
            disk = await connect([(link, found)])
            disk.close()
            sectors = found.config.sector_count
            print(f"{found.address}\t{format_mac(found.mac)}\t{disk.size} bytes\t{sectors} sectors a frame")
    finally:
        link.close()


async def _use(disk: RemoteDisk, options: argparse.Namespace) -> None:
    if options.command == "identify":
        print(f"{disk.address}: {disk.size} bytes, serial {disk.identity}")
        return
    total = disk.size // limits.SECTOR
    if not 0 <= options.lba < total:
        raise RequestError(f"{disk.address} has {total} sectors: --lba {options.lba} is not one of them")
    start = options.lba * limits.SECTOR
    if options.command == "write":
        await _write(disk, start)
        return
    end = disk.size if options.sectors is None else min(disk.size, start + options.sectors * limits.SECTOR)
    for at in range(start, end, _CHUNK):
        sys.stdout.buffer.write(await disk.read(at, min(_CHUNK, end - at)))
    sys.stdout.buffer.flush()


async def _write(disk: RemoteDisk, at: int) -> None:
    while data := sys.stdin.buffer.read(_CHUNK):
        if len(data) % limits.SECTOR or at + len(data) > disk.size:
            raise RequestError(f"standard input does not end at a sector that {disk.address} has")
        await disk.write(at, data)
        at += len(data)
    await disk.flush()


if __name__ == "__main__":
    sys.exit(main())
