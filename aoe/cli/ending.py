"""How `aoe` ends when a signal says so: at once, whatever waits."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable
from contextlib import suppress
from typing import NoReturn

from aoe.cli.stdio import StreamFailed

_SAID = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "ended by SIGTERM",
    signal.SIGHUP: "ended by SIGHUP",
}


class Ended(Exception):
    """A signal ended the command. `status` is what a shell makes of that."""

    def __init__(self, number: int) -> None:
        super().__init__(_SAID[signal.Signals(number)])
        self.status = 128 + number


async def until_ended(command: Awaitable[None]) -> None:
    """Wait for it; Ended, with the notes of the CancelledError, where a signal that is not ignored came."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "it runs in one"
    came: list[int] = []

    def end(number: int) -> None:
        came.append(number)
        task.cancel()

    for number in _SAID:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, end, number)
    try:
        await command
    except asyncio.CancelledError as error:
        if not came:
            raise
        ended = Ended(came[0])
        for note in getattr(error, "__notes__", ()):
            ended.add_note(note)
        raise ended from None


def leave(status: int) -> NoReturn:
    """At once: the interpreter would wait for a thread that hangs in a disk or a pipe."""
    with suppress(StreamFailed, OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(status)
    sys.exit(status)
