"""The tutorial as what it has its reader do: the commands of its machines, one after the other."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

TUTORIAL = Path(__file__).parents[3] / "examples" / "tutorial.md"
MACHINES = ("server", "client")
"""A heading begins with the name of the one where its part is executed."""
_SHOWN, _COMMANDS, _END = "```text", "```sh", "```"
_FENCE = re.compile(r"[\s>*+-]*(`{3}|~{3})")
_INDENTED = re.compile(r"( {4}|\t)\s*\S")


class Block(NamedTuple):
    """Commands of a machine, and what they print; None where that is not said."""

    machine: str
    commands: str
    shown: str | None = None


class Part(NamedTuple):
    """What stands below a heading."""

    title: str
    blocks: list[Block]

    @property
    def machine(self) -> str:
        return re.split(r"\W", self.title)[0].lower()


class Unexecuted(AssertionError):
    """Something stands there that would look like a command, or like what it prints, and be neither."""


def parts(text: str) -> list[Part]:
    """All of it; Unexecuted where a block is of another kind, or at another place."""
    found: list[Part] = []
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        if line.startswith("## "):
            found.append(_part(number, line))
        elif _FENCE.match(line) or _INDENTED.match(line):
            _add(found, number, line, "".join(_inside(number, lines)))
    for part in found:
        _must(bool(part.blocks), 0, f"{part.title}: nothing is done there")
    return found


def _part(number: int, line: str) -> Part:
    part = Part(line.removeprefix("## "), [])
    _must(part.machine in MACHINES, number, f"{line}: it begins with no machine")
    return part


def _inside(number: int, lines: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Up to the end of a block."""
    for _, line in lines:
        if line == _END:
            return
        yield f"{line}\n"
    _must(False, number, "the block has no end")


def _add(found: list[Part], number: int, kind: str, inside: str) -> None:
    _must(bool(found), number, "a block above the first machine")
    blocks = found[-1].blocks
    if kind == _SHOWN:
        _must(bool(blocks) and blocks[-1].shown is None, number, "printed by no command")
        blocks[-1] = blocks[-1]._replace(shown=inside)
    else:
        _must(kind == _COMMANDS, number, f"{kind}: neither {_COMMANDS} nor {_SHOWN}")
        blocks.append(Block(found[-1].machine, inside))


def _must(holds: bool, number: int, what: str) -> None:
    if not holds:
        raise Unexecuted(f"line {number}: {what}")
