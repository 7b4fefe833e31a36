"""What a process that serves and its opener say to each other: messages in JSON, with descriptors beside.

    {"version": 1, "id": 7, "verb": "store", "arguments": {"address": [1, 0]}}
    {"version": 1, "id": 7, "ok": {...}, "descriptors": 1, "said": ["..."]}
    {"version": 1, "id": 7, "error": "..."}

Both sides are of one release. What is not exactly so is `Misunderstood`: nothing is opened on a guess.
"""

import json
from typing import Any, NamedTuple

from aoe import limits
from aoe.disk.base import StoreName
from aoe.disk.opened import Beneath, Opened, Store
from aoe.drive.identify import StoreKind
from aoe.errors import AoeError
from aoe.target.keys import StoreKey

VERSION = 1
"""Of these messages: another one is not understood."""


class Misunderstood(AoeError):
    """A message that is none of these; the text says what is wrong with it."""


class Request(NamedTuple):
    """`verb` with its arguments; the answer has the same `id`."""

    id: int
    verb: str
    arguments: dict[str, Any]


class Answer(NamedTuple):
    """What became of the request `id`: facts and how many descriptors, or one line why not. `said` is what
    the opener has to say besides."""

    id: int
    ok: dict[str, Any]
    descriptors: int = 0
    said: tuple[str, ...] = ()
    error: str = ""


class Given(NamedTuple):
    """The facts and descriptors of an answer; this process keeps no copy of these."""

    facts: dict[str, Any]
    descriptors: tuple[int, ...] = ()


def encode(message: Request | Answer) -> bytes:
    """Misunderstood if it is too long to be sent."""
    whole = {"version": VERSION, **message._asdict()}
    if isinstance(message, Answer):
        del whole["ok" if message.error else "error"]
    data = json.dumps(whole, separators=(",", ":")).encode()
    if len(data) > limits.OPENER_MESSAGE_BYTES_MAX:
        raise Misunderstood(f"a message of {len(data)} bytes is too long")
    return data


def decode_request(data: bytes) -> Request:
    """Misunderstood."""
    whole = _object(data)
    return Request(_the(whole, "id", int), _the(whole, "verb", str), _the(whole, "arguments", dict))


def decode_answer(data: bytes) -> Answer:
    """Misunderstood."""
    whole = _object(data)
    number = _the(whole, "id", int)
    said = tuple(_each(_the(whole, "said", list), str))
    if "error" in whole:
        return Answer(number, {}, 0, said, _the(whole, "error", str))
    count = _the(whole, "descriptors", int)
    if not 0 <= count <= limits.OPENER_DESCRIPTORS_MAX:
        raise Misunderstood(f"{count} descriptors are too many")
    return Answer(number, _the(whole, "ok", dict), count, said)


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > limits.OPENER_MESSAGE_BYTES_MAX:
        raise Misunderstood("the message is too long")
    try:
        whole = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise Misunderstood("the message is not JSON") from error
    if not isinstance(whole, dict):
        raise Misunderstood("the message is no object")
    version = whole.get("version")
    if type(version) is not int or version != VERSION:
        raise Misunderstood(f"the message has version {version!r:.20}, and this side speaks {VERSION}")
    return whole


def _the(whole: dict[str, Any], name: str, kind: type) -> Any:
    """A field that must be there; true and false are no numbers."""
    value = whole.get(name)
    if type(value) is not kind:
        raise Misunderstood(f"{name} is missing, or not of its type")
    return value


def strings(said: dict[str, Any], name: str) -> list[str]:
    """An argument that is a list of names. Misunderstood."""
    values = said.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Misunderstood(f"{name} are no names")
    return values


def _each(values: list[Any], *kinds: type) -> list[Any]:
    if not all(type(value) in kinds for value in values):
        raise Misunderstood("a list holds what it cannot")
    return values


# The values that are sent


def store_facts(opened: Opened, key: StoreKey, token: tuple[Any, ...]) -> dict[str, Any]:
    """Of an open store all but its descriptor, for `store_of`."""
    return {
        "store": list(opened.store._replace(fd=-1)),
        "beneath": list(opened.beneath),
        "facts": list(opened[2:-1]),
        "name": [int(opened.store_name.kind), opened.store_name.text],
        "key": [key.path, key.part, key.device, key.shown],
        "token": list(token),
    }


def store_of(told: dict[str, Any], fd: int) -> tuple[Opened, StoreKey, tuple[Any, ...]]:
    """What `store_facts` were of, on this process's descriptor. Misunderstood."""
    try:
        kind, text = _each(_the(told, "name", list), int, str)
        name = StoreName(StoreKind(kind), text)
        store = Store(*_each(_the(told, "store", list), int, bool))._replace(fd=fd)
        facts = _each(_the(told, "facts", list), int, bool, str, type(None))
        beneath = Beneath(*_each(_the(told, "beneath", list), str, int))
        opened = Opened._make([store, beneath, *facts, name])
        path, part, device, shown = _each(_the(told, "key", list), str)
    except (TypeError, ValueError) as error:
        raise Misunderstood("the facts of a store are not as they must be") from error
    token = tuple(_each(_the(told, "token", list), int, str))
    return opened, StoreKey(path, part, name, device, shown), token
