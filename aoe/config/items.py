"""Changes a list with one item in a line, item by item: the others keep their comments."""

import re

from aoe.config.lines import Lines
from aoe.config.places import Path, Place, Places
from aoe.config.text import toml

_REST = re.compile(r"[ \t]*(,?)[ \t]*(?:#[^\n]*)?\r?(?:\n|\Z)")


def with_items(text: str, places: Places, path: Path, value: object) -> str:
    """The text with other items in a list; empty where that is not a matter of single lines."""
    if not isinstance(value, list | tuple):
        return ""
    wanted = [toml(it) for it in value]
    items = [place for of, place in places.found.items() if of[:-1] == path]
    kept = [place for place in items if _said(text, place) in wanted]
    added = wanted[len(kept) :]
    if not kept or [_said(text, place) for place in kept] + added != wanted:
        return ""
    if not all(_has_a_line(text, place) for place in items):
        return ""
    for place in reversed(items):
        if place not in kept:
            text = Lines(text).without_lines(place.key, place.end)
        elif place == kept[-1] and added:
            text = _with_behind(text, place.end, added)
    return text


def _said(text: str, place: Place) -> str:
    return text[place.start : place.end]


def _has_a_line(text: str, place: Place) -> bool:
    before = text[text.rfind("\n", 0, place.start) + 1 : place.start]
    return not before.strip() and _REST.match(text, place.end) is not None


def _with_behind(text: str, at: int, added: list[str]) -> str:
    for line in reversed(added):
        text = Lines(text).with_line(f"{line},", at)
    match = _REST.match(text, at)
    return text if match and match[1] else f"{text[:at]},{text[at:]}"
