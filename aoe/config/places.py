"""Where in a TOML text each key and value is: for the lines of faults, and for edits that keep the rest.

tomllib judges the text; this only finds. In a text that is no TOML it finds what is before the fault.
"""

import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from aoe import limits

Path = tuple[str | int, ...]
"""The way to a value: `("export", 0, "mask", 2)`."""

_STRING = (
    r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'"  # of four kinds
)
_TOKEN = re.compile(
    rf"(?P<blank>[ \t\r]+|#[^\n]*)|(?P<text>{_STRING})|[\[\]{{}}=,.\n]|[^\s\[\]{{}}=,.\"'#]+|.", re.S
)


class Place(NamedTuple):
    """Where something is: from `key` (where its key or header begins) on, its value from `start` to `end`."""

    key: int
    start: int
    end: int


class Places:
    """Every key, item and table of a text."""

    def __init__(self, text: str) -> None:
        self.found: dict[Path, Place] = {}
        self.twice: list[tuple[Path, int, int]] = []
        """Keys that are there a second time: where, and where first."""
        self.deep = -1
        """Where a key has more parts than any of ours; the text is not read further. -1: nowhere."""
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self.unclosed = _Reader(text, self).read()
        """Where a list or an inline table begins that does not end; -1: nowhere."""

    def add(self, path: Path, place: Place) -> None:
        """Something is there."""
        if path in self.found:
            self.twice.append((path, place.key, self.found[path].key))
        else:
            self.found[path] = place

    def line(self, at: int) -> int:
        """The number of the line of a place, from 1 on."""
        return bisect_left(self._newlines, at) + 1

    def line_of(self, path: Path) -> int:
        """The line of a key or item; of one that is not there, that of the table it is missing in."""
        while path and path not in self.found:
            path = path[:-1]
        return self.line(self.found[path].key) if path else 1

    def last_of(self, table: Path) -> Place | None:
        """The last key and value directly in a table, if it has any."""
        return max((place for path, place in self.found.items() if path[:-1] == table), default=None)


class _Lost(Exception):
    """This is no TOML."""


class _Token(NamedTuple):
    text: str
    start: int
    end: int


class _Reader:
    """Reads a text once, from its beginning to its end."""

    def __init__(self, text: str, places: Places) -> None:
        self._tokens = _tokens(text)
        self._places = places
        self._open: list[int] = []
        self._counts: dict[Path, int] = {}
        self._end = len(text)
        self._next = self._last = _Token("", 0, 0)

    def read(self) -> int:
        self._step()
        try:
            table: Path = ()
            while self._next.text:
                table = self._statement(table)
        except (_Lost, RecursionError):
            return self._open[-1] if self._open else -1
        return -1

    def _statement(self, table: Path) -> Path:
        if self._next.text == "\n":
            self._step()
        elif self._next.text == "[":
            return self._header()
        else:
            self._pair(table)
        return table

    def _header(self) -> Path:
        start = self._step().start
        is_list = self._next.text == "[" and self._next.start == start + 1
        if is_list:
            self._step()
        *outer, name = self._name()
        path = (*self._within((), outer), name)
        self._expect("]")
        if is_list:
            self._expect("]")
            self._counts[path] = self._counts.get(path, -1) + 1
            path = (*path, self._counts[path])
        self._places.add(path, Place(start, start, self._last.end))
        return path

    def _within(self, path: Path, names: list[str]) -> Path:
        """The path of a table whose lists of tables are at their latest."""
        for name in names:
            path = (*path, name)
            path = (*path, self._counts[path]) if path in self._counts else path
        return path

    def _pair(self, table: Path) -> None:
        start = self._next.start
        path = (*table, *self._name())
        self._expect("=")
        self._value(path, start)

    def _name(self) -> list[str]:
        start = self._next.start
        names = [self._word()]
        while self._next.text == ".":
            self._step()
            names.append(self._word())
            if len(names) > limits.CONFIG_KEY_PARTS_MAX:
                self._places.deep = start
                raise _Lost
        return names

    def _word(self) -> str:
        token = self._step()
        if token.text.startswith(('"', "'")):
            return _unquoted(token.text)
        if not re.fullmatch(r"[A-Za-z0-9_-]+", token.text):
            raise _Lost
        return token.text

    def _value(self, path: Path, key: int | None = None) -> None:
        start = self._next.start
        if self._next.text == "[":
            self._list(path)
        elif self._next.text == "{":
            self._table(path)
        else:
            self._atom()
        self._places.add(path, Place(start if key is None else key, start, self._last.end))

    def _list(self, path: Path) -> None:
        self._open.append(self._step().start)
        for at in range(self._end):
            self._skip_lines()
            if self._next.text == "]":
                break
            self._value((*path, at))
            self._skip_lines()
            if self._next.text != ",":
                break
            self._step()
        self._expect("]")
        self._open.pop()

    def _table(self, path: Path) -> None:
        self._open.append(self._step().start)
        while self._next.text != "}":
            self._pair(path)
            if self._next.text != ",":
                break
            self._step()
        self._expect("}")
        self._open.pop()

    def _atom(self) -> None:
        if self._next.text in ("", "\n", ",", "]", "}", "="):
            raise _Lost
        while self._next.text not in ("", "\n", ",", "]", "}"):
            self._step()

    def _skip_lines(self) -> None:
        while self._next.text == "\n":
            self._step()

    def _expect(self, text: str) -> None:
        if self._next.text != text:
            raise _Lost
        self._step()

    def _step(self) -> _Token:
        """The next token; behind the last one comes an empty one."""
        self._last = self._next
        self._next = next(self._tokens, _Token("", self._end, self._end))
        return self._last


def _tokens(text: str) -> Iterator[_Token]:
    """All but blanks and comments."""
    for match in _TOKEN.finditer(text):
        if match["blank"] is None:
            yield _Token(match[0], match.start(), match.end())


def _unquoted(text: str) -> str:
    try:
        name = tomllib.loads(f"name = {text}")["name"]
    except tomllib.TOMLDecodeError as error:
        raise _Lost from error
    return str(name)
