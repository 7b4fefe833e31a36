"""A command of `aoe` in an event loop, until it is done or a signal ends it."""

import asyncio
import signal
from collections.abc import Awaitable

from aoe.cli import loop, stdio
from aoe.cli.ending import SAID, Ended
from aoe.cli.nbd import Nbd
from aoe.cli.parser import Command
from aoe.cli.privilege import allow_descriptors
from aoe.cli.report import Report

_DESCRIPTORS = 32
"""Open at a time, with a few interfaces."""


def run(command: Command, report: Report) -> int:
    """The exit status. Ended where a signal came."""
    allow_descriptors(_DESCRIPTORS)
    if isinstance(command, Nbd):
        with stdio.unblocked("aoe", report.as_json):
            stdio.start()
            loop.run(_until_ended(command.run(report)))
    else:
        loop.run(_until_ended(command.run(report)))
    return int(report.failed)


async def _until_ended(command: Awaitable[None]) -> None:
    """Wait for it; Ended, with the notes of the CancelledError, where a signal that is not ignored came."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "it runs in one"
    came: list[int] = []

    def end(number: int) -> None:
        came.append(number)
        task.cancel()

    for number in SAID:
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
