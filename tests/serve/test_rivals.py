"""Addresses that are asked for before it is known whether they can be served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aoe import timing
from aoe.disk.memory import MemoryDisk
from aoe.errors import ConfigurationError
from aoe.limits import ADDRESS_QUERIES
from aoe.link.memory import Network
from aoe.target.offer import Offer
from aoe.target.target import Target
from aoe.wire.frame import FLAG_RESPONSE
from aoe.wire.protocol import SECTOR
from tests.serve.initiator import Initiator, decoded, mac
from tests.serve.test_serve import Echo
from tests.support.waiting import PATIENCE_S

INTERVAL_S = 0.001


class Scene:
    """A target that serves nothing yet, and a host that hears what it asks."""

    def __init__(self) -> None:
        self.network = Network()
        self.host = Initiator(self.network.attach(mac(9)))
        self.target = Target.open([self.network.attach(mac(1))])

    def asked(self, slot: int = 0) -> int:
        """How often for that address."""
        heard = map(decoded, self.host.frames)
        return sum(it.slot == slot and not it.flags & FLAG_RESPONSE for it in heard)

    async def ahead(self, slot: int = 0) -> None:
        """Ask, and have all answers."""
        self.target.rivals.ask_ahead([(0, slot)], INTERVAL_S)
        assert self.target.rivals._ahead is not None
        async with asyncio.timeout(PATIENCE_S):
            await self.target.rivals._ahead.over.wait()

    async def add(self, slot: int = 0) -> None:
        disk = MemoryDisk(64 * SECTOR)
        await self.target.add(Offer(disk, 0, slot, "serial"), check_interval_s=INTERVAL_S)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        await made.target.stop(0)


def test_what_was_asked_ahead_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ADDRESS_ANSWERS_S", PATIENCE_S)

    async def scenario() -> None:
        async with scene() as here:
            await here.ahead()
            await here.add()
            assert here.asked() == ADDRESS_QUERIES

    asyncio.run(scenario())


def test_an_add_waits_for_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ADDRESS_ANSWERS_S", PATIENCE_S)

    async def scenario() -> None:
        async with scene() as here:
            here.target.rivals.ask_ahead([(0, 0)], INTERVAL_S)
            await here.add()
            assert here.asked() == ADDRESS_QUERIES

    asyncio.run(scenario())


def test_another_that_answered_then_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ADDRESS_ANSWERS_S", PATIENCE_S)
    monkeypatch.setattr(timing, "ADDRESS_PATIENCE_S", 0.001)

    async def scenario() -> None:
        async with scene() as here:
            link = here.network.attach(mac(2))
            Echo(link)
            await here.ahead()
            here.network.detach(link)
            with pytest.raises(ConfigurationError, match="is already served by"):
                await here.add()

    asyncio.run(scenario())


def test_what_is_too_old_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ADDRESS_ANSWERS_S", 0.0)

    async def scenario() -> None:
        async with scene() as here:
            await here.ahead()
            await here.add()
            assert here.asked() == 2 * ADDRESS_QUERIES

    asyncio.run(scenario())


def test_another_address_is_asked_for_by_itself() -> None:
    async def scenario() -> None:
        async with scene() as here:
            here.target.rivals.ask_ahead([(0, 1)], INTERVAL_S)
            await here.add()
            assert here.asked() == ADDRESS_QUERIES

    asyncio.run(scenario())
