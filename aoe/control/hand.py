"""Asks for what a command is to do. What the daemon's owner changes is written down first, and taken back if
the daemon refuses: so opener and daemon have it from root, and not from the daemon."""

import os
import time
from collections.abc import Mapping
from typing import Self

from aoe.config import changes
from aoe.config.changes import Change, Verb
from aoe.control.client import Client
from aoe.control.messages import REFUSED, Answer, Failure, Request
from aoe.control.written import Written
from aoe.errors import ConfigurationError
from aoe.printable import one_line
from aoe.wire.address import parse_address

_VERBS: Mapping[str, Verb] = {"add": "add", "remove": "remove", "set": "set", "mask": "set"}
"""What a verb that is written down is written as."""


def this_user() -> str:
    """By which name a change is remembered."""
    name = os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or ("root" if os.geteuid() == 0 else "")
    return f"{name} (uid {os.geteuid()})" if name else f"uid {os.geteuid()}"


class Hand:
    """Carries out requests by `client`. `written` has the changes of the daemon's owner; None where another
    user asks: then the daemon keeps what it lets that user change."""

    def __init__(self, client: Client, written: Written | None) -> None:
        self._client = client
        self._written = written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    @property
    def is_open(self) -> bool:
        """Whether the daemon is still there, as far as it is known."""
        return self._client.is_open

    def answer(self, request: Request) -> Answer:
        """What became of it. ControlFailed where the connection is lost: then a change stays written down, as
        it may have been made."""
        if self._written is None or not self._is_written(request):
            return self._client.answer(request)
        try:
            with self._written.held():
                return self._write_and_ask(self._written, request)
        except ConfigurationError as error:
            return Answer(request.id, Failure("usage", one_line(str(error))))

    @staticmethod
    def _is_written(request: Request) -> bool:
        return request.verb in _VERBS or (request.verb == "apply" and not request.arguments.get("plan"))

    def _write_and_ask(self, written: Written, request: Request) -> Answer:
        before = written.read()
        if request.verb == "apply":
            now: tuple[Change, ...] = ()
            asked = request
        else:
            now = changes.merged(before, change_of(request))
            asked = request._replace(arguments={**request.arguments, "changes": str(written.path)})
        written.write(now)
        answer = self._client.answer(asked)
        if isinstance(answer.result, Failure) and answer.result.exit == REFUSED:
            written.write(before)
        return answer


def change_of(request: Request) -> Change:
    """What it changes; ConfigurationError for what is no change of an export."""
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
        verb=_VERBS[request.verb],
        address="e{}.{}".format(*parse_address(str(said.get("address", "")))),
        by=this_user(),
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        keys=keys,
        gone=tuple(gone),
    )


def _is_value(value: object) -> bool:
    """What a key of the file may have at all; which it may have, the daemon judges."""
    if isinstance(value, list):
        return all(isinstance(it, str | int | float) for it in value)
    return isinstance(value, str | int | float)
