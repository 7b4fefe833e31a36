"""What the initiator's arithmetic is in either language, as those see it that move its frames."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

from aoe.initiator.path import PathSnapshot, Port
from aoe.initiator.request import Result, Verb


class Asked(Protocol):
    """A request; `result` is None until it has ended."""

    @property
    def result(self) -> Result | None: ...


class Done(Protocol):
    """The requests that have ended, in order; false where there is none."""

    def popleft(self) -> Asked: ...


class Out(Protocol):
    """The frames to be sent, and by which port."""

    def __iter__(self) -> Iterator[tuple[int, bytes]]: ...

    def clear(self) -> None: ...


class Arithmetic(Protocol):
    """`aoe.initiator.core.Core`, and `aoe.initiator.compiled_core.CompiledCore` as well."""

    @property
    def out(self) -> Out: ...

    @property
    def done(self) -> Done: ...

    @property
    def news(self) -> int: ...

    @property
    def chosen(self) -> bool: ...

    @property
    def comparing(self) -> bool: ...

    @property
    def identity(self) -> bytes: ...

    @property
    def pulse_ns(self) -> int: ...

    @property
    def paths(self) -> list[PathSnapshot]: ...

    @property
    def counters(self) -> Counter[str]: ...

    def own_time_ns(self, now_ns: int) -> int: ...

    def set_port(self, number: int, port: Port, now_ns: int) -> None: ...

    def received(self, port: int, raw: bytes, now_ns: int) -> None: ...

    def tick(self, now_ns: int) -> None: ...

    def switch(self, number: int, now_ns: int) -> bool: ...

    def fenced(self, number: int, now_ns: int) -> None: ...

    def start(
        self, verb: Verb, offset: int, length: int, data: bytes, now_ns: int, number: int = 0
    ) -> Asked: ...

    def abandon(self, request: Any, now_ns: int) -> None: ...
