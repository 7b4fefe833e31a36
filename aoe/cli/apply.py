"""`aoe-target apply`: go to what the file says."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from aoe.cli import stdio
from aoe.cli.asking import CONFIG, ask, connected
from aoe.cli.report import Report
from aoe.config.read import read
from aoe.control.messages import REFUSED
from aoe.control.saving import replace_file
from aoe.errors import ConfigurationError, ControlFailed
from aoe.node.content import content
from aoe.node.opening import InProcess
from aoe.node.pools import Pools
from aoe.printable import one_line, plain


class Apply(NamedTuple):
    """The words behind `apply`: `file` is put in the place of `config` (None: the usual one) first, unless it
    is only planned."""

    file: Path | None
    config: Path | None
    plan: bool
    remove: bool
    expect: int | None
    socket: Path | None
    json: bool

    def run(self, report: Report) -> int:
        """0 where all is as the file has it, 1 where something waits or failed, 2 where it was refused and
        nothing has changed, 3 without a daemon."""
        try:
            return self._run(report)
        except ControlFailed as error:
            report.fail(error)
            return error.exit

    def _run(self, report: Report) -> int:
        arguments: dict[str, Any] = {"plan": self.plan, "remove": self.remove, "expect": self.expect}
        with connected(self.socket, report) as hand:
            if self.file is None:
                return _told(report, ask(hand, "apply", **arguments))
            text, there = _text(self.file)
            planned = ask(hand, "apply", **arguments | {"plan": True}, text=text, there=there)
            if self.plan or planned["exit"] == REFUSED:  # a file that cannot be is not put anywhere
                return _told(report, planned)
            place = _place(self.config, ask(hand, "status")["file"])
            if self.file.resolve() == place.resolve():
                return _told(report, ask(hand, "apply", **arguments))
            put(text, place)
            try:
                return _told(report, ask(hand, "apply", **arguments))
            except ControlFailed as error:
                if error.exit == REFUSED:
                    put_back(place)
                raise


def _told(report: Report, done: dict[str, Any]) -> int:
    lines = [one_line(str(line)) for line in done["said"]]
    report.say("\n".join(lines), **done)
    return int(done["exit"])


def _text(file: Path) -> tuple[str, dict[str, Any]]:
    """What is in the file, which has to be right, and what its paths lead to: that the daemon looks for only
    what its own file names. ConfigurationError."""
    try:
        found = content(file)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}; name a readable file") from error
    config = read(found, str(file))
    pools = Pools(config.pools, locked=False)
    try:
        there = InProcess(0, pools=pools).find({export.place for export in config.exports})
    finally:
        pools.close()
    return found.decode(), dict(there)


def _place(config: Path | None, running: str) -> Path:
    """The file to be replaced. It is the user's word, never the daemon's alone: that has fewer rights.
    ConfigurationError where they differ."""
    place = config or CONFIG
    if place.resolve() != Path(running).resolve():
        raise ConfigurationError(
            f"the daemon runs with {plain(running)}, not with {place}; if that is the file to be replaced, "
            f"name it with --config"
        )
    return place


def put(text: str, place: Path) -> None:
    """Give a file another content, with its owner and mode; the old one stays beside it as `.old`.
    ConfigurationError."""
    old = _old(place)
    try:
        old.unlink(missing_ok=True)
        os.link(place.resolve(), old)
    except OSError as error:
        raise ConfigurationError(f"{old} cannot be made: {stdio.reason(error)}") from error
    replace_file(place, text)


def put_back(place: Path) -> None:
    """Undo `put`. ConfigurationError."""
    old = _old(place)
    try:
        old.replace(place.resolve())
    except OSError as error:
        raise ConfigurationError(f"{old} cannot be put back: {stdio.reason(error)}") from error


def _old(place: Path) -> Path:
    real = place.resolve()
    return real.with_name(f"{real.name}.old")
