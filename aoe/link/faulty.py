"""Faults as a wrapper around any link, for tests."""

import asyncio
import random
from collections.abc import Hashable
from typing import NamedTuple

from aoe.link.base import Batch, Link, Listener
from aoe.wire import protocol


class Faults(NamedTuple):
    """Probabilities (0.0 to 1.0) that a frame is lost, repeated or late; `delay_s` is the longest delay of a
    late one (s), and what overtakes it is reordered. A switch loses frames of more than `switch_mtu` bytes
    behind the Ethernet header (None: it takes all)."""

    lose: float = 0.0
    repeat: float = 0.0
    late: float = 0.0
    delay_s: float = 0.01
    switch_mtu: int | None = None


class FaultyLink(Link):
    """Sends through `link` with the given `Faults`, which may change. All chance comes from `seed`."""

    def __init__(
        self,
        link: Link,
        *,
        seed: int,
        lose: float = 0.0,
        repeat: float = 0.0,
        late: float = 0.0,
        delay_s: float = 0.01,
        switch_mtu: int | None = None,
    ) -> None:
        self._link = link
        self._random = random.Random(seed)
        self.treat(Faults(lose, repeat, late, delay_s, switch_mtu))
        self.name = link.name
        self.mac = link.mac
        self.mtu = link.mtu
        self.receive_buffer = link.receive_buffer
        self.counters = link.counters
        self._listener: Listener

    def treat(self, faults: Faults) -> None:
        """Treat what is sent from now on so."""
        self.lose, self.repeat, self.late, self.delay_s, self.switch_mtu = faults

    @property
    def up(self) -> bool:
        return self._link.up

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._link.start(self)

    def ready(self, link: Link) -> None:
        self._listener.ready(self)

    def changed(self, link: Link, came_up: bool) -> None:
        self.mac, self.mtu = link.mac, link.mtu
        self._listener.changed(self, came_up)

    def take(self) -> Batch:
        return self._link.take()

    def stop(self) -> None:
        self._link.stop()

    def send(self, frame: bytes, origin: Hashable = None) -> None:
        if self.switch_mtu is not None and len(frame) > self.switch_mtu + protocol.ETHERNET_HEADER:
            self.counters["fault_too_long"] += 1
            return
        if self._random.random() < self.lose:
            self.counters["fault_lost"] += 1
            return
        copies = 2 if self._random.random() < self.repeat else 1
        for _ in range(copies):
            if self._random.random() < self.late:
                delay = self._random.random() * self.delay_s
                asyncio.get_running_loop().call_later(delay, self._link.send, frame, origin)
            else:
                self._link.send(frame, origin)

    def close(self) -> None:
        self._link.close()
