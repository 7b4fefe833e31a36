"""What carries the requests of a disk: the interface of both carriers (asyncio)."""

import abc
import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aoe.initiator.load import Job, Loaded, Seen
from aoe.initiator.path import PathSnapshot
from aoe.initiator.request import Result, Verb


class Carrier(abc.ABC):
    """Requests go in by `start`; `on_finished` and `on_news` are called when there is news."""

    on_finished: Callable[[Any, Result], None]
    on_news: Callable[[], None]
    began_s = 0.0
    """The own time when the last request began."""

    @property
    @abc.abstractmethod
    def chosen(self) -> bool:
        """Whether a path to the disk was found and chosen."""

    @property
    @abc.abstractmethod
    def comparing(self) -> bool:
        """Whether a server is compared with the owner before it is a path."""

    @property
    @abc.abstractmethod
    def identity(self) -> bytes:
        """What IDENTIFY said."""

    @property
    @abc.abstractmethod
    def paths(self) -> list[PathSnapshot]:
        """The paths to the disk."""

    @property
    @abc.abstractmethod
    def counters(self) -> Counter[str]:
        """What was counted, by reason."""

    @property
    @abc.abstractmethod
    def own_time(self) -> float:
        """Seconds in which we ran: by these a caller measures how long it waits."""

    @abc.abstractmethod
    def begin(self) -> None:
        """Look for paths, inside the running event loop."""

    @abc.abstractmethod
    def start(
        self, verb: Verb, offset: int, length: int, data: bytes | memoryview = b"", number: int = 0
    ) -> Any:
        """Begin a request; the token that it is known by. A READ puts the bytes into `data` if there is any:
        the result has none then."""

    @abc.abstractmethod
    def abandon(self, token: Any) -> None:
        """No caller waits for it any more."""

    @abc.abstractmethod
    def switch(self, number: int) -> bool:
        """Make the path of that number the owner; whether it could be."""

    @abc.abstractmethod
    def fenced(self, number: int) -> None:
        """The server of that path does nothing any more."""

    @abc.abstractmethod
    def mac(self, port: int) -> bytes:
        """Our own at a port."""

    @abc.abstractmethod
    def name(self, port: int) -> str:
        """What the interface or link of a port is called now."""

    def load(
        self, job: Job, seconds: float, stop: asyncio.Event | None = None, seen: Seen | None = None
    ) -> Awaitable[Loaded] | None:
        """Have the carrier itself ask for it until the time is over, or `stop` is set. None: it cannot."""
        return None

    @abc.abstractmethod
    def close(self) -> None:
        """Take and send nothing more; the links stay open."""
