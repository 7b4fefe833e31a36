"""Words of a command line: what is wrong with them is said in one line, and numbers have bounds."""

import argparse
import gc
import importlib
import math
import re
import shlex
from collections.abc import Callable
from typing import Any, NoReturn

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.wire.frame import parse_mac

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


VARIABLE = "AOE_INTERFACE"
"""Names interfaces where the command line names nothing; several with commas or spaces between them."""


class Parser(argparse.ArgumentParser):
    """Raises ConfigurationError instead of printing how the command is used and ending the process."""

    def error(self, message: str) -> NoReturn:
        said = message.removeprefix("argument ")
        raise ConfigurationError(f"{said} (see {self.prog} --help)")


def whole(least: int, most: int) -> Callable[[str], int]:
    """A type for argparse: decimal digits for a number within the bounds."""

    def convert(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,20}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return convert


def seconds(*, least: float = 0.0, most: float = limits.SECONDS_MAX) -> Callable[[str], float]:
    """A type for argparse: a time within the bounds, in seconds."""

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number of seconds from {least:g} to {most:g}"
            )
        return number

    return convert


def as_key(name: str) -> Callable[[str], Any]:
    """A type for argparse: what the configuration file takes for that key of an export."""

    def convert(text: str) -> Any:
        from aoe.cli.exporting import meant  # noqa: PLC0415 - only one that is typed waits for it

        try:
            return meant(name, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def assigned(name: str) -> Callable[[str], str]:
    """A type for argparse: a value as `KEY=VALUE`, as if that was written."""
    return lambda text: f"{name}={text}"


def endpoint(text: str) -> str:
    """A type for argparse: an address and a port."""
    from aoe.config.kinds import is_endpoint  # noqa: PLC0415 - only one that is typed waits for it

    if not is_endpoint(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address and a port; write it as 127.0.0.1:9882")
    return text


def seconds_or_none(text: str) -> float | None:
    """A type for argparse: a time, or `none`."""
    return None if text == "none" else seconds()(text)


def block(text: str) -> int:
    """A type for argparse: `8k` -> 8192, whole sectors."""
    match = re.fullmatch(r"([0-9]{1,10})([kKmM]?)", text)
    size = int(match[1]) * _UNITS[match[2].lower()] if match else 0
    if not size or size % 512:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size in whole sectors; write it as 4096 or 4k")
    return size


def macs(text: str) -> list[bytes]:
    """A type for argparse: MACs with commas between them."""
    try:
        return [parse_mac(word) for word in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def command_words(text: str) -> list[str]:
    """A type for argparse: a command and its arguments, quoted as for a shell."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a command: {error}") from error
    if not words:
        raise argparse.ArgumentTypeError(f"{text!r} names no command")
    return words


def meant(name: str) -> Callable[..., Any]:
    """What a subcommand means: `module.name` of this room. Loaded now, so that `--help` waits for none."""
    module, _, thing = name.partition(".")
    made: Callable[..., Any] = getattr(importlib.import_module(f"aoe.cli.{module}"), thing)
    if not gc.isenabled():  # as in a process of our own: what is loaded stays, and is not looked at again
        gc.freeze()
        gc.enable()
    return made


def bound(said: dict[str, Any]) -> Any:
    """What a subcommand `means`, with its words; which one it is, and of what group, is said by that."""
    for word in ("command", "verb"):
        said.pop(word, None)
    return meant(said.pop("means"))(**said)
