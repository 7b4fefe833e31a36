"""`aoe-cloud`: images for machines without a disk."""

import functools
import gc
import sys

from aoe.cli import stdio
from aoe.cli.cloud_parser import command_of
from aoe.cli.ending import leave
from aoe.cli.report import Report


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 if it did what was asked, 1 if something failed or is wrong, 2 if it could not start."""
    return stdio.run("aoe-cloud", functools.partial(_main, sys.argv[1:] if arguments is None else arguments))


def _main(arguments: list[str]) -> int:
    report = Report("aoe-cloud", as_json="--json" in arguments)
    return report.outcome(lambda: command_of(arguments).run(report))


if __name__ == "__main__":
    gc.disable()  # as `aoe_start` does
    leave(main())
