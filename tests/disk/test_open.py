"""open_disk: what is wrong is said in one line, and nothing stays open."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.disk.open import Opening, open_disk
from aoe.errors import ConfigurationError
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import (
    failing,
    failure,
    filled,
    need_direct,
    noise,
    open_descriptors,
    opened,
    read,
    sparse,
    write,
)
from tests.disk.test_file import tmpfs
from tests.support.tools import need_root, unavailable, which
from tests.support.waiting import PROMPT_S

NOBODY = 65534
CANNOT = "root here cannot become another user"
NO_WAIT = Opening(lock_wait_s=0.0)


def refusal(path: Path, how: Opening = NO_WAIT) -> str:
    """Why a path cannot be opened; fails if that costs a descriptor."""
    before = open_descriptors()
    with pytest.raises(ConfigurationError) as caught:
        open_disk(path, how)
    message = str(caught.value)
    assert open_descriptors() <= before
    assert str(path) in message
    assert "\n" not in message
    return message


# What is no disk


def no_file(directory: Path) -> Path:
    return directory / "missing"


def dangling_link(directory: Path) -> Path:
    (directory / "link").symlink_to("missing")
    return directory / "link"


def below_a_file(directory: Path) -> Path:
    return sparse(directory / "file", 8) / "disk"


def long_name(directory: Path) -> Path:
    return directory / ("x" * 300)


def fifo(directory: Path) -> Path:
    os.mkfifo(directory / "fifo")
    return directory / "fifo"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (no_file, "No such file"),
        (dangling_link, "No such file"),
        (below_a_file, "Not a directory"),
        (long_name, "too long"),
        (lambda directory: directory, "is not a disk"),
        (lambda _: Path("/dev/null"), "is not a disk"),
        (fifo, "is not a disk"),
    ],
    ids=["missing", "dangling-link", "below-a-file", "long-name", "directory", "char-device", "fifo"],
)
@pytest.mark.parametrize("how", [NO_WAIT, Opening(shared=True), Opening(read_only=True)])
def test_what_is_no_disk(make: Callable[[Path], Path], says: str, how: Opening, tmp_path: Path) -> None:
    message = refusal(make(tmp_path), how)
    assert says in message
    assert "name a" in message


def once(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Between the look at what a path leads to and the rest."""
    look = os.fstat

    def looks(fd: int) -> os.stat_result:
        found = look(fd)
        monkeypatch.setattr("aoe.disk.open.os.fstat", look)
        act()
        return found

    monkeypatch.setattr("aoe.disk.open.os.fstat", looks)


def another_file(path: Path) -> None:
    path.rename(path.with_name("before"))
    path.write_bytes(noise(8, 2))


def a_pipe(path: Path) -> None:
    """Whoever opens it waits for another one to do so."""
    path.unlink()
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


def nothing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("become", [another_file, a_pipe, a_device, nothing])
@pytest.mark.parametrize("link", [False, True])
def test_what_was_judged_is_opened_whatever_has_its_name_by_then(
    become: Callable[[Path], object], link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = filled(tmp_path / "disk", 8)
    path = tmp_path / "disk"
    if link:
        path = tmp_path / "link"
        path.symlink_to("disk")
    once(monkeypatch, lambda: become(path))
    with opened(path, Opening(read_only=True)) as disk:
        assert read(disk, 0, 8) == data


@pytest.mark.parametrize("length", [0, 1, SECTOR - 1])
@pytest.mark.parametrize("direct", [False, True])
def test_a_file_without_a_whole_sector(length: int, direct: bool, tmp_path: Path) -> None:
    if direct:
        need_direct(tmp_path)
    (tmp_path / "small").write_bytes(bytes(length))
    assert "no whole sector" in refusal(tmp_path / "small", Opening(direct=direct))


def test_the_rest_of_a_sector_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(bytes(2 * SECTOR + 511))
    with opened(tmp_path / "odd") as disk:
        assert (disk.size, disk.tail) == (2 * SECTOR, 511)


@pytest.mark.parametrize(
    ("bytes_", "how", "size", "tail"),
    [
        (241_059, Opening(direct=False), 240_640, 419),
        (241_059, Opening(direct=True), 237_568, 3491),
        (241_664, Opening(direct=True), 241_664, 0),
        (241_664, Opening(direct=True, offset=8), 237_568, 0),
        (241_152, Opening(direct=True, offset=8), 233_472, 3584),
        (241_059, Opening(direct=False, length=8), 4096, 0),
        (241_059, Opening(direct=False, offset=1), 240_128, 419),
    ],
)
def test_what_makes_no_whole_block_is_known(
    bytes_: int, how: Opening, size: int, tail: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_direct(tmp_path)
    monkeypatch.setattr("aoe.disk.open._PROBE_BLOCKS", (4096,))
    (tmp_path / "odd").write_bytes(bytes(bytes_))
    with opened(tmp_path / "odd", how) as disk:
        assert (disk.size, disk.tail) == (size, tail)


def test_the_rest_is_looked_at_again_when_a_file_grows(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 4)
    with opened(path, Opening(direct=False)) as disk:
        assert disk.tail == 0
        os.truncate(path, 5 * SECTOR + 7)
        disk.refresh()
        assert (disk.size, disk.tail) == (5 * SECTOR, 7)
        os.truncate(path, 6 * SECTOR)
        disk.refresh()
        assert (disk.size, disk.tail) == (6 * SECTOR, 0)


# Slices


@pytest.mark.parametrize(
    ("offset", "length", "says"),
    [
        (64, None, "no whole sector from --offset 64"),
        (1000, None, "no whole sector from --offset 1000"),
        (60, 5, "has 4 sectors there, not --length 5"),
        (0, 65, "has 64 sectors there, not --length 65"),
        (0, 0, "not --length 0"),
        (1, 1 << 60, "has 63 sectors there"),
    ],
)
def test_slices_that_are_not_there(offset: int, length: int | None, says: str, tmp_path: Path) -> None:
    sparse(tmp_path / "disk", 64)
    assert says in refusal(tmp_path / "disk", Opening(offset=offset, length=length))


@pytest.mark.parametrize(("offset", "length"), [(1, None), (7, 8), (8, 7), (0, 4)])
def test_direct_slices_start_and_end_on_blocks(
    offset: int, length: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_direct(tmp_path)
    monkeypatch.setattr("aoe.disk.open._PROBE_BLOCKS", (4096,))
    sparse(tmp_path / "disk", 64)
    message = refusal(tmp_path / "disk", Opening(direct=True, offset=offset, length=length))
    assert "steps of 8" in message
    with opened(tmp_path / "disk", Opening(direct=False, offset=offset, length=length)) as disk:
        assert disk.size == (length or 64 - offset) * SECTOR


# Locks


@contextmanager
def held(path: Path, kind: int, seconds: float = 30) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process holds a lock on the file. It says when it let go."""
    code = (
        "import fcntl, sys, time\n"
        f"file = open({str(path)!r})\n"
        f"fcntl.flock(file, {kind})\n"
        "print(flush=True)\n"
        f"time.sleep({seconds})\n"
        "print(time.monotonic(), flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield holder
        finally:
            holder.kill()


def test_a_locked_file_is_refused_after_a_while(tmp_path: Path) -> None:
    sparse(tmp_path / "disk", 8)
    with held(tmp_path / "disk", fcntl.LOCK_EX):
        began = time.monotonic()
        assert "in use" in refusal(tmp_path / "disk", Opening(lock_wait_s=0.3))
        assert 0.3 <= time.monotonic() - began < PROMPT_S


def test_a_lock_that_is_freed_meanwhile_is_waited_for(tmp_path: Path) -> None:
    sparse(tmp_path / "disk", 8)
    with held(tmp_path / "disk", fcntl.LOCK_EX, seconds=0.3) as holder:
        with opened(tmp_path / "disk", Opening(lock_wait_s=2 * PROMPT_S)):
            now = time.monotonic()
        assert holder.stdout is not None
        assert float(holder.stdout.readline()) <= now


def test_two_openings_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with opened(sparse(tmp_path / "disk", 8)):
        assert "in use" in refusal(tmp_path / "disk")
        assert "in use" in refusal(tmp_path / "disk", NO_WAIT._replace(read_only=True))
    with opened(tmp_path / "disk"):
        pass


def test_readers_share(tmp_path: Path) -> None:
    how = NO_WAIT._replace(read_only=True)
    with opened(sparse(tmp_path / "disk", 8), how), opened(tmp_path / "disk", how):
        assert "in use" in refusal(tmp_path / "disk")


# Shared stores


def test_shared_is_direct_and_takes_no_lock(tmp_path: Path) -> None:
    need_direct(tmp_path)
    how = Opening(shared=True, direct=False, lock_wait_s=0)
    sparse(tmp_path / "disk", 16)
    with (
        held(tmp_path / "disk", fcntl.LOCK_EX),
        opened(tmp_path / "disk", how) as one,
        opened(tmp_path / "disk", how) as other,
    ):
        assert (one.direct, other.direct) == (True, True)
        write(one, 0, noise(8), fua=True)
        assert read(other, 0, 8) == noise(8)
    with opened(tmp_path / "disk", how), opened(tmp_path / "disk", NO_WAIT):
        pass


def test_shared_refuses_writes_smaller_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_direct(tmp_path)
    monkeypatch.setattr("aoe.disk.open._PROBE_BLOCKS", (4096,))
    before = filled(tmp_path / "disk", 16)
    with opened(tmp_path / "disk", Opening(shared=True)) as disk:
        for lba, sectors in ((0, 1), (0, 9), (7, 9), (4, 8)):
            error = failure(disk.write(lba * SECTOR, noise(sectors, 1)))
            assert (error.offset, error.errno) == (lba * SECTOR, 0)
        assert (tmp_path / "disk").read_bytes() == before
        assert read(disk, 3, 7) == before[3 * SECTOR : 10 * SECTOR]
        write(disk, 8, noise(8, 2))
    assert (tmp_path / "disk").read_bytes() == before[: 8 * SECTOR] + noise(8, 2)


def test_an_ordinary_direct_file_takes_a_lock(tmp_path: Path) -> None:
    need_direct(tmp_path)
    with opened(sparse(tmp_path / "disk", 8), Opening(direct=True)):
        assert "in use" in refusal(tmp_path / "disk")


# What the file system says

ANOTHER = "name another file or block device"


@pytest.mark.parametrize("shared", [False, True])
def test_no_direct_io(shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems refuse at open, some at the first transfer."""
    path = sparse(tmp_path / "disk", 8)
    real = os.open

    def without(name: object, flags: int, *more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", without)
    assert "--buffered" in refusal(path, Opening(direct=True, shared=shared))
    monkeypatch.undo()
    need_direct(tmp_path)
    monkeypatch.setattr(os, "preadv", failing(errno.EINVAL))
    assert "--buffered" in refusal(path, Opening(direct=True, shared=shared))


def test_a_first_block_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_direct(tmp_path)
    path = sparse(tmp_path / "disk", 8)
    monkeypatch.setattr(os, "preadv", failing(errno.EIO))
    assert "Input/output error" in refusal(path, Opening(direct=True))


def test_a_file_without_places_is_no_disk() -> None:
    """Some files of the kernel cannot be sought to their end."""
    path = Path("/proc/version")
    assert refusal(path, Opening(read_only=True)) == f"{path} cannot be used as a disk; {ANOTHER}"


def test_a_read_only_file_system(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", 64 << 10) as small:
        sparse(small / "disk", 8)
        subprocess.run([str(which("mount")), "-o", "remount,bind,ro", small], check=True, timeout=30)
        assert "say --read-only" in refusal(small / "disk")
        with opened(small / "disk", Opening(read_only=True)) as disk:
            assert read(disk, 0, 8) == bytes(8 * SECTOR)


def as_nobody(work: Callable[[], str]) -> str:
    """What a child process of another user has to say."""
    out, into = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork(2) beside threads: the child has none
        child = os.fork()
    if not child:
        os.write(into, _said_as_nobody(work).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    if said.startswith(CANNOT):
        unavailable(said)
    return said


def _said_as_nobody(work: Callable[[], str]) -> str:
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    except OSError as error:
        return f"{CANNOT}: {error}"
    try:
        return work()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("mode", "directory_mode", "read_only", "says"),
    [
        (0o600, 0o755, False, "permission denied"),
        (0o600, 0o755, True, "permission denied"),
        (0o644, 0o755, False, "say --read-only"),
        (0o644, 0o755, True, ""),
        (0o666, 0o755, False, ""),
        (0o666, 0o700, False, "Permission denied"),
    ],
)
def test_permissions(mode: int, directory_mode: int, read_only: bool, says: str) -> None:
    need_root()
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(directory_mode)
        path = sparse(directory / "disk", 8)
        path.chmod(mode)
        how = NO_WAIT._replace(read_only=read_only)

        def work() -> str:
            if not says:
                with opened(path, how):
                    return ""
            return refusal(path, how)

        found = as_nobody(work)
        assert says in found
        assert bool(says) == bool(found)


# What a file says of itself


def test_facts_of_a_file(tmp_path: Path) -> None:
    with opened(sparse(tmp_path / "disk", 64), Opening(offset=3)) as disk:
        assert (disk.block, disk.physical_block, disk.alignment) == (512, 4096, 3)
        assert disk.identity is None
        assert not disk.direct
        assert disk.trims


def test_a_file_that_cannot_be_punched_does_not_trim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aoe.disk.syscalls.punch_hole", failing(errno.EOPNOTSUPP))
    with opened(sparse(tmp_path / "disk", 8)) as disk:
        assert (disk.trims, disk.trim_zeroes) == (False, False)


def test_asking_whether_it_can_be_punched_changes_nothing(tmp_path: Path) -> None:
    before = filled(tmp_path / "disk", 9)
    with opened(tmp_path / "disk"):
        pass
    assert (tmp_path / "disk").read_bytes() == before


def test_closing_leaves_nothing_open(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 8)
    before = open_descriptors()
    for _ in range(20):
        with opened(path) as disk:
            read(disk, 0, 1)
    assert open_descriptors() <= before
