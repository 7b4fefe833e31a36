"""The change of an export that a request asks for, as it is written down."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from aoe.config import changes
from aoe.config.changes import Change, Verb
from aoe.control.messages import Request
from aoe.control.rights import LENT
from aoe.errors import ConfigurationError
from aoe.wire.address import parse_address

VERBS: Mapping[str, Verb] = {"add": "add", "remove": "remove", "set": "set", "mask": "set"}
"""What a verb that is written down is written as."""


def names_of(request: Request) -> Collection[str]:
    """The keys that a request is about, as far as it makes sense."""
    keys, gone = request.arguments.get("keys", {}), request.arguments.get("gone", [])
    if not isinstance(keys, dict) or not isinstance(gone, list):
        return ()
    return {str(it) for it in (*keys, *gone)}


def change_of(request: Request, by: str, now_s: float) -> Change:
    """What it changes, by whom, and when (seconds since 1970). ConfigurationError for what is no change of an
    export."""
    said = request.arguments
    keys, gone = said.get("keys", {}), said.get("gone", [])
    if request.verb == "mask":
        keys = {"mask": said.get("mask")}
    if not isinstance(keys, dict) or not all(map(_is_value, keys.values())):
        raise ConfigurationError(
            f'{request.verb} needs "keys", an object of keys of the file and their values'
        )
    if not isinstance(gone, list) or not all(isinstance(it, str) for it in gone):
        raise ConfigurationError(f'{request.verb} needs "gone", a list of keys of the file')
    return Change(
        verb=VERBS[request.verb],
        address="e{}.{}".format(*parse_address(str(said.get("address", "")))),
        by=by,
        at=f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%dT%H:%M:%SZ}",
        keys=keys,
        gone=tuple(gone),
    )


def taken_over(request: Request) -> list[Change]:
    """Changes of the configured group that the owner takes over with a request. They come from the daemon,
    which has fewer rights: ConfigurationError for more than that group may change."""
    listed, address = request.arguments.get("taken", []), str(request.arguments.get("address"))
    try:
        found = [changes.change_of(it) for it in listed]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError('"taken" is a list of changes, as status has them') from error
    for it in found:
        if it.verb != "set" or not it.names <= LENT or parse_address(it.address) != parse_address(address):
            raise ConfigurationError(f"{it.sentence}: the control group changes no such thing")
    return found


def _is_value(value: object) -> bool:
    """What a key of the file may have at all; which it may have, the daemon judges."""
    if isinstance(value, list):
        return all(isinstance(it, str | int | float) for it in value)
    return isinstance(value, str | int | float)
