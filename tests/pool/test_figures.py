"""What snapshots of a pool hold, and what its disks may still take, measured little by little."""

import os
from pathlib import Path

from aoe.pool.adopting import Freeze
from aoe.pool.figures import Figures, Measured, figures
from aoe.pool.requests import Clone, Create, Cut, Delete
from aoe.pool.work import Work
from tests.pool.pools import MIB, SIZE, with_base, working, write


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
