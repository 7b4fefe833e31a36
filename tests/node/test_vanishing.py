"""Disks that are not what they were while they are served: read-only for the kernel, replaced, gone, back."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest

from aoe import timing
from aoe.config.values import Config, ExportConfig
from aoe.disk.base import StoreName
from aoe.disk.device import Batch
from aoe.drive.identify import StoreKind
from aoe.errors import ConfigurationError
from aoe.node.links import Links
from aoe.node.needs import Held
from aoe.node.status import ExportStatus
from tests.disk.helpers import noise
from tests.node.scene import SECTORS, TARGETED, MemoryOpener, Scene, export, image, scene
from tests.serve.initiator import AtaFailed, NoAnswer
from tests.support.labs.fault_disk import FuseDisk, loop_device, protected

ABORTED = 0x04


def test_one_that_is_read_only_for_the_kernel_is_served_on_by_each_apply(tmp_path: Path) -> None:
    """The file does not say read-only: that is no reason to open it anew, or not to do the rest."""

    async def run(device: Path) -> None:
        one = export(tmp_path, str(device))
        async with scene(tmp_path, one) as here:
            (served,) = here.node.target.exports
            (status,) = here.node.status().exports
            assert (status.state, status.read_only) == ("serving", True)
            assert (await here.apply(one)).sentences == ["nothing to do"]
            lazy = export(tmp_path, str(device), durability="write-back")
            assert (await here.apply(lazy)).exit == 0
            assert here.node.target.exports == [served]
            with pytest.raises(AtaFailed) as refused:
                await here.host().write(0, noise(1))
            assert refused.value.reply.error == ABORTED

    image(tmp_path, "disk")
    with loop_device(tmp_path / "disk") as device, protected(device):
        asyncio.run(run(device))
    assert (tmp_path / "disk").read_bytes() == bytes(SECTORS * 512)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are taken often."""
    monkeypatch.setattr(timing, "FAILED_AGAIN_S", 0.05)
    monkeypatch.setattr(timing, "ARRIVAL_S", 0.05)


def status(here: Scene, slot: int = 0) -> ExportStatus:
    return next(it for it in here.node.status().exports if it.address == f"e1.{slot}")


async def until_it_says(here: Scene, words: str) -> None:
    """Requests go on, and fail."""
    async with asyncio.timeout(30):
        while words not in status(here).reason:
            with suppress(AtaFailed, NoAnswer):
                await here.host(patience_s=0.2).write(0, noise(1))
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("quick")
def test_one_whose_server_died_is_named_and_served_again_by_word(tmp_path: Path) -> None:
    async def run(disk: FuseDisk) -> None:
        one, other = export(tmp_path, str(disk.path)), export(tmp_path, "well", 1)
        async with scene(tmp_path, one, other) as here:
            await here.host().write(2, noise(1))
            disk.die()
            await until_it_says(here, "is not there any more: its clients get errors until it is back")
            assert status(here).state == "failed"
            assert here.node.status().sentence.startswith("1 failed, 1 serving: e1.0 (")
            with pytest.raises(ConfigurationError, match="has not failed"):
                await here.node.reopen((1, 0), "a test")
            disk.revive()
            await until_it_says(here, "aoe-target reopen e1.0")
            assert here.addresses == ["e1.0", "e1.1"], "not before it is said"
            await here.node.reopen((1, 0), "a test")
            assert (status(here).state, status(here).reason) == ("serving", "")
            host = here.host()
            await host.write(4, noise(1, 4))
            assert await host.read(2) == noise(1)
            assert await here.host(1).read(0) == bytes(512)
            assert here.announced == ["e1.0", "e1.1", "e1.0"]
        assert disk.store.read_bytes()[4 * 512 : 5 * 512] == noise(1, 4)

    with FuseDisk(tmp_path / "sick", SECTORS) as disk:
        asyncio.run(run(disk))


@pytest.mark.usefixtures("quick")
def test_another_file_in_its_place_is_not_served_by_that_word(tmp_path: Path) -> None:
    async def run(disk: FuseDisk) -> None:
        async with scene(tmp_path, export(tmp_path, str(disk.path))) as here:
            disk.die()
            disk.path.write_bytes(b"other" * 1024)
            await until_it_says(here, "aoe-target reopen e1.0")
            with pytest.raises(ConfigurationError, match="leads to another disk by now"):
                await here.node.reopen((1, 0), "a test")
            with pytest.raises(AtaFailed):
                await here.host().read(0)
        assert disk.path.read_bytes() == b"other" * 1024
        disk.path.unlink()

    with FuseDisk(tmp_path / "sick", SECTORS) as disk:
        asyncio.run(run(disk))


class Devices(MemoryOpener):
    """Files that have ids, as devices have."""

    ids: ClassVar[dict[str, str]] = {}

    def open_store(self, export: ExportConfig, batch: Batch | None = None) -> Held:
        held = super().open_store(export, batch)
        id = self.ids[Path(export.path).read_bytes()[:1].decode()]
        name = StoreName(StoreKind.DEVICE, id)
        return held._replace(key=held.key._replace(name=name), opened=held.opened._replace(store_name=name))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("same", [True, False], ids=["the same", "another"])
def test_a_device_with_an_id_is_served_again_when_it_is_back(tmp_path: Path, same: bool) -> None:
    """Under another name of the kernel; the path is one that follows it."""
    Devices.ids = {"a": "wwn-1", "b": "wwn-1", "c": "wwn-2"}
    first, then, link = (tmp_path / name for name in ("first", "then", "link"))
    first.write_bytes(b"a" * 512 * SECTORS)
    then.write_bytes((b"b" if same else b"c") * 512 * SECTORS)
    link.symlink_to(first)

    async def run() -> None:
        made = Scene(tmp_path, Config(TARGETED, (ExportConfig(path=str(link), shelf=1, slot=0),)))
        made.node._opener = made.node._hands._opener = made.opener = Devices(made.network)
        made.node._links = made.node._hands._links = Links(made.opener.open_link)
        await made.start()
        os.truncate(first, 0)
        link.unlink()
        link.symlink_to(then)
        if same:
            async with asyncio.timeout(30):
                while (await answer(made)) != b"b" * 512:
                    await asyncio.sleep(0.05)
            assert made.announced == ["e1.0", "e1.0"]
            assert status(made).state == "serving"
        else:
            for _ in range(10):
                assert await answer(made) == b""
                await asyncio.sleep(0.05)
            assert made.announced == ["e1.0"]
            assert status(made).state == "failed"
        await made.node.stop()

    asyncio.run(run())


async def answer(here: Scene) -> bytes:
    try:
        return await here.host(patience_s=0.3).read(0)
    except (AtaFailed, NoAnswer):
        return b""


@pytest.mark.parametrize("way", ["removed", "replaced", "renamed"])
def test_a_file_that_loses_its_name_is_served_on_and_status_says_so(tmp_path: Path, way: str) -> None:
    async def run() -> None:
        one, other = export(tmp_path, "a"), export(tmp_path, "b", 1)
        async with scene(tmp_path, one, other) as here:
            served = here.node.target.exports
            path = tmp_path / "a"
            if way == "renamed":
                path.rename(tmp_path / "c")
            else:
                path.unlink()
            if way == "replaced":
                path.write_bytes(b"n" * 512 * SECTORS)
            async with asyncio.timeout(30):
                while not status(here).reason:
                    await asyncio.sleep(0.02)
            assert (
                f"{path} was {'renamed' if way == 'renamed' else 'removed or replaced'}; "
                in status(here).reason
            )
            done = await here.apply(one, other)
            assert here.node.target.exports == served
            assert len(done.sentences) == 1
            if way == "replaced":
                assert "is another file by now" in done.sentences[0]
            await here.host().write(0, noise(1))
            assert (status(here, 1).state, status(here, 1).reason) == ("serving", "")
        assert way != "replaced" or path.read_bytes() == b"n" * 512 * SECTORS

    asyncio.run(run())
