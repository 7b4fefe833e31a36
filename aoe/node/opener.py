"""How a process without rights has things opened: it asks the opener, and gets descriptors and facts."""

import asyncio
import logging
import os
import select
import socket
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from aoe import limits, timing
from aoe.config.values import ExportConfig, is_link
from aoe.disk.syscalls import close_all
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.link.naming import Known, all_known
from aoe.link.packet import PacketLink, Sockets
from aoe.link.udp import Bound, UdpLink, UdpSpec
from aoe.node.holds import Busy, Keeper, Rest
from aoe.node.opener_messages import Answer, Misunderstood, Request, decode_answer, encode, store_of
from aoe.node.opener_process import how_of
from aoe.node.opening import Held
from aoe.node.plan import Store
from aoe.target.address_locks import parts_of
from aoe.target.system import System

log = logging.getLogger("aoe.node")

T = TypeVar("T")

_GONE = "the opener has ended: what is open is served on, and nothing more is opened until a restart"

_SILENT = "the opener does not answer: what is open is served on; look at its disks, then restart the target"


class OpenerLost(ConfigurationError):
    """The opener is not there any more, or is not understood."""


class Connection:
    """To the opener. Calls block; any thread may make them, one at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(timing.OPENER_ANSWER_S)
        self._asking = threading.Lock()
        self._number = 0

    def ask(
        self, verb: str, descriptors: Sequence[int] = (), **arguments: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """Facts and descriptors. ConfigurationError with the opener's words; OpenerLost."""
        with self._asking:
            self._number += 1
            answer, received = self._exchange(Request(self._number, verb, arguments), descriptors)
        for line in answer.said:
            log.warning("%s", line)
        if answer.error:
            raise ConfigurationError(answer.error)
        return answer.ok, received

    def _exchange(self, request: Request, descriptors: Sequence[int]) -> tuple[Answer, list[int]]:
        received: list[int] = []
        try:
            message = encode(request)
        except Misunderstood as error:
            raise ConfigurationError(f"it cannot be asked for: {error}") from error
        try:
            socket.send_fds(self._socket, [message], descriptors)
            data, received, _, _ = socket.recv_fds(
                self._socket, limits.OPENER_MESSAGE_BYTES_MAX + 1, limits.OPENER_DESCRIPTORS_MAX
            )
            return _checked(request, data, received), received
        except (OSError, OpenerLost, Misunderstood) as error:
            close_all(received)
            self._part()  # what it says next would be taken for an answer to something else
            raise _lost(error) from error

    def misunderstood(self, error: Misunderstood) -> OpenerLost:
        """To be raised: nothing more is asked of it."""
        self._part()
        return _lost(error)

    def _part(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def one(self, verb: str, **arguments: Any) -> tuple[dict[str, Any], int]:
        """With the one descriptor that there must be."""
        facts, received = self.ask(verb, **arguments)
        return facts, self.only(verb, received)

    def only(self, verb: str, received: Sequence[int]) -> int:
        """The one that there must be."""
        if len(received) != 1:
            close_all(received)
            raise self.misunderstood(Misunderstood(f"{verb} brought {len(received)} descriptors"))
        return received[0]

    def watch(self) -> None:
        """Say it once if it ends, inside the running event loop."""
        asyncio.get_running_loop().add_reader(self._socket, self._look)

    def _look(self) -> None:
        if not self._asking.acquire(blocking=False):
            return  # what comes is an answer
        try:
            if not _is_readable(self._socket):
                return  # it was an answer
            unasked = self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            unasked = b""
        finally:
            self._asking.release()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._part()
        log.error("%s", _lost(Misunderstood("it speaks unasked")) if unasked else _GONE)

    def close(self) -> None:
        """The opener ends with it, and lets go of all its locks."""
        self._socket.close()


class ByOpener(Sockets, System):
    """Opens stores and links (`Opener`), sockets and addresses through the opener."""

    def __init__(self, connection: Connection) -> None:
        self._to = connection
        self._keeper: Keeper | None = None

    def find(self, places: Iterable[str]) -> dict[str, Store]:
        """What each place leads to, of those where there is a disk."""
        found: dict[str, Store] = {}
        for some in _portions(places, limits.OPENER_PLACES_MAX):
            facts, _ = self._to.ask("find", places=some)
            found.update({place: tuple(token) for place, token in facts["stores"].items()})
        return found

    def adopt(self, keeper: Keeper, found: Iterable[tuple[str, int]]) -> list[str]:
        """As `InProcess.adopt`."""
        self._keeper = keeper
        unknown: list[str] = []
        for some in _portions(found, limits.OPENER_CHANGES_MAX):
            descriptors = [fd for _, fd in some]
            try:
                facts, _ = self._to.ask("adopt", descriptors, names=[name for name, _ in some])
            finally:
                close_all(descriptors)
            unknown += facts["unknown"]
        return unknown

    def open_store(self, export: ExportConfig) -> Held:
        """Open the store of an export, and lock it. ConfigurationError, Busy."""
        facts, received = self._ask("store", address=list(export.key), how=how_of(export))
        if "busy" in facts:
            close_all(received)
            raise Busy(str(facts["why"]), tuple(facts["busy"]))
        fd = self._to.only("store", received)
        try:
            return Held(*store_of(facts, fd))
        except Misunderstood as error:
            os.close(fd)
            raise self._to.misunderstood(error) from error

    def release(self, held: Held) -> None:
        """An export does not use its store any more."""
        store = held.opened.store
        self._ask("release", token=_token(held.store), shared=store.shared, read_only=store.read_only)

    def rest(self, wanted: Collection[Store]) -> Rest:
        """As `Opener.rest`."""
        facts, _ = self._ask("rest", wanted=[_token(it) for it in wanted])
        return Rest(frozenset(map(tuple, facts["free"])), facts["waits"])

    def close(self) -> None:
        """As `Opener.close`. The opener may have gone: then it has let go."""
        with suppress(OpenerLost):
            self._ask("close")

    def _ask(self, verb: str, **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        """As `Connection.ask`; what comes beside is kept."""
        facts, received = self._to.ask(verb, **arguments)
        more = self._keep(facts.pop("kept", []), received)
        while more:
            others, beside = self._to.ask("kept")
            more = self._keep(others.pop("kept", []), beside)
        return facts, received

    def _keep(self, changes: list[tuple[str, bool]], received: list[int]) -> bool:
        """Do so with the last of what was received; whether there is more of that."""
        first = len(received) - sum(has_one for _, has_one in changes)
        if self._keeper is None or first < 0:
            if not changes:
                return False
            close_all(received)
            raise self._to.misunderstood(Misunderstood("it has nothing that could be kept"))
        for key, has_one in changes:
            if has_one:
                fd = received.pop(first)
                self._keeper.keep(key, fd)
                os.close(fd)
            else:
                self._keeper.forget(key)
        return len(changes) == limits.OPENER_CHANGES_MAX

    def open_link(self, name: str) -> Link:
        """Open an interface, which may come later, or a UDP link. ConfigurationError."""
        if not is_link(name):
            return PacketLink(name, self, waits=True)
        facts, fd = self._to.one("datagrams", names=[name])
        return UdpLink(UdpSpec.parse(name), Bound(socket.socket(fileno=fd), bytes.fromhex(facts["mac"])))

    def anew(self, fd: int) -> int:
        """Another open file description of a store. ConfigurationError."""
        _, received = self._to.ask("anew", [fd])
        return received[0]

    def add_watch(self, inotify: int, fd: int) -> int:
        """As `aoe.disk.watch.add_watch`."""
        try:
            facts, _ = self._to.ask("watch", [inotify, fd])
        except ConfigurationError:
            return -1
        return int(facts["watch"])

    # What links need

    def look(self) -> list[Known]:
        """The interfaces that there are."""
        return all_known(self.asking)

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
            self._to.ask("bind", [it.fileno()], names=[name])

    def _socket(self, verb: str, **arguments: Any) -> socket.socket:
        _, fd = self._to.one(verb, **arguments)
        return socket.socket(fileno=fd)

    # What address locks need

    def bound(self, name: str) -> socket.socket | None:
        """A socket of that name, None if a process has it. ConfigurationError."""
        segment, key = parts_of(name)
        facts, received = self._to.ask("lock", segment=segment, address=list(key))
        return socket.socket(fileno=received[0]) if facts["taken"] else None

    def holder(self, name: str) -> str:
        """The process that has it, in words."""
        segment, key = parts_of(name)
        facts, _ = self._to.ask("holder", segment=segment, address=list(key))
        return str(facts["holder"])


def _checked(request: Request, data: bytes, received: Sequence[int]) -> Answer:
    """The answer to a request, if it is one."""
    if not data:
        raise OpenerLost(_GONE)
    answer = decode_answer(data)
    if (answer.id, answer.descriptors) != (request.id, len(received)):
        raise Misunderstood("it answers something else")
    return answer


def _is_readable(it: socket.socket) -> bool:
    """Now: with a timeout `recv` waits, whatever its flags say."""
    poll = select.poll()
    poll.register(it, select.POLLIN)
    return bool(poll.poll(0))


def _lost(error: Exception) -> OpenerLost:
    if isinstance(error, Misunderstood):
        return OpenerLost(f"the opener is not understood: {error}; restart the target")
    return OpenerLost(_SILENT if isinstance(error, TimeoutError) else _GONE)


def _portions(them: Iterable[T], count: int) -> Iterator[list[T]]:
    """So many at a time that each message is short enough, whatever is in it; at least one."""
    some: list[T] = []
    for it in them:
        some.append(it)
        if len(some) == count:
            yield some
            some = []
    yield some


def _token(store: Store) -> list[Any]:
    return list(store) if isinstance(store, tuple) else []
