"""What a daemon does for those that ask: the node, as the control socket wants it."""

import functools
import grp
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from aoe.config.read import read
from aoe.config.values import Config, TargetConfig
from aoe.control.rights import Peer, Rights
from aoe.control.verbs import Apply, Outcome
from aoe.disk.threads import aside
from aoe.errors import ConfigurationError
from aoe.node.node import Done, Node
from aoe.wire.address import parse_address


class NodeVerbs:
    """`load` reads the daemon's own file."""

    def __init__(self, node: Node, load: Callable[[], Config]) -> None:
        self._node = node
        self.load = load

    async def status(self) -> Mapping[str, Any]:
        """How everything is."""
        return self._node.status().facts()

    async def apply(self, how: Apply, peer: Peer) -> Outcome:
        """Compare the file with what runs and do the difference."""
        source = self.load if how.text is None else functools.partial(read, how.text, "the file")
        wanted = await aside(source)
        done = await self._node.apply(
            wanted, str(peer), only_plan=how.plan, remove=how.remove, expect=how.expect
        )
        if done.exit == 2 and not how.plan:
            raise ConfigurationError("; ".join(it.sentence for it in done.plan.problems))
        return _outcome(done)

    async def take_up(self, address: str, peer: Peer) -> Outcome:
        """Changes beside the file."""
        raise ConfigurationError("this daemon takes changes from its file alone; change that, and apply it")

    async def mask(self, address: str, macs: tuple[bytes, ...], peer: Peer) -> Outcome:
        """Serve an export to these hosts alone."""
        await self._node.restate(parse_address(address), f"mask by {peer}", mask=macs)
        return Outcome()

    async def release(self, address: str, peer: Peer) -> Outcome:
        """Break the reservation of an export."""
        await self._node.restate(parse_address(address), f"release by {peer}", reserve=())
        return Outcome()

    async def reopen(self, address: str, peer: Peer) -> Outcome:
        """End the failed state of one disk."""
        return _outcome(await self._node.reopen(parse_address(address), f"reopen by {peer}"))

    async def log_level(self, level: str, peer: Peer) -> Outcome:
        """Log what is at least so grave."""
        logging.getLogger("aoe").setLevel(level.upper())
        return Outcome()


def _outcome(done: Done) -> Outcome:
    return Outcome(tuple(done.sentences), done.exit, done.facts())


def rights_of(target: TargetConfig) -> Rights:
    """Which process may do what. ConfigurationError for a group that is not there."""
    try:
        group = None if target.control_group is None else grp.getgrnam(target.control_group).gr_gid
    except KeyError as error:
        raise ConfigurationError(
            f"there is no group {target.control_group}; make it, or drop control-group"
        ) from error
    return Rights(os.geteuid(), group, target.control_readers == "all")
