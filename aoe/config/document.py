"""From the bytes of a configuration file to its tables, or to what keeps it from being TOML."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from aoe import limits
from aoe.config.faults import ConfigErrors, Fault
from aoe.config.keys import HEADS
from aoe.config.places import Path, Places
from aoe.config.text import key
from aoe.printable import plain

_WHERE = re.compile(r"(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_HINTS = {
    "Invalid value": 'write text in quotes ("eth1"), and true, false and numbers without',
    "Invalid statement": "write KEY = VALUE, or [TABLE], or # before a comment",
    "Expected '=' after a key": "write KEY = VALUE",
    "Expected newline or end of document": "write one key in each line",
    "Illegal character '\\n'": "end the text with a quote in the same line",
    "Unterminated string": "end the text with a quote",
    "Unescaped '\\'": "write \\\\ for a backslash",
    "Expected ']": "end the name of the table with ]",
    "Cannot overwrite": "write each key once",
    "Cannot declare": "write each table once",
}
_DIGITS = re.compile(r"[0-9_]{4096}")
"""Python reads numbers of up to 4300 digits (sys.set_int_max_str_digits)."""
_DOTTED = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{limits.CONFIG_KEY_PARTS_MAX}}}"""
)
"""What may be a key of so many parts that tomllib takes all memory for it: their number squared."""
_TWICE = ("Cannot overwrite", "Cannot declare", "Duplicate inline")


def decoded(text: bytes | str, name: str) -> str:
    """A file of that name as text; ConfigErrors for one that is too large or not UTF-8."""
    if len(text) > limits.CONFIG_BYTES_MAX:
        raise _one(name, 1, f"larger than {limits.CONFIG_BYTES_MAX} bytes; this is no configuration file")
    if isinstance(text, str):
        return text
    try:
        found = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{text[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise _one(name, line, what) from error
    if found.startswith("\ufeff"):
        raise _one(name, 1, "begins with a byte order mark; save the file as UTF-8 without one")
    return found


def document(text: str, name: str) -> dict[str, Any]:
    """The tables of a file of that name; ConfigErrors where it is no TOML."""
    if _may_be_deep(text) and _DOTTED.search(text) and (deep := Places(text)).deep >= 0:
        raise _one(name, deep.line(deep.deep), "a key of many parts; write [TABLE] and KEY = VALUE")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigErrors(name, tuple(_no_toml(text, str(error)))) from error
    except RecursionError as error:
        raise _one(name, 1, "lists within lists without end; write plain lists") from error
    except ValueError as error:
        number = _DIGITS.search(text)
        line = Places(text).line(number.start()) if number else 1
        raise _one(name, line, "a number of more digits than can be read; write a smaller one") from error


def _may_be_deep(text: str) -> bool:
    """To search takes a fifth of the time that tomllib takes."""
    return any(line.count(".") >= limits.CONFIG_KEY_PARTS_MAX for line in text.split("\n"))


def _no_toml(text: str, message: str) -> Iterator[Fault]:
    """What keeps it from being TOML: of keys that are there twice all, of other faults the first."""
    places = Places(text)
    for path, again, first in places.twice:
        what = f"{key(str(path[-1]))} is there twice, first in line {places.line(first)}; write it once"
        yield Fault(places.line(again), _table_of(path), what)
    if not (places.twice and message.startswith(_TWICE)):
        yield _syntax(text, message, places)


def _syntax(text: str, message: str, places: Places) -> Fault:
    match = _WHERE.fullmatch(message)
    what, line, column = match.groups() if match else (message, None, None)
    hint = next((hint for begin, hint in _HINTS.items() if what.startswith(begin)), "mend or remove it")
    if places.unclosed >= 0:
        hint = f"is what begins in line {places.line(places.unclosed)} closed?"
    at = f" at column {column}" if column else " at the end of the file"
    end = len(text.rstrip())
    return Fault(int(line or places.line(end)), "", f"not TOML: {plain(what)}{at}; {hint}")


def _table_of(path: Path) -> str:
    if len(path) > 1 and path[0] in HEADS:
        return HEADS[str(path[0])] + (f" {path[1] + 1}" if isinstance(path[1], int) else "")
    return ""


def _one(name: str, line: int, message: str) -> ConfigErrors:
    return ConfigErrors(name, (Fault(line, "", message),))
