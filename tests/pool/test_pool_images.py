"""Whole images, for a program that has a pool and an event loop."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aoe.pool
from aoe.errors import ConfigurationError, FetchFailed
from aoe.pool import qemu_img
from tests.pool.fake_lvm import FakeLvm
from tests.pool.pools import MIB, files, is_whole, working
from tests.pool.thin import working as working_on_lvm
from tests.pool.web import Web, serving
from tests.support.tools import need, tool
from tests.support.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def _qemu() -> None:
    need("qemu-img")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "disk.raw"
    file.write_bytes(b"x" * MIB)
    return file


@pytest.fixture
def web(image: Path) -> Iterator[Web]:
    with serving() as it:
        it.data = image.read_bytes()
        yield it


Use = Callable[[aoe.pool.Pool], Awaitable[None]]


def used(pool: Path, use: Use, **how: Any) -> None:
    async def run() -> None:
        async with await aoe.pool.Pool.open(str(pool), name="fast", **how) as opened:
            await use(opened)

    asyncio.run(run())


def test_from_an_image_to_a_clone_and_out_again(image: Path, pool: Path, tmp_path: Path) -> None:
    told: list[float] = []
    saved = tmp_path / "saved.raw"

    async def use(opened: aoe.pool.Pool) -> None:
        base = await opened.import_image(image, "base", told=told.append)
        assert (base.size, base.head.format) == (MIB, "raw")
        assert (await opened.template("base")).template
        await opened.clone("base", "web")
        assert await opened.save("web", saved) == MIB
        with pytest.raises(ConfigurationError, match="is there already; choose another name"):
            await opened.save("web", saved)
        with pytest.raises(ConfigurationError, match="there is a volume base"):
            await opened.import_image(image, "base")
        with pytest.raises(ConfigurationError, match="is a template already; clone it"):
            await opened.template("base")
        with pytest.raises(ConfigurationError, match="has the SHA-256 "):
            await opened.import_image(image, "more", sha256="0" * 64)
        with pytest.raises(ConfigurationError, match="has nothing to be merged"):
            await opened.merge("web")

    used(pool, use)
    assert saved.read_bytes() == image.read_bytes()
    assert told[-1] == 1
    assert told == sorted(told)
    with working(pool) as work:
        assert is_whole(work)


def test_from_a_web_server(web: Web, pool: Path) -> None:
    """What has come before is not asked for again."""
    told: list[tuple[int, int | None]] = []

    async def use(opened: aoe.pool.Pool) -> None:
        web.cut = 700_000
        with pytest.raises(FetchFailed, match="do it again to go on"):
            await opened.import_image(web.url(), "base")
        web.cut = None
        await opened.import_image(web.url(), "base", fetched=lambda *it: told.append(it))

    used(pool, use)
    assert web.asked[-1]["Range"] == "bytes=700000-"
    assert told[-1] == (MIB, MIB)
    assert not list((pool / "scratch").iterdir())


def test_what_deleted_states_had_is_merged(slow_pool: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.raw"

    async def use(opened: aoe.pool.Pool) -> None:
        await opened.create("base", MIB)
        tool("qemu-io", "-f", "qcow2", "-c", f"write -P 7 0 {MIB}", opened.path_of("base"))
        for name in "ab":
            await opened.snapshot("base", name)
        await opened.delete("base", snapshot="a")
        assert opened.volumes["base"].fading
        merged = await opened.merge("base")
        assert not merged.fading
        await opened.save("base", saved, snapshot="b")

    used(slow_pool, use)
    assert saved.read_bytes() == b"\7" * MIB


def test_on_lvm_a_template_copies_nothing(lvm: FakeLvm, web: Web, tmp_path: Path) -> None:
    saved = tmp_path / "saved.raw"

    async def use(opened: aoe.pool.Pool) -> None:
        await opened.import_image(web.url(), "new")
        await opened.template("new")
        await opened.save("new", saved, snapshot="template")

    used(Path(lvm.path), use, kind="lvm-thin")
    assert saved.read_bytes() == web.data
    with working_on_lvm(lvm) as work:
        assert is_whole(work)


def test_other_verbs_are_done_while_one_copies(
    image: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, copying = threading.Event(), threading.Event(), qemu_img.convert

    def slowly(*how: Any) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        copying(*how)

    async def use(opened: aoe.pool.Pool) -> None:
        monkeypatch.setattr(qemu_img, "convert", slowly)
        first = asyncio.ensure_future(opened.import_image(image, "base"))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        await opened.create("other", MIB)
        go_on.set()
        assert (await first).size == MIB
        assert opened.volumes.keys() == {"base", "other"}

    used(pool, use)


class Forever:
    """A copy that goes on, until somebody does not want it any more."""

    def __init__(self) -> None:
        self._begun = threading.Event()

    def __call__(self, *how: Any) -> None:
        *_, told = how
        while True:
            told(0.5)
            self._begun.set()
            time.sleep(0.001)

    async def stopped(self, verb: "asyncio.Future[Any]") -> None:
        """Once it has begun."""
        while not self._begun.is_set():
            await asyncio.sleep(0.001)
        verb.cancel()
        with pytest.raises(asyncio.CancelledError):
            await verb


@pytest.mark.parametrize("what", ["import", "template", "save"])
def test_one_that_is_cancelled_ends_at_once_and_leaves_nothing(
    what: str, image: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever, saved = Forever(), tmp_path / "saved.raw"

    async def use(opened: aoe.pool.Pool) -> None:
        await opened.import_image(image, "base")
        before = files(pool)
        with monkeypatch.context() as patched:
            patched.setattr(qemu_img, "convert", forever)
            verbs = {
                "import": lambda: opened.import_image(image, "more"),
                "template": lambda: opened.template("base"),
                "save": lambda: opened.save("base", saved),
            }
            verb = asyncio.ensure_future(verbs[what]())
            await forever.stopped(verb)
        assert files(pool) == before
        assert not saved.exists()
        assert not (await opened.template("base")).fading

    used(pool, use)
    with working(pool) as work:
        assert is_whole(work)


def test_a_merge_that_is_cancelled_goes_on_later(slow_pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forever = Forever()

    async def use(opened: aoe.pool.Pool) -> None:
        await opened.create("base", MIB)
        for name in "ab":
            await opened.snapshot("base", name)
        await opened.delete("base", snapshot="a")
        with monkeypatch.context() as patched:
            patched.setattr(qemu_img, "rebase", forever)
            verb = asyncio.ensure_future(opened.merge("base"))
            await forever.stopped(verb)
        assert opened.volumes["base"].fading
        assert not (await opened.merge("base")).fading

    used(slow_pool, use)
