"""`aoe`: talk to targets from the command line."""

import argparse
import asyncio
import re
import sys

from aoe import limits
from aoe.cli.links import open_links
from aoe.drive import identify
from aoe.errors import AoeError, ConfigurationError, RequestError
from aoe.initiator.client import Client, Found, client
from aoe.wire.frame import format_mac

_CHUNK = 2048
"""Sectors between two looks at the terminal."""


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
    links = open_links(options.interface, options.link)
    for link in links[1:]:
        link.close()
    if len(links) > 1:
        links[0].close()
        raise ConfigurationError("this command asks over one link; name one")
    async with client(links[0]) as asking:
        if options.command == "discover":
            await _discover(asking)
        else:
            await _use(asking, options)


async def _discover(asking: Client) -> None:
    for found in await asking.discover():
        size = identify.sectors_of(await asking.identify(found)) * limits.SECTOR
        sectors = found.config.sector_count
        print(f"{found.address}\t{format_mac(found.mac)}\t{size} bytes\t{sectors} sectors a frame")


async def _use(asking: Client, options: argparse.Namespace) -> None:
    found = await asking.find(*_address(options.address))
    data = await asking.identify(found)
    total = identify.sectors_of(data)
    if options.command == "identify":
        print(f"{found.address}: {total * limits.SECTOR} bytes, serial {identify.serial_of(data)}")
        return
    if not 0 <= options.lba < total:
        raise RequestError(f"{found.address} has {total} sectors: --lba {options.lba} is not one of them")
    if options.command == "write":
        await _write(asking, found, options.lba, total)
        return
    end = total if options.sectors is None else min(total, options.lba + options.sectors)
    for lba in range(options.lba, end, _CHUNK):
        sys.stdout.buffer.write(await asking.read(found, lba, min(_CHUNK, end - lba)))
    sys.stdout.buffer.flush()


async def _write(asking: Client, found: Found, lba: int, total: int) -> None:
    while data := sys.stdin.buffer.read(_CHUNK * limits.SECTOR):
        if len(data) % limits.SECTOR or lba + len(data) // limits.SECTOR > total:
            raise RequestError(f"standard input does not end at a sector that {found.address} has")
        await asking.write(found, lba, data)
        lba += len(data) // limits.SECTOR
    await asking.flush(found)


def _address(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"e?(\d{1,5})\.(\d{1,3})", text)
    if match is None:
        raise ConfigurationError(f"{text!r} is not an address; write it as e0.0")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    sys.exit(main())
