"""Addresses that the service manager holds, at a start that does not get all that it wants."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from aoe import timing
from aoe.errors import ConfigurationError
from aoe.node.held import Held, Kind, name_of
from aoe.node.held_addresses import HeldAddresses
from aoe.node.notify import Notifier
from aoe.target import address_locks
from aoe.target.address_locks import AddressLocks, Names
from aoe.target.system import System
from tests.target.test_address_locks import wire


def test_what_one_attempt_does_not_need_the_next_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has one of two, so neither is taken; the manager hears of that only later."""
    monkeypatch.setattr(timing, "LOCK_WAIT_S", 0.05)
    place = str(os.getpid())
    mine, others = (address_locks.name_of(place, (7, slot)) for slot in (0, 1))
    managers, other = Names().bound(mine, others)
    assert managers is not None
    assert other is not None

    async def scenario() -> None:
        notifier = Notifier(str(tmp_path / "notify"))
        held = Held(notifier, [(name_of(Kind.ADDRESS, mine), os.dup(managers.fileno()))])
        held.pause()
        addresses = HeldAddresses(held, System())
        locks = AddressLocks([wire(place)], addresses)
        with pytest.raises(ConfigurationError, match=r"e7\.1 is served"):
            await locks.take([(7, 0), (7, 1)], force=False)
        await locks.take([(7, 0)], force=False)
        assert addresses.leave(()) == []
        locks.free([(7, 0)])
        managers.close()
        (free,) = Names().bound(mine)
        assert free is not None
        free.close()
        held.close()
        notifier.close()

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        asyncio.run(scenario())
    other.close()
