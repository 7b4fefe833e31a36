"""The words of the commands that ask a running daemon."""

import argparse
from pathlib import Path
from typing import Any

from aoe.cli import words
from aoe.cli.limit_words import LIMITS
from aoe.timing import DRAIN_WAIT_S

LEVELS = ("debug", "info", "warning", "error")
_KEY = "KEY=VALUE"
_KEY_HELP = (
    "a key of [[export]] in the configuration file and its value, without quotes; items of a list have "
    "commas between them"
)


def add(commands: Any) -> None:
    """Add them."""
    _add_status(commands)
    _add_exports(commands)
    _add_rest(commands)


def _command(commands: Any, name: str, means: str, what: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
    command.set_defaults(means=means)
    where = "the control socket of the daemon; by default this user's own, or else that of root's"
    command.add_argument("--socket", type=Path, metavar="PATH", help=where)
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")
    return command


def _address(command: argparse.ArgumentParser) -> None:
    command.add_argument("address", metavar="eSHELF.SLOT", help="address of the export")


def _saving(command: argparse.ArgumentParser) -> None:
    save = (
        "put what was changed of this export into the configuration file, too, also what members of "
        "control-group changed; its comments, owner and mode are kept"
    )
    command.add_argument("--save", action="store_true", help=save)
    file = "the configuration file of the daemon (/etc/aoe-target.toml)"
    command.add_argument("--config", type=Path, metavar="FILE", help=file)


def _add_status(commands: Any) -> None:
    what = "show what a running target serves, to which hosts, how fast, and what went wrong"
    command = _command(commands, "status", "status.Status", what)
    watch = "show it again each second, on a terminal as a table, until Ctrl-C"
    command.add_argument("--watch", action="store_true", help=watch)


def _add_exports(commands: Any) -> None:
    command = _command(commands, "add", "asking.add", "serve one more disk, until the file is applied again")
    _address(command)
    command.add_argument("path", metavar="PATH", help="file or block device")
    command.add_argument("keys", nargs="*", metavar=_KEY, help=_KEY_HELP)
    _saving(command)
    command = _command(
        commands, "remove", "asking.remove", "serve a disk no more, until the file is applied again"
    )
    _address(command)
    _saving(command)
    command = _command(
        commands, "set", "asking.change", "serve a disk otherwise, until the file is applied again"
    )
    _address(command)
    command.add_argument("keys", nargs="*", metavar=_KEY, help=_KEY_HELP)
    unset = "a key that the export is to have no more; repeatable"
    command.add_argument("--unset", dest="gone", action="append", default=[], metavar="KEY", help=unset)
    for name, metavar, text in LIMITS:
        as_word: Any = words.assigned(name)
        command.add_argument(
            f"--{name}", dest="limits", action="append", default=[], type=as_word, metavar=metavar, help=text
        )
    _saving(command)
    command = _command(commands, "mask", "asking.mask", "serve a disk to these hosts only")
    _address(command)
    hosts = "the MACs of the hosts, or any: then every host is served"
    command.add_argument("hosts", metavar="MAC,...", help=hosts)
    _saving(command)


def _add_draining(commands: Any) -> None:
    what = "have clients use another server, before maintenance, and wait until they do"
    command = _command(commands, "drain", "draining.drain", what)
    _addresses(command, "served")
    wait = f"how long clients are waited for ({DRAIN_WAIT_S:.0f}); those that stay are served as before"
    command.add_argument(
        "--timeout", dest="timeout_s", type=words.seconds(), default=DRAIN_WAIT_S, metavar="S", help=wait
    )
    command = _command(commands, "resume", "draining.resume", "let clients use again what was drained")
    _addresses(command, "drained")


def _addresses(command: argparse.ArgumentParser, which: str) -> None:
    command.add_argument("addresses", nargs="*", metavar="eSHELF.SLOT", help="addresses of exports")
    command.add_argument("--all", action="store_true", dest="all_", help=f"all that are {which}")


def _add_rest(commands: Any) -> None:
    command = _command(
        commands, "release", "asking.release", "break the reservation that hosts have of a disk"
    )
    _address(command)
    what = "end the failed state of a disk whose sync failed, once it is repaired"
    command = _command(commands, "reopen", "asking.reopen", what)
    _address(command)
    _add_draining(commands)
    command = _command(commands, "log-level", "asking.log_level", "choose what a running target logs")
    command.add_argument(
        "level", choices=LEVELS, metavar="LEVEL", help=", ".join(LEVELS[:-1]) + f" or {LEVELS[-1]}"
    )
    what = "let another program ask, by lines of JSON on standard input and output: what ssh runs"
    _command(commands, "control", "asking.Control", what)
