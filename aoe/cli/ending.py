"""How `aoe` ends when a signal says so: at once, whatever waits."""

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from aoe.cli.stdio import StreamFailed

SAID = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "ended by SIGTERM",
    signal.SIGHUP: "ended by SIGHUP",
}


class Ended(Exception):
    """A signal ended the command. `status` is what a shell makes of that."""

    def __init__(self, number: int) -> None:
        super().__init__(SAID[signal.Signals(number)])
        self.status = 128 + number


def leave(status: int) -> NoReturn:
    """At once: the interpreter would wait for a thread that hangs in a disk or a pipe."""
    with suppress(StreamFailed, OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(status)
    sys.exit(status)
