"""Chains of overlays from which one in the middle is deleted: every state has the same bytes all the time."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from aoe import limits
from aoe.config.values import PoolConfig
from aoe.errors import ConfigurationError, PoolError
from aoe.node.chores import Chores
from aoe.node.merges import merges
from aoe.node.pools import Pools
from aoe.pool import filling, merging, qemu_img
from aoe.pool.adopting import check_template
from aoe.pool.fading import Merged, rebases
from aoe.pool.merging import UNSERVED
from aoe.pool.requests import Clone, Create, Cut, Delete, Rollback
from aoe.pool.work import Work
from tests.pool import standings
from tests.pool.pools import SIZE, files, is_whole, working
from tests.pool.standings import GIB
from tests.pool.test_killed import counted, killed
from tests.support.tools import need, tool

BLOCK = 65536


@pytest.fixture(autouse=True)
def _qemu() -> None:
    need("qemu-img", "qemu-io")


def put(work: Work, volume: str, byte: int, *blocks: int) -> None:
    """A byte into blocks of a disk."""
    commands = [word for it in blocks for word in ("-c", f"write -P {byte} {it * BLOCK} {BLOCK}")]
    tool("qemu-io", "-f", "qcow2", *commands, work.path_of(volume))


def content(work: Work, to: Path, volume: str, snapshot: str = "") -> bytes:
    """A byte of each of the first blocks."""
    to.unlink(missing_ok=True)
    filling.save(work, volume, snapshot, to, "raw", lambda _: None)
    data = to.read_bytes()
    return bytes(data[it * BLOCK] for it in range(8))


@pytest.fixture
def chain(slow_pool: Path) -> Path:
    """base@a, @b, @c and what it has now, each with a block of its own and one that is written again."""
    with working(slow_pool) as work:
        work.do(Create("base", SIZE))
        for byte, name in ((1, "a"), (2, "b"), (3, "c")):
            put(work, "base", byte, 0, byte)
            work.do(Cut("base", name))
        put(work, "base", 4, 0, 4)
    return slow_pool


STATES = {
    "": b"\4\1\2\3\4\0\0\0",
    "a": b"\1\1\0\0\0\0\0\0",
    "b": b"\2\1\2\0\0\0\0\0",
    "c": b"\3\1\2\3\0\0\0\0",
}


def check(work: Work, tmp_path: Path, *gone: str) -> None:
    """Each state that is there is as it was, also by what the images say themselves."""
    assert {it.name for it in work.volumes["base"].snapshots} == STATES.keys() - {"", *gone}
    for name, right in STATES.items():
        if name not in gone:
            assert content(work, tmp_path / "content", "base", name) == right, name
            path = work.path_of("base", name)
            tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, tmp_path / "own")
            data = (tmp_path / "own").read_bytes()
            assert bytes(data[it * BLOCK] for it in range(8)) == right, name


def merge(pool: Path, volume: str = "base") -> None:
    """As the command does it."""
    with closing(Work(str(pool), name="fast", locked=False)) as look:
        for request in merging.merged(look, volume, lambda _: None):
            with working(pool) as work:
                work.do(request)


@pytest.mark.parametrize(
    "gone", [("b",), ("a",), ("c",), ("a", "b"), ("b", "c"), ("a", "b", "c"), ("c", "a")]
)
def test_what_is_deleted_in_the_middle_is_merged(gone: tuple[str, ...], chain: Path, tmp_path: Path) -> None:
    with working(chain) as work:
        for name in gone:
            assert "aoe-target volume merge fast/base" in work.do(Delete("base", name)).notes[0]
            assert any("aoe-target volume merge POOL/base" in it.remedy for it in work.leftovers)
        check(work, tmp_path, *gone)
    merge(chain)
    with working(chain) as work:
        assert is_whole(work)
        assert not work.volumes["base"].fading
        check(work, tmp_path, *gone)
    assert len(files(chain)["images"]) == 4 - len(gone)


def test_what_a_disk_in_use_needs_can_be_deleted_and_is_merged_later(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU has the disk, and reads what that is made of."""
    with working(chain) as work, in_use(work.path_of("base")):
        for name in ("a", "c"):
            work.do(Delete("base", name))
        with pytest.raises(PoolError, match="is in use by"):
            work.do(Delete("base", recursive=True))
        monkeypatch.setattr(qemu_img, "run", lambda *_, **__: pytest.fail("nothing is run for that"))
        with pytest.raises(PoolError, match="is in use by qemu-io"):
            merge_beside(work)
    monkeypatch.undo()
    merge(chain)
    with working(chain) as work:
        assert (is_whole(work), work.volumes["base"].fading) == (True, ())
        check(work, tmp_path, "a", "c")


def test_a_snapshot_that_is_written_is_not_deleted(chain: Path) -> None:
    with working(chain) as work, in_use(work.path_of("base", "b")):
        with pytest.raises(PoolError, match="is in use by"):
            work.do(Delete("base", "b"))
        assert work.volumes["base"].find("b") is not None


def merge_beside(work: Work) -> None:
    for request in merging.merged(work, "base", lambda _: None):
        work.do(request)


@contextmanager
def in_use(path: str) -> Iterator[None]:
    """QEMU has it open to be written, and what is below it to be read."""
    words = ["qemu-io", "-f", "qcow2", path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(b"length\n")
            process.stdin.flush()
            assert b"MiB" in process.stdout.readline(), "it is open"
            yield
        finally:
            process.kill()


def test_after_a_rollback_both_branches_are_right(chain: Path, tmp_path: Path) -> None:
    with working(chain) as work:
        work.do(Rollback("base", "a"))
        put(work, "base", 9, 7)
        work.do(Delete("base", "a"))
    merge(chain)
    with working(chain) as work:
        assert is_whole(work)
        assert content(work, tmp_path / "content", "base") == b"\1\1\0\0\0\0\0\11"
        assert content(work, tmp_path / "content", "base", "c") == STATES["c"]


def test_a_chain_that_is_full_goes_on_once_it_is_merged(slow_pool: Path) -> None:
    with working(slow_pool) as work:
        work.do(Create("base", SIZE))
        for number in range(limits.POOL_CHAIN_MAX - 1):
            work.do(Cut("base", f"s{number}"))
        with pytest.raises(ConfigurationError, match="is made of 16 images already"):
            work.do(Cut("base", "more"))
        for number in range(4):
            work.do(Delete("base", f"s{number}"))
    merge(slow_pool)
    with working(slow_pool) as work:
        for number in range(4):
            work.do(Cut("base", f"more{number}"))
        assert is_whole(work)


def test_what_is_deleted_later_takes_what_it_alone_needed(chain: Path, tmp_path: Path) -> None:
    with working(chain) as work:
        work.do(Rollback("base", "a"))
        work.do(Delete("base", "b"))
        work.do(Delete("base", "c"))
        (kept,) = (it.name for it in work.volumes["base"].snapshots if it.cause == "rollback")
        work.do(Delete("base", kept))
        assert is_whole(work)
        assert content(work, tmp_path / "content", "base") == STATES["a"]
        work.do(Delete("base", recursive=True))
    assert files(chain) == {"volumes": set(), "images": set()}


def test_what_is_in_use_is_left_for_later(chain: Path, tmp_path: Path) -> None:
    with working(chain) as work:
        work.do(Delete("base", "b"))
        image = next(it.image for it in work.volumes["base"].snapshots if it.name == "c")
        with work.store.alone(image, read=False), pytest.raises(PoolError, match="is in use by"):
            next(merging.merged(work, "base", lambda _: None))
        check(work, tmp_path, "b")
    merge(chain)
    with working(chain) as work:
        check(work, tmp_path, "b")


def test_what_was_not_done_is_not_noted(chain: Path) -> None:
    with working(chain) as work:
        work.do(Delete("base", "b"))
        (it,) = rebases(work.tree, work.volumes["base"])
        assert it.base is not None
        with pytest.raises(PoolError, match="was not merged"):
            work.do(Merged("base", it.image.id, it.base.id))
        with pytest.raises(ConfigurationError, match="was changed meanwhile; merge it again"):
            work.do(Merged("base", it.image.id, None))
        with pytest.raises(ConfigurationError, match="is to be merged"):
            check_template(work.standing(), "base", replace(work.volumes["base"], snapshots=()))


def test_an_image_that_names_another_one_is_not_merged(chain: Path) -> None:
    with working(chain) as work:
        work.do(Create("secret", SIZE))
        work.do(Delete("base", "b"))
        other = work.volumes["secret"].head.file
        (it,) = rebases(work.tree, work.volumes["base"])
        image = chain / "images" / it.image.file
        tool("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", other, "-F", "qcow2", image)
        with pytest.raises(PoolError, match=f"names {other}, and its record does not; put back"):
            next(merging.merged(work, "base", lambda _: None))


def test_killed_anywhere_every_state_is_whole(chain: Path, tmp_path: Path) -> None:
    """In the middle of qemu-img, and before each call of the verb that notes it."""
    with working(chain) as work:
        work.do(Delete("base", "b"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qemu_img, "bounds", lambda _: {"cpu_s": 60, "end_s": 0.0, "file_bytes": 1 << 30})
        with suppress(PoolError):
            merge(chain)
    with working(chain) as work:
        check(work, tmp_path, "b")
        (it,) = rebases(work.tree, work.volumes["base"])
        assert it.base is not None
        work.rebase(it.image, it.through, it.base, lambda _: None)
        check(work, tmp_path, "b")
    at, alive = 0, False
    while not alive:
        copy = chain.with_name(f"{chain.name}-copy")
        shutil.copytree(chain, copy)
        alive = not killed(copy, Merged("base", it.image.id, it.base.id), at)
        with working(copy) as work:
            check(work, tmp_path, "b")
            left = work.volumes["base"].fading
        assert not (alive and left)
        if left:
            merge(copy)
        with working(copy) as work:
            assert is_whole(work)
        shutil.rmtree(copy)
        at += 1
    assert at > 3


def test_what_has_no_room_is_not_begun(chain: Path) -> None:
    with working(chain) as work:
        work.do(Delete("base", "b"))
    look = Work(str(chain), name="fast", reserve=90, locked=False)
    with closing(look), pytest.raises(ConfigurationError, match=r"to merge fast/base takes [0-9]+ bytes"):
        next(merging.merged(look, "base", lambda _: None))


@pytest.fixture
def pools(chain: Path) -> Iterator[Pools]:
    found = Pools([PoolConfig(name="fast", path=str(chain), reserve=0)])
    found.look()
    yield found
    found.close()


def test_a_daemon_does_it_in_the_background(pools: Pools, tmp_path: Path) -> None:
    chores = Chores(pools, lambda _: False)
    chores.do("fast", Delete("base", "b"))
    work = pools.work("fast")
    assert list(merges(pools, chores.do, UNSERVED)) == [{"volume": "fast/base", "problem": ""}]
    assert not list(merges(pools, chores.do, UNSERVED))
    check(work, tmp_path, "b")
    chores.do("fast", Delete("base", "c"))
    with work.store.alone(work.volumes["base"].head, read=False):
        (found,) = merges(pools, chores.do, UNSERVED)
        assert "is in use by" in found["problem"]
    assert list(merges(pools, chores.do, UNSERVED)) == [{"volume": "fast/base", "problem": ""}]
    check(work, tmp_path, "b", "c")


def test_plans_without_a_store() -> None:
    world = standings.with_base(reflink=False)
    for name in ("a", "b"):
        world.do(Cut("base", name))
    world.do(Clone("base", "a", "web"))
    with pytest.raises(ConfigurationError, match="has clones"):
        world.plan(Delete("base", "a"))
    world.do(Delete("base", "b"))
    assert len(world.volumes["base"].fading) == 1
    assert world.volumes["base"].size == 10 * GIB


def test_the_counter_counts_here_as_well(chain: Path) -> None:
    with working(chain) as work, counted(lambda: None, -1) as count:
        work.do(Delete("base", "b"))
    assert count[0] > 2
