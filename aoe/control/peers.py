"""What the kernel says of the process at the other end of a Unix socket (unix(7), SO_PEERCRED)."""

import ctypes
import errno
import os
import socket
import struct

from aoe.control.rights import Peer

_CREDENTIALS = struct.Struct("iII")
_SO_PEERGROUPS = 59
_GID_SIZE = 4
_USUAL_ROOM = 1024
"""As many as Python's getsockopt takes."""


def peer_of(connection: socket.socket) -> Peer:
    """The process that connected, with its supplementary groups: a group is mostly one of those. OSError."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid, frozenset({gid, *_groups(connection)}))


def holder(connection: socket.socket) -> int:
    """The pid of the process that listens, for one that is connected to it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return pid


def _groups(connection: socket.socket) -> memoryview:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _USUAL_ROOM)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        raw = _many(connection.fileno())
    return memoryview(raw).cast("I")


def _many(fd: int) -> bytes:
    """The same, for more groups than Python has room for."""
    length = ctypes.c_uint(os.sysconf("SC_NGROUPS_MAX") * _GID_SIZE)
    room = ctypes.create_string_buffer(length.value)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(fd, socket.SOL_SOCKET, _SO_PEERGROUPS, room, ctypes.byref(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return room.raw[: length.value]
