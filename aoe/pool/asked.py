"""The verbs of a pool as JSON, for a process that asks another one: `{"verb": "create", "volume": "web1",
"size": 512}`."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from aoe.errors import ConfigurationError
from aoe.pool.adopting import Adopt, Freeze, Template
from aoe.pool.fading import Merged
from aoe.pool.names import FORMATS
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback

Wish = Create | Cut | Clone | Rollback | Resize | Rename | Delete | Adopt | Template | Freeze | Merged
VERBS: Mapping[str, type[Wish]] = {
    "create": Create,
    "snapshot": Cut,
    "clone": Clone,
    "rollback": Rollback,
    "resize": Resize,
    "rename": Rename,
    "delete": Delete,
    "adopt": Adopt,
    "template": Template,
    "freeze": Freeze,
    "merged": Merged,
}
"""By what they are called."""
_NAMES = {kind: name for name, kind in VERBS.items()}
_TYPES: Mapping[str, type] = {"size": int, "shrink": bool, "recursive": bool}
"""Of what is no text."""


def name_of(request: Wish) -> str:
    """What the verb is called."""
    return _NAMES[type(request)]


def facts_of(request: Wish) -> dict[str, Any]:
    """As an object."""
    return {"verb": name_of(request), **asdict(request)}


def request_of(said: Mapping[str, Any]) -> Wish:
    """What `facts_of` says, without some fields that have defaults. ConfigurationError for anything else."""
    kind = VERBS.get(str(said.get("verb")))
    if kind is None:
        raise ConfigurationError(f"a volume has no such verb; it has {', '.join(VERBS)}")
    names = {field.name for field in fields(kind)}
    given = {name: value for name, value in said.items() if name in names}
    for name, value in given.items():
        if not _fits(name, value):
            raise ConfigurationError(f"{name} of {said['verb']} is not as it must be")
    if "others" in given:
        given["others"] = tuple(given["others"])
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigurationError(f"{said['verb']} needs {', '.join(sorted(names))}") from error


def _fits(name: str, value: object) -> bool:
    if name == "format":
        return value is None or value in FORMATS
    if name == "base":
        return value is None or type(value) is str
    if name == "others":
        return isinstance(value, list | tuple) and all(isinstance(it, str) for it in value)
    return type(value) is _TYPES.get(name, str)
