"""What a daemon does for those that ask: the node, as the control socket wants it."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from aoe import timing
from aoe.cli.rights import rights_of
from aoe.cli.wanted import Wanted
from aoe.config.changes import Change
from aoe.config.read import read
from aoe.config.values import Config
from aoe.control.messages import DONE, PARTLY
from aoe.control.rights import Peer
from aoe.control.unread import Unread
from aoe.control.verbs import Apply, OfVolume, Outcome
from aoe.disk.threads import aside
from aoe.errors import ConfigurationError
from aoe.node.done import REFUSED, Done, Wanting
from aoe.node.drains import Drains
from aoe.node.groups import number_of
from aoe.node.node import Node
from aoe.pool.asked import name_of
from aoe.printable import plain
from aoe.wire.address import parse_address

_Wanted = AbstractAsyncContextManager[Config]

log = logging.getLogger("aoe.node")


class NodeVerbs:
    """`wanted` reads the daemon's own file; `changed` is told of each one that is applied,
    and `stirred` after everything that may have changed how the node is."""

    def __init__(
        self,
        node: Node,
        wanted: Wanted,
        drains: Drains,
        changed: Callable[[Config], None] = lambda _: None,
        stirred: Callable[[], None] = lambda: None,
        group_of: Callable[[str], int] = number_of,
    ) -> None:
        self._node = node
        self._drains = drains
        self._wanted = wanted
        self._changed = changed
        self._stirred = stirred
        self._group_of = group_of
        self._reading: asyncio.Task[list[dict[str, Any]]] | None = None

    async def status(self) -> Mapping[str, Any]:
        """How everything is."""
        level = logging.getLogger("aoe").getEffectiveLevel()
        facts = {**self._node.status().facts(), "log_level": logging.getLevelName(level).lower()}
        try:
            return {**facts, "patches": await self._known_patches()}
        except ConfigurationError as error:  # how it is can be said all the same
            return {**facts, "patches": [], "notes": [*facts["notes"], str(error)]}

    async def _known_patches(self) -> list[dict[str, Any]]:
        """Soon: to read them an opener may be needed. ConfigurationError."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._patches())
        reading = self._reading
        await asyncio.wait([reading], timeout=timing.PATCHES_S)
        if not reading.done():
            raise ConfigurationError("changes beside the file are not shown: the opener has not answered yet")
        self._reading = None
        return reading.result()

    async def _patches(self) -> list[dict[str, Any]]:
        """What is beside the file; `lent` is what the configured group changed."""
        owners = await aside(lambda: self._wanted.owners)
        both = ((owners, False), (self._wanted.lent, True))
        return [{**change.facts(), "lent": lent} for them, lent in both for change in them]

    async def apply(self, how: Apply, peer: Peer) -> Outcome:
        """Compare the file with what runs and do the difference. The owner's command took the owner's changes
        away before; those of the configured group end with it."""
        if how.plan:
            return await self._plan(how)
        return await self._go(self._wanted.applied, str(peer), remove=how.remove, expect=how.expect)

    async def _plan(self, how: Apply) -> Outcome:
        """Also which changes beside the file would end."""
        source = self._wanted.alone if how.text is None else functools.partial(read, how.text, "the file")
        planned = await self._node.plan(
            await aside(source), remove=how.remove, expect=how.expect, there=how.there
        )
        ends = await self._patches()
        said = (*planned.sentences, *(f"ends: {it['sentence']}" for it in ends))
        return Outcome(said, planned.exit, {**planned.facts(), "ends": ends})

    async def reload(self, by: str) -> Outcome:
        """Go to what the file and the changes beside it say."""
        return await self._go(self._wanted.reloaded, by)

    async def _go(
        self, wanted: Wanting, by: str, *, remove: bool = False, expect: int | None = None
    ) -> Outcome:
        @asynccontextmanager
        async def allowed(now: Config) -> AsyncIterator[Config]:
            async with wanted(now) as config:
                await aside(lambda: rights_of(config, group_of=self._group_of))  # before all
                yield config

        done = await self._node.apply(allowed, by, remove=remove, expect=expect)
        if done.exit != REFUSED:
            await aside(lambda: self._changed(self._node.wanted))
        return self._outcome(done)

    async def stays(self) -> list[str]:
        """What `reload` leaves, which is not what the file says."""
        return [str(it["sentence"]) for it in await self._patches()]

    async def take_up(self, change: Change, peer: Peer) -> Outcome:
        """The owner changed one export beside the file."""
        return await self._turn(self._wanted.taken_up, change, peer)

    async def lend(self, change: Change, peer: Peer) -> Outcome:
        """The configured group did."""
        return await self._turn(self._wanted.lending, change, peer)

    async def _turn(self, how: Callable[[Change, Config], _Wanted], change: Change, peer: Peer) -> Outcome:
        key, by = parse_address(change.address), f"{change.verb} by {peer}"
        return self._outcome(await self._node.apply_one(key, functools.partial(how, change), by))

    def _outcome(self, done: Done) -> Outcome:
        """ConfigurationError for one that was refused."""
        if done.exit == REFUSED:
            raise ConfigurationError("; ".join(it.sentence for it in done.plan.problems))
        self._stirred()
        return Outcome(tuple(done.sentences), done.exit, done.facts())

    async def release(self, address: str, peer: Peer) -> Outcome:
        """Break the reservation of an export."""
        await self._node.release(parse_address(address), f"release by {peer}")
        return Outcome((f"{address}: no host has it reserved",))

    async def reopen(self, address: str, peer: Peer) -> Outcome:
        """End the failed state of one disk."""
        await self._node.reopen(parse_address(address), f"reopen by {peer}")
        self._stirred()
        return Outcome((f"{address}: serves again, as another instance",))

    async def drain(self, addresses: tuple[str, ...], peer: Peer) -> Outcome:
        """Have clients leave these addresses; no address: all."""
        stays = await self._drains.begin(_keys(addresses), str(peer))
        self._stirred()
        said = [f"{address}: {mac} {why}" for address, them in stays.items() for mac, why in them.items()]
        said += [f"{address}: no client is left" for address, them in stays.items() if not them]
        return Outcome(tuple(said), PARTLY if any(stays.values()) else DONE, {"stays": stays})

    async def resume(self, addresses: tuple[str, ...], peer: Peer) -> Outcome:
        """Let clients come back to these addresses; no address: all."""
        ended = await self._drains.end(_keys(addresses))
        self._stirred()
        log.info("resume by %s: %s", peer, " ".join(ended))
        return Outcome(tuple(f"{address}: clients may use it again" for address in ended))

    async def volumes(self, pool: str, after: str) -> Mapping[str, Any]:
        """Those of a pool."""
        return await self._node.volumes.listed(pool, after)

    async def volume(self, how: OfVolume, peer: Peer) -> Outcome:
        """Make, change or delete a volume."""
        volumes = self._node.volumes
        if how.plan:
            planned = await volumes.plan(how.pool, how.request)
            return Outcome((*planned["steps"], *planned["clients"]), facts=planned)
        await self._hear(how.unread)
        wanted = self._node.wanted.exports
        done = await volumes.do(how.pool, how.request, wanted, str(peer), force=how.force)
        log.info("volume %s by %s: %s", name_of(how.request), peer, plain(str(done["done"])))
        self._node.rooms.stir()
        self._stirred()
        return Outcome((done["done"], *done["notes"]), PARTLY if done.get("failed") else DONE, done)

    async def _hear(self, unread: Unread | None) -> None:
        """Let what has the pools hear it itself. ConfigurationError where that may not."""
        if unread is None:  # it came in pieces: nothing can be shown, and nothing is permitted
            return
        unread.taken = None
        refusal = await self._node.volumes.hear(unread.shown())
        unread.taken = refusal is not None
        if refusal:
            raise ConfigurationError(refusal)

    async def log_level(self, level: str, peer: Peer) -> Outcome:
        """Log what is at least so grave."""
        logging.getLogger("aoe").setLevel(level.upper())
        return Outcome((f"logs {level} and what is graver",))


def _keys(addresses: tuple[str, ...]) -> list[tuple[int, int]] | None:
    return [parse_address(it) for it in addresses] or None
