"""What a daemon is to serve: what its file says, and the changes beside it."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from aoe.config.changes import Change, Verb, as_text, patched
from aoe.config.document import decoded, document
from aoe.config.faults import ConfigErrors
from aoe.config.read import read
from aoe.config.values import Config
from aoe.control.written import Written
from aoe.errors import ConfigurationError
from aoe.wire.address import parse_address

_LINE = re.compile(r" \(first in line \d+\)|, first in line \d+")

log = logging.getLogger("aoe.node")


class Wanted:
    """`content` reads the file, `changes` is where its owner's changes are written down."""

    def __init__(self, file: Path, content: Callable[[], bytes], changes: Path) -> None:
        self._file = file
        self._content = content
        self._written = Written(changes)
        self._applied = ""
        """The text of the file that was read last."""

    @property
    def beside(self) -> tuple[Change, ...]:
        """Changes that do not stand in the file."""
        return tuple(it for it in self._written.read() if not it.saved)

    def alone(self) -> Config:
        """What the file says alone. ConfigurationError."""
        return read(self._content(), str(self._file))

    def load(self) -> Config:
        """What file and changes say now. ConfigurationError."""
        text = decoded(self._content(), str(self._file))
        config, idle = self._with(text, self._written.read())
        for change in idle:
            log.warning("%s has no such export any more: %s", self._file, change.sentence)
        self._applied = text
        return config

    def take_up(self, verb: Verb, address: str, now: Config) -> Config:
        """`now`, but for one export: that is as the file that was read last and its changes have it."""
        key = parse_address(address)
        if (key in now.by_key) == (verb == "add"):
            known = "is there already; set or remove it" if verb == "add" else "is not there; add it"
            raise ConfigurationError(f"{address} {known}")
        mine = [it for it in self._written.read() if it.address == address]
        found = self._with(self._applied, mine)[0].by_key.get(key)
        others = tuple(it for it in now.exports if it.key != key)
        return replace(now, exports=others if found is None else (*others, found))

    def _with(self, text: str, changes: Sequence[Change]) -> tuple[Config, Sequence[Change]]:
        """Without changes the file is read as it stands: faults have their lines there."""
        name = str(self._file)
        if not changes:
            return read(text, name), ()
        whole, idle = patched(document(text, name), changes)
        read(text, name)
        try:
            return read(as_text(whole), name), idle
        except ConfigErrors as error:  # its lines are those of a text that is nowhere
            said = "; ".join(f"{it.where}: {it.message}" for it in error.faults)
            raise ConfigurationError(_LINE.sub("", said)) from error
