"""What a node keeps: the records of its disks, and the number of its last change."""

import logging
from pathlib import Path

from aoe.disk import whole
from aoe.limits import CHANGE_DIGITS_MAX
from aoe.target.records import StateStore

log = logging.getLogger("aoe.node")

_NUMBER = "changes"
"""Name of the file with the number."""


class State:
    """In a directory of this daemon alone. ConfigurationError where that cannot be read."""

    def __init__(self, directory: Path) -> None:
        self.records = StateStore(directory)
        self._file = directory / _NUMBER
        self.number = self._read()
        """Of the last change; it never falls."""

    def _read(self) -> int:
        try:
            text = self._file.read_text()
        except (OSError, ValueError):
            return 0
        return int(text) if text.isdecimal() and text.isascii() and len(text) <= CHANGE_DIGITS_MAX else 0

    def count(self) -> None:
        """One more change. Where it cannot be written down it counts all the same, until the next start."""
        self.number += 1
        fresh = self._file.with_suffix(".count")
        try:
            whole.replace(self._file, str(self.number).encode(), fresh, lasting=False)
        except OSError as error:
            log.warning("the number of this change is not kept: %s: %s", self._file, error.strerror)
