"""Asks a daemon: blocking, one question at a time."""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Self

from aoe import limits, timing
from aoe.control import place
from aoe.control.messages import (
    NO_DAEMON,
    PARTLY,
    REFUSED,
    Answer,
    Failure,
    Lines,
    Request,
    TooLong,
    decode_answer,
    encode_request,
)
from aoe.control.peers import holder
from aoe.control.rights import READING
from aoe.disk.syscalls import is_readable
from aoe.errors import ControlFailed
from aoe.printable import plain

_PATIENCE = struct.pack("ll", int(timing.CONTROL_QUIET_S), 0)


class Client:
    """A connection to the daemon at `path`. ControlFailed where there is none."""

    def __init__(self, path: Path, waiting: Callable[[str], None] = lambda _: None) -> None:
        """`waiting` is told in words when an answer takes long."""
        self._path = path
        self._waiting = waiting
        self._socket = _connected(path)
        self._pid = holder(self._socket)
        self._lines = Lines(limits.CONTROL_ANSWER_MAX)
        self._asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the daemon."""
        return self._pid

    @property
    def is_open(self) -> bool:
        """Whether the daemon has not ended the connection. What it sends unasked does that, too."""
        try:
            self._socket.setblocking(False)
            return not is_readable(self._socket)
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """End the connection. What was asked for is done all the same."""
        self._socket.close()

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """What the daemon did, or says. ControlFailed if it refuses or does not answer."""
        self._asked += 1
        answer = self.answer(Request(self._asked, verb, arguments))
        if isinstance(answer.result, Failure):
            raise failed(answer.result)
        return answer.result

    def answer(self, request: Request) -> Answer:
        """The same for a request that another program made; its failures are answers. ControlFailed where
        the connection is lost."""
        try:
            self._socket.settimeout(timing.CONTROL_QUIET_S)
            with suppress(BrokenPipeError):  # it may have said why it does not listen
                self._socket.sendall(encode_request(request))
            return decode_answer(self._line(request.verb))
        except TooLong as error:
            self._lost(f"sent an answer that is too long ({error})")
        except TimeoutError:
            self._lost("does not take what it is asked")
        except OSError as error:
            self._lost(f"is lost: {error.strerror}")

    def _line(self, verb: str) -> bytes:
        patience_s = timing.CONTROL_LOOK_S if verb in READING else timing.CONTROL_CHANGE_S
        waited_s = 0.0
        while True:
            try:
                data = self._socket.recv(limits.CONTROL_CHUNK)
            except TimeoutError:
                waited_s += timing.CONTROL_QUIET_S
                if waited_s >= patience_s:
                    self._lost(f"does not answer for {waited_s:.0f} s")
                self._waiting(f"the daemon (process {self._pid}) is not done with {verb} yet")
                continue
            lines = self._lines.feed(data)
            if lines:
                return lines[0]
            if not data:
                self._lost("ended before it answered")

    def _lost(self, fate: str) -> NoReturn:
        what = f"the daemon (process {self._pid}) at {self._path} {fate}"
        raise ControlFailed(f"{what}; look at aoe-target status what was done", "lost", PARTLY)


def failed(failure: Failure) -> ControlFailed:
    """The same as an error."""
    return ControlFailed(plain(failure.message), failure.kind, failure.exit)


def _connected(path: Path) -> socket.socket:
    place.check(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The kernel lets a connection wait for its place, but not one of a socket that must not block.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
        connection.connect(str(path))
    except BlockingIOError as error:
        connection.close()
        raise _no_daemon(path, "it accepts no connection") from error
    except OSError as error:
        connection.close()
        if isinstance(error, PermissionError):
            raise ControlFailed(f"{path}: {error.strerror}; use sudo", "rights", REFUSED) from error
        raise _no_daemon(path, str(error.strerror)) from error
    return connection


def _no_daemon(path: Path, reason: str) -> ControlFailed:
    remedy = "start it with systemctl start aoe-target or aoe-target run, or name its --socket"
    return ControlFailed(f"no daemon answers at {path} ({reason}); {remedy}", "no-daemon", NO_DAEMON)
