"""A node that serves volumes of a thin pool of LVM by name, and does its verbs meanwhile."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from aoe.config.values import Config, ExportConfig, PoolConfig
from aoe.errors import ConfigurationError
from aoe.node.patient import NoAnswer
from aoe.node.pools import Pools
from aoe.node.volumes import WHO_SEES
from aoe.pool.adopting import Freeze
from aoe.pool.asked import Wish
from aoe.pool.requests import Clone, Create, Cut, Resize, Rollback
from aoe.wire.protocol import SECTOR
from tests.node.scene import TARGETED, Scene
from tests.pool.fake_lvm import THIN, VG
from tests.pool.pools import SIZE, first
from tests.pool.thin import fake, with_base, working
from tests.support.waiting import PATIENCE_S

POOL = PoolConfig(name="fast", kind="lvm-thin", vg=VG, thin_pool=THIN)
LAST = 2 * SIZE // SECTOR - 1


def sector(byte: int) -> bytes:
    return bytes([byte]) * SECTOR


def test_a_thin_volume_is_served_cut_resized_and_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lvm = with_base(fake(tmp_path / "lvm", monkeypatch))
    with working(lvm) as work:
        work.do(Cut("base", "golden"))
        work.do(Clone("base", "golden", "other"))
    names = "fast/base", "fast/base@golden", "fast/other"
    exports = [ExportConfig(path=path, shelf=1, slot=slot) for slot, path in enumerate(names)]

    async def serve(here: Scene) -> None:
        async def do(request: Wish, *, force: bool = False) -> list[str]:
            done = await here.node.volumes.do("fast", request, exports, "root", force)
            return list(done.get("notes", ()))

        def instance() -> int:
            return next(it.identity.instance for it in here.node.target.exports if it.slot == 0)

        disk, kept, before = here.host(0), here.host(1), instance()
        assert (await disk.read(0), await kept.read(0)) == (sector(1), sector(1))
        await disk.write(0, sector(2))
        assert await do(Cut("base", "then")) == []
        await disk.write(0, sector(3))
        await do(Clone("base", "", "web1"))
        await disk.write(0, sector(4))
        assert WHO_SEES in await do(Resize("base", 2 * SIZE))
        await disk.write(LAST, sector(5))
        assert (await disk.read(0), await disk.read(LAST), instance()) == (sector(4), sector(5), before)
        for request in (Rollback("base", "then"), Resize("base", SIZE, shrink=True)):
            with pytest.raises(ConfigurationError, match=r"fast/base is served at e1\.0, and .* used it"):
                await do(request)
        with pytest.raises(ConfigurationError, match=r"^fast/other is served at e1\.2; take that out of the"):
            await do(Freeze("other"), force=True)
        assert "e1.0: another instance is served" in await do(Rollback("base", "then"), force=True)
        assert (await disk.read(0), await kept.read(0)) == (sector(2), sector(1))
        assert instance() != before
        await disk.write(0, sector(6))

    async def run() -> None:
        here = Scene(tmp_path, Config(TARGETED, tuple(exports)))
        here.opener.pools.follow([POOL])
        assert (await here.start()).exit == 0
        try:
            await serve(here)
        finally:
            await here.node.stop()
            here.opener.close()

    asyncio.run(run())
    with working(lvm) as work:
        *_, back = (it.name for it in work.volumes["base"].snapshots)
        states = ("base",), ("base", "then"), ("base", back), ("web1",)
        assert [first(work, *it) for it in states] == [6, 2, 4, 3]
        assert not work.leftovers


def test_a_command_that_takes_long_keeps_no_verb_from_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is bounded by itself: what does not answer in five seconds is no disk that hangs."""
    lvm = with_base(fake(tmp_path / "lvm", monkeypatch))
    goes_on = threading.Event()

    def wait(words: Sequence[str]) -> None:
        assert "--activate" not in words or goes_on.wait(PATIENCE_S)

    with closing(Pools([POOL])) as pools:
        pools.look(PATIENCE_S)
        with pools.turn("fast") as work:
            work.do(Cut("base", "golden"))
        lvm.before = wait
        try:
            with pytest.raises(NoAnswer):
                pools.ask("fast", lambda: pools.sight("fast/base@golden"), 0.1)
            with pools.turn("fast") as work:
                work.do(Create("more", SIZE))
        finally:
            goes_on.set()
