"""Asks for what a command is to do. What the daemon's owner changes is written down first, and taken back if
the daemon refuses: so opener and daemon have it from root, and not from the daemon."""

import os
import time
from typing import Self

from aoe.config import changes
from aoe.config.changes import Change
from aoe.control.asked import VERBS, change_of, taken_over
from aoe.control.client import Client
from aoe.control.messages import REFUSED, Answer, Failure, Request
from aoe.control.written import Written
from aoe.errors import ConfigurationError
from aoe.printable import one_line


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
        return request.verb in VERBS or (request.verb == "apply" and not request.arguments.get("plan"))

    def _write_and_ask(self, written: Written, request: Request) -> Answer:
        before = written.read()
        if request.verb == "apply":
            now: tuple[Change, ...] = ()
            asked = request
        else:
            now = before
            for change in (*taken_over(request), change_of(request, this_user(), time.time())):
                now = changes.merged(now, change)
            asked = request._replace(arguments={**request.arguments, "changes": str(written.path)})
        written.write(now)
        answer = self._client.answer(asked)
        if isinstance(answer.result, Failure) and answer.result.exit == REFUSED:
            written.write(before)
        return answer
