"""How `run` keeps no right of its own: an opener opens, and this process is another user in a sandbox."""

import logging
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import aoe
from aoe import timing
from aoe.cli.allowed import Allowed
from aoe.cli.opening import USER, user_to_become
from aoe.cli.privilege import drop_privileges, hand_over, keep_openers
from aoe.control.listening import clear
from aoe.errors import AoeError
from aoe.image import keeper
from aoe.image.asking import Asked, is_installed
from aoe.node.desk import Desk
from aoe.node.held import Held
from aoe.node.held_sockets import HeldSockets
from aoe.node.opener import ByOpener
from aoe.node.opener_connection import Connection, connected
from aoe.node.opener_process import fork
from aoe.node.pool_desk import Hear
from aoe.node.sandbox import confine
from aoe.node.seccomp import Sockets as Allowance
from aoe.pool import lvm_marking, lvm_worker

log = logging.getLogger("aoe.node")

_NEEDED_LATER = ("difflib", "asyncio_dgram")
"""Modules that are loaded when they are needed, and could not be read then; Debian lacks one."""


class Apart:
    """The opener of a service, and the end of its rights. To be made before the first thread."""

    def __init__(self, allowed: Allowed, hear: Hear, at: Path | None, held: Held, seat: Path) -> None:
        """It listens at a path, or is a child of this process, and removes what is left of the control socket
        at `seat`. Its sockets are `held` from one life of the service to the next. OSError, AoeError."""
        self._at = at
        self._seat = seat
        self._to = _forked(allowed, hear, seat) if at is None else _listening(at)
        self.by = ByOpener(self._to)
        self.by.kept = self.sockets = HeldSockets(held, self.by)

    def confine(self, state: Path) -> None:
        """Once all is open, before the first thread."""
        for name in _NEEDED_LATER:
            with suppress(ImportError):
                import_module(name)
        user = user_to_become()
        if user is not None:
            hand_over(state, user)
        elif os.geteuid() == 0:
            log.info("there is no user %s: the process stays user 0, without any capability", USER)
        drop_privileges(user)
        confine(state, Allowance.NONE if self._at is None else Allowance.OPENERS)

    def serving(self) -> None:
        """It serves, inside the running event loop."""
        self._to.watch()

    def started(self) -> None:
        """What there is of what is wanted is served."""
        self._to.started()

    def close(self) -> None:
        """It served."""
        if self._at is None and os.path.lexists(self._seat):
            self._to.finish()
        self._to.close()


def _forked(allowed: Allowed, hear: Hear, seat: Path) -> Connection:
    """An image may be added later, when nothing can be started any more."""
    images = Asked(keeper.fork() if is_installed() else None)
    workers = [lvm_worker.fork() for _ in range(2)] if _has_lvm(allowed) else []
    desk = partial(_desk, workers, allowed, timing.LOCK_WAIT_S, allowed.texts, images, hear)
    kept = [fd for fd in (images.fileno(), *(it.fileno() for it in workers)) if fd >= 0]
    opener = fork(desk, keep_openers, partial(clear, seat), kept)
    images.close()
    for it in workers:
        it.close()
    return Connection(opener.socket)


def _has_lvm(allowed: Allowed) -> bool:
    """Whether the file names a pool of LVM now; what is wrong with it the opener says."""
    with suppress(AoeError):
        return any(it.kind == "lvm-thin" for it in allowed().pools)
    return False


def _desk(workers: Sequence[socket.socket], *words: Any) -> Desk:
    if workers:
        lvm_marking.ask(*(lvm_worker.Worker(to=it) for it in workers))
    return Desk(*words)


def _listening(at: Path) -> Connection:
    return Connection(None, partial(connected, at, aoe.__version__))
