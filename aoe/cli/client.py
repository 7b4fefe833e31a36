"""`aoe`: talk to targets from the command line."""

import functools
import gc
import sys
from collections.abc import Sequence

from aoe.cli import stdio
from aoe.cli.ending import Ended, leave
from aoe.cli.parser import command_of
from aoe.cli.report import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. 0 if it did what was asked; 1 if something that was asked failed, at a target, a disk or a
    file; 2 if the words or a file that they name are of no use, and nothing was sent; 130 after
    Ctrl-C (128 and the number of the signal)."""
    return stdio.run("aoe", functools.partial(_main, sys.argv[1:] if arguments is None else arguments))


def _main(arguments: Sequence[str]) -> int:
    report = Report("aoe", as_json="--json" in arguments)

    def inside() -> int:
        try:
            command = command_of(arguments)
            # Not before the standard descriptors are open: its event loop would take their numbers.
            from aoe.cli.running import run  # noqa: PLC0415

            return run(command, report)
        except Ended as ended:
            report.ended(ended)
            leave(ended.status)

    return report.outcome(inside)


if __name__ == "__main__":
    gc.disable()  # as `aoe_start` does
    sys.exit(main())
