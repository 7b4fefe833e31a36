"""The command line of `aoe`: its words, and the command that they mean.

Each subcommand has a `make`: the name of a command, or of a function that gives one, which is loaded when it
was typed. Its parameters are `where` and what the words are stored as (`dest`).
"""

import argparse
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

from aoe import limits
from aoe.cli import words
from aoe.cli.report import Report
from aoe.cli.version import Version
from aoe.initiator.options import OPTIONS, Choice, CommandWords, Kind, Option, Seconds
from aoe.nbd import DEFAULTS
from aoe.wire import protocol

_LBA = words.whole(0, protocol.LBA48_SECTORS - 1)
_NOT_ITS_OWN = ("command", "json")
LOADS = ("randread", "randwrite", "read", "write", "randrw")
_PATHS = "address of the disk; several are paths to one disk"


class Command(Protocol):
    """What the words mean."""

    def run(self, report: Report) -> Coroutine[Any, Any, None]:
        """Do it. AoeError where it cannot be done."""


def command_of(arguments: Sequence[str] | None) -> Command:
    """The command that the words mean; ConfigurationError for those that mean none."""
    said = vars(parser().parse_args(arguments))
    make = words.meant(said.pop("make"))
    where = words.meant("where.Where")(tuple(said.pop("interface")), tuple(said.pop("link")))
    command: Command = make(where=where, **{it: said[it] for it in said if it not in _NOT_ITS_OWN})
    return command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = words.Parser(
        prog="aoe",
        description="Talk to ATA over Ethernet targets.",
        epilog=f"{words.VARIABLE} in the environment names interfaces where --interface and --link do not.",
    )
    top.add_argument("--version", action=Version)
    commands = top.add_subparsers(dest="command", required=True)
    _add(commands, "discover", "listing.Discover", "list the disks that answer")
    what = "list the disks as aoe-stat does, with the round-trip time, retransmits and state of each path"
    _add(commands, "stat", "listing.Stat", what)
    _add_ping(commands)
    _add_transfers(commands)
    _add_bench(commands)
    _add_admin(commands)
    _add_copy(commands)
    _add_nbd(commands)
    _add_doctor(commands)
    return top


def _add(
    commands: Any, name: str, make: str, what: str, *, addresses: str | None = None, at_least: str = "+"
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
    command.set_defaults(make=make)
    if addresses:
        command.add_argument("addresses", metavar="eSHELF.SLOT", nargs=at_least, help=addresses)
    command.add_argument(
        "--interface", action="append", default=[], metavar="IF", help="Ethernet interface; repeatable"
    )
    command.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="udp:BIND:PORT,peer=HOST:PORT",
        help="carry Ethernet frames in UDP datagrams, as QEMU does; repeatable",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object a line, also for errors")
    return command


def _add_ping(commands: Any) -> None:
    what = "show what a target says of its disk"
    _add(commands, "identify", "listing.Identify", what, addresses=_PATHS)
    add = _add(commands, "ping", "ping.Ping", "measure how long answers take", addresses=_PATHS).add_argument
    times = words.whole(1, 10**9)
    add("--count", "-c", dest="times", type=times, default=3, metavar="N", help="questions to ask (3)")
    interval = words.seconds(most=limits.PING_INTERVAL_MAX_S)
    add("--interval", "-i", type=interval, default=1.0, metavar="S", help="seconds between two questions (1)")


def _add_transfers(commands: Any) -> None:
    read = _add(commands, "read", "transfer.Read", "copy sectors to standard output", addresses=_PATHS)
    write = _add(
        commands, "write", "transfer.Write", "copy standard input to sectors, then flush", addresses=_PATHS
    )
    for command in (read, write):
        command.add_argument("--lba", type=_LBA, default=0, metavar="N", help="first sector (0)")
    sectors = words.whole(1, protocol.LBA48_SECTORS)
    read.add_argument("--sectors", type=sectors, metavar="N", help="number of sectors (all to the end)")


def _add_bench(commands: Any) -> None:
    add = _add(
        commands,
        "bench",
        "bench.command",
        "measure how fast the disk is: requests and bytes a second, latency percentiles",
        addresses=_PATHS,
    ).add_argument
    add("--rw", choices=LOADS, default="randread", help="kind of load (randread)")
    add(
        "--bs",
        type=words.block,
        default="4k",
        metavar="BYTES",
        help="size of a request in whole sectors, such as 4096 or 4k (4k)",
    )
    add(
        "--iodepth",
        type=words.whole(1, limits.LOAD_DEPTH_MAX),
        default=64,
        metavar="N",
        help="requests under way at a time (64)",
    )
    runtime = words.seconds(least=0.01, most=limits.LOAD_MAX_S)
    add("--runtime", type=runtime, default=3.0, metavar="S", help="seconds to run (3)")
    add("--overwrite", action="store_true", help="allow loads that write, and destroy what is on the disk")
    plot = "draw latencies over time, and how often each came, into this file (SVG)"
    add("--plot", type=Path, metavar="FILE", help=plot)


def _add_admin(commands: Any) -> None:
    command = _add(
        commands, "config", "admin.config", "show, test or set the config string", addresses=_PATHS
    )
    verb = command.add_mutually_exclusive_group()
    verb.add_argument(
        "--set", dest="new", metavar="TEXT", help="set the string; refused if there is another one"
    )
    verb.add_argument("--force-set", dest="forced", metavar="TEXT", help="set the string, whatever there is")
    verb.add_argument(
        "--test", metavar="TEXT", help="compare the string with this; exit status 1 if it is another one"
    )
    verb.add_argument("--prefix", metavar="TEXT", help="compare the beginning of the string with this")
    command = _add(
        commands,
        "mask",
        "admin.Mask",
        "show or edit the list of MACs that the target serves",
        addresses=_PATHS,
    )
    for name, what in (("--add", "serve these hosts, too"), ("--delete", "serve these hosts no more")):
        command.add_argument(name, type=words.macs, default=[], metavar="MAC,...", help=what)
    command = _add(
        commands,
        "reserve",
        "admin.Reserve",
        "show, take or give up the reservation, which names all MACs that this host uses",
        addresses=_PATHS,
    )
    taken = "take it for this host; refused if another host holds it"
    command.add_argument("--set", dest="take", action="store_true", help=taken)
    command.add_argument("--release", action="store_true", help="give it up; refused if it is another host's")
    command.add_argument("--force", action="store_true", help="take it or give it up whichever host holds it")


def _add_copy(commands: Any) -> None:
    command = _add(commands, "copy", "copying.Copy", "copy a disk or file to a disk or file")
    what = "disk (eSHELF.SLOT[,eSHELF.SLOT...]), file or device, or - for standard "
    command.add_argument("source", metavar="SOURCE", help=what + "input")
    command.add_argument("destination", metavar="DESTINATION", help=what + "output")
    command.add_argument(
        "--verify", action="store_true", help="read the copy back from the store and compare"
    )
    command.add_argument(
        "--sparse", action="store_true", help="write zeroes as holes also into a file that exists"
    )
    command.add_argument(
        "--full-speed",
        action="store_true",
        help="do not let other hosts go first that ask the same server meanwhile",
    )


def _add_nbd(commands: Any) -> None:
    what = "serve a disk over NBD on a Unix socket"
    add = _add(commands, "nbd", "nbd.command", what, addresses=_PATHS, at_least="*").add_argument
    add("--socket", type=Path, metavar="PATH", help="socket that clients connect to")
    what = "attach this device (/dev/nbdN) instead, as root, and keep it attached when nbdkit dies"
    add("--attach", metavar="DEVICE", help=what)
    what = "ask the aoe nbd that serves on this socket, or this device, for its paths"
    add("--status", type=Path, metavar="PATH", help=what)
    add("--read-only", action="store_true", help="refuse writes")
    for option in OPTIONS:
        value = getattr(DEFAULTS, option.name)
        add(f"--{option.word}", dest=option.name, default=value, help=_help(option), **_taken(option.kind))
    add(
        "--threads",
        type=words.whole(1, limits.NBD_THREADS_MAX),
        default=limits.NBD_THREADS,
        metavar="N",
        help=f"requests of each client that are under way at a time ({limits.NBD_THREADS})",
    )


def _add_doctor(commands: Any) -> None:
    what = "say what is wrong between this host and its disks, why it matters, and what to do"
    add = _add(commands, "doctor", "doctor.Doctor", what).add_argument
    things = "name of an interface, or address of a disk that is to be used (all)"
    add("what", nargs="*", metavar="IF|eSHELF.SLOT", help=things)
    add("-v", "--verbose", action="store_true", help="say what is well, too")


def _help(option: Option) -> str:
    value = getattr(DEFAULTS, option.name)
    match option.kind:
        case Seconds():
            return f"{option.meaning()} ({'none' if value is None else f'{value:g}'})"
        case Choice():
            return f"{option.meaning()} ({value})"
    return option.meaning()


def _taken(kind: Kind) -> dict[str, Any]:
    """How argparse is told of what an option takes."""
    match kind:
        case Seconds(none=""):
            return {"type": words.seconds(), "metavar": "S"}
        case Seconds():
            return {"type": words.seconds_or_none, "metavar": "S|none"}
        case Choice():
            return {"choices": kind.words}
        case CommandWords():
            return {"type": words.command_words, "metavar": "CMD"}
    return {"action": "store_true"}
