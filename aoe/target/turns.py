"""Requests that may go to the disk and wait for a place there, as `csrc/target/turns.c` has them."""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar

from aoe.limits import CLIENTS_MAX

T = TypeVar("T")


class Turns(Generic[T]):
    """Each client has a line of its own, and the lines take turns. In a round each has one: a request, which
    is one frame, whatever the client. One that had none yet may still come, however long others have waited
    for their next. So a request waits for those of its own client, and for one of each other client for each
    of these and for itself."""

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, deque[T]] = OrderedDict()
        """Of this round, and of the next."""
        self._next: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._had: set[Hashable] = set()
        """Clients that had their turn in this one."""

    def add(self, client: Hashable, what: T) -> None:
        """It comes last in its line."""
        line = self._lines.get(client) or self._next.get(client)
        if line is not None:
            line.append(what)
        elif client in self._had or len(self._had) > CLIENTS_MAX:
            self._next[client] = deque((what,))
        else:
            self._lines[client] = deque((what,))

    def heads(self) -> Iterator[T]:
        """The first of each line, in their order."""
        for waiting in chain(self._lines.values(), self._next.values()):
            yield waiting[0]

    def __bool__(self) -> bool:
        return bool(self._lines or self._next)

    def take(self) -> T:
        """It goes; there is one."""
        if not self._lines:
            self._lines, self._next = self._next, self._lines
            self._had.clear()
        client, line = self._lines.popitem(last=False)
        self._had.add(client)
        what = line.popleft()
        if line:
            self._next[client] = line
        return what
