"""Verbs on a thin pool whose process ends, or whose command fails, at any of the commands."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from aoe.errors import PoolError
from aoe.pool import lvm_seen
from aoe.pool.adopting import Freeze
from aoe.pool.requests import Cut, Rollback
from tests.pool.fake_lvm import FakeLvm
from tests.pool.pools import is_whole, write
from tests.pool.test_killed import REQUESTS, Verb, do, fill, plainly, seen
from tests.pool.thin import fake, lv_of, with_base, working

VERBS = {name: it for name, it in REQUESTS.items() if name != "template"} | {"freeze": Freeze("web")}
"""What makes a template by a copy is for directories."""
LOOKS = ("lvs", "dmsetup", "thin_ls")
"""Commands that change nothing."""


class Dead(BaseException):
    """The process has ended."""


def dying(lvm: FakeLvm, at: int) -> Callable[[Sequence[str]], None]:
    """From the command number `at` on that changes something, counting from 0, nothing is done."""

    def before(words: Sequence[str]) -> None:
        if len(lvm.changes()) >= at and words[0] not in LOOKS:
            raise Dead

    return before


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> FakeLvm:
    """A pool that is copied."""
    with pytest.MonkeyPatch.context() as patch:
        lvm = with_base(fake(tmp_path_factory.mktemp("lvm") / "filled", patch))
        with working(lvm) as work:
            fill(work)
    return lvm


@pytest.fixture
def copied(filled: FakeLvm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], FakeLvm]:
    """What makes a copy of it."""
    numbers = count()

    def copy() -> FakeLvm:
        lvm = filled.copy(tmp_path / f"copy{next(numbers)}")
        monkeypatch.setattr("aoe.pool.lvm_marking.HERE", lvm.host)
        return lvm

    return copy


def either(copied: Callable[[], FakeLvm], request: Verb) -> tuple[list[dict[str, object]], int]:
    """What may be seen of it afterwards: what was, and what was asked for; and by how many commands."""
    lvm = copied()
    with working(lvm) as work:
        before = plainly(seen(work))
        lvm.said.clear()
        do(work, request)
        return [before, plainly(seen(work))], len(lvm.changes())


@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_verb_leaves_a_whole_pool(verb: str, copied: Callable[[], FakeLvm]) -> None:
    right, _ = either(copied, VERBS[verb])
    met, at, alive = set(), 0, False
    while not alive:
        lvm = copied()
        lvm.before = dying(lvm, at)
        with suppress(Dead), working(lvm) as work:
            do(work, VERBS[verb])
            alive = True
        lvm.before = lambda _: None
        with working(lvm) as work:
            found = plainly(seen(work))
            assert found in right, at
            assert is_whole(work), (at, work.found, work.leftovers)
            met.add(right.index(found))
            for volume in work.volumes:
                write(work, volume, 9)
            assert all(lvm.lvs[lv].read_only for lv in lvm_seen.kept(work.volumes.values()))
        at += 1
    assert found == right[1]
    assert met == {0, 1}


def failing(at: int, error: BaseException) -> Callable[[Sequence[str]], None]:
    """What lets the command of that number fail, and no other."""
    met = count()

    def fail(words: Sequence[str]) -> None:
        if words[0] not in LOOKS and next(met) == at:
            raise error

    return fail


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [PoolError("lvcreate took more than 120 s"), KeyboardInterrupt()])
def test_a_verb_that_fails_anywhere_leaves_a_whole_pool(
    verb: str, late: bool, error: BaseException, copied: Callable[[], FakeLvm]
) -> None:
    """And the same process goes on. A command that fails `late` has done what it should."""
    right, commands = either(copied, VERBS[verb])
    for at in range(commands):
        lvm = copied()
        with working(lvm) as work:
            seen(work)  # activates what it looks at
            setattr(lvm, "after" if late else "before", failing(at, error))
            with suppress(PoolError, KeyboardInterrupt):
                do(work, VERBS[verb])
            lvm.before = lvm.after = lambda _: None
            assert plainly(seen(work)) in right, at
            assert is_whole(work), (at, work.found, work.leftovers)


def test_a_record_that_moved_is_that_of_the_higher_serial(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        work.do(Cut("base", "a"))
        old = lv_of(work, "base")
        tags = set(lvm.lvs[old].tags)
        work.do(Rollback("base", "a"))
        was, new = dict(work.volumes), lv_of(work, "base")
    lvm.lvs[old].tags |= tags  # as if the process had ended before it removed them
    with working(lvm, locked=False) as work:
        assert work.volumes == was
    with working(lvm) as work:
        assert work.volumes == was
        assert lv_of(work, "base") == new
        assert is_whole(work)
    assert not lvm.lvs[old].tags
