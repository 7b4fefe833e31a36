"""The commands that ask a running daemon for something."""

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from aoe.cli import stdio
from aoe.cli.report import Report
from aoe.control import place
from aoe.control.client import Client, failed
from aoe.control.hand import Hand
from aoe.control.messages import DONE, PARTLY, Failure, Request
from aoe.control.written import Written
from aoe.errors import AoeError, ConfigurationError
from aoe.printable import plain
from aoe.wire.address import parse_address

CONFIG = Path("/etc/aoe-target.toml")


def connected(socket: Path | None, report: Report) -> Hand:
    """What asks the daemon. ControlFailed where there is none."""
    path = socket or place.askers()

    def waiting(text: str) -> None:
        if not report.as_json:
            stdio.complain(report.name, text)

    return Hand(Client(path, waiting), owners(path))


def owners(path: Path) -> Written | None:
    """The changes beside the file of the daemon at `path`, where this user is its owner."""
    user = os.geteuid()
    owns = user == 0 or (path.exists() and path.stat().st_uid == user)
    return Written(place.changes_of(user, path)) if owns else None


def ask(hand: Hand, verb: str, **arguments: Any) -> dict[str, Any]:
    """What the daemon did; ControlFailed if it did not."""
    result = hand.answer(Request(1, verb, arguments)).result
    if isinstance(result, Failure):
        raise failed(result)
    return result


def tell(report: Report, done: dict[str, Any]) -> int:
    """Say what the daemon said; the exit status."""
    said = done.get("said")
    lines = [plain(str(line)) for line in said] if isinstance(said, list) else []
    report.say("\n".join(lines) or "done", **done)
    status = done.get("exit")
    return status if isinstance(status, int) and DONE <= status <= PARTLY else DONE


class _Verb(NamedTuple):
    """What is asked, and with `save` is put into the file `config`."""

    socket: Path | None
    name: str
    arguments: dict[str, Any]
    save: bool = False
    config: Path | None = None

    def run(self, report: Report) -> int:
        """Ask; 1 where the file could not be changed, although the target was."""
        if self.config is not None and not self.save:
            raise ConfigurationError("--config FILE is for --save, which puts the change into it")
        path = self.socket or place.askers()
        written = owners(path)
        if self.save and written is None:
            raise ConfigurationError("--save is for the owner of the daemon; use sudo")
        with connected(path, report) as hand:
            taken = _lent(hand, self.arguments["address"]) if self.save else []
            status = tell(report, ask(hand, self.name, **self.arguments, taken=taken))
        return max(status, self._save(written, report)) if self.save and written else status

    def _save(self, written: Written, report: Report) -> int:
        from aoe.control.saving import save  # noqa: PLC0415 - the whole reader of the file

        file = self.config or CONFIG
        try:
            save(written, self.arguments["address"], file)
        except AoeError as error:
            error.add_note("the change is in force, but not in the file")
            report.fail(error)
            return PARTLY
        report.say(f"{file} has it, too", event="saved", file=str(file))
        return DONE


def _lent(hand: Hand, address: str) -> list[dict[str, Any]]:
    """What the control group changed of an export."""
    patches = ask(hand, "status").get("patches")
    found = patches if isinstance(patches, list) else []
    return [it for it in found if it.get("lent") is True and it.get("address") == address]


def _named(text: str) -> str:
    return "e{}.{}".format(*parse_address(text))


# What the words of each command mean


def add(
    socket: Path | None, address: str, path: str, keys: list[str], save: bool, config: Path | None, **_: Any
) -> _Verb:
    """`aoe-target add`."""
    from aoe.cli.exporting import absolute, keys_of  # noqa: PLC0415 - what only two commands need

    said = keys_of(keys)
    if "path" in said:
        raise ConfigurationError("path is there twice; write it once")
    arguments = {"address": _named(address), "keys": {"path": absolute(path), **said}}
    return _Verb(socket, "add", arguments, save, config)


def remove(socket: Path | None, address: str, save: bool, config: Path | None, **_: Any) -> _Verb:
    """`aoe-target remove`."""
    return _Verb(socket, "remove", {"address": _named(address)}, save, config)


def change(
    socket: Path | None,
    address: str,
    keys: list[str],
    gone: list[str],
    limits: list[str],
    save: bool,
    config: Path | None,
    **_: Any,
) -> _Verb:
    """`aoe-target set`."""
    from aoe.cli.exporting import keys_of, known_key  # noqa: PLC0415 - what only two commands need

    said, unset = keys_of([*keys, *limits]), [known_key(name).name for name in gone]
    if not said and not unset and not save:
        raise ConfigurationError(
            "set needs KEY=VALUE or --unset KEY, or --save alone (see aoe-target set --help)"
        )
    if said.keys() & unset:
        raise ConfigurationError(f"{min(said.keys() & unset)} is set and unset; say one of it")
    return _Verb(socket, "set", {"address": _named(address), "keys": said, "gone": unset}, save, config)


def mask(socket: Path | None, address: str, hosts: str, save: bool, config: Path | None, **_: Any) -> _Verb:
    """`aoe-target mask`."""
    macs = hosts if hosts == "any" else hosts.split(",")
    return _Verb(socket, "mask", {"address": _named(address), "mask": macs}, save, config)


def release(socket: Path | None, address: str, **_: Any) -> _Verb:
    """`aoe-target release`."""
    return _Verb(socket, "release", {"address": _named(address)})


def reopen(socket: Path | None, address: str, **_: Any) -> _Verb:
    """`aoe-target reopen`."""
    return _Verb(socket, "reopen", {"address": _named(address)})


def log_level(socket: Path | None, level: str, **_: Any) -> _Verb:
    """`aoe-target log-level`."""
    return _Verb(socket, "log-level", {"level": level})


class Control(NamedTuple):
    """`aoe-target control`: asks for another program."""

    socket: Path | None
    json: bool

    def run(self, report: Report) -> int:
        """Until standard input ends."""
        from aoe.control.bridge import bridge  # noqa: PLC0415 - what no other command needs

        report.as_json = True
        return bridge(0, _say, lambda: connected(self.socket, report))


def _say(line: bytes) -> None:
    sys.stdout.write(line.decode("ascii"))
    sys.stdout.flush()
