"""The text that Prometheus reads (exposition format 0.0.4), from templates that are made once.

A scrape of a thousand disks has tens of thousands of lines. All but their numbers stays the same from one
scrape to the next, so the lines of a family are templates with places for numbers.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from aoe.limits import EXPOSED_AT_ONCE

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Type = Literal["counter", "gauge", "histogram"]
Number = int | float

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_IN_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Family(NamedTuple):
    """What has one name: several series, which differ in their labels. `help` is a sentence."""

    name: str
    type: Type
    help: str


class Part(NamedTuple):
    """A line that each owner of a family has: what follows the name, and a label of its own."""

    suffix: str = ""
    label: str = ""


class _Template(NamedTuple):
    """Lines, and how many numbers they take."""

    text: str
    numbers: int


def labels(said: Mapping[str, str]) -> str:
    """Those of a series, as they are written. Half a surrogate pair, as in a path, is replaced."""
    assert all(map(_NAME.fullmatch, said)), "names of labels are ours"
    return ",".join(f'{name}="{_value(value)}"' for name, value in said.items())


def _value(text: str) -> str:
    return text.encode("utf-8", "replace").decode().translate(_IN_LABEL)


class Sheet:
    """Writes families, each in pieces of up to `limits.EXPOSED_AT_ONCE` lines. What it made ready for one is
    used again as long as it is asked for the same `owners`: the same object."""

    def __init__(self) -> None:
        self._ready: dict[str, tuple[Sequence[str], list[_Template]]] = {}

    def write(
        self,
        family: Family,
        owners: Sequence[str],
        values: Iterable[Number],
        parts: Sequence[Part] = (Part(),),
    ) -> Iterator[bytes]:
        """Each owner, of which there are the `labels`, has a value for each of the parts; nothing where there
        is none."""
        numbers = iter(values)
        last, known = self._ready.get(family.name, (None, []))
        used = []
        for template in known if last is owners else _templates(family, owners, parts):
            used.append(template)
            yield (template.text % tuple(itertools.islice(numbers, template.numbers))).encode()
        assert next(numbers, None) is None, "there is a place for each number"
        self._ready[family.name] = owners, used


ALONE = ("",)
"""The owner of what has no label for it."""


def of_histogram(bounds: Sequence[Number]) -> list[Part]:
    """The parts of one with buckets up to these bounds: the count up to each, that of all, their sum, and the
    count again."""
    buckets = [Part("_bucket", f'le="{bound}"') for bound in (*bounds, "+Inf")]
    return [*buckets, Part("_sum"), Part("_count")]


def _templates(family: Family, owners: Sequence[str], parts: Sequence[Part]) -> Iterator[_Template]:
    at_once = max(1, EXPOSED_AT_ONCE // len(parts))
    text = _head(family)
    for at in range(0, len(owners), at_once):
        some = owners[at : at + at_once]
        text += "".join(_line(family.name + part.suffix, one, part.label) for one in some for part in parts)
        yield _Template(text, len(some) * len(parts))
        text = ""


def _head(family: Family) -> str:
    said = family.help.translate(_IN_HELP).replace("%", "%%")
    return f"# HELP {family.name} {said}\n# TYPE {family.name} {family.type}\n"


def _line(name: str, *said: str) -> str:
    inside = ",".join(filter(None, said)).replace("%", "%%")
    return f"{name}{{{inside}}} %s\n" if inside else f"{name} %s\n"
