"""What carries the requests of a disk over links of any kind (asyncio)."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from aoe import limits
from aoe.initiator.arithmetic import Arithmetic
from aoe.initiator.carrier import Carrier
from aoe.initiator.clock import now_ns
from aoe.initiator.path import PathSnapshot, Port
from aoe.initiator.request import Result, Verb
from aoe.link.base import Link
from aoe.wire import protocol


class LinkCarrier(Carrier):
    """Moves frames between the arithmetic and links of any kind; `mine` are closed with it."""

    def __init__(self, core: Arithmetic, links: Sequence[Link], mine: Sequence[Link] = ()) -> None:
        self.core = core
        self._links = list(links)
        self._mine = list(mine)
        self._rooms: dict[Any, memoryview] = {}
        """By request: where what it reads is put."""
        self._timer: asyncio.TimerHandle | None = None
        self._due_ns = 0
        self._news = 0
        self._closed = False

    @property
    def chosen(self) -> bool:
        return self.core.chosen

    @property
    def comparing(self) -> bool:
        return self.core.comparing

    @property
    def identity(self) -> bytes:
        return self.core.identity

    @property
    def paths(self) -> list[PathSnapshot]:
        return self.core.paths

    @property
    def counters(self) -> Counter[str]:
        return self.core.counters

    @property
    def own_time(self) -> float:
        return self.core.own_time_ns(now_ns()) / 1e9

    def begin(self) -> None:
        for link in self._links:
            link.start(self)
            self.changed(link, True)

    def start(
        self, verb: Verb, offset: int, length: int, data: bytes | memoryview = b"", number: int = 0
    ) -> Any:
        now = now_ns()
        if isinstance(data, memoryview):
            request = self.core.start(verb, offset, length, b"", now, number)
            self._rooms[request] = data
        else:
            request = self.core.start(verb, offset, length, data, now, number)
        self.began_s = self.core.own_time_ns(now) / 1e9
        self._send()
        if self.core.done:  # the caller does not know the token yet
            asyncio.get_running_loop().call_soon(self._perform)
        return request

    def abandon(self, token: Any) -> None:
        self._rooms.pop(token, None)
        self.core.abandon(token, now_ns())
        self._perform()

    def switch(self, number: int) -> bool:
        done = self.core.switch(number, now_ns())
        self._perform()
        return done

    def fenced(self, number: int) -> None:
        self.core.fenced(number, now_ns())
        self._perform()

    def mac(self, port: int) -> bytes:
        return self._links[port].mac

    def name(self, port: int) -> str:
        return self._links[port].name

    def close(self) -> None:
        self._closed = True
        for link in self._links:
            link.stop()
        for link in self._mine:
            link.close()
        if self._timer is not None:
            self._timer.cancel()

    # As a listener

    def ready(self, link: Link) -> None:
        """A link has frames."""
        self._take(link)
        self._perform()

    def changed(self, link: Link, came_up: bool) -> None:
        """A link is another one now."""
        sectors = protocol.sectors_per_frame(link.mtu)
        port = Port(link.mac, sectors, max(1, link.frames_that_fit), link.up and sectors > 0)
        self.core.set_port(self._links.index(link), port, now_ns())
        self._perform()

    # Inside

    def _take(self, link: Link) -> bool:
        """Give the core what came; whether there may be more."""
        port, batch = self._links.index(link), link.take()
        for received in batch.frames:
            self.core.received(port, received.frame, now_ns())
        return len(batch.frames) == limits.RECEIVE_BATCH

    def _perform(self) -> None:
        self._send()
        while self.core.done:
            request = self.core.done.popleft()
            assert request.result is not None, "it is done"
            result = self._placed(request, request.result) if self._rooms else request.result
            self.on_finished(request, result)
        if self.core.news != self._news:
            self._news = self.core.news
            self.on_news()

    def _placed(self, request: Any, result: Result) -> Result:
        """A result whose data is in the caller's buffer, if there is one."""
        room = self._rooms.pop(request, None)
        if room is None:
            return result
        room[: len(result.data)] = result.data
        return result._replace(data=b"")

    def _send(self) -> None:
        out = self.core.out
        if out:
            self.core.own_time_ns(now_ns())  # what was made before a gap is made anew
        for port, frame in out:
            self._links[port].send(frame)
        out.clear()
        self._wind()

    def _wind(self) -> None:
        """Have `tick` called as soon as it is wanted."""
        if self._closed:
            return
        due_ns = now_ns() + self.core.pulse_ns
        if self._timer is not None:
            if due_ns >= self._due_ns:
                return
            self._timer.cancel()
        self._due_ns = due_ns
        self._timer = asyncio.get_running_loop().call_later(self.core.pulse_ns / 1e9, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for link in self._links:  # what came is read before anything is overdue
            for _ in range(limits.BATCHES_MAX):
                if not self._take(link):
                    break
        self.core.tick(now_ns())
        self._perform()
