"""The command line of `aoe-target`: its words, and what they mean."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aoe import limits, timing
from aoe.cli import words
from aoe.cli.paths import Wanted, plan
from aoe.cli.state import State
from aoe.cli.version import Version
from aoe.disk.open import Opening
from aoe.errors import ConfigurationError
from aoe.initiator.options import ENGINES
from aoe.target.accelerator import EngineOptions
from aoe.target.server import TargetOptions
from aoe.wire import protocol
from aoe.wire.frame import is_group, parse_mac


class Serve(NamedTuple):
    """What `aoe-target serve` is to do.

    `wanted` is what is opened (as `opening` says) and served where; `mask` replaces the persisted list.
    `engine` is the code that moves the sectors: `auto`, `c` or `python`; `threads` is for the compiled one.
    """

    wanted: list[Wanted]
    opening: Opening
    interfaces: Sequence[str]
    links: Sequence[str]
    options: TargetOptions
    engine: str
    threads: EngineOptions
    durability: str
    mask: tuple[bytes, ...] | None
    state_dir: Path | None
    reset_state: bool
    force: bool


class Words(NamedTuple):
    """What was typed behind `serve`; each word is in order by itself."""

    json: bool
    verbose: bool
    others: dict[str, Any]

    def meaning(self) -> Serve:
        """What they mean together; ConfigurationError if that is nothing."""
        return _serve(**self.others)


def words_of(arguments: Sequence[str] | None) -> Words | State:
    """What was typed; ConfigurationError for a word that means nothing."""
    said = vars(parser().parse_args(arguments))
    if said.pop("command") == "state":
        return State(**said)
    return Words(said.pop("json"), said.pop("verbose"), said)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = words.Parser(prog="aoe-target", description="Serve disks over ATA over Ethernet.")
    top.add_argument("--version", action=Version)
    commands = top.add_subparsers(dest="command", required=True)
    _add_serve(commands)
    _add_state(commands)
    return top


def _add_state(commands: Any) -> None:
    what = "list the disks that the state directory remembers"
    command = commands.add_parser("state", help=what, description=what)
    command.add_argument("--state-dir", type=Path, metavar="DIR", help="the directory that targets are given")
    command.add_argument("--prune", action="store_true", help="forget disks that are not there any more")
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")


def _add_serve(commands: Any) -> None:
    what = "serve files or block devices until stopped"
    command = commands.add_parser("serve", help=what, description=what)
    _add_places(command)
    _add_disks(command)
    _add_access(command)
    _add_engine(command)
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")
    command.add_argument("-v", "--verbose", action="store_true", help="log details, too")


def _add_places(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    path = "file or block device; without an address it gets the next slot, after slot 254 the next shelf"
    add("paths", nargs="+", metavar="PATH[=SHELF.SLOT][,serial=TEXT]", help=path)
    add("--shelf", type=int, default=0, metavar="N", help="shelf of the first PATH (0)")
    add("--slot", type=int, default=0, metavar="N", help="slot of the first PATH (0)")
    interface = (
        "Ethernet interface or bridge; repeatable. It may be left out where only one is up. lo serves this "
        "machine, for a first try"
    )
    add("--interface", action="append", default=[], metavar="IF", help=interface)
    link = (
        "carry Ethernet frames in UDP datagrams, as QEMU does; repeatable. Only loopback may be bound unless "
        "peers are named"
    )
    metavar = "udp:BIND:PORT[,peer=HOST:PORT...][,mtu=N]"
    add("--link", action="append", default=[], metavar=metavar, help=link)
    force = "serve an address although another target answers for it, or another process here serves it"
    add("--force", action="store_true", help=force)


def _add_disks(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    durability = (
        "what a write reply means: the data is on stable storage (write-through, the default), or will be "
        "after the next FLUSH reply (write-back)"
    )
    add("--durability", choices=("write-through", "write-back"), default="write-through", help=durability)
    add("--direct", action="store_true", help="bypass the page cache (default for block devices)")
    add("--buffered", action="store_true", help="use the page cache (default for files)")
    shared = (
        "another host serves the same store: take no lock, bypass the page cache, and write nothing smaller "
        "than a block of the store"
    )
    add("--shared", action="store_true", help=shared)
    add("--read-only", action="store_true", help="answer writes with an ATA error")
    add("--offset", type=int, default=0, metavar="SECTORS", help="serve from this sector on (0)")
    add("--length", type=int, metavar="SECTORS", help="serve only so many sectors (all)")
    serial = (
        f"serial number, up to {protocol.SERIAL_MAX} characters, for one PATH. By default it is made of the "
        "id of the store; a store without an id gets a random one, which is kept"
    )
    add("--serial", metavar="TEXT", help=serial)
    age = "drop a write that waited longer than this before the disk got it (1)"
    seconds = timing.FRAME_AGE_DEFAULT_S
    add("--max-frame-age", dest="frame_age_s", type=float, default=seconds, metavar="S", help=age)


def _add_access(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    mask = "serve only the hosts with these MACs; replaces the mask list that was kept"
    add("--mask", type=_mask, metavar="MAC,...", help=mask)
    admin = "refuse every change of config string, mask list and reservation that comes over the network"
    add("--no-remote-admin", dest="remote_admin", action="store_false", help=admin)
    masks = "refuse every change of the mask list that comes over the network"
    add("--no-remote-masks", dest="remote_masks", action="store_false", help=masks)
    kept = "where config string, mask list, reservation and serial of each disk are kept"
    add("--state-dir", type=Path, metavar="DIR", help=kept)
    forget = "forget config string, mask list and reservation of the disks that are served"
    add("--reset-state", action="store_true", help=forget)


def _add_engine(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    count = "messages that a client may have outstanding; by default what the receive buffer holds, up to 64"
    add("--buffer-count", type=int, metavar="N", help=count)
    engine = (
        "which code moves the sectors: auto takes the compiled engine on Ethernet interfaces, and Python, "
        "with a line that says why, where the engine cannot run"
    )
    add("--engine", choices=ENGINES, default="auto", help=engine)
    add("--cpus", type=_cpus, default=(), metavar="N,...", help="one engine thread on each of these CPUs")
    spin = "let the engine sleep at once when there is nothing to do"
    add("--no-spin", dest="spin_us", action="store_const", const=0, default=limits.SPIN_US, help=spin)


def _cpus(text: str) -> tuple[int, ...]:
    """For argparse: CPU numbers this process may run on."""
    usable = sorted(os.sched_getaffinity(0))
    cpus = tuple(words.whole(0, 1 << 16)(number) for number in text.split(","))
    if not set(cpus) <= set(usable):
        may = ", ".join(map(str, usable))
        raise argparse.ArgumentTypeError(
            f"{text!r} names a CPU that this process may not use; it may use {may}"
        )
    return cpus


def _mask(text: str) -> tuple[bytes, ...]:
    """For argparse: the MACs of single hosts, as many as a list holds."""
    try:
        macs = tuple(dict.fromkeys(parse_mac(mac) for mac in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; write it as 02:00:00:00:00:01") from error
    if len(macs) > protocol.MACS_MAX:
        raise argparse.ArgumentTypeError(f"{len(macs)} hosts; a list holds up to {protocol.MACS_MAX}")
    for mac in macs:
        if is_group(mac):
            raise argparse.ArgumentTypeError(f"{mac.hex(':')} is a group address; name single hosts")
    return macs


# What they mean together


def _serve(
    *,
    paths: list[str],
    shelf: int,
    slot: int,
    serial: str | None,
    interface: list[str],
    link: list[str],
    cpus: tuple[int, ...],
    spin_us: int,
    **said: Any,
) -> Serve:
    return Serve(
        wanted=plan(paths, shelf, slot, serial),
        opening=_opening(**_taken(said, "read_only", "direct", "buffered", "shared", "offset", "length")),
        interfaces=interface,
        links=link,
        options=_options(
            len(paths), **_taken(said, "frame_age_s", "buffer_count", "remote_admin", "remote_masks")
        ),
        threads=EngineOptions(len(cpus) or 1, cpus, spin_us),
        **said,
    )


def _taken(said: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: said.pop(name) for name in names}


def _opening(
    *, read_only: bool, direct: bool, buffered: bool, shared: bool, offset: int, length: int | None
) -> Opening:
    if direct and buffered:
        raise ConfigurationError("--direct and --buffered exclude each other; choose one")
    if shared and buffered:
        raise ConfigurationError("--shared forces direct I/O (a page cache is one host's); drop --buffered")
    if offset < 0 or (length is not None and length < 1):
        raise ConfigurationError("--offset and --length are sectors, and --length is at least 1")
    how = True if direct else False if buffered else None
    return Opening(read_only, how, shared, offset, length)


def _options(
    count: int, *, frame_age_s: float, buffer_count: int | None, remote_admin: bool, remote_masks: bool
) -> TargetOptions:
    if buffer_count is not None and not (
        protocol.BUFFER_COUNT_MIN <= buffer_count <= protocol.BUFFER_COUNT_MAX
    ):
        raise ConfigurationError(f"--buffer-count {buffer_count} is not 2 to 65535")
    if not timing.FRAME_AGE_MIN_S <= frame_age_s <= 3600:
        raise ConfigurationError(f"--max-frame-age {frame_age_s} is not {timing.FRAME_AGE_MIN_S} to 3600")
    return TargetOptions(frame_age_s, buffer_count, remote_admin, remote_masks, exports_max=count)
