"""The one interface of everything that carries frames."""

import abc
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import NamedTuple, Protocol

from aoe import limits
from aoe.wire import protocol


class Received(NamedTuple):
    """A whole Ethernet frame, when it came (CLOCK_REALTIME) and where an answer to it goes."""

    frame: bytes
    stamp_ns: int
    origin: Hashable


class Batch(NamedTuple):
    """What one look at a link brought, in order; `drained` if the link was seen empty."""

    frames: list[Received]
    drained: bool


class Listener(Protocol):
    """What is told that a link has something."""

    def ready(self, link: "Link") -> None:
        """There may be frames to take; said again as long as there are."""

    def changed(self, link: "Link", came_up: bool) -> None:
        """MAC, MTU or state changed; `came_up` if it can carry frames now and could not before."""


class Link(abc.ABC):
    """`name` for people, `mac`, `mtu` in bytes without the Ethernet header, `counters` by reason.

    `receive_buffer` is what is really granted for frames not yet taken, in bytes.
    """

    name: str
    mac: bytes
    mtu: int
    receive_buffer: int
    counters: Counter[str]

    @property
    def up(self) -> bool:
        """Whether it can carry frames."""
        return True

    @property
    def segment(self) -> str:
        """What it is on, if another process of this host can be on the same; else empty."""
        return ""

    @property
    def frames_that_fit(self) -> int:
        """How many of the largest frames the receive buffer holds, each costing what the kernel charges for
        it: its memory rounded up to a power of two, and its bookkeeping."""
        return self.receive_buffer // ((1 << (self.mtu + 64).bit_length()) + 1024)

    @abc.abstractmethod
    def start(self, listener: Listener) -> None:
        """Tell `listener` from now on, inside the running event loop."""

    @abc.abstractmethod
    def take(self) -> Batch:
        """Up to `limits.RECEIVE_BATCH` frames, without waiting."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Take no more frames; sending still works."""

    @abc.abstractmethod
    def send(self, frame: bytes, origin: Hashable = None) -> None:
        """Send towards `origin`, or to all. Never blocks, never raises: what is lost is counted."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release it."""


def buffers_that_fit(links: Iterable[Link]) -> int:
    """Buffer Count that the smallest receive buffer granted can hold."""
    fits = (link.frames_that_fit for link in links)
    return max(protocol.BUFFER_COUNT_MIN, min([limits.BUFFER_COUNT_DEFAULT_MAX, *fits]))
