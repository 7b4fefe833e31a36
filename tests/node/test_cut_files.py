"""Files for snapshots of what is served: nothing is left of one that does not become a snapshot."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from aoe import limits, timing
from aoe.config.values import PoolConfig
from aoe.errors import ConfigurationError, PoolError
from aoe.node.cut_files import CutFiles
from aoe.node.pools import Pools
from aoe.pool import handles
from aoe.pool.directory import Directory
from aoe.pool.requests import Clone, Create, Cut, Rename, Resize
from aoe.pool.volume import ASKED, FOR_CLONE
from tests.pool.pools import SIZE, files, fresh, is_whole

BYTES = b"x" * SIZE


@pytest.fixture
def pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pools]:
    """One, as on a file system whose files can share blocks."""
    monkeypatch.setattr(Directory, "reflinks", lambda _: True)
    (tmp_path / "srv").mkdir()
    made = Pools([PoolConfig(name="fast", path=str(fresh(tmp_path / "srv")), reserve=0)])
    made.look()
    with made.turn("fast") as work:
        work.do(Create("web1", SIZE, "raw"))
    yield made
    made.close()


def filled(cuts: CutFiles, snapshot: str, cause: str = ASKED) -> int:
    number = int(cuts.begin("fast", Cut("web1", snapshot), cause)["number"])
    fd = cuts.file(number)
    os.pwrite(fd, BYTES, 0)
    os.close(fd)
    return number


def names(pools: Pools, volume: str = "web1") -> list[str]:
    return [it.name for it in pools.work("fast").volumes[volume].snapshots]


def test_what_is_whole_becomes_a_snapshot(pools: Pools) -> None:
    cuts = CutFiles(pools)
    number = filled(cuts, "monday")
    assert names(pools) == []
    assert cuts.end(number, whole=True) == {"snapshot": "monday", "done": "fast/web1@monday: cut"}
    work = pools.work("fast")
    assert Path(work.path_of("web1", "monday")).read_bytes() == BYTES
    assert (names(pools), is_whole(work)) == (["monday"], True)


def test_what_is_not_whole_is_gone(pools: Pools) -> None:
    cuts, before = CutFiles(pools), files(Path(pools.config("fast").path))
    number = filled(cuts, "monday")
    assert cuts.end(number, whole=False)["done"] == ""
    for again in (True, False):
        with pytest.raises(ConfigurationError, match="the opener ended meanwhile"):
            cuts.end(number, whole=again)
    with pytest.raises(ConfigurationError, match="the opener ended meanwhile"):
        cuts.file(number)
    assert files(Path(pools.config("fast").path)) == before


@pytest.mark.parametrize("size", [0, 511, SIZE + 1])
def test_one_that_is_no_disk_any_more_is_refused(pools: Pools, size: int) -> None:
    """What fills it has the rights to cut it short, and a record of that could not be read again."""
    cuts = CutFiles(pools)
    number = filled(cuts, "monday")
    fd = cuts.file(number)
    os.ftruncate(fd, size)
    os.close(fd)
    with pytest.raises(ConfigurationError, match=f"a disk cannot have {size} bytes"):
        cuts.end(number, whole=True)
    assert (names(pools), is_whole(pools.work("fast"))) == ([], True)


def test_what_is_written_still_is_no_snapshot(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has filled it could change it later."""
    monkeypatch.setattr(timing, "CUT_LEFT_S", 0.05)
    cuts, before = CutFiles(pools), files(Path(pools.config("fast").path))
    number = filled(cuts, "monday")
    fd = cuts.file(number)
    with pytest.raises(PoolError, match="snapshot monday: what has filled it has it open still; try again"):
        cuts.end(number, whole=True)
    os.close(fd)
    assert (names(pools), files(Path(pools.config("fast").path))) == ([], before)


def test_what_lets_go_of_it_late_is_waited_for(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = CutFiles(pools)
    number = filled(cuts, "monday")
    left = [cuts.file(number)]

    def sleep(_: float) -> None:
        for fd in left:
            os.close(fd)
        left.clear()

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: 0.0)
    monkeypatch.setattr("aoe.node.cut_files.time", clock)
    assert cuts.end(number, whole=True)["snapshot"] == "monday"
    assert left == []


def test_other_verbs_go_on_beside_it(pools: Pools) -> None:
    cuts = CutFiles(pools)
    monday, clone = filled(cuts, "monday"), filled(cuts, "clone-web2", FOR_CLONE)
    with pools.turn("fast") as work:
        work.do(Rename("web1", "www"))
    assert cuts.end(monday, whole=True)["done"] == "fast/www@monday: cut"
    assert cuts.end(clone, whole=True)["snapshot"] == "clone-web2"
    assert names(pools, "www") == ["monday", "clone-web2"]


def test_a_name_that_is_taken_meanwhile_is_refused_and_nothing_is_left(pools: Pools) -> None:
    cuts = CutFiles(pools)
    one, other = filled(cuts, "monday"), filled(cuts, "monday")
    cuts.end(one, whole=True)
    with pytest.raises(ConfigurationError, match="there is a snapshot monday"):
        cuts.end(other, whole=True)
    with pytest.raises(ConfigurationError, match="there is a snapshot monday"):
        cuts.begin("fast", Cut("web1", "monday"), ASKED)
    assert is_whole(pools.work("fast"))


def test_one_for_a_clone_gets_another_name_where_that_is_taken(pools: Pools) -> None:
    cuts = CutFiles(pools)
    cuts.end(filled(cuts, "clone-web2"), whole=True)
    kept = cuts.end(filled(cuts, "clone-web2", FOR_CLONE), whole=True)["snapshot"]
    assert kept == "clone-web2-2"
    plan = pools.work("fast").plan(Clone("web1", kept, "web2"))
    assert plan.done == "fast/web2: a clone of fast/web1@clone-web2-2"


def test_a_store_that_is_full_at_the_end_leaves_nothing(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = CutFiles(pools)
    number = filled(cuts, "monday")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(handles, "link", full)
    with pytest.raises(PoolError, match="naming a snapshot: No space left on device"):
        cuts.end(number, whole=True)
    assert (names(pools), is_whole(pools.work("fast"))) == ([], True)


def test_what_may_not_be_cut_is_refused_before_anything_is_made(pools: Pools) -> None:
    cuts = CutFiles(pools)
    for request, why in (
        (Cut("web2", "monday"), "there is no volume fast/web2"),
        (Cut("web1", "a b"), "a b"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            cuts.begin("fast", request, ASKED)
    for at in range(limits.CUT_GROUP_MAX):
        cuts.begin("fast", Cut("web1", f"s{at}"), ASKED)
    with pytest.raises(ConfigurationError, match="64 snapshots are under way"):
        cuts.begin("fast", Cut("web1", "more"), ASKED)


def test_a_disk_that_grew_meanwhile_keeps_a_snapshot_of_its_size_then(pools: Pools) -> None:
    cuts = CutFiles(pools)
    number = filled(cuts, "monday")
    with pools.turn("fast") as work:
        work.do(Resize("web1", 2 * SIZE))
    cuts.end(number, whole=True)
    work = pools.work("fast")
    assert work.image_of("web1", "monday").size == SIZE
    assert is_whole(work)
