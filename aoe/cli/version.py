"""`--version`: looked up only when it is asked for."""

import argparse
from typing import Any

import aoe


class Version(argparse.Action):
    """Prints the program's name and version, and ends."""

    def __init__(self, option_strings: list[str], **more: Any) -> None:
        kept = {**more, "dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}
        super().__init__(option_strings, nargs=0, help="print the version and end", **kept)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(parser.prog, aoe.__version__)
        parser.exit()
