"""Changes single keys and exports of a configuration file; every other character of it stays as it is.

By the places of the keys, not with tomlkit, which puts a new key below the comment of the next export, and
removes that comment with the export before it. The outcome is compared: TOML that says what was asked, and
nothing else, or the file is not changed.
"""

import tomllib
from collections.abc import Mapping
from typing import Any

from aoe.config.items import with_items
from aoe.config.lines import Lines
from aoe.config.places import Path, Places
from aoe.config.read import read
from aoe.config.text import key, toml
from aoe.config.values import ExportConfig
from aoe.config.write import block, said
from aoe.errors import ConfigurationError
from aoe.printable import plain

Address = tuple[int, int]
Document = dict[str, Any]


def change(text: str, name: str, address: Address | None, keys: Mapping[str, object]) -> str:
    """The text of a file of that name with other values of some keys, of an export or (None) of [target].

    Values are as TOML has them; None removes a key. ConfigErrors if that leaves a file that means nothing,
    ConfigurationError for an address that is not there and for a file that only its owner can edit.
    """
    table = _table(text, name, address)
    expected = tomllib.loads(text)
    for which, value in keys.items():
        text = _without(text, (*table, which)) if value is None else _with(text, table, which, value)
        _apply(expected, table, which, value)
    return _checked(text, name, expected)


def add(text: str, name: str, export: ExportConfig) -> str:
    """The text with one more export, behind the others. Errors as for `change`."""
    stated = said(export)
    found = read(_added(text, name, stated), name).by_key[export.key]
    if found != export:
        other = [it for it in ExportConfig.__slots__ if getattr(found, it) != getattr(export, it)]
        stated = said(export, other)
        found = read(_added(text, name, stated), name).by_key[export.key]
    if found != export:
        unsaid = ", ".join(it.replace("_", "-") for it in other if getattr(export, it) is None)
        raise ConfigurationError(
            f"{plain(name)}: [defaults] says {unsaid} for every export; say it for {export.address}, too"
        )
    return _added(text, name, stated)


def remove(text: str, name: str, address: Address) -> str:
    """The text without an export, and without the comment right above it. Errors as for `change`."""
    table = _table(text, name, address)
    expected = tomllib.loads(text)
    del expected["export"][table[1]]
    if not expected["export"]:
        del expected["export"]
    places = Places(text)
    head = _head(text, name, places, table)
    last = places.last_of(table)
    return _checked(Lines(text).without_block(head, last.end if last else head), name, expected)


def _added(text: str, name: str, stated: dict[str, object]) -> str:
    expected = tomllib.loads(text)
    expected.setdefault("export", []).append(stated)
    return _checked(Lines(text).with_block(block("export", stated)), name, expected)


def _checked(text: str, name: str, expected: Document) -> str:
    """The text, if it means what is expected, and is right."""
    try:
        same = tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise _by_hand(name)
    read(text, name)
    return text


def _by_hand(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{plain(name)} is not written as [target] and [[export]] with one key in a line; change it by hand"
    )


def _table(text: str, name: str, address: Address | None) -> Path:
    """Where an export is in a file that is right."""
    exports = read(text, name).exports
    if address is None:
        return ("target",)
    for at, export in enumerate(exports):
        if export.key == address:
            return "export", at
    raise ConfigurationError("{} has no export e{}.{}; add it".format(plain(name), *address))


def _head(text: str, name: str, places: Places, table: Path) -> int:
    place = places.found.get(table)
    if place is None or text[place.key] != "[":
        raise _by_hand(name)
    return place.key


def _apply(document: Document, table: Path, which: str, value: object) -> None:
    at = document["export"][table[1]] if len(table) > 1 else document.setdefault("target", {})
    if value is None:
        at.pop(which, None)
    else:
        at[which] = list(value) if isinstance(value, tuple) else value


# One key


def _with(text: str, table: Path, which: str, value: object) -> str:
    places = Places(text)
    old = places.found.get((*table, which))
    if old is not None:
        whole = f"{text[: old.start]}{toml(value)}{text[old.end :]}"
        return with_items(text, places, (*table, which), value) or whole
    lines, line = Lines(text), f"{key(which)} = {toml(value)}"
    last = places.last_of(table) or places.found.get(table)
    if last is None:
        return lines.with_block(f"[target]\n{line}\n")
    return lines.with_line(line, last.end)


def _without(text: str, path: Path) -> str:
    old = Places(text).found.get(path)
    return text if old is None else Lines(text).without_lines(old.key, old.end)
