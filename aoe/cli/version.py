"""`--version`: asked of the installed package only when somebody wants to know."""

import argparse
from typing import Any

import aoe


class Version(argparse.Action):
    """Prints the program's name and version, and ends."""

    def __init__(self, option_strings: list[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and end", **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(parser.prog, aoe.__version__)
        parser.exit()
