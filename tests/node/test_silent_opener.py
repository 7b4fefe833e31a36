"""What is asked of an opener that does not answer, and when it answers after all."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe import timing
from aoe.config.values import Config
from aoe.node.opener import ByOpener
from aoe.node.opener_connection import Connection, OpenerLost
from tests.disk.helpers import is_taken, sparse
from tests.node.test_opener import Side, export, refusal
from tests.support.waiting import PATIENCE_S, wait_for

SILENT = "the opener does not answer"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return sparse(tmp_path / "disk", 64)


@pytest.fixture
def side(disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    """With little patience, once it has begun."""
    caplog.set_level(logging.INFO, "aoe.node")
    made = Side(lambda: Config(exports=(export(disk),)))
    made.by.find([str(disk)])
    monkeypatch.setattr(timing, "OPENER_LOOK_S", 0.01)
    monkeypatch.setattr(timing, "OPENER_SILENT_S", 0.05)
    monkeypatch.setattr(timing, "OPENER_ANSWER_S", 0.2)
    made.to.started()
    yield made
    os.kill(made.pid, signal.SIGCONT)
    made.close()


async def until_it_answers(side: Side) -> None:
    heard = asyncio.Event()
    side.by.when_answering(heard.set)
    side.to.watch()
    os.kill(side.pid, signal.SIGCONT)
    async with asyncio.timeout(30):
        await heard.wait()


def test_it_is_said_once_and_what_was_opened_too_late_is_let_go(
    side: Side, disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(side.pid, signal.SIGSTOP)
    for _ in range(3):
        assert refusal(lambda: side.by.open_store(export(disk)), OpenerLost).startswith(SILENT)
    (line,) = caplog.messages
    assert line.startswith(SILENT)
    monkeypatch.setattr(timing, "OPENER_SILENT_S", PATIENCE_S)
    monkeypatch.setattr(side.to, "_patience_s", PATIENCE_S)
    asyncio.run(until_it_answers(side))
    assert caplog.messages[1:] == ["the opener answers again"]
    assert not is_taken(disk)
    held = side.by.open_store(export(disk))
    assert is_taken(disk)
    side.by.release(held)
    os.close(held.opened.store.fd)
    assert not is_taken(disk)


@pytest.fixture
def starting(side: Side, monkeypatch: pytest.MonkeyPatch) -> Side:
    """As at the start, before anything is served."""
    monkeypatch.setattr(side, "to", Connection(side.socket))
    monkeypatch.setattr(side, "by", ByOpener(side.to))
    return side


@contextmanager
def asked(side: Side, disk: Path, caplog: pytest.LogCaptureFixture) -> Iterator[list[object]]:
    """Stopped, and asked for longer than an answer may take later; what comes of it."""
    found: list[object] = []

    def find() -> None:
        try:
            found.append(list(side.by.find([str(disk)])))
        except OpenerLost as error:
            found.append(str(error))

    os.kill(side.pid, signal.SIGSTOP)
    asking = threading.Thread(target=find)
    asking.start()
    wait_for(lambda: bool(caplog.messages), what="it is not said")
    assert caplog.messages == ["the start waits for the opener, which does not answer; look at its disks"]
    yield found
    asking.join(PATIENCE_S)


def test_a_start_waits_for_it_however_late(
    starting: Side, disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "OPENER_ANSWER_S", 0.01)
    with asked(starting, disk, caplog) as found:
        os.kill(starting.pid, signal.SIGCONT)
    assert found == [[str(disk)]]
    assert caplog.messages[1:] == ["the opener answers"]


def test_a_start_does_not_wait_for_one_that_has_ended(
    starting: Side, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with asked(starting, disk, caplog) as found:
        os.kill(starting.pid, signal.SIGKILL)
    assert found == ["the opener has ended before all was served that is wanted; start the target again"]


def test_one_that_is_late_is_waited_for(side: Side, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side.to, "_patience_s", PATIENCE_S)

    async def scenario() -> None:
        os.kill(side.pid, signal.SIGSTOP)
        asking = asyncio.create_task(side.by.do(lambda: side.by.open_store(export(disk))))
        await asyncio.sleep(0.1)
        assert not asking.done()
        os.kill(side.pid, signal.SIGCONT)
        os.close((await asking).opened.store.fd)

    asyncio.run(scenario())


def test_one_that_is_killed_meanwhile_has_ended(
    side: Side, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(side.pid, signal.SIGSTOP)
    refusal(lambda: side.by.open_store(export(disk)), OpenerLost)

    async def scenario() -> None:
        side.to.watch()
        os.kill(side.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while len(caplog.messages) < 2:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())
    assert "has ended" in caplog.messages[1]
    assert "has ended" in refusal(lambda: side.by.open_store(export(disk)), OpenerLost)


def test_at_the_end_it_is_not_waited_for(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "OPENER_LEAVE_S", 0.05)
    monkeypatch.setattr(side.to, "_patience_s", 3600.0)
    os.kill(side.pid, signal.SIGSTOP)
    side.by.hurry()
    side.by.close()
