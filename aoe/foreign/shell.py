"""Commands in scripts, units and crontabs, and variables in fragments of the shell, as far as they are plain.

Nothing is expanded or run: what a variable or a command would have to be known for is said to be unknown.
"""

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from aoe.foreign.found import Line

_UNIT = re.compile(r"ExecStart(?:Pre|Post)?\s*=\s*[-@:+!]*")
"""What may stand before a command in systemd.service(5)."""
_REDIRECTION = re.compile(r"[0-9]*(?:>>|>|<)&?(.*)", re.DOTALL)
_END = re.compile(r"(.*?)(;|&&?|\|\|?)", re.DOTALL)
_UNKNOWN = re.compile(r"[$`*?]|%[a-zA-Z]")
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


class Command(NamedTuple):
    """A program's name, without its directory, and the words behind it."""

    origin: Line
    program: str
    words: tuple[str, ...]

    @property
    def unknown(self) -> str:
        """A word that only a shell or a service manager knows the meaning of; else empty."""
        return next((word for word in self.words if _UNKNOWN.search(word)), "")


def commands(text: str, file: str, programs: frozenset[str]) -> Iterator[Command]:
    """Those of `programs` that a text calls, also behind words like `ionice -c2`."""
    for origin, line in _lines(text, file):
        words = _words(_UNIT.sub("", line.strip(), count=1))
        names = [word.rpartition("/")[2] for word in words]
        for place, name in enumerate(names):
            if name in programs:
                yield Command(origin, name, tuple(_own(words[place + 1 :])))
                break


def variables(text: str, file: str) -> dict[str, tuple[Line, str]]:
    """Assignments, each on a line of its own; the last of a name counts."""
    found: dict[str, tuple[Line, str]] = {}
    for origin, line in _lines(text, file):
        if assigned := _ASSIGNMENT.fullmatch(line.strip()):
            name, value = assigned.groups()
            found[name] = origin, " ".join(_words(value))
    return found


def is_unknown(value: str) -> bool:
    """Whether only a shell knows what it means."""
    return bool(_UNKNOWN.search(value))


def _lines(text: str, file: str) -> Iterator[tuple[Line, str]]:
    """Those that go on behind a backslash are one."""
    begun, first = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        if not begun:
            first = number
        if line.endswith("\\"):
            begun += line.removesuffix("\\") + " "
            continue
        yield Line(file, first), begun + line
        begun = ""
    if begun:
        yield Line(file, first), begun


def _words(line: str) -> list[str]:
    """None of a line whose quotes do not end."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def _own(words: list[str]) -> Iterator[str]:
    """Up to the end of the command, without redirections."""
    rest = iter(words)
    for word in rest:
        if redirected := _REDIRECTION.fullmatch(word):
            if not redirected[1]:
                next(rest, None)
            continue
        if ended := _END.match(word):
            if ended[1]:
                yield ended[1]
            return
        yield word
