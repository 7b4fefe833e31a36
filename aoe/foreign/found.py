"""What was found in a file of another target."""

from typing import Any, NamedTuple

from aoe.config.values import ExportConfig
from aoe.printable import plain


class Line(NamedTuple):
    """Where something was said. `number` counts from 1."""

    file: str
    number: int

    def __str__(self) -> str:
        return f"{plain(self.file)}:{self.number}"


class Disk(NamedTuple):
    """An export, which states its interfaces."""

    origin: Line
    export: ExportConfig


class Remark(NamedTuple):
    """What is not kept, and why, or what to do about it."""

    origin: Line
    text: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.text}"


class Setting(NamedTuple):
    """A field of `TargetConfig`, which everything is served with."""

    origin: Line
    field: str
    value: Any


class Found(NamedTuple):
    """All that a file says, or a line of it."""

    disks: tuple[Disk, ...] = ()
    settings: tuple[Setting, ...] = ()
    remarks: tuple[Remark, ...] = ()

    def __add__(self, other: object) -> "Found":
        if not isinstance(other, Found):
            return NotImplemented
        return Found(self.disks + other.disks, self.settings + other.settings, self.remarks + other.remarks)


def left_out(origin: Line, why: str) -> Found:
    """Nothing, and why."""
    return Found(remarks=(Remark(origin, f"left out: {why}"),))
