"""Asks on the wire for addresses before they are served, or before it is even known whether they can be."""

import asyncio
import time
from collections.abc import Collection

from aoe import timing
from aoe.target.address_check import AddressCheck, Key
from aoe.target.server import Server


class _Ahead:
    """What was asked before it was needed."""

    def __init__(self, check: AddressCheck) -> None:
        self.check = check
        self.over = asyncio.Event()
        self.over_s = 0.0

    def is_of(self, keys: Collection[Key]) -> bool:
        """Whether it is of all these, and no older than what was asked now is once they are served."""
        waits = not self.over.is_set()
        return self.check.covers(keys) and (
            waits or time.monotonic() < self.over_s + timing.ADDRESS_ANSWERS_S
        )


class Rivals:
    """Other targets that answer for addresses that are to be ours."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ahead: _Ahead | None = None

    def ask_ahead(self, keys: Collection[Key], interval_s: float) -> None:
        """Begin to ask, by questions `interval_s` seconds apart, for what may be served soon; what was asked
        ahead before is not needed."""
        self._ahead = ahead = _Ahead(self._check_of(keys))
        self._server.spawn(self._ask(ahead, interval_s))

    async def found(self, keys: Collection[Key], interval_s: float) -> AddressCheck:
        """By what was asked ahead, if that is not too old; else ask now."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.is_of(keys):
            await ahead.over.wait()
            return ahead.check
        check = self._check_of(keys)
        await self._server.ask_who_answers(check, interval_s)
        return check

    def _check_of(self, keys: Collection[Key]) -> AddressCheck:
        return AddressCheck(keys, [port.mac for port in self._server.ports])

    async def _ask(self, ahead: _Ahead, interval_s: float) -> None:
        try:
            await self._server.ask_who_answers(ahead.check, interval_s)
        finally:
            ahead.over_s = time.monotonic()
            ahead.over.set()
