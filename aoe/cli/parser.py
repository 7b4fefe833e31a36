"""The command line of `aoe`: its words, and the command that they mean."""

import argparse
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

from aoe import limits
from aoe.cli import words
from aoe.cli.admin import Config, Mask, Reserve
from aoe.cli.bench import RW, Bench, Load
from aoe.cli.copying import Copy
from aoe.cli.listing import Discover, Identify, Stat
from aoe.cli.nbd import Nbd, Status
from aoe.cli.ping import Ping
from aoe.cli.report import Report
from aoe.cli.transfer import Read, Write
from aoe.cli.version import Version
from aoe.cli.where import VARIABLE, Where
from aoe.errors import ConfigurationError
from aoe.initiator.options import FIND_S, Options
from aoe.nbd.door import THREADS

_LBA = words.whole(0, limits.LBA48_SECTORS - 1)
_DAY_S = 86400.0
_PATHS = "several are paths to one disk"


class Command(Protocol):
    """What the words mean."""

    def run(self, report: Report) -> Coroutine[Any, Any, None]:
        """Do it. AoeError where it cannot be done."""


Make = Callable[[argparse.Namespace], Command]


def command_of(arguments: Sequence[str] | None) -> Command:
    """The command that the words mean; ConfigurationError for those that mean none."""
    options = parser().parse_args(arguments)
    made: Command = options.make(options)
    return made


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = words.Parser(
        prog="aoe",
        description="Talk to ATA over Ethernet targets.",
        epilog=f"{VARIABLE} in the environment names interfaces where --interface and --link do not.",
    )
    top.add_argument("--version", action=Version)
    commands = top.add_subparsers(dest="command", required=True)
    _add(commands, "discover", lambda it: Discover(_where(it)), "list the disks that answer")
    what = "list them as aoe-stat does, with round-trip times and the state of each path"
    _add(commands, "stat", lambda it: Stat(_where(it)), what)
    _add_ping(commands)
    _add_transfers(commands)
    _add_bench(commands)
    _add_admin(commands)
    _add_copy(commands)
    _add_nbd(commands)
    return top


def _add(commands: Any, name: str, make: Make, what: str, *, addressed: str = "") -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
    command.set_defaults(make=make)
    if addressed:
        command.add_argument("address", metavar="eSHELF.SLOT", nargs="+", help=addressed)
    command.add_argument(
        "--interface", action="append", default=[], metavar="IF", help="Ethernet interface (repeatable)"
    )
    command.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="udp:BIND:PORT,peer=HOST:PORT",
        help="frames in datagrams (repeatable)",
    )
    command.add_argument("--json", action="store_true", help="one JSON object a line, errors too")
    return command


def _where(options: argparse.Namespace) -> Where:
    return Where(tuple(options.interface), tuple(options.link))


def _add_ping(commands: Any) -> None:
    what = "what a target says of its disk"
    _add(commands, "identify", lambda it: Identify(_where(it), it.address), what, addressed=_PATHS)
    command = _add(
        commands,
        "ping",
        lambda it: Ping(_where(it), it.address, it.count, it.interval),
        "how long its answers take",
        addressed=_PATHS,
    )
    add = command.add_argument
    add("--count", "-c", type=words.whole(1, 10**9), default=3, metavar="N", help="how often (3)")
    add(
        "--interval",
        "-i",
        type=words.seconds(most=_DAY_S),
        default=1.0,
        metavar="S",
        help="between two questions (1)",
    )


def _add_transfers(commands: Any) -> None:
    read = _add(
        commands,
        "read",
        lambda it: Read(_where(it), it.address, it.lba, it.sectors),
        "copy sectors to standard output",
        addressed=_PATHS,
    )
    write = _add(
        commands,
        "write",
        lambda it: Write(_where(it), it.address, it.lba),
        "copy standard input to sectors, then flush",
        addressed=_PATHS,
    )
    for command in (read, write):
        command.add_argument("--lba", type=_LBA, default=0, metavar="N", help="first sector (0)")
    sectors = words.whole(1, limits.LBA48_SECTORS)
    read.add_argument("--sectors", type=sectors, metavar="N", help="how many (all)")


def _add_bench(commands: Any) -> None:
    def make(it: argparse.Namespace) -> Bench:
        return Bench(_where(it), it.address, Load(it.rw, it.bs, it.iodepth, it.runtime), it.overwrite)

    command = _add(commands, "bench", make, "how fast it is", addressed=_PATHS)
    add = command.add_argument
    add("--rw", choices=RW, default="randread", help="what is asked for (randread)")
    add("--bs", type=words.block, default="4k", metavar="BYTES", help="of a request (4k)")
    add(
        "--iodepth",
        type=words.whole(1, limits.LOAD_DEPTH_MAX),
        default=64,
        metavar="N",
        help="requests at a time (64)",
    )
    runtime = words.seconds(least=0.01, most=30 * _DAY_S)
    add("--runtime", type=runtime, default=3.0, metavar="S", help="for how long (3)")
    add("--overwrite", action="store_true", help="what is on the disk may be lost; needed to write")


def _add_admin(commands: Any) -> None:
    def config(it: argparse.Namespace) -> Config:
        new = it.set if it.force_set is None else it.force_set
        return Config(_where(it), it.address, new, it.force_set is not None, it.test, it.prefix)

    command = _add(commands, "config", config, "show, test or set the config string", addressed=_PATHS)
    verb = command.add_mutually_exclusive_group()
    verb.add_argument("--set", metavar="TEXT", help="refused if there is another one")
    verb.add_argument("--force-set", metavar="TEXT", help="whatever there is")
    verb.add_argument("--test", metavar="TEXT", help="whether this is it: exit status 1 if not")
    verb.add_argument("--prefix", metavar="TEXT", help="whether it begins so")
    command = _add(
        commands,
        "mask",
        lambda it: Mask(_where(it), it.address, it.add, it.delete),
        "show or edit the list of MACs that are served",
        addressed=_PATHS,
    )
    for name, what in (("--add", "serve these, too"), ("--delete", "serve these no more")):
        command.add_argument(name, type=words.macs, default=[], metavar="MAC,...", help=what)
    command = _add(
        commands,
        "reserve",
        lambda it: Reserve(_where(it), it.address, it.set, it.release, it.force),
        "show, take or give up the reservation",
        addressed=_PATHS,
    )
    command.add_argument("--set", action="store_true", help="for this host; refused if another one holds it")
    command.add_argument("--release", action="store_true", help="give it up; refused if it is another host's")
    command.add_argument("--force", action="store_true", help="whoever holds it")


def _add_copy(commands: Any) -> None:
    command = _add(
        commands,
        "copy",
        lambda it: Copy(_where(it), it.source, it.destination, it.verify, it.sparse),
        "from a disk or file to a disk or file",
    )
    what = "eSHELF.SLOT[,eSHELF.SLOT...], a file or device, or - for standard "
    command.add_argument("source", metavar="SOURCE", help=what + "input")
    command.add_argument("destination", metavar="DESTINATION", help=what + "output")
    command.add_argument("--verify", action="store_true", help="read it back from the store and compare")
    command.add_argument(
        "--sparse", action="store_true", help="zeroes become holes, in what is there already, too"
    )


def _add_nbd(commands: Any) -> None:
    def make(it: argparse.Namespace) -> Command:
        if it.status is not None:
            if it.address or it.socket:
                raise ConfigurationError("--status PATH is not for an address or --socket")
            return Status(it.status)
        if not it.address or it.socket is None:
            raise ConfigurationError("nbd needs eSHELF.SLOT and --socket PATH (see aoe nbd --help)")
        how = Options(it.timeout, it.spread, it.hold, it.fence, it.failback)
        return Nbd(_where(it), it.address, it.socket, it.read_only, how, it.find, it.threads)

    command = _add(commands, "nbd", make, "serve a disk over NBD on a Unix socket")
    add = command.add_argument
    add("address", metavar="eSHELF.SLOT", nargs="*", help=_PATHS)
    add("--socket", type=Path, metavar="PATH", help="where clients connect")
    add("--status", type=Path, metavar="PATH", help="ask the aoe nbd that serves there for its paths")
    add("--read-only", action="store_true", help="clients cannot write")
    add(
        "--timeout",
        type=words.seconds_or_none,
        default=None,
        metavar="S|none",
        help="of a request (none: repeat for ever)",
    )
    add("--find", type=words.seconds(), default=FIND_S, metavar="S", help="look for it so long (5)")
    add("--spread", action="store_true", help="read over all paths")
    add("--hold", action="store_true", help="ranges of unknown fate stay closed until the server answers")
    add(
        "--fence",
        type=words.command_words,
        default=[],
        metavar="CMD",
        help="makes sure that a lost server does nothing more",
    )
    add(
        "--failback",
        type=words.seconds_or_none,
        metavar="S",
        help="go back to a path named earlier after so long",
    )
    add(
        "--threads",
        type=words.whole(1, 1024),
        default=THREADS,
        metavar="N",
        help=f"requests of each client under way at once ({THREADS})",
    )
