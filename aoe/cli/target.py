"""`aoe-target`: serve disks over AoE."""

import functools
import gc
import sys

from aoe.cli import stdio
from aoe.cli.ending import leave
from aoe.cli.report import Report
from aoe.cli.target_parser import command_of


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 if it did what was asked, 1 if something was left undone, 2 if it could not start."""
    return stdio.run("aoe-target", functools.partial(_main, sys.argv[1:] if arguments is None else arguments))


def _main(arguments: list[str]) -> int:
    report = Report("aoe-target", as_json="--json" in arguments)
    return report.outcome(lambda: command_of(arguments).run(report))


if __name__ == "__main__":
    gc.disable()  # as `aoe_start` does
    leave(main())
