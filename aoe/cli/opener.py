"""`aoe-target opener`: opens what root's file names for a service without rights, as a service itself."""

import os
import signal
import socket
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, NoReturn

import aoe
from aoe import timing
from aoe.cli.allowed import Allowed
from aoe.cli.hearing import Hearing
from aoe.cli.report import Report
from aoe.control import place
from aoe.control.listening import clear
from aoe.errors import ConfigurationError
from aoe.image.asking import Asked
from aoe.node.desk import Desk
from aoe.node.notify import given
from aoe.node.opener_service import Versioned, serve

_IMAGES = place.ROOTS.parent / "aoe-target-images"
"""Where its systemd unit listens."""


class Opener(NamedTuple):
    """The words behind `opener`."""

    config: Path
    socket: Path | None

    def run(self, report: Report) -> int:
        """Open, until it is ended. ConfigurationError where no manager started it."""
        del report
        listener = _given()
        seat = self.socket or place.ROOTS / place.SOCKET
        changes = place.changes_of(os.geteuid(), seat)
        allowed = Allowed(self.config, changes)
        release, own = aoe.__version__, os.getpid()

        def end() -> NoReturn:
            os.kill(own, signal.SIGTERM)
            os._exit(0)  # without an answer

        def desk() -> Desk:
            return Versioned(
                release,
                lambda: metadata.version("aoe-target"),
                end,
                allowed,
                timing.LOCK_WAIT_S,
                allowed.texts,
                Asked(None, _IMAGES),
                Hearing(allowed, self.config, seat),
            )

        serve(listener, desk, partial(clear, seat))
        return 0


def _given() -> socket.socket:
    found = given(os.environ)
    if len(found) != 1:
        raise ConfigurationError("its socket starts it: systemctl start aoe-target-opener.socket")
    return socket.socket(fileno=found[0][1])
