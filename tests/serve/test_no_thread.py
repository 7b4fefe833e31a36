"""A target and a client on a system in which no more threads can be started."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import aoe
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening, open_disk
from aoe.errors import NoThread
from aoe.link.memory import Network
from aoe.target.target import Target
from aoe.wire.config import ConfigCommand
from aoe.wire.frame import Error
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import noise, sparse
from tests.link.collector import until
from tests.serve.initiator import RETRANSMIT_S, Initiator, Refused, mac
from tests.support.labs.exhausted import no_threads

Request = Callable[[Initiator], Awaitable[object]]
TOLD = 3
"""Requests that are dropped: the first is said at once, and the last with a count of those between."""


@asynccontextmanager
async def served(work: Path, retransmit_s: float = RETRANSMIT_S) -> AsyncIterator[tuple[Target, Initiator]]:
    network, disk = Network(), open_disk(sparse(work / "disk", 64), Opening())
    link = network.attach(mac(1), mtu=9000)
    async with aoe.serve(disk, link, check=False, state_dir=work / "state") as target:
        yield target, Initiator(network.attach(mac(9), mtu=9000), retransmit_s=retransmit_s)


@pytest.mark.parametrize(
    "request_of",
    [
        lambda it: it.write(0, noise(1)),
        lambda it: it.write(3, noise(4), fua=True),
        lambda it: it.flush(),
        lambda it: it.trim((0, 8)),
        lambda it: it.verify(0, 8),
        lambda it: it.read(0, 8),
    ],
    ids=["write", "write-fua", "flush", "trim", "verify", "read"],
)
def test_a_request_is_answered_once_a_thread_can_be_had(
    request_of: Request, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a request that keeps its place in the order for ever, and with it all that overlap it."""
    monkeypatch.setattr(FileDisk, "try_read", lambda *_: None)

    async def scenario() -> None:
        async with served(tmp_path, 0.1) as (target, initiator):
            with no_threads():
                asked = asyncio.ensure_future(request_of(initiator))
                await until(lambda: target.counters()["no_thread"] >= TOLD)
                assert not asked.done()
                assert (await initiator.identify())[20:40].strip()  # what needs no thread is answered
            await asked
            await initiator.write(0, noise(2, 5))
            assert await initiator.read(0, 2) == noise(2, 5)

    with caplog.at_level(logging.INFO, "aoe"):
        asyncio.run(scenario())
    said = [it.getMessage() for it in caplog.records if "thread" in it.getMessage()]
    assert "e0.0: no thread can be started; raise the limit (ulimit -u" in said[0]
    assert len(said) == 2  # at once, and at the end with a count
    assert "more like it" in said[1]


@pytest.mark.parametrize("text", [b"", b"new"])
def test_a_change_that_cannot_be_kept_is_refused_and_never_kept_later(text: bytes, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as (target, initiator):
            await initiator.config(ConfigCommand.FORCE_SET, b"old")
            with no_threads():
                with pytest.raises(Refused) as caught:
                    await initiator.config(ConfigCommand.FORCE_SET, text)
                assert caught.value.code == Error.DEVICE_UNAVAILABLE
                assert (await initiator.config()).text == b"old"
            await initiator.write(0, noise(1))  # nothing waits for the change
            await asyncio.sleep(0.05)
            (record,) = (tmp_path / "state").glob("*.json")
            assert bytes.fromhex(json.loads(record.read_text())["config"]) == b"old"
            assert target.counters()["state_not_saved"] == 1
            await initiator.config(ConfigCommand.FORCE_SET, text)
            assert (await initiator.config()).text == text

    asyncio.run(scenario())


def test_a_hung_disk_is_left_to_the_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a thread that could close it: the stop must not wait for it, nor fail."""
    hangs = asyncio.Event()

    async def hang(*_: object) -> None:
        await hangs.wait()

    async def scenario() -> None:
        network, disk = Network(), open_disk(sparse(tmp_path / "disk", 64))
        monkeypatch.setattr(disk, "write", hang)
        async with aoe.serve(disk, network.attach(mac(1)), check=False) as target:
            initiator = Initiator(network.attach(mac(9)), retransmit_s=0.1, patience_s=0.2)
            with pytest.raises(Exception, match="ATA"):
                await initiator.write(0, noise(1))
            with no_threads():
                assert not await target.stop(0.05)
        disk.close()

    asyncio.run(scenario())


def test_a_blocking_disk_says_that_it_cannot_have_its_thread() -> None:
    with no_threads(), pytest.raises(NoThread, match="no thread can be started; raise the limit"):
        aoe.open("e1.0", interface="lo")


def test_no_sector_is_half_read(tmp_path: Path) -> None:
    """The reply is whole or does not come."""

    async def scenario() -> None:
        async with served(tmp_path) as (_, initiator):
            await initiator.write(0, noise(16))
            with no_threads():
                assert await initiator.read(0, 16) == noise(16)  # from the page cache
            assert await initiator.read(0, 16) == noise(16)

    asyncio.run(scenario())
    assert (tmp_path / "disk").read_bytes()[: 16 * SECTOR] == noise(16)
