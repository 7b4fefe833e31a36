"""Of many exports some cannot be served: they are told at once, and hold up no other."""

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aoe import timing
from aoe.config.values import Config
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.target import lasting
from aoe.target.address_locks import AddressLocks
from aoe.target.offer import Key
from aoe.target.target import Target
from tests.node.scene import TARGETED, MemoryOpener, Scene, export
from tests.target.test_address_locks import wire

EXPORTS = 40
FOREIGN = [(1, slot) for slot in (3, 17, 18, 30)]
ADDRESSES = [f"e1.{slot}" for _, slot in FOREIGN]


class Tries:
    """What the target was to add, each time: how many, how long it was to wait for others, and how many it
    served by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.them: list[tuple[int, float, int]] = []
        add = Target.add

        async def noted(target: Target, *offers: Any, **how: Any) -> Any:
            self.them.append((len(offers), how["lock_wait_s"], len(target.exports)))
            return await add(target, *offers, **how)

        monkeypatch.setattr(Target, "add", noted)


PLACE = f"adding{os.getpid()}"


def open_link(*_: object) -> Link:
    """One that other processes may be on, too."""
    return wire(PLACE)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Tries:
    monkeypatch.setattr(timing, "LOCK_WAIT_S", 0.2)
    monkeypatch.setattr(MemoryOpener, "open_link", open_link)
    return Tries(monkeypatch)


def scene_of(work: Path, *exports: Any) -> Scene:
    """It is not started."""
    return Scene(work, Config(TARGETED, exports))


def foreign() -> AddressLocks:
    """Of another process."""
    return AddressLocks([wire(PLACE)])


def test_what_another_process_has_is_waited_for_once_and_behind_the_others(
    tmp_path: Path, tries: Tries
) -> None:
    async def run() -> None:
        other = foreign()
        await other.take(FOREIGN, force=False)
        here = scene_of(tmp_path, *(export(tmp_path, f"d{slot}", slot) for slot in range(EXPORTS)))
        done = await here.start()
        mine = EXPORTS - len(FOREIGN)
        assert tries.them == [(EXPORTS, 0.0, 0), (mine, 0.0, 0), (len(FOREIGN), 0.2, mine)]
        assert [it.address for it in done.failed] == ADDRESSES
        assert all("is served on" in it.text and it.address in it.text for it in done.failed)
        assert len(here.node.target.exports) == mine
        other.close()
        await here.node.stop()

    asyncio.run(run())


def test_what_another_process_has_is_served_when_that_goes_in_time(
    tmp_path: Path, tries: Tries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "LOCK_WAIT_S", 30.0)

    async def run() -> None:
        other = foreign()
        await other.take([(1, 1)], force=False)
        here = scene_of(tmp_path, *(export(tmp_path, f"d{slot}", slot) for slot in range(3)))
        starting = asyncio.ensure_future(here.start())
        async with asyncio.timeout(30):
            while len(here.announced) < 2:
                await asyncio.sleep(0.01)
        assert not starting.done()
        other.close()
        assert (await starting).exit == 0
        assert here.addresses == ["e1.0", "e1.1", "e1.2"]
        assert [it[0] for it in tries.them] == [3, 2, 1]
        await here.node.stop()

    asyncio.run(run())


def test_records_that_other_processes_have_are_all_named_at_once(tmp_path: Path, tries: Tries) -> None:
    async def run() -> None:
        exports = [export(tmp_path, f"d{slot}", slot, serial=f"SERIAL{slot}") for slot in range(EXPORTS)]
        first = scene_of(tmp_path, *exports)
        assert (await first.start()).exit == 0
        await first.node.stop()
        tries.them.clear()
        again = scene_of(tmp_path, *exports)
        for _, slot in FOREIGN:
            record = next(it for it in first.state.records.records if it.serial == f"SERIAL{slot}")
            record.open(f"e1.{slot}")
        done = await again.start()
        assert [it[0] for it in tries.them] == [EXPORTS, EXPORTS - len(FOREIGN)]
        assert [it.address for it in done.failed] == ADDRESSES
        assert all("in use by another process" in it.text for it in done.failed)
        await again.node.stop()
        for it in first.state.records.records:
            it.close()

    asyncio.run(run())


def test_nothing_is_served_whose_record_is_not_on_stable_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def run() -> None:
        here = scene_of(tmp_path, *(export(tmp_path, f"d{slot}", slot) for slot in range(EXPORTS)))
        with monkeypatch.context() as patch:
            patch.setattr(lasting, "sync_directory", fail)
            done = await here.start()
        assert {it.text for it in done.failed} == {
            "cannot keep state: Input/output error; give a writable --state-dir"
        }
        assert len(done.failed) == EXPORTS
        assert not here.node.target.exports
        await here.node.stop()

    asyncio.run(run())


def test_where_there_is_not_enough_for_all_there_is_for_some(
    tmp_path: Path, tries: Tries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of no export in particular."""
    room = [5]

    async def take(self: AddressLocks, keys: Sequence[Key], **_: Any) -> None:
        if len(keys) > room[0]:
            raise ConfigurationError("no more descriptors")
        room[0] -= len(keys)

    monkeypatch.setattr(AddressLocks, "take", take)

    async def run() -> None:
        here = scene_of(tmp_path, *(export(tmp_path, f"d{slot}", slot) for slot in range(8)))
        done = await here.start()
        assert len(here.node.target.exports) == 5
        assert [it.text for it in done.failed] == ["no more descriptors"] * 3
        await here.node.stop()

    asyncio.run(run())
