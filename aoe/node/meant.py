"""Which interface is meant where a file names none, as an opener has said it once: others may come up."""

import fcntl
import os
import stat
from collections.abc import Callable

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.link.packet import only_interface

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Meant:
    """The same for as long as this opener is there, and for the next one, which is shown what it said: memory
    that cannot be changed. A process without rights can make no such memory of its own."""

    def __init__(self, only: Callable[[], str] = only_interface) -> None:
        self._only = only
        self._name = ""

    def __call__(self) -> str:
        """ConfigurationError where it is not clear."""
        if not self._name:
            self._name = self._only()
        return self._name

    def told(self) -> int:
        """The memory that says it. ConfigurationError, OSError."""
        name = self()
        fd = os.memfd_create("aoe-target-only", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(fd, os.fsencode(name))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return fd

    def go_on_with(self, fd: int) -> None:
        """An opener before this one said so. ConfigurationError for what only looks so."""
        self._name = name_in(fd)


def name_in(fd: int) -> str:
    """What an opener said. ConfigurationError for what none has."""
    try:
        is_sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) == _SEALS
    except OSError:
        is_sealed = False
    found = os.fstat(fd)
    if not is_sealed or found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
        raise ConfigurationError("no opener has said which interface is meant")
    return os.fsdecode(os.pread(fd, limits.NAME_MAX, 0))
