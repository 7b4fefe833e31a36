"""What a person asks of a daemon, as read by a process that does not take the daemon's word for it.

The daemon shows the connection, and leaves the request there. A process that was broken into can show any
socket that it has. So this one must be a connection that was accepted at the control socket, from a process
that is there still: of no other kind could it write the other end itself, or have a service of root's write
it. What is read is gone, and cannot be shown twice.
"""

import os
import select
import socket
from pathlib import Path

from aoe import limits
from aoe.control.messages import Request, decode_request
from aoe.control.peers import peer_of
from aoe.control.rights import Peer
from aoe.errors import ConfigurationError


def heard(shown: int, seat: Path) -> tuple[Request | None, Peer]:
    """The request (none where it is not understood) that is next on a connection to the socket at `seat`, and
    which process made it. ConfigurationError for any other descriptor: then nothing was read; OSError."""
    with socket.socket(fileno=os.dup(shown)) as connection:
        _check(connection, seat)
        peer = peer_of(connection)
        request = decode_request(_line(connection))
    return (request if isinstance(request, Request) else None), peer


def _check(connection: socket.socket, seat: Path) -> None:
    if (connection.family, connection.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        raise ConfigurationError("what asks is shown by its connection to the control socket")
    if connection.getpeername() or not _is_seat(connection.getsockname(), seat):
        raise ConfigurationError(
            f"the opener hears what is asked at {seat} alone; start it with the --socket of the daemon"
        )
    if _is_gone(connection):
        raise ConfigurationError("the command that asked has gone; ask again")


def _is_seat(name: object, seat: Path) -> bool:
    return isinstance(name, str) and name != "" and _real(Path(name)) == _real(seat)


def _real(path: Path) -> Path:
    """By the same name however its directory was typed."""
    return Path(os.path.realpath(path.parent)) / path.name


def _is_gone(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _line(connection: socket.socket) -> bytes:
    """No more than the one line."""
    seen = connection.recv(limits.CONTROL_CHUNK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    length = seen.find(b"\n") + 1
    if not length:
        raise ConfigurationError("a request is read in one piece, with its end")
    return connection.recv(length, socket.MSG_DONTWAIT)
