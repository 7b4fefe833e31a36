"""Changes of a disk that does not answer: they hold up neither the command nor another change."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe import limits, timing
from aoe.config.values import Config
from aoe.disk.file import FileDisk
from aoe.errors import ConfigurationError, DiskError, DiskHangs
from aoe.node.steps import Note
from aoe.node.told import Told
from tests.node.scene import TARGETED, Scene, export, scene
from tests.serve.initiator import mac

ALICE = mac(8)
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "DISK_ANSWER_S", 0.2)
    monkeypatch.setattr(timing, "FAILED_AGAIN_S", 0.05)


@contextmanager
def hanging(here: Scene, slot: int, *calls: str) -> Iterator[asyncio.Event]:
    """These calls of a disk, until the event is set."""
    (export,) = [it for it in here.node.target.exports if it.slot == slot]
    disk = here.node.target.server.served(export).disk
    answers = asyncio.Event()
    with pytest.MonkeyPatch.context() as patch:
        for name in calls:
            real = getattr(FileDisk, name)

            async def late(self: FileDisk, *rest: object, real: object = real, **more: object) -> object:
                if self is disk:
                    await answers.wait()
                return await real(self, *rest, **more)  # type: ignore[operator]

            patch.setattr(FileDisk, name, late)
        yield answers
        answers.set()


async def settled(here: Scene, state: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while here.states()["e1.0"] != state:
            await asyncio.sleep(0.01)


def test_a_durability_that_waits_for_its_disk_is_named_and_done_later(tmp_path: Path) -> None:
    async def run() -> None:
        lazy = export(tmp_path, "a", durability="write-back")
        async with scene(tmp_path, lazy) as here:
            with hanging(here, 0, "flush") as answers:
                done = await here.apply(export(tmp_path, "a"), export(tmp_path, "b", 1))
                assert (done.exit, here.addresses) == (1, ["e1.0", "e1.1"])
                assert [it.sentence for it in done.failed] == [
                    f"e1.0: {tmp_path}/a has not answered for 0.2 s; it is changed when it does"
                ]
                (one,) = [it for it in here.node.status().exports if it.address == "e1.0"]
                assert (one.state, one.durability) == ("failed", "write-back")
                third = await here.apply(
                    export(tmp_path, "a"), export(tmp_path, "b", 1), export(tmp_path, "c", 2)
                )
                assert "does not answer yet" in third.failed[0].text
                assert here.addresses == ["e1.0", "e1.1", "e1.2"]
                answers.set()
                await settled(here, "serving")
            (one, *_) = here.node.status().exports
            assert one.durability == "write-through"
            assert here.node.target.exports[0].identity.cache is False
            assert (await here.apply(export(tmp_path, "a"), export(tmp_path, "b", 1))).exit == 0

    asyncio.run(run())


def test_while_it_hangs_that_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And what is tried again meanwhile is not said to be done."""
    caplog.set_level(logging.INFO, "aoe.node")

    async def run() -> None:
        lazy, broken = export(tmp_path, "a", durability="write-back"), export(tmp_path, "gone", 1)
        async with scene(tmp_path, lazy) as here:
            with hanging(here, 0, "flush") as answers:
                assert (await here.apply(export(tmp_path, "a"), broken)).exit == 1
                await tried(here, 5)
                answers.set()
                await settled(here, "serving")

    (tmp_path / "gone").mkdir()
    asyncio.run(run())
    said = [it for it in caplog.messages if it.startswith(("e1.0", "e1.1"))]
    hangs, ends = f"{tmp_path}/a has not answered for 0.2 s", f"e1.0: {tmp_path}/a answers, and was changed"
    assert [it for it in said if "it is changed when it does" in it] == [
        f"e1.0: {hangs}; it is changed when it does"
    ]
    assert said.count(ends) == 1
    assert not [it for it in said if "change durability" in it]


async def tried(here: Scene, times: int) -> None:
    """Again, so often."""
    carried_out, left = here.node._hands.carry_out, times

    async def counted(*arguments: Any) -> list[Note]:
        nonlocal left
        left -= 1
        return await carried_out(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(here.node._hands, "carry_out", counted)
        async with asyncio.timeout(PATIENCE_S):
            while left > 0:
                await asyncio.sleep(0.01)


def test_requests_that_hang_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "aoe.node")
    monkeypatch.setattr(timing, "STOP_TIMEOUT_S", 0.05)

    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            tries, remove = 0, here.node.target.remove

            async def hangs(shelf: int, slot: int) -> bool:
                nonlocal tries
                tries += 1
                await asyncio.sleep(0)
                return tries > 4 and await remove(shelf, slot)

            monkeypatch.setattr(here.node.target, "remove", hangs)
            await here.apply()
            async with asyncio.timeout(PATIENCE_S):
                while here.node._hands.live:
                    await asyncio.sleep(0.01)
            assert tries == 5

    asyncio.run(run())
    assert [it for it in caplog.messages if "requests" in it] == [
        "e1.0: requests hang in the disk; it goes when they end",
        "e1.0: the requests that hung have ended, and it is gone",
    ]


def test_a_failure_is_said_when_it_begins_and_when_it_is_another_one() -> None:
    told, first, other = Told(), Note("e1.0", "in use by x"), Note("e1.1", "not there")
    assert told.news([first, other]) == [first, other]
    assert told.news([first, other]) == []
    assert told.news([other, Note("e1.0", "in use by y")]) == [Note("e1.0", "in use by y")]
    assert told.news([first]) == [], "it comes and goes"
    assert told.news([]) == []
    assert told.news([first]) == [first]
    for number in range(2 * limits.TOLD_MAX):
        assert told.news([Note("e1.0", f"{number}")])
    assert told.news([first]) == [first]
    assert told.news([Note("e1.0", "still", goes_on=True), Note("e2.0", "still", goes_on=True)]) == [
        Note("e2.0", "still", goes_on=True)
    ]


def test_a_list_of_hosts_waits_for_what_was_admitted(tmp_path: Path) -> None:
    """Order rule T5."""

    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            with hanging(here, 0, "write") as answers:
                writing = asyncio.ensure_future(here.host(patience_s=PATIENCE_S).write(0, bytes(512)))
                async with asyncio.timeout(PATIENCE_S):
                    while not len(here.node.target.exports[0].queue):
                        await asyncio.sleep(0.01)
                done = await here.apply(export(tmp_path, "a", mask=(ALICE,)))
                assert done.exit == 1
                assert "it is changed when it does" in done.failed[0].text
                with pytest.raises(DiskHangs, match="does not answer yet"):
                    await here.node.release((1, 0), "a test")
                answers.set()
                await writing
                await settled(here, "serving")
            (status,) = here.node.status().exports
            assert status.mask == (ALICE.hex(":"),)

    asyncio.run(run())


def test_a_disk_that_fails_at_last_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: FileDisk) -> None:
        raise DiskError("it is broken", 0)

    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a"), export(tmp_path, "b", 1)) as here:
            disk = here.node.target.server.served(here.node.target.exports[0]).disk
            assert isinstance(disk, FileDisk)
            monkeypatch.setattr(FileDisk, "reopen", fail)
            with hanging(here, 0, "reopen") as answers:
                monkeypatch.setattr(timing, "DISK_ANSWER_S", PATIENCE_S)
                with pytest.raises(ConfigurationError, match="has not failed"):
                    await here.node.reopen((1, 0), "a test")
                monkeypatch.setattr(timing, "DISK_ANSWER_S", 0.2)
                disk.failed = True
                with pytest.raises(DiskHangs, match=f"{tmp_path}/a has not answered for 0.2 s"):
                    await here.node.reopen((1, 0), "a test")
                monkeypatch.setattr(timing, "DISK_ANSWER_S", PATIENCE_S)  # its record is synced
                await here.node.release((1, 1), "a test")
                answers.set()
                async with asyncio.timeout(PATIENCE_S):
                    while "answers, but was not changed: it is broken" not in caplog.text:
                        await asyncio.sleep(0.01)
            disk.failed = False

    asyncio.run(run())


def test_the_end_waits_for_none(tmp_path: Path) -> None:
    async def run() -> None:
        here = Scene(tmp_path, Config(TARGETED, (export(tmp_path, "a", durability="write-back"),)))
        await here.start()
        with hanging(here, 0, "flush"):
            assert (await here.apply(export(tmp_path, "a"))).exit == 1
            async with asyncio.timeout(PATIENCE_S):
                await here.node.stop()

    asyncio.run(run())
