"""A disk that records the writes that it carries out: what the targets that serve it have really done."""

import hashlib
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.labs.fault_disk import FuseDisk
from tests.support.tools import unavailable


def known_by(sector: bytes) -> str:
    """What no other content has."""
    return hashlib.blake2b(sector, digest_size=8).hexdigest()


class Write(NamedTuple):
    """One that was carried out, when (monotonic, seconds), and what each of its sectors is `known_by`."""

    began_s: float
    ended_s: float
    lba: int
    sectors: tuple[str, ...]


class RecordedDisk(FuseDisk):
    """A later write overtakes one that is held, of the same bytes, too. It does not fail."""

    def _serve(self) -> None:
        if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 2):
            unavailable("writes to a FUSE file do not pass each other here: Linux 6.2 lets them")
        program = ("-m", "tests.support.programs.recording_disk")
        self._start(sys.executable, *program, self.path.parent, self._work)

    def hold_next_write(self) -> None:
        """It takes until it is to go; the others overtake it."""
        (self._work / "wait").touch()

    def holds_write(self) -> bool:
        """Whether it has come."""
        return (self._work / "waits").exists()

    def let_write_go(self) -> None:
        (self._work / "waits").unlink(missing_ok=True)

    def writes(self) -> Iterator[Write]:
        """All that were answered, and maybe some that were not yet."""
        for line in (self._work / "record").read_text().splitlines():
            began_s, ended_s, lba, *sectors = line.split()
            yield Write(float(began_s), float(ended_s), int(lba), tuple(sectors))
