"""What a daemon does for those that ask: the node, as the control socket wants it."""

import functools
import grp
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aoe.cli.wanted import Wanted
from aoe.config.changes import Verb
from aoe.config.read import read
from aoe.config.values import Config, TargetConfig
from aoe.control.messages import DONE, PARTLY
from aoe.control.rights import Peer, Rights
from aoe.control.verbs import Apply, Outcome
from aoe.disk.threads import aside
from aoe.errors import ConfigurationError
from aoe.node.done import Done
from aoe.node.drains import Drains
from aoe.node.node import Node
from aoe.wire.address import parse_address
from aoe.wire.frame import format_mac

log = logging.getLogger("aoe.node")


class NodeVerbs:
    """`wanted` reads the daemon's own file; `changed` is told of each one that is applied."""

    def __init__(
        self,
        node: Node,
        wanted: Wanted,
        drains: Drains,
        changed: Callable[[TargetConfig], None] = lambda _: None,
    ) -> None:
        self._node = node
        self._drains = drains
        self._wanted = wanted
        self._changed = changed

    async def status(self) -> Mapping[str, Any]:
        """How everything is."""
        beside = await aside(lambda: self._wanted.beside)
        level = logging.getLogger("aoe").getEffectiveLevel()
        patches = [change.facts() for change in beside]
        facts = self._node.status().facts()
        return {**facts, "log_level": logging.getLevelName(level).lower(), "patches": patches}

    async def apply(self, how: Apply, peer: Peer) -> Outcome:
        """Compare the file with what runs and do the difference. The owner's command took the changes away
        before; only of a plan it is said here which ones would end."""
        if not how.plan:
            return await self.reload(str(peer), remove=how.remove, expect=how.expect)
        source = self._wanted.alone if how.text is None else functools.partial(read, how.text, "the file")
        planned = await self._node.apply(
            await aside(source), str(peer), only_plan=True, remove=how.remove, expect=how.expect
        )
        undone = await aside(lambda: self._wanted.beside)
        said = (*planned.sentences, *(f"ends: {change.sentence}" for change in undone))
        return Outcome(said, planned.exit, {**planned.facts(), "ends": [it.facts() for it in undone]})

    async def reload(self, by: str, *, remove: bool = False, expect: int | None = None) -> Outcome:
        """Go to what the file and the changes beside it say."""
        config = await aside(self._wanted.load)
        rights_of(config.target)  # before anything is done
        done = await self._node.apply(config, by, remove=remove, expect=expect)
        if done.exit != 2:
            self._changed(config.target)
        return _outcome(done)

    async def stays(self) -> list[str]:
        """What `reload` leaves, which is not what the file says."""
        return [it.sentence for it in await aside(lambda: self._wanted.beside)]

    async def take_up(self, verb: Verb, address: str, peer: Peer) -> Outcome:
        """The owner changed one export beside the file."""

        def wanted() -> Config:
            return self._wanted.take_up(verb, address, self._node.wanted)

        key = parse_address(address)
        return _outcome(await self._node.apply_one(key, lambda: aside(wanted), f"{verb} by {peer}"))

    async def mask(self, address: str, macs: tuple[bytes, ...], peer: Peer) -> Outcome:
        """Serve an export to these hosts alone."""
        await self._node.restate(parse_address(address), f"mask by {peer}", mask=macs)
        return Outcome((f"{address}: serves " + (", ".join(map(format_mac, macs)) or "every host"),))

    async def release(self, address: str, peer: Peer) -> Outcome:
        """Break the reservation of an export."""
        await self._node.restate(parse_address(address), f"release by {peer}", reserve=())
        return Outcome((f"{address}: no host has it reserved",))

    async def reopen(self, address: str, peer: Peer) -> Outcome:
        """End the failed state of one disk."""
        await self._node.reopen(parse_address(address), f"reopen by {peer}")
        return Outcome((f"{address}: serves again, as another instance",))

    async def drain(self, addresses: tuple[str, ...], peer: Peer) -> Outcome:
        """Have clients leave these addresses; no address: all."""
        stays = await self._drains.begin(_keys(addresses))
        log.info("drain by %s: %s", peer, " ".join(stays))
        said = [f"{address}: {mac} {why}" for address, them in stays.items() for mac, why in them.items()]
        said += [f"{address}: no client is left" for address, them in stays.items() if not them]
        return Outcome(tuple(said), PARTLY if any(stays.values()) else DONE, {"stays": stays})

    async def resume(self, addresses: tuple[str, ...], peer: Peer) -> Outcome:
        """Let clients come back to these addresses; no address: all."""
        ended = await self._drains.end(_keys(addresses))
        log.info("resume by %s: %s", peer, " ".join(ended))
        return Outcome(tuple(f"{address}: clients may use it again" for address in ended))

    async def log_level(self, level: str, peer: Peer) -> Outcome:
        """Log what is at least so grave."""
        logging.getLogger("aoe").setLevel(level.upper())
        return Outcome((f"logs {level} and what is graver",))


def _keys(addresses: tuple[str, ...]) -> list[tuple[int, int]] | None:
    return [parse_address(it) for it in addresses] or None


def _outcome(done: Done) -> Outcome:
    """ConfigurationError for one that was refused."""
    if done.exit == 2:
        raise ConfigurationError("; ".join(it.sentence for it in done.plan.problems))
    return Outcome(tuple(done.sentences), done.exit, done.facts())


def owner_of(file: Path) -> int:
    """The user whose daemon it is: the one that owns its file, as what the file says is served. A service of
    root's may run as a user of its own."""
    try:
        return file.stat().st_uid
    except OSError:  # which is said when the file is read
        return os.geteuid()


def rights_of(target: TargetConfig, owner: int = 0, changes: str = "") -> Rights:
    """Which process may do what. ConfigurationError for a group that is not there."""
    try:
        group = None if target.control_group is None else grp.getgrnam(target.control_group).gr_gid
    except KeyError as error:
        raise ConfigurationError(
            f"there is no group {target.control_group}; make it, or drop control-group"
        ) from error
    return Rights(owner, group, target.control_readers == "all", changes)
