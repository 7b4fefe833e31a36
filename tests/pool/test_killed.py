"""A verb that ends before any of its calls to the store: killed, or because the call fails.

The page cache outlives a process, so this says nothing of a power cut: for that each step is synced before
the next, in the order that `aoe.pool.steps` tells.
"""

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aoe.disk import syscalls
from aoe.errors import PoolError
from aoe.pool.adopting import Adopt, Template
from aoe.pool.directory import Directory
from aoe.pool.filling import Filled, _filled
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.steps import Save, Step
from aoe.pool.volume import Image
from aoe.pool.work import Request, Work, fresh_id
from tests.pool.pools import SIZE, first, fresh, is_whole, with_base, working, write
from tests.support.tools import need, tool

CALLS = (
    (os, "rename"),
    (os, "link"),
    (os, "unlink"),
    (os, "fsync"),
    (os, "ftruncate"),
    (syscalls, "clone_file"),
)
"""What changes a store, besides the making of a file."""


def adopted(work: Work) -> None:
    """A volume whose image was filled before."""
    image = Image(id=fresh_id(), size=SIZE)
    with _filled(work, image) as fd:
        os.pwrite(fd, b"\7", 0)
        Filled(work, fd, image, Adopt("new", image.id, SIZE, "raw")).done_by(work)


def templated(work: Work) -> None:
    """A clone becomes a template."""
    head = work.volumes["web"].head
    image = Image(id=fresh_id(), size=head.size)
    with _filled(work, image) as fd:
        os.pwrite(fd, Path(work.path_of("web")).read_bytes(), 0)
        Filled(work, fd, image, Template("web", head.id, image.id, "raw")).done_by(work)


Verb = Request | Callable[[Work], None]
REQUESTS: dict[str, Any] = {
    "create": Create("new", SIZE, "raw"),
    "cut": Cut("base", "b"),
    "clone-snapshot": Clone("base", "a", "new"),
    "clone-volume": Clone("base", "", "new"),
    "rollback": Rollback("base", "a"),
    "grow": Resize("base", 2 * SIZE),
    "shrink": Resize("base", SIZE // 2, shrink=True),
    "rename": Rename("base", "new"),
    "delete-snapshot": Delete("base", "free"),
    "delete-volume": Delete("other", recursive=True),
    "delete-clone": Delete("web"),
    "adopt": adopted,
    "template": templated,
}
Seen = dict[str, object]


def do(work: Work, verb: Verb) -> None:
    """A request, or what makes one."""
    if callable(verb):
        verb(work)
    else:
        work.do(verb)


def fill(work: Work) -> None:
    """Of every kind something."""
    work.do(Cut("base", "a"))
    work.do(Cut("base", "free"))
    write(work, "base", 2)
    work.do(Create("other", SIZE, "raw"))
    work.do(Cut("other", "x"))
    work.do(Clone("base", "", "web"))


def seen(work: Work) -> Seen:
    """What a user sees of a pool, with what is in its disks; not the name of what a rollback kept."""
    return {
        name: (
            *(volume.uuid, volume.size, first(work, name)),
            [(it.cause, first(work, name, it.name)) for it in volume.snapshots],
        )
        for name, volume in work.volumes.items()
    }


@contextmanager
def counted(act: Callable[[], None], at: int) -> Iterator[list[int]]:
    """Inside, `act` is called right before the call number `at`, counting from 0, that changes a store."""
    count = [0]

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*words: Any, **how: Any) -> Any:
            count[0] += 1
            if count[0] == at + 1:
                act()
            return call(*words, **how)

        return made

    with pytest.MonkeyPatch.context() as patch:
        for module, name in CALLS:
            patch.setattr(module, name, before(getattr(module, name)))
        opening = os.open
        creating = before(opening)

        def opened(path: str, flags: int, *words: Any, **how: Any) -> int:
            call = creating if flags & os.O_CREAT else opening
            found: int = call(path, flags, *words, **how)
            return found

        patch.setattr(os, "open", opened)
        yield count


def killed(directory: Path, request: Verb, at: int) -> bool:
    """Do it in another process, which is killed right before a call; whether it was, or had so few."""
    child = os.fork()
    if child == 0:
        try:
            with counted(lambda: os.kill(os.getpid(), signal.SIGKILL), at):
                work = Work(str(directory), patience_s=0)
                do(work, request)
        finally:
            os._exit(sys.exc_info()[0] is not None)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


@pytest.fixture(scope="module")
def filled(xfs: Path) -> Path:
    """A pool that is copied."""
    directory = fresh(xfs)
    with_base(directory, fill)
    return directory


@contextmanager
def copied(filled: Path) -> Iterator[Path]:
    """The same pool elsewhere; the copy shares its blocks."""
    directory = filled.with_name(f"{filled.name}-copy")
    tool("cp", "-a", "--reflink=always", filled, directory)
    (directory / "spare").unlink()  # nothing would be free without it: the other pool has its blocks
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def either(filled: Path, request: Verb) -> list[dict[str, object]]:
    """What may be seen of it afterwards: what was before, and what was asked for."""
    with copied(filled) as directory, working(directory) as work:
        found = [plainly(seen(work))]
        do(work, request)
        found.append(plainly(seen(work)))
    assert found[0] != found[1]
    return found


def plainly(found: Seen) -> dict[str, object]:
    return {name: it[1:] for name, it in found.items()}  # type: ignore[index]


@pytest.mark.parametrize("verb", REQUESTS)
def test_a_killed_verb_leaves_a_whole_pool(verb: str, filled: Path) -> None:
    right = either(filled, REQUESTS[verb])
    met, at, alive = set(), 0, False
    while not alive:
        with copied(filled) as directory:
            alive = not killed(directory, REQUESTS[verb], at)
            with working(directory) as work:
                found = plainly(seen(work))
                assert found in right, at
                assert is_whole(work), (at, work.found, work.leftovers)
                met.add(right.index(found))
                for volume in work.volumes:  # each can be used
                    write(work, volume, 9)
        at += 1
    assert found == right[1]
    assert met == {0, 1}, "it is killed before it has happened, and after that"
    assert at > 2


def test_without_reflink_it_is_whole_as_well(ext4: Path) -> None:
    """Overlays in qcow2: killed at each call but those of qemu-img, whose file has no name yet."""
    need("qemu-img")
    at, alive = 0, False
    while not alive:
        directory = fresh(ext4)
        with working(directory) as work:
            work.do(Create("base", SIZE))
            work.do(Cut("base", "a"))
            before = shown(work)
        alive = not killed(directory, REQUESTS["cut"], at)
        with working(directory) as work:
            assert is_whole(work), (at, work.found, work.leftovers)
            assert not alive or shown(work) != before
            for volume in work.volumes:
                tool("qemu-img", "check", "-q", work.path_of(volume))
        shutil.rmtree(directory)
        at += 3  # each takes a while
    assert at > 6


def shown(work: Work) -> dict[str, list[str]]:
    return {name: [it.name for it in volume.snapshots] for name, volume in work.volumes.items()}


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def ended() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("verb", "fails"),
    [
        *((verb, full) for verb in ("clone-volume", "shrink", "rollback", "delete-clone", "template")),
        *((verb, ended) for verb in ("clone-volume", "delete-snapshot", "adopt")),
    ],
)
def test_a_verb_that_fails_anywhere_leaves_a_whole_pool(
    verb: str, fails: Callable[[], None], filled: Path
) -> None:
    """As on a full store, or at Ctrl-C; and the same process goes on."""
    right = either(filled, REQUESTS[verb])
    for at in range(calls(filled, REQUESTS[verb])):
        with copied(filled) as directory, working(directory) as work:
            assert work.shares  # asks once whether blocks can be shared
            done = 0
            with counted(fails, at), suppress(PoolError, KeyboardInterrupt):
                do(work, REQUESTS[verb])
                done = 1  # by means of what is kept for that
            assert plainly(seen(work)) in right[done:], at
            assert is_whole(work), (at, work.found, work.leftovers)


def calls(filled: Path, request: Verb) -> int:
    """How many there are."""
    with copied(filled) as directory, working(directory) as work:
        assert work.shares  # asks once whether blocks can be shared
        with counted(lambda: None, -1) as count:
            do(work, request)
    return count[0]


@pytest.mark.parametrize("verb", ["cut", "clone-volume", "rollback", "grow"])
def test_a_store_that_is_full_to_the_end(verb: str, filled: Path) -> None:
    """Nothing is half-made, what is there is right, and what is deleted gives room."""
    before, _ = either(filled, REQUESTS[verb])
    with copied(filled) as directory, working(directory, reserve=0) as work:
        fill_up(directory / "filler")
        with suppress(PoolError):  # for some there is room where blocks are kept for metadata
            work.do(REQUESTS[verb])
            before = plainly(seen(work))
        assert plainly(seen(work)) == before
        assert is_whole(work)
        work.do(Delete("web"))
        work.do(Delete("base", "free"))
        (directory / "filler").unlink()
        assert is_whole(work)
        work.do(Create("more", SIZE))


def fill_up(file: Path) -> None:
    """Until there is not one block left."""
    with file.open("wb", buffering=0) as opened:
        for size in (16 << 20, 1 << 20, 4096):
            while add(opened.fileno(), size):
                pass


def add(fd: int, size: int) -> bool:
    try:
        os.posix_fallocate(fd, os.fstat(fd).st_size, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def test_what_cannot_be_undone_is_listed_and_tried_again(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clone of a volume fails, and so does each write of a record after it."""
    with copied(filled) as directory, working(directory) as work:
        before = plainly(seen(work))
        saving = Directory.do
        saved = [0]

        def do(self: Directory, step: Step) -> None:
            saved[0] += isinstance(step, Save)
            if saved[0] > 1 and isinstance(step, Save):
                full()
            saving(self, step)

        monkeypatch.setattr(Directory, "do", do)
        with pytest.raises(PoolError, match="No space left"):
            work.do(REQUESTS["clone-volume"])
        assert any("it is tried again the next time" in it.sentence for it in work.leftovers)
        assert first(work, "base", "clone-new") == 2, "the record has it, so it is there"
        monkeypatch.undo()
        work.close()
        with working(directory) as again:
            assert plainly(seen(again)) == before
            assert is_whole(again)


def test_a_failed_call_is_said(filled: Path) -> None:
    with copied(filled) as directory, working(directory) as work:
        work.plan(REQUESTS["cut"])
        with counted(full, 0), pytest.raises(PoolError) as caught:
            work.do(REQUESTS["cut"])
    said = str(caught.value)
    assert said.startswith(f"pool fast ({directory}): to make the image ")
    assert said.endswith("No space left on device; delete snapshots or volumes, or give it more room")


def test_the_counter_of_calls_counts(filled: Path) -> None:
    """Or nothing above would be killed."""
    assert calls(filled, REQUESTS["cut"]) > 8
