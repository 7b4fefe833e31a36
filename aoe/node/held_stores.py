"""Descriptors that hold stores, and images, kept by the service manager from one life of the service to the
next."""

from collections.abc import Iterable
from typing import Protocol

from aoe.node.held import Held, Kind
from aoe.node.holds import Keeper, kind_of


class Adopting(Protocol):
    """An opener that goes on with what an earlier life kept."""

    def adopt(self, keeper: Keeper, found: Iterable[tuple[str, int]]) -> list[str]:
        """Of these, with their names; the names of what is not what it is called, and was closed."""


class HeldStores:
    """The manager, as one that keeps what holds stores."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def keep(self, key: str, fd: int) -> None:
        self._held.keep(kind_of(key), key, fd)

    def forget(self, key: str) -> None:
        self._held.forget(kind_of(key), key)

    def go_on(self, opener: Adopting) -> list[str]:
        """With those of the last life, and keep those of this one; the names of what is closed."""
        unknown = opener.adopt(self, self._held.take_all(Kind.STORE))
        for name in unknown:
            self._held.drop(name)
        return unknown
