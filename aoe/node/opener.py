"""How a process without rights has things opened: it asks the opener, and gets descriptors and facts."""

import asyncio
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from aoe import limits, timing
from aoe.config.values import ExportConfig, is_link
from aoe.disk.syscalls import close_all
from aoe.disk.threads import aside
from aoe.errors import AoeError, ConfigurationError
from aoe.link.base import Link
from aoe.link.naming import Known, all_known
from aoe.link.packet import PacketLink
from aoe.link.packet_sockets import Sockets
from aoe.link.udp import Bound, UdpLink, UdpSpec
from aoe.node.chores import Facts
from aoe.node.desk import Use, how_of, use_of
from aoe.node.holds import Keeper, Rest
from aoe.node.meant import name_in
from aoe.node.needs import Held, There
from aoe.node.opener_connection import Asked, Connection, OpenerLost
from aoe.node.opener_messages import Answer, Misunderstood, Request
from aoe.node.opener_portions import places_in, portions, some_of, stores_of, token, told
from aoe.node.plan import Store
from aoe.node.remembered import Remembered
from aoe.pool.asked import Wish, facts_of
from aoe.pool.requests import Cut
from aoe.target.address_locks import parts_of
from aoe.target.system import System

T = TypeVar("T")


class ByOpener(Sockets, System):
    """Opens stores and links (`Opener`), sockets and addresses through the opener."""

    def __init__(self, connection: Connection) -> None:
        self._to = connection
        self._to.joined, self._to.late, self._to.answers = self._go_on, self._late, self._heard
        self.kept: Sockets = self
        """Where links have their sockets from."""
        self._remembered: Remembered | None = None
        self._kernel = -1
        """To ask about interfaces, one thread at a time."""
        self._looking = threading.Lock()
        self._meant = -1
        """The last opener's word for which interface is meant where none is named."""
        self._unwanted: list[Use] = []
        """Of stores that were opened too late."""
        self._answering: list[Callable[[], None]] = []
        self._waiting: set[asyncio.Task[None]] = set()

    def find(self, places: Iterable[str]) -> There:
        """What each place leads to, of those where there is a disk."""
        found = There()
        for some in places_in(places):
            facts, _ = self._ask("find", places=some)
            found.update({place: tuple(token) for place, token in facts["stores"].items()})
            found.why.update({some[number]: why for why, numbers in facts["why"] for number in numbers})
        return found

    def adopt(self, keeper: Keeper, found: Iterable[tuple[str, int]]) -> list[str]:
        """As `InProcess.adopt`."""
        self._remembered = remembered = Remembered(keeper)
        unknown: list[str] = []
        for some in portions(found, limits.OPENER_CHANGES_MAX):
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
        if self._meant >= 0:
            ask("only", [self._meant])
        if self._remembered is None:
            return
        self._remembered.forget_images()
        for some in portions(self._remembered.holds.items(), limits.OPENER_CHANGES_MAX):
            ask("adopt", [fd for _, fd in some], names=[name for name, _ in some])
        for uses in portions(self._remembered.uses.elements(), limits.OPENER_USES_MAX):
            ask("use", uses=list(map(told, uses)))

    def open_stores(self, exports: Iterable[ExportConfig]) -> Iterator[Held | AoeError]:
        """Open the stores of exports, and lock them, or the error."""
        left = deque(exports)
        while left:
            for it in self._some_stores(some_of(left)):
                left.popleft()
                yield it

    def open_store(self, export: ExportConfig) -> Held:
        """Of one export. AoeError."""
        (it,) = self.open_stores([export])
        if isinstance(it, AoeError):
            raise it
        return it

    def _some_stores(self, exports: Sequence[ExportConfig]) -> Sequence[Held | AoeError]:
        """Of the first of these, at least of one."""
        asked = [{"address": list(it.key), "how": how_of(it)} for it in exports]
        try:
            facts, received = self._ask("stores", stores=asked)
        except ConfigurationError as error:  # for none
            return [error] * len(exports)
        try:
            opened = stores_of(facts, received, len(exports))
        except Misunderstood as error:
            close_all(received)
            return [self._to.misunderstood(error)] * len(exports)
        if self._remembered is not None:
            self._remembered.uses.update(use_of(it) for it in opened if isinstance(it, Held))
        return opened

    def release(self, *held: Held) -> None:
        """Exports do not use their stores any more."""
        uses = list(map(use_of, held))
        if not uses:
            return
        self._release(uses)
        if self._remembered is not None:
            self._remembered.uses.subtract(uses)

    def _release(self, uses: Iterable[Use]) -> None:
        with suppress(OpenerLost):  # its locks have gone with it
            for some in portions(uses, limits.OPENER_USES_MAX):
                self._ask("release", uses=list(map(told, some)))

    def rest(self, wanted: Collection[Store]) -> Rest:
        """As `Opener.rest`."""
        facts, _ = self._ask("rest", wanted=[token(it) for it in wanted])
        return Rest(frozenset(map(tuple, facts["free"])), facts["waits"])

    def close(self) -> None:
        """As `Opener.close`. The opener may have gone: then it has let go."""
        with suppress(OpenerLost):
            self._ask("close")
        self._forget_meant()
        if self._kernel >= 0:
            os.close(self._kernel)
            self._kernel = -1
        if self._remembered is not None:
            self._remembered.close()

    def volume(self, pool: str, request: Wish, *, only_plan: bool) -> Facts:
        """As `Opener.volume`."""
        return self._chore("volume", pool=pool, request=facts_of(request), plan=only_plan)

    def hear(self, connection: int) -> str | None:
        """As `Opener.hear`."""
        return str(self._ask("hear", [connection])[0]["refusal"])

    def begin_cut(self, pool: str, request: Cut, cause: str) -> Facts:
        """As `Opener.begin_cut`, and so below."""
        return self._chore("cut", pool=pool, request=facts_of(request), cause=cause)

    def cut_file(self, number: int) -> int:
        return self._one("cut_file", number=number)[1]

    def end_cut(self, number: int, *, whole: bool) -> Facts:
        return self._chore("cut_end", number=number, whole=whole)

    def rooms(self) -> list[Facts]:
        """As `Opener.rooms`."""
        return list(self._chore("rooms")["pools"])

    def merges(self) -> list[Facts]:
        """As `Opener.merges`."""
        return list(self._chore("merges")["merges"])

    def dues(self) -> list[Facts]:
        """As `Opener.dues`."""
        return list(self._chore("dues")["dues"])

    def volumes(self, pool: str, after: str) -> Facts:
        """As `Opener.volumes`."""
        return self._chore("volumes", which=[pool, after])

    def _chore(self, verb: str, **arguments: Any) -> Facts:
        told, _ = self._ask(verb, **arguments)
        while told["done"] is None:
            time.sleep(timing.OPENER_CHORE_S)  # others have their turn
            told, _ = self._ask("chore", number=told["number"])
        return dict(told["done"])

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

    def _late(self, request: Request, answer: Answer, received: list[int]) -> None:
        """No caller waits for it any more: what was opened for that goes as soon as it can be asked for."""
        facts = dict(answer.ok)
        try:
            self._keep(facts.pop("kept", []), received)
            if request.verb == "stores" and not answer.error:
                opened = stores_of(facts, received, limits.OPENER_STORES_MAX)
                self._unwanted += (use_of(it) for it in opened if isinstance(it, Held))
        finally:
            close_all(received)

    def _heard(self) -> None:
        """In the event loop: what could not be asked for can be."""
        self._meanwhile(self._let_go_late, lambda _: self._tell())

    def _let_go_late(self) -> None:
        unwanted, self._unwanted = self._unwanted, []
        if unwanted:
            self._release(unwanted)

    def _tell(self) -> None:
        for call in self._answering:
            call()

    def _meanwhile(self, call: Callable[[], T], then: Callable[[T | None], None]) -> None:
        """Do something with what comes of a call that blocks: None where it fails, or there is no thread."""

        async def wait() -> None:
            result: T | None = None
            with suppress(AoeError, OSError):
                result = await aside(call)
            then(result)

        task = asyncio.get_running_loop().create_task(wait())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def do(self, call: Callable[[], T]) -> T:
        """On a thread."""
        return await aside(call)

    def hurry(self) -> None:
        """As `Opener.hurry`."""
        self._to.hurry()

    def when_answering(self, call: Callable[[], None]) -> None:
        """As `Opener.when_answering`."""
        self._answering.append(call)

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
                close_all([fd])
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

    def _watches(self, inotify: int, fds: Sequence[int]) -> list[int]:
        """A file may be closed meanwhile, and its number another one's of ours."""
        found: list[int] = []
        for some in portions(fds, limits.OPENER_STORES_MAX):
            found += self._some_watches(inotify, some)
        return found

    def _some_watches(self, inotify: int, fds: Sequence[int]) -> list[int]:
        copies: dict[int, int] = {}
        try:
            for fd in fds:
                with suppress(OSError):
                    copies[fd] = os.dup(fd)
            facts = self._ask("watch", [inotify, *copies.values()])[0] if copies else {"watches": []}
        finally:
            close_all(copies.values())
        known = dict(zip(copies, facts["watches"], strict=True))
        return [known.get(fd, -1) for fd in fds]

    def anew(self, fd: int) -> int:
        """Another open file description of a store. ConfigurationError."""
        return self._one("anew", [fd])[1]

    def image_again(self, key: tuple[int, int], image: str) -> tuple[str, int]:
        """As `System.image_again`."""
        facts, fd = self._one("image", address=list(key), image=image)
        return str(facts["image"]), fd

    def add_watches(self, inotify: int, fds: Sequence[int], then: Callable[[Sequence[int]], None]) -> None:
        """As `aoe.disk.watch.add_watches`; what cannot be watched has a negative number."""
        copy = os.dup(inotify)

        def over(found: list[int] | None) -> None:
            os.close(copy)
            then(found or [-1] * len(fds))

        self._meanwhile(lambda: self._watches(copy, fds), over)

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
        """The interfaces that there are, also while the opener does not answer."""
        with self._looking:
            if self._kernel < 0:
                self._kernel = self._one("asking")[1]
            return all_known(lambda: socket.socket(fileno=os.dup(self._kernel)))

    def only(self) -> str:
        """The Ethernet interface that is meant where none is named. ConfigurationError."""
        _, fd = self._one("only")
        self._forget_meant()
        self._meant = fd
        return name_in(fd)

    def _forget_meant(self) -> None:
        if self._meant >= 0:
            os.close(self._meant)
            self._meant = -1

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
            self._bind(name, it.fileno())

    def _bind(self, name: str, fd: int) -> None:
        self._ask("bind", [fd], names=[name])

    def go_on(self, name: str, them: Sequence[socket.socket], then: Callable[[bool], None]) -> None:
        """As `Sockets.go_on`, later."""
        copies = [os.dup(it.fileno()) for it in them]  # `dup` of a socket would have it block

        def bound() -> bool:
            for fd in copies:
                self._bind(name, fd)
            return True

        def over(done: bool | None) -> None:
            close_all(copies)
            then(bool(done))

        self._meanwhile(bound, over)

    def _socket(self, verb: str, **arguments: Any) -> socket.socket:
        _, fd = self._one(verb, **arguments)
        return socket.socket(fileno=fd)

    # What address locks need

    def bound(self, *names: str) -> list[socket.socket | None]:
        """A socket of each name, None where a process has it. ConfigurationError."""
        locks: list[socket.socket | None] = []
        try:
            for some in portions(names, limits.OPENER_STORES_MAX):
                locks += self._some_bound(some)
        except BaseException:
            for it in locks:
                if it is not None:
                    it.close()
            raise
        return locks

    def _some_bound(self, names: Sequence[str]) -> list[socket.socket | None]:
        facts, received = self._ask("lock", names=[_named(name) for name in names])
        taken = facts["taken"]
        if len(taken) != len(names) or sum(taken) != len(received):
            close_all(received)
            raise self._to.misunderstood(Misunderstood("it took other addresses"))
        fds = iter(received)
        return [socket.socket(fileno=next(fds)) if it else None for it in taken]

    def holder(self, name: str) -> str:
        """The process that has it, in words."""
        return str(self._ask("holder", **_named(name))[0]["holder"])


def _named(name: str) -> dict[str, Any]:
    segment, key = parts_of(name)
    return {"segment": segment, "address": list(key)}
