"""An Ethernet segment inside the process, for tests."""

import asyncio
import time
from collections import Counter
from collections.abc import Hashable

from aoe import limits
from aoe.link.base import Batch, Link, Listener, Received
from aoe.wire import protocol
from aoe.wire.frame import BROADCAST, destination


class Network:
    """A switch: every frame reaches the links that its destination MAC means."""

    def __init__(self) -> None:
        self._links: list[MemoryLink] = []

    def attach(self, mac: bytes, mtu: int = 1500) -> "MemoryLink":
        """A new link on this segment."""
        link = MemoryLink(self, mac, mtu)
        self._links.append(link)
        return link

    def detach(self, link: "MemoryLink") -> None:
        """Take a link away."""
        self._links.remove(link)

    def deliver(self, sender: "MemoryLink", frame: bytes) -> None:
        """Carry a frame."""
        for link in self._links:
            if link is not sender and destination(frame) in (link.mac, BROADCAST):
                link.arrive(frame, time.time_ns())


class MemoryLink(Link):
    """One port of a `Network`. Holds a bounded number of frames, as a socket does."""

    def __init__(self, network: Network, mac: bytes, mtu: int) -> None:
        self.name = f"memory:{mac.hex(':')}"
        self.mac = mac
        self.mtu = mtu
        self.receive_buffer = limits.UDP_QUEUE_MAX * mtu
        self.counters = Counter()
        self._network = network
        self._listener: Listener | None = None
        self._queue: list[Received] = []
        self._closed = False
        self._plugged = True

    @property
    def up(self) -> bool:
        return self._plugged

    def plug(self, up: bool = True) -> None:
        """Put its cable in, or pull it out."""
        came_up = up and not self._plugged
        self._plugged = up
        if self._listener is not None:
            self._listener.changed(self, came_up)

    def resize(self, mtu: int) -> None:
        """Give it another MTU."""
        self.mtu = mtu
        if self._listener is not None:
            self._listener.changed(self, False)

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._wake()

    def take(self) -> Batch:
        taken = self._queue[: limits.RECEIVE_BATCH]
        del self._queue[: limits.RECEIVE_BATCH]
        return Batch(taken, not self._queue)

    def stop(self) -> None:
        self._listener = None

    def send(self, frame: bytes, origin: Hashable = None) -> None:
        if len(frame) > self.mtu + protocol.ETHERNET_HEADER:
            self.counters["send_too_long"] += 1
        elif not self._plugged:
            self.counters["send_link_down"] += 1
        elif not self._closed:
            self._network.deliver(self, frame)

    def arrive(self, frame: bytes, stamp_ns: int) -> None:
        """A frame has come in from the segment."""
        if not self._plugged:
            return
        if len(frame) > self.mtu + protocol.ETHERNET_HEADER:
            self.counters["receive_too_long"] += 1
            return
        if len(self._queue) >= limits.UDP_QUEUE_MAX:
            self.counters["queue_full"] += 1
            return
        self._queue.append(Received(frame, stamp_ns, None))
        if len(self._queue) == 1:
            self._wake()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._network.detach(self)

    def _wake(self) -> None:
        if self._listener is not None and self._queue:
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        if self._listener is not None and self._queue:
            self._listener.ready(self)
            self._wake()
