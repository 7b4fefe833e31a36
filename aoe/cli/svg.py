"""Pictures of numbers, as plain SVG: panels with axes, and in them lines, boxes and marks."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aoe.printable import plain

Point = tuple[float, float]

BLUE, ORANGE, GREY, LIGHT, RED = "#1f6fb4", "#d98a1f", "#9a9a9a", "#d7d7d7", "#c03030"

_INK, _GRID = "#333333", "#e4e4e4"
_LARGE, _SMALL = 13, 11
_LETTER = 6.5
"""Of a small letter, its width."""
_TICKS = 6
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def plainly(value: float) -> str:
    """A number on an axis: `1500000` is `1.5M`."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """A time on an axis."""
    for unit, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit * 0.9995:  # which is one of it, rounded to three digits
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e9:.3g} ns"


class Scale(NamedTuple):
    """One axis, from `least` to `most`; a logarithmic one has least > 0. `words` is what is written at ticks,
    which are found unless they are given."""

    least: float
    most: float
    name: str = ""
    log: bool = False
    words: Callable[[float], str] = plainly
    given: Sequence[tuple[float, str]] = ()

    def place(self, value: float) -> float:
        """0 to 1; what is beyond an end is at it."""
        ends = [self.least, self.most, min(max(value, self.least), self.most)]
        least, most, at = map(math.log, ends) if self.log else ends
        return (at - least) / (most - least) if most > least else 0.5

    def ticks(self) -> Sequence[tuple[float, str]]:
        """Values and what is written there."""
        return self.given or [(value, self.words(value)) for value in (self._powers() or self._steps())]

    def _powers(self) -> list[float]:
        if not self.log:
            return []
        powers = range(math.ceil(math.log10(self.least) - 1e-9), math.floor(math.log10(self.most) + 1e-9) + 1)
        return [10.0**power for power in powers]

    def _steps(self) -> list[float]:
        """So many that they can be read: 1, 2 or 5 of a power of ten apart."""
        wide = (self.most - self.least) / _TICKS
        if wide <= 0:
            return [self.least]
        power = 10.0 ** math.floor(math.log10(wide))
        step = next(power * of for of in (1, 2, 5, 10) if power * of >= wide * 0.9999)
        first = math.ceil(self.least / step - 1e-9)
        return [step * at for at in range(first, math.floor(self.most / step + 1e-9) + 1)]


class Frame(NamedTuple):
    """Where a panel is, in pixels, without what is written around it."""

    left: float
    top: float
    width: float
    height: float


class Panel:
    """One pair of axes; what is drawn later is above."""

    def __init__(self, frame: Frame, across: Scale, up: Scale, title: str = "") -> None:
        self._frame = frame
        self._across, self._up = across, up
        self._legend: list[tuple[str, str]] = []
        self._inside: list[str] = []
        self._around = [*self._axes(), _text(frame.left, frame.top - 8, title, _LARGE)]

    def line(self, points: Iterable[Point | None], colour: str, label: str = "") -> None:
        """Through points; None is a gap."""
        pieces: list[list[str]] = [[]]
        for point in points:
            if point is None:
                pieces.append([])
            else:
                pieces[-1].append("{:.1f},{:.1f}".format(*self._at(*point)))
        for piece in filter(None, pieces):
            drawn = " ".join(piece if len(piece) > 1 else piece * 2)
            style = f'fill="none" stroke="{colour}" stroke-width="1.5" stroke-linecap="round"'
            self._inside.append(f'<polyline points="{drawn}" {style}/>')
        self._label(label, colour)

    def box(self, first: Point, last: Point, colour: str, label: str = "") -> None:
        """Between two corners."""
        (left, bottom), (right, top) = self._at(*first), self._at(*last)
        x, y = min(left, right), min(top, bottom)
        size = f'width="{abs(right - left):.1f}" height="{abs(bottom - top):.1f}"'
        self._inside.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"/>')
        self._label(label, colour)

    def band(self, first: float, last: float, colour: str, label: str = "") -> None:
        """From one value across to another, over the whole height."""
        self.box((first, self._up.least), (last, self._up.most), colour, label)

    def mark(self, value: float, colour: str) -> None:
        """A dotted line at a value across."""
        x, frame = self._at(value, self._up.least)[0], self._frame
        line = f'x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{frame.top + frame.height}"'
        self._inside.append(f'<line {line} stroke="{colour}" stroke-dasharray="2 3"/>')

    def pieces(self) -> list[str]:
        """Its elements."""
        return [*self._around, *self._inside, *self._legends()]

    def _at(self, across: float, up: float) -> Point:
        frame = self._frame
        x = frame.left + self._across.place(across) * frame.width
        return x, frame.top + (1 - self._up.place(up)) * frame.height

    def _label(self, label: str, colour: str) -> None:
        if label and (label, colour) not in self._legend:
            self._legend.append((label, colour))

    def _axes(self) -> Iterable[str]:
        frame = self._frame
        left, right, top, bottom = frame.left, frame.left + frame.width, frame.top, frame.top + frame.height
        for value, words in self._across.ticks():
            x, _ = self._at(value, self._up.least)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="{_GRID}"/>'
            yield _text(x, bottom + 15, words, anchor="middle")
        for value, words in self._up.ticks():
            _, y = self._at(self._across.least, value)
            yield f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>'
            yield _text(left - 6, y + 4, words, anchor="end")
        yield f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="{_INK}"/>'
        yield _text(left + frame.width / 2, bottom + 31, self._across.name, anchor="middle")
        yield _text(right, top - 8, self._up.name, anchor="end")

    def _legends(self) -> Iterable[str]:
        """Inside, at the top on the right."""
        x = self._frame.left + self._frame.width - 8
        y = self._frame.top + 16.0
        for label, colour in self._legend:
            yield _text(x, y, label, anchor="end")
            at = f'x="{x - len(label) * _LETTER - 16:.1f}" y="{y - 9:.1f}"'
            yield f'<rect {at} width="10" height="10" fill="{colour}"/>'
            y += 16


def picture(width: int, height: int, panels: Iterable[Panel]) -> str:
    """A whole file."""
    pieces = "\n".join(piece for panel in panels for piece in panel.pieces() if piece)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="{_SMALL}" fill="{_INK}">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n{pieces}\n</svg>\n'
    )


def _text(x: float, y: float, words: str, size: int = _SMALL, *, anchor: str = "start") -> str:
    if not words:
        return ""
    style = f'text-anchor="{anchor}"' + (f' font-size="{size}"' if size != _SMALL else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{plain(words).translate(_ESCAPED)}</text>'
