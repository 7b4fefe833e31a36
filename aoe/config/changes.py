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
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    def names(self) -> frozenset[str]:
        """Keys that it is about."""
        return frozenset((*self.keys, *self.gone))

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
    """All of them; ConfigurationError for a name that is not UTF-8, and for more than is loaded again."""
    lines = [
        "# Written by aoe-target: what was changed since the file was applied. aoe-target apply ends it."
    ]
    for change in changes:
        lines += ["", "[[change]]", *(f"{name} = {toml(value)}" for name, value in _table(change).items())]
    text = "\n".join([*lines, ""])
    if len(text.encode()) > limits.CHANGES_BYTES_MAX:
        said = f"the changes beside the file are larger than {limits.CHANGES_BYTES_MAX} bytes"
        raise ConfigurationError(f"{said}; put them into it, and run aoe-target apply")
    return text


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
        raise damaged(name, f"larger than {limits.CHANGES_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(text.decode() if isinstance(text, bytes) else text)
        found = tuple(change_of(it) for it in document.get("change", []))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigurationError) as error:
        raise damaged(name, f"{type(error).__name__}: {error}") from error
    return found


def damaged(name: str, reason: str) -> ConfigurationError:
    """What is said of a list that cannot be understood."""
    said = f"{name} is damaged ({plain(reason)}): it has what was changed since the file was applied"
    return ConfigurationError(f"{said}; remove it and run aoe-target apply")


def change_of(table: Mapping[str, Any]) -> Change:
    """What `facts` says. KeyError, TypeError, ValueError or ConfigurationError for anything else."""
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
    if not new.names.isdisjoint(_ADDRESS):
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
        others = _all_without(changes, new.names)
        return (*others, new) if new.names else others
    if new.verb == "add":
        return (*(it for it in changes if it.verb == "remove"), new)
    came_beside = bool(changes) and changes[0].verb == "add" and not changes[0].saved
    return () if came_beside else (new,)


def _without(change: Change, names: Collection[str]) -> Change | None:
    """What of a change is not about these keys. What an export was added with stays, as it needs all."""
    if change.verb != "set":
        return change
    keys = {name: value for name, value in change.keys.items() if name not in names}
    gone = tuple(name for name in change.gone if name not in names)
    return replace(change, keys=keys, gone=gone) if keys or gone else None


def _all_without(changes: Iterable[Change], names: Collection[str]) -> tuple[Change, ...]:
    return tuple(left for it in changes if (left := _without(it, names)) is not None)


def lent_beside(lent: Iterable[Change], owners: Sequence[Change]) -> tuple[Change, ...]:
    """What is left of the changes that a daemon keeps for others beside those of its owner: of two that are
    about one key, the later one is in force. One that the owner took over is the owner's."""
    return tuple(
        left for it in lent if it not in owners and (left := _without(it, _settled(it, owners))) is not None
    )


def _settled(change: Change, owners: Iterable[Change]) -> set[str]:
    """Keys of a change about which there is a later one."""
    later = (it for it in owners if it.address == change.address and it.at > change.at)
    return {name for it in later for name in it.names}


def lent_over(owners: Iterable[Change], new: Change) -> Change:
    """A new one of theirs that is no older than those of the owner that it overrides, whatever the clock
    says."""
    return replace(new, at=max([new.at, *(it.at for it in owners if it.address == new.address)]))


def lent_after(lent: Iterable[Change], address: str, names: Collection[str] | None) -> tuple[Change, ...]:
    """The same once the owner changed these keys of an export (None: all of it)."""

    def left(change: Change) -> Change | None:
        if change.address != address:
            return change
        return None if names is None else _without(change, names)

    return tuple(it for change in lent if (it := left(change)) is not None)


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
