"""The AoE verbs: config string, mask list and reservation of a target (AoEr11 sections 3.2 to 3.4).

Each server keeps its own, so with several servers each is told; what is returned is what the last one said.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from aoe import timing
from aoe.errors import OutOfRangeError, RequestError, Unreachable
from aoe.wire import config, mask, protocol, reserve
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import Command, Fault
from aoe.wire.mask import Directive, DirectiveCommand, Mask, MaskCommand, MaskError
from aoe.wire.octets import mac, octets
from aoe.wire.reserve import Reserve, ReserveCommand

T = TypeVar("T")
Within = Callable[[float], AbstractAsyncContextManager[object]]
Ask = Callable[[Command, bytes, int], Awaitable[list[bytes]]]
"""Sends the bytes after the AoE header to every server; their replies, each at least so long."""


class Admin:
    """`ask` reaches the servers, `own` are the MACs of our ends of the paths, `within` bounds a time by
    a TimeoutError."""

    def __init__(self, ask: Ask, own: Callable[[], list[bytes]], within: Within = asyncio.timeout) -> None:
        self._ask = ask
        self._within = within
        self._own = own

    async def config(self) -> bytes:
        """The config string."""
        return await self._config(Config(ConfigCommand.READ))

    async def set_config(self, text: bytes, *, force: bool = False) -> bytes:
        """Store a config string of up to 1024 bytes; TargetRefused (AoE error 4) if there is another one,
        unless forced."""
        command = ConfigCommand.FORCE_SET if force else ConfigCommand.SET
        return await self._config(Config(command, _text(text)))

    async def test_config(self, text: bytes, *, prefix: bool = False) -> bool:
        """Whether every server's config string is `text`, or with `prefix` begins with it.

        A server answers only if it matches. So silence for a second is a no, unless to a read of the string
        it is silent, too: then Unreachable, as always. What is lost on the way is sent again meanwhile.
        """
        wanted = _text(text)
        command = ConfigCommand.TEST_PREFIX if prefix else ConfigCommand.TEST
        try:
            async with self._within(timing.CONFIG_TEST_S):
                await self._config(Config(command, wanted))
        except (TimeoutError, Unreachable):
            await self.config()
            return False
        return True

    async def mask(self) -> list[bytes]:
        """The MACs that are served; empty means all."""
        return await self._mask(Mask(MaskCommand.READ))

    async def edit_mask(self, *, add: Iterable[bytes] = (), delete: Iterable[bytes] = ()) -> list[bytes]:
        """Add and delete MACs. A host that is not in the list gets no answer any more, to anything,
        unless the list is empty: RequestError if that would be this host."""
        added, deleted = list(map(mac, add)), list(map(mac, delete))
        left = {*added, *await self.mask()} - set(deleted)
        if left and not set(self._own()) & left:
            raise RequestError("the list would lock this host out; leave one of its own MACs in it")
        edits = [Directive(DirectiveCommand.ADD, it) for it in added]
        edits += [Directive(DirectiveCommand.DELETE, it) for it in deleted]
        return await self._mask(mask.edit(*edits))

    async def reserved(self) -> list[bytes]:
        """The MACs that may do I/O; empty means all."""
        return await self._reserve(Reserve(ReserveCommand.READ))

    async def reserve(self, *, force: bool = False, more: Iterable[bytes] = ()) -> list[bytes]:
        """Reserve the disk for all our own MACs, so that no change of path locks us out, and `more`.
        TargetRefused (AoE error 6) if another host holds it, unless forced."""
        macs = tuple(dict.fromkeys([*self._own(), *map(mac, more)]))
        return await self._reserve(Reserve(_how(force), macs))

    async def release(self, *, force: bool = False) -> list[bytes]:
        """Give the reservation up; TargetRefused (AoE error 6) if it is another host's, unless forced."""
        return await self._reserve(Reserve(_how(force)))

    async def _config(self, message: Config) -> bytes:
        replies = await self._ask(Command.CONFIG, config.encode(message), protocol.CONFIG_HEADER)
        return _last(map(config.decode, replies)).text

    async def _mask(self, message: Mask) -> list[bytes]:
        replies = await self._ask(Command.MASK, mask.encode(message), protocol.MASK_HEADER)
        found = _last(map(mask.decode, replies))
        if found.merror:
            what = MaskError(found.merror).name.lower().replace("_", " ")
            raise RequestError(f"the mask list was not changed as asked: {what}, at edit {found.dir_count}")
        return [directive.mac for directive in found.directives]

    async def _reserve(self, message: Reserve) -> list[bytes]:
        replies = await self._ask(Command.RESERVE, reserve.encode(message), protocol.RESERVE_HEADER)
        return list(_last(map(reserve.decode, replies)).macs)


def _text(text: bytes) -> bytes:
    found = octets("a config string", text)
    if len(found) > protocol.CONFIG_STRING_MAX:
        raise OutOfRangeError(
            f"a config string has at most {protocol.CONFIG_STRING_MAX} bytes, not {len(found)}"
        )
    return found


def _last(decoded: Iterable[T | Fault]) -> T:
    *_, found = decoded
    if isinstance(found, Fault):
        raise RequestError(f"the answer is malformed: {found}")
    return found


def _how(force: bool) -> ReserveCommand:
    return ReserveCommand.FORCE_SET if force else ReserveCommand.SET
