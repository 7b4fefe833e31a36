"""The command line of `aoe-target`: its words. Each subcommand names what it means, which is loaded then."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from aoe import limits, timing
from aoe.cli import control_parser, pool_parser, words
from aoe.cli.limit_words import LIMITS
from aoe.cli.report import Report
from aoe.cli.version import Version
from aoe.config import meanings
from aoe.image.formats import AUTO, FORMATS, RAW
from aoe.initiator.options import ENGINES
from aoe.wire import protocol
from aoe.wire.frame import is_group, parse_mac


class Command(Protocol):
    """What the words mean."""

    def run(self, report: Report) -> int:
        """Do it; the exit status. AoeError where it cannot be done."""


def command_of(arguments: Sequence[str] | None) -> Command:
    """The command that was typed; ConfigurationError for a word that means nothing."""
    command: Command = words.bound(vars(parser().parse_args(arguments)))
    return command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = words.Parser(prog="aoe-target", description="Serve disks over ATA over Ethernet.")
    top.add_argument("--version", action=Version)
    commands = top.add_subparsers(dest="command", required=True)
    _add_serve(commands)
    _add_run(commands)
    _add_opener(commands)
    _add_images(commands)
    _add_lvm(commands)
    _add_apply(commands)
    _add_state(commands)
    _add_check(commands)
    _add_import(commands)
    _add_doctor(commands)
    control_parser.add(commands)
    pool_parser.add(commands)
    return top


_CONFIG = Path("/etc/aoe-target.toml")


def _add_run(commands: Any) -> None:
    what = "serve what a configuration file says, as a service; SIGHUP applies the file again"
    command = commands.add_parser("run", help=what, description=what)
    command.set_defaults(means="run.Run")
    _add_service(command, default=_CONFIG)
    opener = "where the opener listens that has the rights; by default it is a child of this process"
    command.add_argument("--opener", type=Path, metavar="PATH", help=opener)
    metrics = "where Prometheus may ask for metrics, such as 127.0.0.1:9882; the file's key does the same"
    command.add_argument("--metrics", type=words.endpoint, metavar="HOST:PORT", help=metrics)
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")
    command.add_argument("-v", "--verbose", action="store_true", help="log details, too")


def _add_opener(commands: Any) -> None:
    what = "open what a file names for a target that may not; its systemd unit starts it"
    command = commands.add_parser("opener", help=what, description=what)
    command.set_defaults(means="opener.Opener")
    _add_service(command, default=_CONFIG)


def _add_images(commands: Any) -> None:
    what = "have images that are not raw served for an opener; its systemd unit starts it"
    command = commands.add_parser("images", help=what, description=what)
    command.set_defaults(means="images.Images")


def _add_lvm(commands: Any) -> None:
    what = "run the commands of LVM that pools need for an opener; its systemd unit starts it"
    command = commands.add_parser("lvm", help=what, description=what)
    command.set_defaults(means="lvm.Lvm")


def _add_service(command: argparse.ArgumentParser, default: Path | None = None) -> None:
    """What names a service, for its own command and those that ask for it."""
    file = f"the configuration file of the target ({_CONFIG})"
    command.add_argument("--config", type=Path, default=default, metavar="FILE", help=file)
    socket = "where the target is asked and changed"
    command.add_argument("--socket", type=Path, metavar="PATH", help=socket)


def _add_apply(commands: Any) -> None:
    what = "have a running target serve what its file says, and change nothing else"
    command = commands.add_parser("apply", help=what, description=what)
    command.set_defaults(means="apply.Apply")
    file = "what the file of the target is replaced by first; the old one is kept beside it as .old"
    command.add_argument("file", nargs="?", type=Path, metavar="FILE", help=file)
    plan = "only show what would be done"
    command.add_argument("--plan", action="store_true", help=plan)
    remove = "also remove, or give another disk to, what a client used in the last minute"
    command.add_argument("--remove", action="store_true", help=remove)
    expect = "refuse unless the last change has this number (see aoe-target status)"
    command.add_argument("--expect", type=words.whole(0, 1 << 53), metavar="N", help=expect)
    config = f"the file that FILE replaces, which the target runs with ({_CONFIG})"
    command.add_argument("--config", type=Path, metavar="FILE", help=config)
    command.add_argument("--socket", type=Path, metavar="PATH", help="where the target is asked")
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")


def _add_check(commands: Any) -> None:
    what = (
        "say what is wrong with a configuration file, and which of its disks and interfaces can be used here"
    )
    command = commands.add_parser("check", help=what, description=what)
    command.set_defaults(means="check.Check")
    command.add_argument(
        "file", type=Path, metavar="FILE", help="configuration file, as in `aoe-target.toml`(5)"
    )
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")


def _add_doctor(commands: Any) -> None:
    what = "say what is wrong with this host, its network and its service, why it matters, and what to do"
    command = commands.add_parser("doctor", help=what, description=what)
    command.set_defaults(means="target_doctor.Doctor")
    _add_service(command)
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")
    command.add_argument("-v", "--verbose", action="store_true", help="say what is well, too")


def _add_import(commands: Any) -> None:
    what = "write a configuration file for what vblade, ggaoed or `aoe-target serve` serves here"
    command = commands.add_parser("import", help=what, description=what)
    command.set_defaults(means="importing.Import")
    file = (
        "script or unit that starts vblade or `aoe-target serve`, file or directory of vblade.conf.d, or "
        "ggaoed.conf"
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help=file)
    output = "write it to this file, which must not be there yet, instead of standard output"
    command.add_argument("--output", type=Path, metavar="FILE", help=output)
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")


def _add_state(commands: Any) -> None:
    what = "list the disks that the state directory remembers"
    command = commands.add_parser("state", help=what, description=what)
    command.set_defaults(means="state.State")
    command.add_argument("--state-dir", type=Path, metavar="DIR", help="the directory that targets are given")
    command.add_argument("--prune", action="store_true", help="forget disks that are not there any more")
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")


def _add_serve(commands: Any) -> None:
    what = "serve files or block devices until stopped"
    command = commands.add_parser("serve", help=what, description=what)
    command.set_defaults(means="serve.Words")
    _add_places(command)
    _add_disks(command)
    _add_limits(command)
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


_FORMAT = (
    "what the files are images in. By default (auto) what each name ends with (.qcow2, .vhdx, .vmdk, .vdi or "
    ".luks), else raw: what stands in a file is never asked"
)


def _add_disks(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--durability",
        choices=("write-through", "write-back"),
        default="write-through",
        help=meanings.DURABILITY,
    )
    add("--direct", action="store_true", help="bypass the page cache (default for block devices)")
    add("--buffered", action="store_true", help="use the page cache (default for files)")
    shared = (
        "another host serves the same store: take no lock, bypass the page cache, and write nothing smaller "
        "than a block of the store"
    )
    add("--shared", action="store_true", help=shared)
    add("--read-only", action="store_true", help="answer writes with an ATA error")
    add("--copy-of", metavar="IMAGE", help=meanings.COPY_OF)
    add("--format", choices=(AUTO, RAW, *FORMATS), default=AUTO, help=_FORMAT)
    add("--key-file", metavar="FILE", help="key of an image in luks, or of an encrypted one in qcow2")
    add("--offset", type=int, default=0, metavar="SECTORS", help="serve from this sector on (0)")
    add("--length", type=int, metavar="SECTORS", help=meanings.LENGTH)
    serial = (
        f"serial number, up to {protocol.SERIAL_MAX} characters, for one PATH. By default it is made of the "
        "id of the store; a store without an id gets a random one, which is kept"
    )
    add("--serial", metavar="TEXT", help=serial)
    seconds = timing.FRAME_AGE_DEFAULT_S
    add(
        "--max-frame-age",
        dest="frame_age_s",
        type=float,
        default=seconds,
        metavar="S",
        help=meanings.MAX_FRAME_AGE,
    )


def _add_limits(command: argparse.ArgumentParser) -> None:
    for name, metavar, text in LIMITS:
        default = timing.LIMIT_BURST_NS / 1e9 if name == "limit-burst" else 0
        command.add_argument(
            f"--{name}", type=words.as_key(name), default=default, metavar=metavar, help=text
        )


def _add_access(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    mask = "serve only the hosts with these MACs; replaces the mask list that was kept"
    add("--mask", type=_mask, metavar="MAC,...", help=mask)
    admin = "refuse every change of config string, mask list and reservation that comes over the network"
    add("--no-remote-admin", dest="remote_admin", action="store_false", help=admin)
    masks = "refuse every change of the mask list that comes over the network"
    add("--no-remote-masks", dest="remote_masks", action="store_false", help=masks)
    add("--state-dir", type=Path, metavar="DIR", help=meanings.STATE_DIR)
    forget = "forget config string, mask list and reservation of the disks that are served"
    add("--reset-state", action="store_true", help=forget)


def _add_engine(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--buffer-count", type=int, metavar="N", help=meanings.BUFFER_COUNT)
    add("--engine", choices=ENGINES, default="auto", help=meanings.ENGINE)
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
