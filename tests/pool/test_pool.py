"""A pool in a program with an event loop."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import aoe.pool
from aoe.errors import ConfigurationError, MisuseError, PoolError
from aoe.pool.directory import Directory
from aoe.pool.pool import Pool
from aoe.pool.requests import Cut
from aoe.pool.steps import Step
from tests.pool.pools import SIZE, files, is_whole, working
from tests.support.waiting import PATIENCE_S


def test_verbs(pool: Path) -> None:
    async def run() -> None:
        async with await aoe.pool.Pool.open(str(pool), name="fast") as opened:
            base = await opened.create("base", SIZE)
            assert (base.size, base.head.format) == (SIZE, "raw")
            assert (await opened.snapshot("base", "a")).find("a")
            web = await opened.clone("base", "web", snapshot="a")
            assert web.uuid != base.uuid
            assert (await opened.rollback("base", "a")).uuid == base.uuid
            assert (await opened.resize("base", 2 * SIZE)).size == 2 * SIZE
            assert (await opened.rename("base", "b")).uuid == base.uuid
            assert (await opened.plan(Cut("b", "x"))).done == "fast/b@x: cut"
            assert (await opened.room()).total > SIZE
            assert (await opened.usage("b"))[0].allocated == 0
            assert Path(opened.path_of("b")).stat().st_size == 2 * SIZE
            await opened.delete("web")
            await opened.delete("b", snapshot="a")
            with pytest.raises(ConfigurationError, match="say --recursive"):
                await opened.delete("b")
            await opened.delete("b", recursive=True)
            assert opened.volumes == {}
            assert opened.leftovers == []

    asyncio.run(run())
    assert files(pool) == {"volumes": set(), "images": set()}


def test_verbs_are_done_one_after_the_other(pool: Path) -> None:
    async def run() -> None:
        async with await Pool.open(str(pool)) as opened:
            made = await asyncio.gather(
                *(opened.create(it, SIZE) for it in ("a", "b", "A", "a")), return_exceptions=True
            )
            assert [isinstance(it, ConfigurationError) for it in made] == [False, False, True, True]
            await asyncio.gather(*(opened.snapshot("a", f"s{number}") for number in range(5)))
            assert len(opened.volumes["a"].snapshots) == 5

    asyncio.run(run())


def test_a_cancelled_verb_leaves_a_whole_pool(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until its step is done, even if it is cancelled again."""
    begun, go_on = threading.Event(), threading.Event()
    doing = Directory.do

    def slowly(self: Directory, step: Step) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        doing(self, step)

    async def run() -> None:
        async with await Pool.open(str(pool)) as opened:
            monkeypatch.setattr(Directory, "do", slowly)
            verb = asyncio.ensure_future(opened.create("a", SIZE))
            while not begun.is_set():
                await asyncio.sleep(0.001)
            for _ in range(2):
                verb.cancel()
                await asyncio.sleep(0.001)
            assert not verb.done()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await verb

    asyncio.run(run())
    with working(pool) as work:
        assert is_whole(work)
        assert work.volumes.keys() == {"a"}


def test_two_of_one_process_are_told_apart(pool: Path) -> None:
    async def run() -> None:
        async with await Pool.open(str(pool)):
            with pytest.raises(PoolError, match="is in use by"):
                await Pool.open(str(pool), patience_s=0)
        await (await Pool.open(str(pool), patience_s=0)).close()

    asyncio.run(run())


def test_it_belongs_to_its_event_loop(pool: Path) -> None:
    opened = asyncio.run(Pool.open(str(pool)))

    async def use() -> None:
        with pytest.raises(MisuseError, match="this pool belongs to another event loop; open it here"):
            await opened.room()

    asyncio.run(use())
    asyncio.run(opened.close())


def test_what_was_closed_stays_so(pool: Path) -> None:
    """Its descriptors may belong to something else by then."""

    async def run() -> None:
        opened = await Pool.open(str(pool), name="fast")
        await opened.create("a", SIZE)
        await opened.close()
        await opened.close()
        for call in (
            opened.create("b", SIZE),
            opened.room(),
            opened.delete("a"),
            opened.save("a", "/none/a"),
        ):
            with pytest.raises(MisuseError, match="was closed here; open it again"):
                await call

    asyncio.run(run())
    assert len(files(pool)["volumes"]) == 1


def test_what_is_no_pool(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not marked"):
        asyncio.run(Pool.open(str(tmp_path)))


@pytest.mark.parametrize(("module", "most"), [("aoe.pool.names", 3), ("aoe.pool", 1)])
def test_names_wait_for_nothing_else(module: str, most: int) -> None:
    heavy = ("aoe.pool", "asyncio", "tomllib")
    code = f"import sys, {module}; print(*(it for it in sys.modules if it.startswith({heavy})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert len(done.stdout.split()) <= most
    assert "asyncio" not in done.stdout


def test_the_face_of_it() -> None:
    assert {"Pool", "init"} <= set(dir(aoe.pool))
    with pytest.raises(AttributeError, match="nothing"):
        _ = aoe.pool.nothing
