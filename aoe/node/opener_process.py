"""The opener: a small process that keeps the rights to open what root's file names, and opens nothing else.

It holds the locks of stores, too, and ends with the process that it serves.
"""

import ctypes
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from aoe import limits
from aoe.disk.syscalls import close_all, leave_all_but
from aoe.errors import AoeError
from aoe.node.desk import Desk
from aoe.node.opener_messages import Answer, Given, Misunderstood, decode_request, encode

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_libc = ctypes.CDLL(None, use_errno=True)


class _Heard(logging.Handler):
    """Keeps what is said while something is opened, for the other side to say."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if sum(len(json.dumps(it)) + 1 for it in (*self.lines, line)) < limits.OPENER_SAID_BYTES:
            self.lines.append(line)


def attend(connection: socket.socket, desk: Desk) -> None:
    """Answer one process until it has gone."""
    heard = _Heard()
    logging.getLogger("aoe").addHandler(heard)
    while True:
        data, descriptors, flags, _ = socket.recv_fds(
            connection, limits.OPENER_MESSAGE_BYTES_MAX + 1, limits.OPENER_DESCRIPTORS_MAX
        )
        if not data:
            return
        try:
            answer, given = _answered(desk, data, descriptors, flags)
            answer = answer._replace(said=tuple(heard.lines))
            heard.lines.clear()
            _send(connection, answer, given)
            desk.meanwhile()
        except BrokenPipeError:
            return
        finally:
            close_all(descriptors)


def _answered(desk: Desk, data: bytes, descriptors: Sequence[int], flags: int) -> tuple[Answer, Given]:
    nothing, number = Given({}), 0
    try:
        if flags & socket.MSG_CTRUNC:
            raise Misunderstood("there are too many descriptors")
        request = decode_request(data)
        number = request.id
        given = desk.do(request, descriptors)
    except AoeError as error:
        return Answer(number, {}, error=str(error)), nothing
    except OSError as error:
        return Answer(number, {}, error=f"{error.strerror}"), nothing
    return Answer(number, given.facts, len(given.descriptors)), given


def _send(connection: socket.socket, answer: Answer, given: Given) -> None:
    try:
        socket.send_fds(connection, [encode(answer)], given.descriptors)
    finally:
        close_all(given.descriptors)


class Forked(NamedTuple):
    """What to ask an opener through, and its number: it is a child of this process."""

    socket: socket.socket
    process: int


def _as_it_is() -> None: ...


def fork(
    desk: Callable[[], Desk],
    lessen: Callable[[], None] = _as_it_is,
    after: Callable[[], None] = _as_it_is,
    kept: Sequence[int] = (),
) -> Forked:
    """Start the opener for this process alone, before its first thread. It keeps what `lessen` leaves it of
    this process's rights and the descriptors that are `kept`, does what is asked at `desk`, and `after` that
    what is left to do. OSError."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = os.fork()
    if not process:
        ours.close()
        run(its, desk, lessen, after, kept)
    its.close()
    return Forked(ours, process)


def run(
    connection: socket.socket,
    desk: Callable[[], Desk],
    lessen: Callable[[], None] = _as_it_is,
    after: Callable[[], None] = _as_it_is,
    kept: Sequence[int] = (),
) -> NoReturn:
    """As a child: it has nothing of its parent's but the rights, and never returns to what that was doing."""
    status = 1
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _libc.prctl(_PR_SET_NAME, b"aoe-opener", 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)  # it ends with its parent, which may need it until then
        signal.set_wakeup_fd(-1)
        logging.getLogger().handlers.clear()
        leave_all_but(connection.fileno(), *kept)
        lessen()
        attend(connection, desk())
        after()
        status = 0
    finally:
        os._exit(status)
