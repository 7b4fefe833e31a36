"""Calls that block, on threads: a task of an event loop waits for each."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from aoe.errors import DiskError, NoThread

T = TypeVar("T")


def _nothing() -> None:
    pass


class _Call(Generic[T]):
    """A call, and the task that waits for it. `over` is called when it has ended, or will not begin."""

    def __init__(self, call: Callable[[], T], over: Callable[[], None] = _nothing) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()
        self._call = call
        self._over = over

    def run(self) -> None:
        """On a thread; not if the task was cancelled."""
        try:
            result = None if self.future.cancelled() else self._call()
        except BaseException as error:
            self._end(self._settle, None, error)
        else:
            self._end(self._settle, result, None)

    def drop(self) -> None:
        """It will not begin."""
        self._end(self.future.cancel)

    def _end(self, then: Callable[..., object], *arguments: object) -> None:
        self._over()
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(then, *arguments)

    def _settle(self, result: Any, failure: BaseException | None) -> None:
        if self.future.done():
            return
        if failure is not None:
            self.future.set_exception(failure)
        else:
            self.future.set_result(result)


def begin(work: Callable[[], object], name: str) -> None:
    """Do it on a thread that the end of the process does not wait for. NoThread."""
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError as error:
        raise NoThread from error


async def aside(call: Callable[[], T]) -> T:
    """What it returns or raises, on a thread of its own. A task that is cancelled leaves the call behind: its
    thread ends with it, or with the process. NoThread."""
    made = _Call(call)
    begin(made.run, "aside")
    return await made.future


class Workers:
    """Up to `most` threads, each started when it is first needed. The end of the process waits for none.

    Where no more can be started, the call fails at once although others are at work: if it waited for those
    it would be late (order rule T3). concurrent.futures raises, too, but keeps the call and may carry it out.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._threads = 0
        self._free = 0
        """Threads that wait for a call, less the calls that wait for a thread."""
        self._calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        self._closed = False
        self._counting = threading.Lock()

    async def run(self, call: Callable[[], T], over: Callable[[], None] = _nothing) -> T:
        """What it returns or raises. `over` is called once, on any thread, when the call has ended or will
        not begin. A cancelled task leaves a call behind that has begun. NoThread; DiskError if closed."""
        made = _Call(call, over)
        try:
            self._take(made)
        except DiskError:
            over()
            raise
        return await made.future

    def _take(self, made: _Call[Any]) -> None:
        with self._counting:
            if self._closed:
                raise DiskError("closed", 0)
            if self._free <= 0 and self._threads < self._most:
                begin(self._work, self._name)
                self._threads += 1
            else:
                self._free -= 1
            self._calls.put(made)

    def close(self) -> None:
        """Begin nothing more; each thread ends when its call does."""
        with self._counting:
            self._closed = True
            while not self._calls.empty():
                if (waiting := self._calls.get_nowait()) is not None:
                    waiting.drop()
            for _ in range(self._threads):
                self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            del call  # or its data would be kept until the next one
            with self._counting:
                self._free += 1
