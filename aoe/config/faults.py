"""What is wrong with a configuration file: all of it, each fault in one line with its place and remedy."""

from typing import NamedTuple

from aoe import limits
from aoe.config.places import Path, Places
from aoe.errors import ConfigurationError
from aoe.printable import plain


class Fault(NamedTuple):
    """One fault. `line` counts from 1; `where` names the export or table, and is empty for the whole file."""

    line: int
    where: str
    message: str


class ConfigErrors(ConfigurationError):
    """A file that means nothing. `lines` has a line for each of its `faults`: `FILE:LINE: what is wrong`."""

    def __init__(self, name: str, faults: tuple[Fault, ...]) -> None:
        self.name = plain(name)
        self.faults = faults
        others = len(faults) - 1
        more = f" ({others} more; see aoe-target check)" if others else ""
        super().__init__(f"{self.lines[0]}{more}")

    @property
    def lines(self) -> list[str]:
        """Every fault, in the order of the file."""
        return [_line(self.name, *fault) for fault in self.faults]


def _line(name: str, line: int, where: str, message: str) -> str:
    return f"{name}:{line}: " + (f"{where}: " if where else "") + message


class _Found(NamedTuple):
    path: Path
    where: str
    what: str
    remedy: str
    first: Path | None


class TooMany(Exception):
    """More is wrong than is said."""


class Faults:
    """Those that were found so far. Their lines are not looked for before the end."""

    def __init__(self) -> None:
        self._found: list[_Found] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, path: Path, where: str, what: str, remedy: str, first: Path | None = None) -> None:
        """One more; `first` is what it collides with. TooMany where no more are said."""
        if len(self._found) == limits.CONFIG_FAULTS_MAX:
            raise TooMany
        self._found.append(_Found(path, where, what, remedy, first))

    def error(self, name: str, text: str) -> ConfigErrors:
        """All of them, each with its line."""
        places = Places(text)
        faults = [_placed(found, places) for found in self._found]
        if len(faults) == limits.CONFIG_FAULTS_MAX:
            last = max(fault.line for fault in faults)
            faults.append(Fault(last, "", f"{len(faults)} faults are listed; there may be more"))
        return ConfigErrors(name, tuple(sorted(faults, key=lambda fault: fault.line)))


def _placed(found: _Found, places: Places) -> Fault:
    first = f" (first in line {places.line_of(found.first)})" if found.first else ""
    message = f"{found.what}{first}{found.remedy}"
    return Fault(places.line_of(found.path), found.where, message)
