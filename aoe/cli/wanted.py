"""What a daemon is to serve: what its file says, and the changes beside it."""

import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from aoe.config import changes
from aoe.config.changes import Change, as_text, patched
from aoe.config.document import decoded, document
from aoe.config.faults import ConfigErrors
from aoe.config.read import Reader, read
from aoe.config.values import Config
from aoe.control.kept import Kept
from aoe.disk.threads import aside
from aoe.errors import ConfigurationError
from aoe.wire.address import parse_address

_LINE = re.compile(r" \(first in line \d+\)|, first in line \d+")

log = logging.getLogger("aoe.node")


class Wanted:
    """`content` reads the file, `changes` what its owner changed beside it. What the `reader` has read before
    it does not parse again."""

    def __init__(
        self,
        file: Path,
        content: Callable[[], bytes],
        changes: Callable[[], tuple[Change, ...]],
        reader: Reader | None = None,
    ) -> None:
        self._file = file
        self._content = content
        self._changes = changes
        self._kept: Kept | None = None
        self.reader = reader or Reader()
        self.lent: tuple[Change, ...] = ()
        """The changes of the configured group that are in force."""
        self._applied = ""
        """The text of the file that was gone to last."""

    def keep(self, directory: Path, loaded: Config) -> Config:
        """Go on with the changes of the configured group that are kept there: what was loaded, with them.
        ConfigurationError."""
        self._kept = Kept(directory)
        self.lent = changes.lent_beside(self._kept.read(), self._changes())
        return self.load() if self.lent else loaded

    @property
    def owners(self) -> tuple[Change, ...]:
        """Changes of the owner that do not stand in the file."""
        return tuple(it for it in self._changes() if not it.saved)

    def alone(self) -> Config:
        """What the file says alone. ConfigurationError."""
        return self.reader.read(self._content(), str(self._file))

    def load(self) -> Config:
        """What file and changes say at the start. ConfigurationError."""
        config, self._applied = self._load(self.lent)
        return config

    def named(self) -> Config:
        """The same, for a process that does not serve it. ConfigurationError."""
        return self._with(decoded(self._content(), str(self._file)), self._changes())[0]

    def _load(self, lent: Sequence[Change]) -> tuple[Config, str]:
        """And the text of the file, which is asked for last: an opener reads it meanwhile, too."""
        owners = self._changes()
        text = decoded(self._content(), str(self._file))
        config, idle = self._with(text, (*owners, *lent))
        for change in idle:
            log.warning("%s has no such export any more: %s", self._file, change.sentence)
        return config, text

    # One after the other: each is what is wanted while it is gone to, and is taken back where that is refused

    @asynccontextmanager
    async def reloaded(self, _: Config) -> AsyncIterator[Config]:
        """What file and changes say now."""
        config, text = await aside(lambda: self._load(self.lent))
        yield config
        self._applied = text

    @asynccontextmanager
    async def applied(self, _: Config) -> AsyncIterator[Config]:
        """What the file says, and changes of the owner's that came since: the configured group's end."""
        config, text = await aside(lambda: self._load(()))
        async with self._keeping(()):
            yield config
        self._applied = text

    @asynccontextmanager
    async def taken_up(self, change: Change, now: Config) -> AsyncIterator[Config]:
        """`now`, but for one export: that is as the file that was applied last and its changes have it. This
        one is the owner's, and is written down."""
        key = parse_address(change.address)
        if (key in now.by_key) == (change.verb == "add"):
            known = "is there already; set or remove it" if change.verb == "add" else "is not there; add it"
            raise ConfigurationError(f"{change.address} {known}")
        owners = await aside(self._changes)
        left = tuple(it for it in self.lent if it not in owners)
        left = changes.lent_after(left, change.address, change.names if change.verb == "set" else None)
        async with self._keeping(left):
            yield await aside(lambda: self._one(change.address, owners, left, now))

    @asynccontextmanager
    async def lending(self, change: Change, now: Config) -> AsyncIterator[Config]:
        """The same for a change of the configured group, which is kept from now on."""
        if parse_address(change.address) not in now.by_key:
            raise ConfigurationError(f"{change.address} is not there; look at aoe-target status")
        owners = await aside(self._changes)
        left = changes.merged(self.lent, changes.lent_over(owners, change))
        config = await aside(lambda: self._one(change.address, owners, left, now))
        async with self._keeping(left):
            yield config

    @asynccontextmanager
    async def _keeping(self, lent: tuple[Change, ...]) -> AsyncIterator[None]:
        """These are the changes of the configured group, unless what is inside fails."""
        before = self.lent
        if lent != before:
            await self._keep(lent)
        self.lent = lent
        try:
            yield
        except BaseException:
            self.lent = before
            if lent != before:
                await self._keep(before)
            raise

    async def _keep(self, lent: tuple[Change, ...]) -> None:
        kept = self._kept
        if kept is not None:
            await aside(lambda: kept.write(lent))

    def _one(self, address: str, owners: Sequence[Change], lent: Sequence[Change], now: Config) -> Config:
        mine = [it for it in (*owners, *lent) if it.address == address]
        key = parse_address(address)
        found = self._with(self._applied, mine)[0].by_key.get(key)
        others = tuple(it for it in now.exports if it.key != key)
        return replace(now, exports=others if found is None else (*others, found))

    def _with(self, text: str, changes: Sequence[Change]) -> tuple[Config, Sequence[Change]]:
        """Without changes the file is read as it stands: faults have their lines there."""
        name = str(self._file)
        if not changes:
            return self.reader.read(text, name), ()
        whole, idle = patched(document(text, name), changes)
        read(text, name)
        try:
            return read(as_text(whole), name), idle
        except ConfigErrors as error:  # its lines are those of a text that is nowhere
            said = "; ".join(f"{it.where}: {it.message}" for it in error.faults)
            raise ConfigurationError(_LINE.sub("", said)) from error
