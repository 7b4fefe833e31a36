"""Calls that may wait for a disk for ever, on threads: each is waited for a while, and then left behind."""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from aoe import limits
from aoe.disk.threads import begin
from aoe.errors import AoeError, ConfigurationError

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
_Calls = SimpleQueue["Call[Any]"]


class NoAnswer(ConfigurationError):
    """A disk has not answered in time. What was asked of it goes on; nothing more is, until that is over."""

    def __init__(self, said: str) -> None:
        super().__init__(f"{said} does not answer: what needs it waits for that; look at its disk")


class Call(Generic[T]):
    """One that asks something of `which` disk, which messages call as it is `said`. What it returns when it
    is waited for no more is given to `late`, on its thread."""

    def __init__(
        self,
        which: Hashable,
        said: str,
        call: Callable[[], T],
        late: Callable[[T], object] = lambda _: None,
    ) -> None:
        self.which = which
        self.said = said
        self._call = call
        self._late = late
        self.over = threading.Event()
        self.was_left = False
        self._found: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """On a thread."""
        try:
            self._found.append(self._call())
        except BaseException as error:
            self._error = error

    def fail(self, error: AoeError) -> None:
        """It is not made."""
        self._error = error
        self.over.set()

    def result(self) -> T:
        """What it returned, or raises that; NoAnswer where it was left."""
        if self.was_left:
            raise NoAnswer(self.said)
        if self._error is not None:
            raise self._error
        return self._found[0]

    def bring(self) -> None:
        """What it returned, to what takes it late."""
        for it in self._found:
            self._late(it)


class Patient:
    """Any thread may ask. A disk that does not answer costs a thread for as long."""

    def __init__(self) -> None:
        self._idle: list[_Calls] = []
        """Of threads that have nothing to do."""
        self._late: dict[Hashable, str] = {}
        """What does not answer, in words."""
        self._changing = threading.Lock()

    def ask(self, call: Call[T], patience_s: float) -> T:
        """What it returns or raises. NoAnswer after `patience_s` (seconds), or at once while an earlier call
        of the same disk is late. NoThread."""
        (made,) = self.ask_each([call], patience_s)
        return made.result()

    def ask_each(self, calls: Iterable[Call[T]], patience_s: float) -> list[Call[T]]:
        """Make all at once, and wait so long for all together: each has a result then."""
        made = list(calls)
        for it in made:
            try:
                self._begin(it)
            except AoeError as error:
                it.fail(error)
        until_s = time.monotonic() + patience_s
        for it in made:
            if not it.over.wait(max(until_s - time.monotonic(), 0)):
                self._leave(it)
        return made

    def each(
        self, which: Sequence[K], said: Callable[[K], str], call: Callable[[K], T], patience_s: float
    ) -> list[T | AoeError]:
        """The same of many, of which each is quick: all on one thread, and each on its own where that is
        late. What is raised is the result."""
        one = partial(tried, call)
        try:
            return self._together(which, one, patience_s)
        except NoAnswer:
            return self._apart(which, said, one, patience_s)

    def _together(
        self, which: Sequence[K], one: Callable[[K], T | AoeError], patience_s: float
    ) -> list[T | AoeError]:
        known = {it: NoAnswer(said) for it in which if (said := self._late.get(it)) is not None}
        rest = [it for it in which if it not in known]
        found: dict[K, T | AoeError] = {**known}
        if rest:
            made: Call[Iterable[T | AoeError]] = Call(object(), "a disk", lambda: list(map(one, rest)))
            found.update(zip(rest, self.ask(made, patience_s), strict=True))
        return [found[it] for it in which]

    def _apart(
        self,
        which: Sequence[K],
        said: Callable[[K], str],
        one: Callable[[K], T | AoeError],
        patience_s: float,
    ) -> list[T | AoeError]:
        calls = [Call(it, said(it), partial(one, it)) for it in which]
        return [_result(it) for it in self.ask_each(calls, patience_s)]

    def check(self, which: Hashable) -> None:
        """NoAnswer while a disk does not answer."""
        said = self._late.get(which)
        if said is not None:
            raise NoAnswer(said)

    def _begin(self, call: Call[Any]) -> None:
        self.check(call.which)
        with self._changing:
            if len(self._late) >= limits.LATE_MAX:
                raise ConfigurationError(f"{limits.LATE_MAX} disks do not answer; no more is asked of any")
            calls = self._idle.pop() if self._idle else None
        if calls is None:
            calls = SimpleQueue()
            self._start(calls)
        calls.put(call)

    def _start(self, calls: _Calls) -> None:
        begin(lambda: self._work(calls), "patient")

    def _leave(self, call: Call[Any]) -> None:
        """Wait for it no more, unless it is over by now."""
        with self._changing:
            if not call.over.is_set():
                call.was_left = True
                self._late[call.which] = call.said

    def _work(self, calls: _Calls) -> None:
        """Until one was late: there may be another thread by then."""
        while self._is_done(calls.get(), calls):
            pass

    def _is_done(self, call: Call[Any], calls: _Calls) -> bool:
        """Make a call; whether that is waited for still."""
        call.run()
        with self._changing:
            call.over.set()
            if not call.was_left:
                self._idle.append(calls)
                return True
        try:
            call.bring()
        finally:
            with self._changing:
                self._late.pop(call.which, None)
        return False


def tried(call: Callable[[K], T], it: K) -> T | AoeError:
    """What it returns, or the error that it raises."""
    try:
        return call(it)
    except AoeError as error:
        return error


def _result(call: Call[T | AoeError]) -> T | AoeError:
    try:
        return call.result()
    except AoeError as error:
        return error
