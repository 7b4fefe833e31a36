"""A pool of images in qcow2 whose store fails at any call of a verb: it is full, or a quota is, or its disk.

Each state of a disk is told by first bytes of its blocks. What the files have tells whether they were looked
at before, so most points cost no more than the verb.
"""

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe.disk import syscalls
from aoe.errors import AoeError
from aoe.pool import filling, merging
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.volume import Image
from aoe.pool.work import Work
from aoe.sandbox import qemu_img
from aoe.sandbox.child import Done
from tests.pool.pools import MIB, SIZE, fresh, working
from tests.pool.test_killed import do, fill_up
from tests.support.tools import tool

BLOCK = 65536
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
SOURCE, SAVED = "source.raw", "saved.raw"
"""What is imported, and what is written out, in the store of the pool."""

CALLS = (
    *((os, it) for it in ("rename", "link", "unlink", "fsync", "ftruncate", "posix_fallocate", "open")),
    *((os, it) for it in ("fdopen", "write", "pwrite", "mkdir", "setxattr")),
    *((syscalls, it) for it in ("clone_file", "rename_new")),
    (qemu_img, "run"),
)
"""What may find a store full, or its disk gone."""


def told(_: float) -> None:
    """Of nothing."""


def put(work: Work, volume: str, byte: int, *blocks: int) -> None:
    """A byte into blocks of a disk."""
    commands = [word for it in blocks for word in ("-c", f"write -P {byte} {it * BLOCK} {BLOCK}")]
    tool("qemu-io", "-f", "qcow2", *commands, work.path_of(volume))


def imported(work: Work) -> None:
    """An image becomes a volume."""
    with (
        filling.source(beside(work, SOURCE), "raw") as of,
        filling.imported(work, of, "new", None, told) as made,
    ):
        made.done_by(work)


def templated(work: Work) -> None:
    """A volume becomes what is only cloned."""
    with filling.template(work, "plain", told) as made:
        made.done_by(work)


def saved(work: Work) -> None:
    """A snapshot is written to a file."""
    filling.save(work, "base", "b", beside(work, SAVED), "raw", told)


def merged(work: Work) -> None:
    """What a deleted state had goes into the next one."""
    for request in merging.merged(work, "merging", told):
        work.do(request)


def beside(work: Work, name: str) -> Path:
    """Of a name in the directory of the pool."""
    return Path(work.where(Image(id="any", size=0))).parents[1] / name


VERBS: dict[str, Any] = {
    "create": Create("new", SIZE),
    "create-raw": Create("new", SIZE, "raw"),
    "snapshot": Cut("base", "d"),
    "clone-snapshot": Clone("base", "a", "new"),
    "clone-volume": Clone("base", "", "new"),
    "rollback": Rollback("base", "a"),
    "grow": Resize("base", 2 * SIZE),
    "shrink": Resize("plain", SIZE // 2, shrink=True),
    "rename": Rename("base", "new"),
    "delete-snapshot": Delete("base", "a"),
    "delete-last-snapshot": Delete("web", "left"),
    "delete-volume": Delete("merging", recursive=True),
    "delete-clone": Delete("child"),
    "import": imported,
    "template": templated,
    "save": saved,
    "merge": merged,
}


def filled(store: Path) -> Path:
    """A pool with something for every verb."""
    directory = fresh(store)
    (directory / SOURCE).write_bytes(b"\7" * BLOCK + bytes(MIB - BLOCK))
    with working(directory, reserve=0) as work:
        for volume in ("base", "merging"):
            work.do(Create(volume, SIZE))
            for byte, name in ((1, "a"), (2, "b")):
                put(work, volume, byte, 0, byte)
                work.do(Cut(volume, name))
            put(work, volume, 3, 0, 3)
        work.do(Delete("merging", "b"))
        work.do(Create("plain", SIZE))
        put(work, "plain", 4, 0)
        work.do(Clone("base", "b", "web"))
        work.do(Cut("web", "left"))
        work.do(Rollback("web", "left"))
        work.do(Create("other", SIZE))
        work.do(Clone("other", "", "child"))
    return directory


class Looks:
    """What is in files that were looked at."""

    def __init__(self) -> None:
        self._contents: dict[tuple[bytes, ...], bytes] = {}

    def content(self, work: Work, volume: str, snapshot: str = "") -> bytes:
        """The first byte of each block of a state. Its images are sound by what they say themselves."""
        paths = [Path(work.where(it)) for it in work.tree.chain(work.image_of(volume, snapshot))]
        key = tuple(hashlib.sha256(it.read_bytes()).digest() for it in paths)
        if key not in self._contents:
            self._contents[key] = _content(paths[0])
        return self._contents[key][: work.image_of(volume, snapshot).size // BLOCK]


def _content(path: Path) -> bytes:
    if path.suffix == ".raw":
        data = path.read_bytes()
    else:
        tool("qemu-img", "check", "-q", "-f", "qcow2", path)
        raw = path.with_suffix(".told")
        tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
        data = raw.read_bytes()
        raw.unlink()
    return bytes(data[at] for at in range(0, len(data), BLOCK))


def seen(work: Work, looks: Looks) -> dict[str, object]:
    """What users see of a pool, with what is in its disks; not the name of what a rollback kept."""
    found: dict[str, object] = {
        name: (
            *(it.size, it.template, looks.content(work, name)),
            sorted((one.cause, looks.content(work, name, one.name)) for one in it.snapshots),
        )
        for name, it in work.volumes.items()
    }
    file = beside(work, SAVED)
    return found | {"saved": file.read_bytes()[::BLOCK] if file.exists() else b""}


@contextmanager
def failing(code: int, first: int, last: int) -> Iterator[list[str]]:
    """Inside, the calls from number `first` to `last` fail; which calls there were."""
    names: list[str] = []

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*words: Any, **how: Any) -> Any:
            if not _is_change(name, words):
                return call(*words, **how)
            names.append(name)
            if not first <= len(names) - 1 <= last:
                return call(*words, **how)
            if name == "run":
                return Done(1, f"qemu-img: /proc/self/fd/9: {os.strerror(code)}", "")
            raise OSError(code, os.strerror(code))

        return made

    with pytest.MonkeyPatch.context() as patch:
        for module, name in CALLS:
            patch.setattr(module, name, wrapped(name, getattr(module, name)))
        yield names


def _is_change(name: str, words: tuple[Any, ...]) -> bool:
    match name:
        case "open":
            return bool(words[1] & os.O_CREAT) or words[1] & os.O_TMPFILE == os.O_TMPFILE
        case "fdopen":
            return "w" in words[1]
        case "run":
            return words[0] not in ("info", "measure", "check")
    return True


class FullStore:
    """A pool in a store, which is copied for each point."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._filled = filled(store)
        self._looks = Looks()
        self.calls = 0
        """Of verbs that were made to fail."""

    def faults(self, verb: str, seed: int, every: int = 1) -> list[str]:
        """What is wrong after a call of a verb has failed, or that and all later ones: one of so many calls,
        beginning with another one for each seed, in another way."""
        with self._copied() as directory, working(directory, reserve=0) as work:
            right = [seen(work, self._looks)]
            assert work.shares is False  # asks once whether blocks can be shared
            with failing(0, 0, -1) as calls:
                do(work, VERBS[verb])
            right.append(seen(work, self._looks))
        self.calls += len(calls)
        return [
            f"{verb}, {calls[at]}, call {at} of {len(calls)}: {fault}"
            for number, at in enumerate(range(seed % every, len(calls), every), seed)
            for fault in self._faults(verb, at, number, right)
        ]

    def _faults(self, verb: str, at: int, way: int, right: list[dict[str, object]]) -> Iterator[str]:
        code, for_good = ERRORS[way % len(ERRORS)], way % 2 == 1
        with self._copied() as directory:
            with working(directory, reserve=0) as work:
                said = ""
                assert work.shares is False
                with failing(code, at, sys.maxsize if for_good else at):
                    try:
                        do(work, VERBS[verb])
                    except AoeError as error:
                        said = str(error)
                if not for_good:
                    yield from self._of(work, right[1:] if not said else right)
            if said and not is_one_line(said, os.strerror(code)):
                yield f"says {said!r}"
            yield from self._opened(directory, right)

    def faults_of_room(self, verb: str, blocks: int) -> list[str]:
        """The same where the store has so many blocks of 4 KiB left."""
        with self._copied() as directory:
            with working(directory, reserve=0) as work:
                before = seen(work, self._looks)
                assert work.shares is False
                fill_up(self._filler)
                os.truncate(self._filler, self._filler.stat().st_size - blocks * 4096)
                os.sync()
                said = ""
                try:
                    do(work, VERBS[verb])
                except AoeError as error:
                    said = str(error)
                self._filler.unlink()
                now = seen(work, self._looks)
            found = list(self._opened(directory, [now]))
            if said and now != before:
                found.append("half of it was done")
            if said and not is_one_line(said, os.strerror(errno.ENOSPC)):
                found.append(f"says {said!r}")
            return found

    def _opened(self, directory: Path, right: list[dict[str, object]]) -> Iterator[str]:
        """By the next process, when the store is good again."""
        with working(directory, reserve=0) as work:
            yield from self._of(work, right)

    def _of(self, work: Work, right: list[dict[str, object]]) -> Iterator[str]:
        now = seen(work, self._looks)
        if now not in right:
            yield f"is {now}, not one of {right}"
        if not is_whole(work):
            yield f"there is more in it: {work.leftovers}"

    @property
    def _filler(self) -> Path:
        return self._store / "filler"

    @contextmanager
    def _copied(self) -> Iterator[Path]:
        directory = self._filled.with_name(f"{self._filled.name}-copy")
        shutil.copytree(self._filled, directory)
        try:
            yield directory
        finally:
            self._filler.unlink(missing_ok=True)
            shutil.rmtree(directory)


def is_whole(work: Work) -> bool:
    """Whether nothing is left but what is to be merged, and nothing else is in the directory."""
    fading = sum(len(it.fading) for it in work.volumes.values())
    used = {image.file for volume in work.volumes.values() for image in volume.images}
    names = {it.name for it in beside(work, "").iterdir()} - {"aoe-pool.json", "spare", SOURCE, SAVED}
    there = work.store.found()
    return (
        len(work.leftovers) == fading
        and not (there.new or there.gone or there.unfinished)
        and used == set(there.images)
        and names == {"volumes", "images"}
    )


def is_one_line(said: str, reason: str) -> bool:
    """Whether a message names what failed, and why."""
    named = any(it in said for it in ("pool fast (", "fast/", SAVED, SOURCE))
    return "\n" not in said and named and (reason in said or "above its reserve" in said)
