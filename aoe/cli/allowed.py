"""What root's file names, for an opener, which reads it each time that something is to be opened."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from aoe.cli.wanted import Wanted
from aoe.config.changes import Change
from aoe.config.values import Config
from aoe.control.written import Written
from aoe.errors import ConfigurationError
from aoe.node.content import FLAGS, content


class Allowed:
    """What `file` and the list of changes beside it say. ConfigurationError."""

    def __init__(self, file: Path, changes: Path) -> None:
        self._file = file
        self._written = Written(changes)
        self._wanted = Wanted(file, lambda: self._text, lambda: self._changes)
        self.reader = self._wanted.reader
        self._text = b""
        self._changes: tuple[Change, ...] = ()
        self._config: Config | None = None

    def __call__(self) -> Config:
        """The same as before while both are as before: what is long takes long to read."""
        seen = self._content(), self._written.read()
        if self._config is None or seen != (self._text, self._changes):
            self._config = None
            self._text, self._changes = seen
            self._config = self._wanted.named()
        return self._config

    def _content(self) -> bytes:
        try:
            return content(self._file)
        except OSError as error:
            raise ConfigurationError(f"{self._file}: {error.strerror}; name a readable file") from error

    @property
    def texts(self) -> Mapping[str, Callable[[], int]]:
        """Opens both, to be read by a process that may not."""
        return {"file": lambda: os.open(self._file, FLAGS), "changes": self._written.open}
