"""A disk that is removed while it is being changed is closed when that is over."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from aoe.disk.file import FileDisk
from aoe.disk.open import Opening, open_disk
from aoe.errors import ConfigurationError
from aoe.target import server
from aoe.target.serve import serve
from aoe.target.target import Target
from aoe.testing import Lab
from tests.link.collector import until

MAC = bytes((2, 0, 0, 0, 0, 9))


class Gate:
    """Where something of the disk waits, until it `goes`."""

    def __init__(self) -> None:
        self.came, self.goes = asyncio.Event(), asyncio.Event()
        self.closed_too_early = False

    async def passes(self, is_closed: Callable[[], bool]) -> None:
        self.came.set()
        await self.goes.wait()
        self.closed_too_early = is_closed()


Change = Callable[[Target], Coroutine[Any, Any, object]]
CHANGES: dict[str, Change] = {
    "write-through": lambda target: target.change(1, 0, write_back=False),
    "reopened": lambda target: target.reopen(1, 0),
    "masked": lambda target: target.restate(1, 0, mask=(MAC,)),
}


def slow_at(gate: Gate, closed: list[FileDisk], patch: pytest.MonkeyPatch) -> None:
    """What each change does last with its disk, or for its record."""
    close = FileDisk.close

    def closes(disk: FileDisk) -> None:
        closed.append(disk)
        close(disk)

    async def waits(disk: FileDisk) -> None:
        await gate.passes(lambda: disk in closed)

    async def kept(save: Callable[[], None]) -> None:
        await gate.passes(lambda: bool(closed))
        save()

    patch.setattr(FileDisk, "close", closes)
    patch.setattr(FileDisk, "flush", waits)
    patch.setattr(FileDisk, "reopen", waits)
    patch.setattr(server, "aside", kept)


@pytest.mark.parametrize("how", CHANGES)
def test_what_is_being_changed_is_closed_later(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        lab, closed, gate = Lab(), list[FileDisk](), Gate()
        (link,) = lab.cables(lab.new_host(), (0,)).values()
        disk = open_disk(tmp_path / "disk", Opening())
        async with serve(
            disk, link, address="e1.0", check=False, write_back=True, state_dir=tmp_path
        ) as target:
            if how == "reopened":
                disk.distrust()
            slow_at(gate, closed, monkeypatch)
            change = asyncio.ensure_future(CHANGES[how](target))
            await gate.came.wait()
            assert not await target.remove(1, 0, timeout_s=0.02), "its disk is in use"
            said = list[bytes]()
            monkeypatch.setattr(link, "send", lambda raw, *_: said.append(raw))
            gate.goes.set()
            await change
            assert not gate.closed_too_early
            await until(lambda: closed, what="it is not closed")
            assert not said, "nothing is told of an address that is served no more"
            with pytest.raises(ConfigurationError, match="is not served here"):
                await target.change(1, 0, write_back=True)

    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    asyncio.run(test())


def test_a_change_that_waits_for_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is carried out, as the disk is there still."""

    async def test() -> None:
        lab, closed, gate = Lab(), list[FileDisk](), Gate()
        links = lab.cables(lab.new_host(), (0,)).values()
        disk = open_disk(tmp_path / "disk", Opening())
        async with serve(disk, *links, address="e1.0", check=False, state_dir=tmp_path) as target:
            slow_at(gate, closed, monkeypatch)
            changes = [asyncio.ensure_future(target.restate(1, 0, mask=mask)) for mask in ((MAC,), ())]
            await gate.came.wait()
            assert not await target.remove(1, 0, timeout_s=0.02)
            gate.goes.set()
            await asyncio.wait_for(asyncio.gather(*changes), 30)
            assert not gate.closed_too_early
            await until(lambda: closed, what="it is not closed")

    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    asyncio.run(test())
