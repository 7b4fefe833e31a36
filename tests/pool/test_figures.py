"""What snapshots of a pool hold, and what its disks may still take, measured little by little."""

import mmap
import os
from pathlib import Path

import pytest

from aoe import limits
from aoe.pool.adopting import Freeze
from aoe.pool.figures import Figures, Measured, figures
from aoe.pool.requests import Clone, Create, Cut, Delete
from aoe.pool.work import Work
from tests.pool.pools import MIB, SIZE, with_base, working, write
from tests.support.waiting import wait_for


def kept(pool: Path) -> None:
    """Three snapshots, of which the first two hold a mebibyte each alone."""

    def then(work: Work) -> None:
        for name, byte in (("a", 2), ("b", 3), ("c", 3)):
            work.do(Cut("base", name))
            write(work, "base", byte)

    with_base(pool, then)


def test_what_only_snapshots_refer_to_is_told(pool: Path) -> None:
    kept(pool)
    with working(pool) as work:
        found = figures(work, Measured(), 30.0)
        assert (found.volumes, found.snapshots) == (1, 3)
        assert found.kept >= 2 * MIB
        assert found.free < found.total


def test_without_time_one_is_measured_at_each_look_and_what_is_gone_is_forgotten(pool: Path) -> None:
    kept(pool)
    with working(pool) as work:
        os.sync()  # what is written has its place then, whenever it is looked at
        known = Measured()
        seen = [figures(work, known, 0.0) for _ in range(4)]
        assert [it.kept for it in seen] == sorted(it.kept for it in seen)
        whole = figures(work, Measured(), 30.0)
        assert (seen[-1].kept, seen[-1].growth) == (whole.kept, whole.growth)
        assert whole.kept > 0
        for name in ("a", "b", "c"):
            work.do(Delete("base", name))
        assert figures(work, known, 0.0).kept == 0


def test_what_disks_may_come_to_take_is_what_they_do_not_have_alone(pool: Path) -> None:
    def seen(work: Work) -> Figures:
        os.sync()  # a block that was shared has its new place from then on
        return figures(work, Measured(), 30.0)

    with working(pool) as work:
        work.do(Create("base", SIZE, "raw"))
        assert seen(work).growth == SIZE
        write(work, "base", 1)
        assert seen(work).growth == SIZE - MIB
        work.do(Cut("base", "a"))
        assert seen(work).growth == SIZE, "it shares its mebibyte"
        work.do(Clone("base", "a", "web"))
        assert seen(work).growth == 2 * SIZE
        write(work, "web", 2)
        assert seen(work).growth == 2 * SIZE - MIB
        assert seen(work).promised == 2 * SIZE


def test_a_template_takes_no_more(pool: Path) -> None:
    with_base(pool, lambda work: work.do(Freeze("base")))
    with working(pool) as work:
        found = figures(work, Measured(), 30.0)
        assert (found.promised, found.growth) == (SIZE, 0)


# Disks that share nothing any more


def _begun(fd: int, data: mmap.mmap) -> bool:
    os.pwrite(fd, data, 8192)
    try:
        return os.pwritev(fd, [data], 8192, os.RWF_NOWAIT) == 4096
    except BlockingIOError:
        return False


def begins_at_once(work: Work, volume: str) -> bool:
    """Whether a write past the page cache does. Where the time of the last write is to be changed, too, none
    does."""
    os.sync()
    with mmap.mmap(-1, 4096) as data:
        data[:] = bytes([2]) * 4096
        fd = os.open(work.path_of(volume), os.O_RDWR | os.O_DIRECT)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            return any(_begun(fd, data) for _ in range(200))
        finally:
            os.close(fd)


def written_again(work: Work) -> None:
    """A clone `web` of a disk, to every block of which something was written since."""
    work.do(Create("base", SIZE, "raw"))
    for at in range(0, SIZE, MIB):
        write(work, "base", 1, at)
    work.do(Clone("base", "", "web"))
    for at in range(0, SIZE, MIB):
        write(work, "web", 2, at)
    os.sync()


def test_a_disk_that_shares_nothing_any_more_is_written_as_one_that_never_did(pool: Path) -> None:
    with working(pool) as work:
        written_again(work)
        assert not begins_at_once(work, "web"), "here nothing is to be shown"
        known = Measured()
        known.look(work, 30.0)
        assert begins_at_once(work, "web")
        work.do(Cut("web", "a"))
        known.look(work, 30.0)
        assert not begins_at_once(work, "web")
        work.do(Delete("web", "a"))

        def noticed() -> bool:
            known.look(work, 30.0)
            return begins_at_once(work, "web")

        wait_for(noticed, what="the blocks of a file that was removed are free a little later")
        assert Path(work.path_of("web")).read_bytes() == b"\2" * SIZE


def test_one_that_shares_a_block_still_is_asked_for_again_when_it_does_not(pool: Path) -> None:
    with working(pool) as work:
        written_again(work)
        work.do(Cut("web", "a"))
        for at in range(MIB, SIZE, MIB):
            write(work, "web", 3, at)
        os.sync()
        known = Measured()
        known.look(work, 30.0)
        assert not begins_at_once(work, "web")
        write(work, "web", 3)
        os.sync()
        known.look(work, 30.0)
        assert begins_at_once(work, "web")


def test_one_in_many_extents_is_left_as_it_is(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POOL_ALONE_EXTENTS_MAX", 0)
    with working(pool) as work:
        written_again(work)
        Measured().look(work, 30.0)
        assert not begins_at_once(work, "web")


def test_who_only_looks_changes_none(pool: Path) -> None:
    with working(pool) as work:
        written_again(work)
        look = Work(str(pool), locked=False)
        try:
            Measured().look(look, 30.0)
        finally:
            look.close()
        assert not begins_at_once(work, "web")


def test_before_linux_6_12_none_is_changed(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = os.uname()
    with working(pool) as work:
        written_again(work)
        monkeypatch.setattr(os, "uname", lambda: os.uname_result((*known[:2], "6.1.0-44-amd64", *known[3:])))
        Measured().look(work, 30.0)
        assert not begins_at_once(work, "web")
