"""What an opener is asked for, so much at a time that each message is short enough, and what it gives."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from aoe import limits
from aoe.config.values import ExportConfig
from aoe.errors import AoeError, ConfigurationError
from aoe.image.asking import StillChecked
from aoe.node.desk import Use
from aoe.node.holds import Busy
from aoe.node.needs import Held
from aoe.node.opener_messages import Misunderstood, store_of
from aoe.node.plan import Store

T = TypeVar("T")


def portions(them: Iterable[T], count: int) -> Iterator[list[T]]:
    """So many at a time that each message is short enough, whatever is in it; at least one."""
    rest = iter(them)
    yield list(islice(rest, count))
    while some := list(islice(rest, count)):
        yield some


def places_in(them: Iterable[str]) -> Iterator[list[str]]:
    """So many at a time that they fit into a request, and with what they lead to into its answer."""
    some: list[str] = []
    room = limits.OPENER_PLACES_BYTES
    for place in them:
        size = len(json.dumps(place)) + limits.OPENER_STORE_BYTES
        if size > room:
            yield some
            some, room = [], limits.OPENER_PLACES_BYTES
        some.append(place)
        room -= size
    yield some


def some_of(exports: Iterable[ExportConfig]) -> list[ExportConfig]:
    """Of the first of these as many as fit into a request, at least one."""
    room, some = limits.OPENER_STORES_BYTES, list[ExportConfig]()
    for export in islice(exports, limits.OPENER_STORES_MAX):
        some.append(export)
        room -= len(json.dumps(export.place))
        if room < 0:
            break
    return some


def token(store: Store) -> list[Any]:
    """For the opener."""
    return list(store) if isinstance(store, tuple) else []


def told(use: Use) -> list[Any]:
    """For the opener."""
    return [token(use.store), use.shared, use.read_only]


def stores_of(facts: dict[str, Any], received: Sequence[int], most: int) -> list[Held | AoeError]:
    """Stores with a descriptor each, or what is wrong with one, up to so many. Misunderstood."""
    found = facts.get("stores")
    if not isinstance(found, list) or not 0 < len(found) <= most or {*map(type, found)} != {dict}:
        raise Misunderstood("it opened something else")
    if sum("store" in it for it in found) != len(received):
        raise Misunderstood(f"stores brought {len(received)} descriptors")
    fds = iter(received)
    return [Held(*store_of(it, next(fds))) if "store" in it else _problem(it) for it in found]


def _problem(told: object) -> ConfigurationError:
    match told:
        case {"busy": list(store), "why": str(why)}:
            return Busy(why, tuple(store))
        case {"checked": str(why)}:
            return StillChecked(why)
        case {"error": str(error)}:
            return ConfigurationError(error)
    raise Misunderstood("a store is neither open nor refused")
