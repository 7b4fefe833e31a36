"""A listener that keeps what it is told."""

import asyncio
import time
from collections.abc import Callable

from aoe.link.base import Batch, Link, Received
from aoe.wire.frame import BROADCAST, ETHERTYPE
from aoe.wire.protocol import ETHERNET_HEADER
from tests.support.waiting import PATIENCE_S

__all__ = ["BROADCAST", "Collector", "ethernet", "until"]


class Collector:
    """Takes every frame, `pause_s` later than it could; `batches` tells how they came."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.batches: list[Batch] = []
        self.links: list[Link] = []
        self.changes: list[bool] = []

    def ready(self, link: Link) -> None:
        if self.pause_s:
            time.sleep(self.pause_s)
        self.links.append(link)
        self.batches.append(link.take())

    def changed(self, link: Link, came_up: bool) -> None:
        self.links.append(link)
        self.changes.append(came_up)

    @property
    def received(self) -> list[Received]:
        return [one for batch in self.batches for one in batch.frames]

    @property
    def frames(self) -> list[bytes]:
        return [one.frame for one in self.received]


def ethernet(dst: bytes, src: bytes, payload: bytes = b"", length: int = 60) -> bytes:
    """A frame of AoE's ethertype, at least `length` bytes long."""
    header = dst + src + ETHERTYPE.to_bytes(2, "big")
    assert len(header) == ETHERNET_HEADER
    return (header + payload).ljust(length, b"\0")


async def until(condition: Callable[[], object], seconds: float = PATIENCE_S, what: str = "") -> None:
    """Wait in the event loop for something to come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or f"waited {seconds} s"
        await asyncio.sleep(0.005)
