"""What a process without rights knows of the stores that its opener holds, to tell the next opener."""

import os
from collections import Counter
from collections.abc import Iterable

from aoe.disk.syscalls import close_all
from aoe.node.desk import Use
from aoe.node.held import Kind, name_of
from aoe.node.holds import Keeper, kind_of


class Remembered(Keeper):
    """Copies of what holds stores, beside those that `keeper` keeps for the next life of the service."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.holds: dict[str, int] = {}
        """By their names."""
        self.uses: Counter[Use] = Counter()
        self._images: list[str] = []
        """Keys of what has images kept."""

    def keep(self, key: str, fd: int) -> None:
        if kind_of(key) is Kind.IMAGES:
            self._images.append(key)
        else:
            self.add(name_of(Kind.STORE, key), fd)
        self._keeper.keep(key, fd)

    def forget(self, key: str) -> None:
        self.drop([name_of(Kind.STORE, key)])
        self._keeper.forget(key)

    def forget_images(self) -> None:
        """Those of an opener that has ended are not kept for the next one, which opens what is asked for."""
        for key in self._images:
            self._keeper.forget(key)
        self._images.clear()

    def add(self, name: str, fd: int) -> None:
        """One that an earlier life had kept, too."""
        self.drop([name])
        self.holds[name] = os.dup(fd)

    def drop(self, names: Iterable[str]) -> None:
        """They are held no more."""
        close_all(self.holds.pop(name) for name in names if name in self.holds)

    def close(self) -> None:
        """No opener will be told."""
        self.drop(list(self.holds))
