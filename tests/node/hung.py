"""A file system whose server never answers: what asks it for anything waits until it is gone."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tools import need_dev_fuse, need_root

_libc = ctypes.CDLL(None, use_errno=True)
_MNT_FORCE, _MNT_DETACH = 1, 2


class Hung:
    """Mounted over a directory. `end` lets go of all that waits, with an error."""

    def __init__(self, over: Path) -> None:
        self._over = str(over).encode()
        self._server = os.open("/dev/fuse", os.O_RDWR)
        words = f"fd={self._server},rootmode=40000,user_id=0,group_id=0".encode()
        if _libc.mount(b"aoe-hung", self._over, b"fuse", 0, words):
            raise OSError(ctypes.get_errno(), "no file system of a server")

    def end(self) -> None:
        """Its server is gone."""
        if self._server >= 0:
            os.close(self._server)
            self._server = -1
            _libc.umount2(self._over, _MNT_FORCE | _MNT_DETACH)


@contextmanager
def hung(over: Path) -> Iterator[Hung]:
    """While it lasts."""
    need_root()
    need_dev_fuse()
    made = Hung(over)
    try:
        yield made
    finally:
        made.end()
