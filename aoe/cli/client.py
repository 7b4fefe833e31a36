"""`aoe`: talk to targets from the command line."""

import functools
import sys
from collections.abc import Sequence

from aoe.cli import stdio
from aoe.cli.ending import Ended, leave, until_ended
from aoe.cli.nbd import Nbd
from aoe.cli.parser import Command, command_of
from aoe.cli.privilege import allow_descriptors
from aoe.cli.report import Report

_DESCRIPTORS = 32
"""Open at a time, with a few interfaces."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. 0 if it did what was asked; 1 if something that was asked failed, at a target, a disk or a
    file; 2 if the words or a file that they name are of no use, and nothing was sent; 130 after
    Ctrl-C (128 and the number of the signal)."""
    return stdio.run("aoe", functools.partial(_main, sys.argv[1:] if arguments is None else arguments))


def _main(arguments: Sequence[str]) -> int:
    report = Report("aoe", as_json="--json" in arguments)

    def inside() -> int:
        try:
            return _run(command_of(arguments), report)
        except Ended as ended:
            report.ended(ended)
            leave(ended.status)

    return report.outcome(inside)


def _run(command: Command, report: Report) -> int:
    allow_descriptors(_DESCRIPTORS)
    # Not before the standard descriptors are open: its loop would take their numbers.
    import uvloop  # noqa: PLC0415

    if isinstance(command, Nbd):
        with stdio.unblocked("aoe", report.as_json):
            stdio.start()
            uvloop.run(until_ended(command.run(report)))
    else:
        uvloop.run(until_ended(command.run(report)))
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
