"""How a process without rights has things opened: it asks the opener, and gets descriptors and facts."""

import json
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from aoe import limits
from aoe.config.values import ExportConfig, is_link
from aoe.disk.syscalls import close_all
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.link.naming import Known, all_known
from aoe.link.packet import PacketLink, Sockets
from aoe.link.udp import Bound, UdpLink, UdpSpec
from aoe.node.desk import Use, how_of, use_of
from aoe.node.holds import Busy, Keeper, Rest
from aoe.node.opener_connection import Asked, Connection, OpenerLost
from aoe.node.opener_messages import Misunderstood, store_of
from aoe.node.opening import Held, only_seen_by
from aoe.node.plan import Store
from aoe.node.remembered import Remembered
from aoe.target.address_locks import parts_of
from aoe.target.system import System

T = TypeVar("T")


class ByOpener(Sockets, System):
    """Opens stores and links (`Opener`), sockets and addresses through the opener."""

    def __init__(self, connection: Connection) -> None:
        self._to = connection
        self._to.joined = self._go_on
        self.kept: Sockets = self
        """Where links have their sockets from."""
        self._remembered: Remembered | None = None

    def find(self, places: Iterable[str]) -> dict[str, Store]:
        """What each place leads to, of those where there is a disk."""
        found: dict[str, Store] = {}
        for some in _places(places):
            facts, _ = self._ask("find", places=some)
            found.update({place: tuple(token) for place, token in facts["stores"].items()})
        return found

    def adopt(self, keeper: Keeper, found: Iterable[tuple[str, int]]) -> list[str]:
        """As `InProcess.adopt`."""
        self._remembered = remembered = Remembered(keeper)
        unknown: list[str] = []
        for some in _portions(found, limits.OPENER_CHANGES_MAX):
            descriptors = [fd for _, fd in some]
            try:
                facts, _ = self._ask("adopt", descriptors, names=[name for name, _ in some])
                for name, fd in some:
                    remembered.add(name, fd)
            finally:
                close_all(descriptors)
            unknown += facts["unknown"]
        remembered.drop(unknown)
        return unknown

    def _go_on(self, ask: Asked) -> None:
        """With the next opener, from where the last one was."""
        if self._remembered is None:
            return
        for some in _portions(self._remembered.holds.items(), limits.OPENER_CHANGES_MAX):
            ask("adopt", [fd for _, fd in some], names=[name for name, _ in some])
        for uses in _portions(self._remembered.uses.elements(), limits.OPENER_USES_MAX):
            ask("use", uses=list(map(_told, uses)))

    def open_store(self, export: ExportConfig) -> Held:
        """Open the store of an export, and lock it. ConfigurationError, Busy."""
        facts, received = self._ask("store", address=list(export.key), how=how_of(export))
        if "busy" in facts:
            close_all(received)
            raise Busy(str(facts["why"]), tuple(facts["busy"]))
        fd = self._only("store", received)
        try:
            held = Held(*store_of(facts, fd))
        except Misunderstood as error:
            os.close(fd)
            raise self._to.misunderstood(error) from error
        if self._remembered is not None:
            self._remembered.uses[use_of(held)] += 1
        return held

    def release(self, held: Held) -> None:
        """An export does not use its store any more."""
        use = use_of(held)
        with suppress(OpenerLost):  # its locks have gone with it
            self._ask("release", uses=[_told(use)])
        if self._remembered is not None:
            self._remembered.uses[use] -= 1

    def rest(self, wanted: Collection[Store]) -> Rest:
        """As `Opener.rest`."""
        facts, _ = self._ask("rest", wanted=[_token(it) for it in wanted])
        return Rest(frozenset(map(tuple, facts["free"])), facts["waits"])

    def close(self) -> None:
        """As `Opener.close`. The opener may have gone: then it has let go."""
        with suppress(OpenerLost):
            self._ask("close")
        if self._remembered is not None:
            self._remembered.close()

    # Asking

    def _ask(
        self, verb: str, descriptors: Sequence[int] = (), **arguments: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """As `Connection.ask`; what comes beside is kept."""
        facts, received = self._to.ask(verb, descriptors, **arguments)
        more = self._keep(facts.pop("kept", []), received)
        while more:
            others, beside = self._to.ask("kept")
            more = self._keep(others.pop("kept", []), beside)
        return facts, received

    def _one(
        self, verb: str, descriptors: Sequence[int] = (), **arguments: Any
    ) -> tuple[dict[str, Any], int]:
        """With the one descriptor that there must be."""
        facts, received = self._ask(verb, descriptors, **arguments)
        return facts, self._only(verb, received)

    def _only(self, verb: str, received: Sequence[int]) -> int:
        if len(received) != 1:
            close_all(received)
            raise self._to.misunderstood(Misunderstood(f"{verb} brought {len(received)} descriptors"))
        return received[0]

    def _keep(self, changes: list[tuple[str, bool]], received: list[int]) -> bool:
        """Do so with the last of what was received; whether there is more of that."""
        first = len(received) - sum(has_one for _, has_one in changes)
        if self._remembered is None or first < 0:
            if not changes:
                return False
            close_all(received)
            raise self._to.misunderstood(Misunderstood("it has nothing that could be kept"))
        for key, has_one in changes:
            if has_one:
                fd = received.pop(first)
                self._remembered.keep(key, fd)
                os.close(fd)
            else:
                self._remembered.forget(key)
        return len(changes) == limits.OPENER_CHANGES_MAX

    def open_link(self, name: str) -> Link:
        """Open an interface, which may come later, or a UDP link. ConfigurationError."""
        if not is_link(name):
            return PacketLink(name, self.kept, waits=True)
        facts, fd = self._one("datagrams", names=[name])
        peers = tuple((host, port) for host, port in facts["peers"])
        spec = UdpSpec(tuple(facts["bind"]), peers, facts["mtu"])
        return UdpLink(spec, Bound(socket.socket(fileno=fd), bytes.fromhex(facts["mac"])))

    def anew(self, fd: int) -> int:
        """Another open file description of a store. ConfigurationError."""
        return self._one("anew", [fd])[1]

    def add_watch(self, inotify: int, fd: int) -> int:
        """As `aoe.disk.watch.add_watch`."""
        try:
            facts, _ = self._ask("watch", [inotify, fd])
        except ConfigurationError:
            return -1
        return int(facts["watch"])

    # What root's file says

    def text(self, which: str) -> int:
        """A descriptor of root's `file`, or of the list of `changes` beside it, to be read. OSError;
        ConfigurationError."""
        facts, received = self._ask("text", which=which)
        if not received:
            raise OSError(int(facts["errno"]), os.strerror(int(facts["errno"])))
        return received[0]

    def group(self, name: str) -> int:
        """The number of the group that the file gives the control socket to. ConfigurationError."""
        return int(self._ask("group", names=[name])[0]["group"])

    # What links need

    def look(self) -> list[Known]:
        """The interfaces that there are."""
        return all_known(self.asking)

    def only(self) -> str:
        """The Ethernet interface that is meant where none is named. ConfigurationError."""
        return only_seen_by(self)

    def packet(self, name: str) -> socket.socket:
        """Bound to an interface, with its buffers. ConfigurationError."""
        return self._socket("packet", names=[name])

    def asking(self) -> socket.socket:
        """To ask about interfaces."""
        return self._socket("asking")

    def watching(self) -> socket.socket:
        """To be told when one changes."""
        return self._socket("watching")

    def bind(self, name: str, *them: socket.socket) -> None:
        """Have packet sockets go on with an interface. ConfigurationError."""
        for it in them:
            self._ask("bind", [it.fileno()], names=[name])

    def _socket(self, verb: str, **arguments: Any) -> socket.socket:
        _, fd = self._one(verb, **arguments)
        return socket.socket(fileno=fd)

    # What address locks need

    def bound(self, name: str) -> socket.socket | None:
        """A socket of that name, None if a process has it. ConfigurationError."""
        segment, key = parts_of(name)
        facts, received = self._ask("lock", segment=segment, address=list(key))
        return socket.socket(fileno=received[0]) if facts["taken"] else None

    def holder(self, name: str) -> str:
        """The process that has it, in words."""
        segment, key = parts_of(name)
        facts, _ = self._ask("holder", segment=segment, address=list(key))
        return str(facts["holder"])


def _portions(them: Iterable[T], count: int) -> Iterator[list[T]]:
    """So many at a time that each message is short enough, whatever is in it; at least one."""
    some: list[T] = []
    for it in them:
        some.append(it)
        if len(some) == count:
            yield some
            some = []
    yield some


def _places(them: Iterable[str]) -> Iterator[list[str]]:
    """So many at a time that they fit into a request, and with what they lead to into its answer."""
    some: list[str] = []
    room = limits.OPENER_PLACES_BYTES
    for place in them:
        size = len(json.dumps(place)) + limits.OPENER_STORE_BYTES
        if size > room:
            yield some
            some, room = [], limits.OPENER_PLACES_BYTES
        some.append(place)
        room -= size
    yield some


def _token(store: Store) -> list[Any]:
    return list(store) if isinstance(store, tuple) else []


def _told(use: Use) -> list[Any]:
    return [_token(use.store), use.shared, use.read_only]
