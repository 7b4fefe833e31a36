"""What was changed while a target serves, as a list beside the file: how it is kept, and what it comes to.

    [[change]]
    verb = "set"
    address = "e1.0"
    by = "root (uid 0)"
    at = "2026-11-28T12:00:00Z"
    saved = false
    keys = {mask = ["02:00:00:00:00:01"]}
    gone = ["durability"]

`keys` are those of the file, without shelf and slot; `gone` are keys that an export has no more. A change
that is `saved` stands in the file, too: it does the same twice, and the next apply ends it.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aoe import limits
from aoe.config.text import key, toml
from aoe.errors import ConfigurationError
from aoe.printable import plain
from aoe.wire.address import parse_address

Verb = Literal["add", "remove", "set"]
VERBS: tuple[Verb, ...] = ("add", "remove", "set")
_ADDRESS = ("shelf", "slot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one verb did to one export, which user asked for it (`by`), and when (`at`, UTC, ISO 8601)."""

    verb: Verb
    address: str
    by: str
    at: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    saved: bool = False

    @property
    def sentence(self) -> str:
        """In words."""
        said = [f"{key(name)} = {toml(value)}" for name, value in self.keys.items()]
        said += [f"no {plain(name)}" for name in self.gone]
        what = f" {', '.join(said)}" if said else ""
        return f"{self.verb} {self.address}{what} (by {plain(self.by)} at {plain(self.at)})"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**_table(self), "sentence": self.sentence}


# As text


def dump(changes: Iterable[Change]) -> str:
    """All of them; ConfigurationError for a name that is not UTF-8."""
    lines = [
        "# Written by aoe-target: what was changed since the file was applied. aoe-target apply ends it."
    ]
    for change in changes:
        lines += ["", "[[change]]", *(f"{name} = {toml(value)}" for name, value in _table(change).items())]
    return "\n".join([*lines, ""])


def _table(change: Change) -> dict[str, Any]:
    return {
        "verb": change.verb,
        "address": change.address,
        "by": change.by,
        "at": change.at,
        "saved": change.saved,
        "keys": dict(change.keys),
        "gone": list(change.gone),
    }


def load(text: bytes | str, name: str) -> tuple[Change, ...]:
    """What `dump` wrote; ConfigurationError for anything else, which names the file."""
    if len(text) > limits.CHANGES_BYTES_MAX:
        raise _damaged(name, f"larger than {limits.CHANGES_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(text.decode() if isinstance(text, bytes) else text)
        found = tuple(_change(it) for it in document.get("change", []))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigurationError) as error:
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    return found


def _damaged(name: str, reason: str) -> ConfigurationError:
    said = f"{name} is damaged ({plain(reason)}): it has what was changed since the file was applied"
    return ConfigurationError(f"{said}; remove it and run aoe-target apply")


def _change(table: Mapping[str, Any]) -> Change:
    verb, keys, gone = table["verb"], table.get("keys", {}), table.get("gone", [])
    texts = [table["by"], table["at"], *gone]
    if verb not in VERBS or not isinstance(keys, dict) or not all(isinstance(it, str) for it in texts):
        raise ValueError(f"{verb!r} is no change")
    return Change(
        verb=verb,
        address="e{}.{}".format(*parse_address(table["address"])),
        by=table["by"],
        at=table["at"],
        keys=keys,
        gone=tuple(gone),
        saved=table.get("saved") is True,
    )


# What they come to


def merged(changes: Sequence[Change], new: Change) -> tuple[Change, ...]:
    """With one more, without what it overrides. ConfigurationError where there are too many, or where it
    would give the export another address."""
    if not {*new.keys, *new.gone}.isdisjoint(_ADDRESS):
        raise ConfigurationError(f"{new.address}: its address stays; remove it, and add another one")
    others = tuple(it for it in changes if it.address != new.address)
    now = (*others, *_of_one([it for it in changes if it.address == new.address], new))
    if len(now) > limits.CHANGES_MAX:
        said = f"{limits.CHANGES_MAX} changes wait beside the file"
        raise ConfigurationError(f"{said}; put them into it, and run aoe-target apply")
    return now


def _of_one(changes: Sequence[Change], new: Change) -> tuple[Change, ...]:
    """Those of one export with one more."""
    if new.verb == "set":
        again = {*new.keys, *new.gone}
        return (*(left for it in changes if (left := _without(it, again)) is not None), new)
    if new.verb == "add":
        return (*(it for it in changes if it.verb == "remove"), new)
    came_beside = bool(changes) and changes[0].verb == "add" and not changes[0].saved
    return () if came_beside else (new,)


def _without(change: Change, names: set[str]) -> Change | None:
    """What of a change is not about these keys. What an export was added with stays, as it needs all."""
    if change.verb != "set":
        return change
    keys = {name: value for name, value in change.keys.items() if name not in names}
    gone = tuple(name for name in change.gone if name not in names)
    return replace(change, keys=keys, gone=gone) if keys or gone else None


def saved(changes: Iterable[Change], address: str) -> tuple[Change, ...]:
    """The same when those of one export stand in the file."""
    return tuple(replace(it, saved=True) if it.address == address else it for it in changes)


def patched(
    document: Mapping[str, Any], changes: Iterable[Change]
) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """What a file and the changes say together, as a document; and the changes for which there is no export
    in it any more. It is not looked at whether that makes sense: it is read like any file (`as_text`)."""
    exports = [dict(it) for it in document.get("export", []) if isinstance(it, Mapping)]
    idle = tuple(change for change in changes if not _patch(exports, change))
    return {**document, "export": exports}, idle


def _patch(exports: list[dict[str, Any]], change: Change) -> bool:
    address = parse_address(change.address)
    found = [it for it in exports if (it.get("shelf"), it.get("slot")) == address]
    if change.verb == "remove":
        exports[:] = [it for it in exports if it not in found]
        return bool(found)
    if change.verb == "add" and not found:
        exports.append({**dict(zip(_ADDRESS, address, strict=True)), **change.keys})
    for table in found:
        table.update(change.keys)
        for name in change.gone:
            table.pop(name, None)
    return change.verb == "add" or bool(found)


def as_text(document: Mapping[str, Any]) -> str:
    """A document as a file, so that it is judged like any other."""
    alone = {name: value for name, value in document.items() if not _is_table(value)}
    lines = [f"{key(name)} = {toml(value)}" for name, value in alone.items()]
    for name, value in document.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key(name)}]", *_lines(value)]
        elif _is_table(value):
            for table in value:
                lines += ["", f"[[{key(name)}]]", *_lines(table)]
    return "\n".join([*lines, ""])


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key(name)} = {toml(value)}" for name, value in table.items()]


def _is_table(value: object) -> bool:
    is_list = isinstance(value, list) and bool(value) and all(isinstance(it, Mapping) for it in value)
    return is_list or isinstance(value, Mapping)
