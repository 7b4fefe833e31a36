"""A node that only remembers what it was asked."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from aoe.config.changes import Change
from aoe.control.rights import Peer
from aoe.control.unread import Unread
from aoe.control.verbs import Apply, OfVolume, Outcome
from aoe.errors import ConfigurationError
from aoe.pool.asked import facts_of


class FakeNode:
    """Answers at once, unless `gate` is there and not set."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.said: Mapping[str, Any] = {"number": 7, "exports": []}
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None
        self.reads: int | None = 0
        """Bytes of a verb of a pool that another process reads; None for one that may have, or not."""
        self.read: list[bytes] = []
        self.unread: list[bool] = []

    def _read(self, unread: Unread) -> None:
        unread.taken = None if self.reads is None else self.reads > 0
        if self.reads:
            with socket.socket(fileno=unread.shown()) as shown:
                self.read.append(shown.recv(self.reads, socket.MSG_DONTWAIT))

    async def _did(self, *what: object) -> Outcome:
        self.asked.append(what)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Outcome((f"did {what[0]}",), facts={"number": len(self.asked)})

    async def status(self) -> Mapping[str, Any]:
        await self._did("status")
        return self.said

    async def apply(self, how: Apply, peer: Peer) -> Outcome:
        return await self._did("apply", how)

    async def take_up(self, change: Change, peer: Peer) -> Outcome:
        return await self._did("take_up", change.verb, change.address)

    async def lend(self, change: Change, peer: Peer) -> Outcome:
        return await self._did("lend", change.address, change.keys, change.by)

    async def release(self, address: str, peer: Peer) -> Outcome:
        return await self._did("release", address)

    async def reopen(self, address: str, peer: Peer) -> Outcome:
        return await self._did("reopen", address)

    async def drain(self, addresses: tuple[str, ...], peer: Peer) -> Outcome:
        return await self._did("drain", *addresses)

    async def resume(self, addresses: tuple[str, ...], peer: Peer) -> Outcome:
        return await self._did("resume", *addresses)

    async def volumes(self, pool: str, after: str) -> Mapping[str, Any]:
        await self._did("volumes", pool, after)
        return {"volumes": [], "more": False}

    async def volume(self, how: OfVolume, peer: Peer) -> Outcome:
        self.unread.append(how.unread is not None)
        if how.unread is not None:
            self._read(how.unread)
        return await self._did("volume", how.pool, facts_of(how.request), how.plan, how.force)

    async def log_level(self, level: str, peer: Peer) -> Outcome:
        return await self._did("log_level", level)


def refused(message: str) -> ConfigurationError:
    """What a node raises."""
    return ConfigurationError(message)
