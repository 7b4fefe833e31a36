"""`aoe-target apply`: go to what the file says."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from aoe import limits
from aoe.cli import stdio
from aoe.cli.asking import ask, connected
from aoe.cli.report import Report
from aoe.config.read import read
from aoe.control.messages import REFUSED
from aoe.errors import ConfigurationError, ControlFailed


class Apply(NamedTuple):
    """The words behind `apply`: `file` is put in the place of `config` (None: the file that the daemon has)
    first, unless it is only planned."""

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
            text = _text(self.file)
            planned = ask(hand, "apply", **arguments | {"plan": True}, text=text)
            if self.plan or planned["exit"] == REFUSED:  # a file that cannot be is not put anywhere
                return _told(report, planned)
            place = self.config or Path(ask(hand, "status")["file"])
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
    lines = [" ".join(str(line).splitlines()) for line in done["said"]]
    report.say("\n".join(lines), **done)
    return int(done["exit"])


def _text(file: Path) -> str:
    """What is in the file, which has to be right. ConfigurationError."""
    try:
        with file.open("rb") as opened:
            content = opened.read(limits.CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}; name a readable file") from error
    read(content, str(file))
    return content.decode()


def put(text: str, place: Path) -> None:
    """Give a file another content by rename, with its owner and mode; the old one stays beside it as `.old`.
    ConfigurationError."""
    place = place.resolve()
    fresh = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        _write(fresh, text, place)
        old = _old(place)
        old.unlink(missing_ok=True)
        if place.exists():
            os.link(place, old)
        fresh.rename(place)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise ConfigurationError(f"{place} cannot be replaced: {stdio.reason(error)}") from error


def put_back(place: Path) -> None:
    """Undo `put`. ConfigurationError."""
    place = place.resolve()
    old = _old(place)
    try:
        if old.exists():
            old.replace(place)
        else:
            place.unlink()
    except OSError as error:
        raise ConfigurationError(f"{old} cannot be put back: {stdio.reason(error)}") from error


def _old(place: Path) -> Path:
    return place.with_name(f"{place.name}.old")


def _write(fresh: Path, text: str, like: Path) -> None:
    fd = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        try:
            was = like.stat()
            os.fchown(fd, was.st_uid, was.st_gid)
            os.fchmod(fd, stat.S_IMODE(was.st_mode))
        except FileNotFoundError:
            os.fchmod(fd, 0o644)
        file.write(text)
        file.flush()
        os.fsync(fd)
