"""What snapshots of a pool hold, measured little by little."""

from pathlib import Path

from aoe.pool.figures import Kept, figures
from aoe.pool.requests import Cut, Delete
from aoe.pool.work import Work
from tests.pool.pools import MIB, with_base, working, write


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
        found = figures(work, Kept(), 30.0)
        assert (found.volumes, found.snapshots) == (1, 3)
        assert found.kept >= 2 * MIB
        assert found.free < found.total


def test_without_time_one_is_measured_at_each_look_and_what_is_gone_is_forgotten(pool: Path) -> None:
    kept(pool)
    with working(pool) as work:
        known = Kept()
        seen = [known.look(work, 0.0) for _ in range(3)]
        assert seen == sorted(seen)
        assert seen[-1] == Kept().look(work, 30.0) > 0
        for name in ("a", "b", "c"):
            work.do(Delete("base", name))
        assert known.look(work, 0.0) == 0
