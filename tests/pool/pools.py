"""Pools in directories, and what is in their disks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from aoe.pool.marking import init
from aoe.pool.requests import Create
from aoe.pool.work import Work

MIB = 1 << 20
SIZE = 4 * MIB
_numbers = count()


def fresh(store: Path) -> Path:
    """A new pool in a store."""
    directory = store / f"pool{next(_numbers)}"
    directory.mkdir()
    init(str(directory), plain_directory=True)
    return directory


@contextmanager
def working(directory: Path, reserve: int = 10, patience_s: float = 0) -> Iterator[Work]:
    """This process works on it. The opener of a service that has just ended may be waited for."""
    work = Work(str(directory), name="fast", reserve=reserve, patience_s=patience_s)
    try:
        yield work
    finally:
        work.close()


def write(work: Work, volume: str, byte: int, at: int = 0) -> None:
    """A mebibyte of a raw volume."""
    with Path(work.ready(volume)).open("r+b") as file:
        file.seek(at)
        file.write(bytes([byte]) * MIB)


def first(work: Work, volume: str, snapshot: str = "") -> int:
    """The first byte."""
    with Path(work.ready(volume, snapshot)).open("rb") as file:
        return file.read(1)[0]


def with_base(directory: Path, then: Callable[[Work], object] = lambda _: None) -> None:
    """Let a pool have the volume `base`, which begins with ones."""
    with working(directory) as work:
        work.do(Create("base", SIZE, "raw"))
        write(work, "base", 1)
        then(work)


def files(directory: Path) -> dict[str, set[str]]:
    """What its directories have."""
    return {part: {it.name for it in (directory / part).iterdir()} for part in ("volumes", "images")}


def is_whole(work: Work) -> bool:
    """Whether nothing is left of anything."""
    used = {image.file for volume in work.volumes.values() for image in volume.images}
    found = work.found
    return not (work.leftovers or found.new or found.gone or found.unfinished) and used == set(found.images)
