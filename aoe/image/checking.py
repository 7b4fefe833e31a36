"""The check of an image, by a process of its own, while others are served."""

import os
from collections.abc import Sequence
from typing import NoReturn

from aoe import limits
from aoe.disk.syscalls import is_readable, leave_all_but
from aoe.errors import AoeError, ConfigurationError
from aoe.image import processes, qemu
from aoe.image.nodes import Part
from aoe.image.user import end_with

_WHOLE = b"whole"


class Check:
    """Of some layers, which begins at once."""

    def __init__(self, layers: Sequence[tuple[Part, str]]) -> None:
        """With what each is called. Nothing of them is to be written meanwhile. Call from the only thread."""
        self._found, its = os.pipe()
        own = os.getpid()
        self._process = os.fork()
        if not self._process:
            _look(layers, its, own)
        os.close(its)

    def is_over(self, wait_s: float) -> bool:
        """Whether all layers were found whole, after so many seconds at most. ConfigurationError for one that
        is not."""
        if not is_readable(self._found, wait_s):
            return False
        said = os.read(self._found, limits.IMAGE_SAID_BYTES)
        if said != _WHOLE:
            raise ConfigurationError(said.decode(errors="replace") or "qemu-img check was ended; try again")
        return True

    def end(self) -> None:
        """At once, if it is not over."""
        os.close(self._found)
        processes.end(processes.Forked(self._process))


def _look(layers: Sequence[tuple[Part, str]], its: int, parent: int) -> NoReturn:
    try:
        end_with(parent)
        leave_all_but(its, *(fd for part, _ in layers for fd in part.descriptors))
        os.write(its, _found(layers).encode()[: limits.IMAGE_SAID_BYTES])
    finally:
        os._exit(0)


def _found(layers: Sequence[tuple[Part, str]]) -> str:
    try:
        for part, place in layers:
            qemu.check(part, place)
    except AoeError as error:
        return str(error)
    return _WHOLE.decode()
