"""The frames that our initiator signs (order rule T9), over a whole disk: that they fit, and what is done
when somebody on the network sends a FLUSH in our name, and so ends the epoch of our writes."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aoe.wire.stamp import Stamp, stamp_of
from tests.initiator.helpers import limited
from tests.initiator.test_remote import Spy, attached
from tests.support.waiting import PROMPT_S
from tests.target import driver

LATER = 100
"""Epochs."""


class _Listener(logging.Handler):
    """Remembers what was said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@asynccontextmanager
async def told() -> AsyncIterator[list[str]]:
    """The warnings of both ends."""
    listener, log = _Listener(), logging.getLogger("aoe")
    log.addHandler(listener)
    try:
        yield listener.lines
    finally:
        log.removeHandler(listener)


def stamp_in_use(spy: Spy) -> Stamp:
    """Of the last write."""
    stamp = stamp_of([raw for raw in spy.sent if raw[27] == 0x34][-1])
    assert stamp is not None
    return stamp


def forge(spy: Spy) -> None:
    """Put a FLUSH of a later epoch on the wire, as if it were the next frame of the last writer."""
    last = [raw for raw in spy.sent if raw[27] == 0x34][-1]
    stream, epoch, instance = stamp_in_use(spy)
    tag = int.from_bytes(last[20:24], "big") + 1
    to = {
        "dst": last[:6],
        "src": last[6:12],
        "shelf": int.from_bytes(last[16:18], "big"),
        "slot": last[18],
    }
    spy.send(driver.stamped(driver.flush(**to), stream, epoch + LATER, instance, tag))


MTUS = (534, 545, 546, 559, 560, 1059, 1060, 1500, 4200, 9000)


@limited
async def test_what_is_signed_fits_every_mtu() -> None:
    """Where there is no room for a trailer, nothing is signed."""
    for mtu in MTUS:
        async with attached(mtu=mtu) as (remote, spy, _):
            data = random.Random(mtu).randbytes(20_000)
            await remote.write(512, data)
            await remote.flush()
            assert await remote.read(512, len(data)) == data
            assert max(map(len, spy.sent)) <= mtu + 14
            writes = [stamp_of(raw) is not None for raw in spy.sent if raw[27] == 0x34]
            assert set(writes) == {mtu >= 1060}, mtu


@limited
async def test_a_forged_flush_is_survived_and_told_of_at_both_ends() -> None:
    async with attached() as (remote, spy, _), told() as lines:
        await remote.write(0, b"a" * 512)
        before = stamp_in_use(spy)
        forge(spy)
        began = time.monotonic()
        await asyncio.gather(*(remote.write(4096 * n, bytes([n]) * 512) for n in range(4)))
        assert time.monotonic() - began < PROMPT_S
        await remote.write(0, b"b" * 512)
        after = stamp_in_use(spy)
        assert after.stream != before.stream
        assert await remote.read(0, 512) == b"b" * 512
        assert await remote.read(3 * 4096, 512) == b"\3" * 512
    assert sum("answers no writes" in line for line in lines) == 1, lines
    assert sum("a FLUSH in the name of" in line for line in lines) == 1, lines


@limited
async def test_what_is_only_slow_is_no_forgery() -> None:
    async with attached(lose=0.05) as (remote, _, _), told() as lines:
        await asyncio.gather(*(remote.write(4096 * n, bytes([n]) * 512) for n in range(64)))
    assert not [line for line in lines if "in the name of" in line]
