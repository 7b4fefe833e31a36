"""A process of our own for what this one may not do later, or should not wait for. It has nothing of its
parent's but the rights, and ends once no process can ask it any more."""

import ctypes
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from aoe.disk.syscalls import leave_all_but

_PR_SET_NAME = 15


def fork(kind: socket.SocketKind, attend: Callable[[socket.socket], None], name: str) -> socket.socket:
    """Start one that `attend` works in, before the first thread of this process: what to ask it through, by
    messages or a stream (`kind`). `name` is what it is called (prctl(2), 15 bytes)."""
    ours, its = socket.socketpair(socket.AF_UNIX, kind)
    if not os.fork():
        ours.close()
        _run(its, attend, name)
    its.close()
    return ours


def _run(connection: socket.socket, attend: Callable[[socket.socket], None], name: str) -> NoReturn:
    status = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)  # it is in use until nothing asks it any more
        signal.set_wakeup_fd(-1)
        logging.getLogger().handlers.clear()
        leave_all_but(connection.fileno())
        attend(connection)
        status = 0
    finally:
        os._exit(status)
