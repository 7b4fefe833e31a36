"""The opener: a small process that keeps the rights to open what root's file names, and opens nothing else.

It holds the locks of stores, too, and ends with the process that it serves.
"""

import ctypes
import fcntl
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from aoe import limits
from aoe.config.values import Config, ExportConfig, is_link
from aoe.disk.locks import described_anew
from aoe.disk.watch import add_watch
from aoe.errors import AoeError, ConfigurationError
from aoe.link.packet import Sockets
from aoe.link.udp import UdpSpec, open_datagrams
from aoe.node import links
from aoe.node.holds import Busy, Keeper
from aoe.node.opener_messages import (
    Answer,
    Misunderstood,
    Request,
    decode_request,
    encode,
    store_facts,
)
from aoe.node.opening import Held, InProcess
from aoe.target.address_locks import Names, name_of

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_libc = ctypes.CDLL(None, use_errno=True)


class Given(NamedTuple):
    """The facts and descriptors of an answer; this process keeps no copy of these."""

    facts: dict[str, Any]
    descriptors: tuple[int, ...] = ()


class Kept(Keeper):
    """What another process is to keep for the next life of the service, or no more, until it hears it."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, int | None]] = []

    def keep(self, key: str, fd: int) -> None:
        self.changes.append((key, os.dup(fd)))

    def forget(self, key: str) -> None:
        self.changes.append((key, None))

    def some(self) -> tuple[list[list[Any]], list[int]]:
        """As many as fit beside an answer, in their order: a key and whether its descriptor is there."""
        part = self.changes[: limits.OPENER_CHANGES_MAX]
        del self.changes[: limits.OPENER_CHANGES_MAX]
        return [[key, fd is not None] for key, fd in part], [fd for _, fd in part if fd is not None]


class Desk:
    """Does what is asked by one process, as far as `allowed`, root's file, names it. It is read each time."""

    def __init__(self, allowed: Callable[[], Config], lock_wait_s: float) -> None:
        self._allowed = allowed
        self._stores = InProcess(lock_wait_s)
        self._held: list[Held] = []
        self._kept = Kept()
        self._sockets = Sockets()
        self._names = Names()
        self._verbs: dict[str, Callable[[dict[str, Any], Sequence[int]], Given]] = {
            "find": self._find,
            "store": self._store,
            "release": self._release,
            "adopt": self._adopt,
            "rest": self._rest,
            "close": self._close,
            "kept": lambda *_: Given({}),
            "anew": self._anew,
            "packet": self._packet,
            "asking": lambda *_: _handed(self._sockets.asking()),
            "watching": lambda *_: _handed(self._sockets.watching()),
            "datagrams": self._datagrams,
            "lock": self._lock,
            "holder": self._holder,
            "watch": self._watch,
            "bind": self._bind,
        }

    def do(self, request: Request, descriptors: Sequence[int]) -> Given:
        """What comes of it. AoeError, OSError."""
        verb = self._verbs.get(request.verb)
        if verb is None:
            raise Misunderstood(f"the opener knows no {request.verb[: limits.CONFIG_SHOWN_MAX]!r}")
        try:
            given = verb(request.arguments, descriptors)
        except Busy as error:
            given = Given({"busy": list(_pair(error.store)), "why": str(error)})
        return self._with_kept(given)

    def _with_kept(self, given: Given) -> Given:
        """Together with what the other side is to keep for the next life."""
        if not self._kept.changes:
            return given
        keys, descriptors = self._kept.some()
        return Given({**given.facts, "kept": keys}, (*given.descriptors, *descriptors))

    # Stores

    def _find(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        places = _strings(said, "places")
        named = {export.place for export in self._allowed().exports}
        found = self._stores.find(place for place in places if place in named)
        return Given({"stores": {place: list(_pair(store)) for place, store in found.items()}})

    def _store(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        held = self._stores.open_store(self._export(said))
        self._held.append(held)
        facts = store_facts(held.opened, held.key, _pair(held.store))
        return Given(facts, (held.opened.store.fd,))

    def _export(self, said: dict[str, Any]) -> ExportConfig:
        """What the file says of an address, if the other side has read the same there."""
        export = self._allowed().by_key.get(_address(said))
        if export is None:
            raise ConfigurationError(
                "e{}.{} is not in the file that the opener reads".format(*_address(said))
            )
        if how_of(export) != said.get("how"):
            raise ConfigurationError(f"{export.address}: the opener reads another file; apply it again")
        return export

    def _release(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        token, how = said.get("token"), (said.get("shared"), said.get("read_only"))
        for held in self._held:
            store = held.opened.store
            if list(_pair(held.store)) == token and (store.shared, store.read_only) == how:
                self._held.remove(held)
                self._stores.release(held)
                break
        return Given({})

    def _adopt(self, said: dict[str, Any], descriptors: Sequence[int]) -> Given:
        """Hold apart from now on, and go on with what holds stores already."""
        names = _strings(said, "names")
        if len(names) != len(descriptors) or not all(map(_is_store, descriptors)):
            raise Misunderstood("each store that is held has a name")
        found = zip(names, [os.dup(fd) for fd in descriptors], strict=True)
        return Given({"unknown": self._stores.adopt(self._kept, found)})

    def _rest(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        rest = self._stores.rest(_tokens(said))
        return Given({"free": [list(_pair(it)) for it in rest.free], "waits": rest.waits})

    def _close(self, _: dict[str, Any], __: Sequence[int]) -> Given:
        self._stores.close()
        self._held.clear()
        return Given({})

    def _anew(self, _: dict[str, Any], descriptors: Sequence[int]) -> Given:
        """Another description of a store that the other side has, with no right that this one lacks."""
        if len(descriptors) != 1 or not _is_store(descriptors[0]):
            raise Misunderstood("only a store is opened anew")
        flags = fcntl.fcntl(descriptors[0], fcntl.F_GETFL) & (os.O_ACCMODE | os.O_DIRECT)
        return Given({}, (described_anew(descriptors[0], flags),))

    def _watch(self, _: dict[str, Any], descriptors: Sequence[int]) -> Given:
        """Have an inotify of the other side tell what happens to the name of its file."""
        if len(descriptors) != 2:
            raise Misunderstood("an inotify and a file are watched with")
        return Given({"watch": add_watch(*descriptors)})

    # Links

    def _packet(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """On an interface, or for one that comes later: then there is no name yet."""
        name = _one_name(said)
        if name:
            self._check_interface(name)
        return _handed(self._sockets.packet(name))

    def _check_interface(self, name: str) -> None:
        if is_link(name) or name not in links.Names(self._allowed()).all:
            raise ConfigurationError(f"{name} is not in the file that the opener reads")

    def _bind(self, said: dict[str, Any], descriptors: Sequence[int]) -> Given:
        """A packet socket of the other side, whose interface came back, or came late."""
        name = _one_name(said)
        self._check_interface(name)
        if len(descriptors) != 1 or not stat.S_ISSOCK(os.fstat(descriptors[0]).st_mode):
            raise Misunderstood("a socket is bound")
        with socket.socket(fileno=os.dup(descriptors[0])) as bound:
            if bound.family != socket.AF_PACKET:
                raise Misunderstood("only a packet socket is bound")
            self._sockets.bind(name, bound)
        return Given({})

    def _datagrams(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        text = _one_name(said)
        if text not in _links(self._allowed()):
            raise ConfigurationError(f"{text} is not in the file that the opener reads")
        opened = open_datagrams(UdpSpec.parse(text))
        return _handed(opened.socket, mac=opened.mac.hex())

    # Addresses

    def _lock(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        if _address(said) not in self._allowed().by_key:
            raise ConfigurationError(
                "e{}.{} is not in the file that the opener reads".format(*_address(said))
            )
        taken = self._names.bound(_name(said))
        return Given({"taken": False}) if taken is None else _handed(taken, taken=True)

    def _holder(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        return Given({"holder": self._names.holder(_name(said))})


def how_of(export: ExportConfig) -> list[Any]:
    """What decides how a store is opened, for both sides to compare."""
    it = export
    return [it.place, it.offset, it.length, it.direct, it.shared, it.read_only]


def _handed(opened: socket.socket, **facts: object) -> Given:
    return Given(facts, (opened.detach(),))


def _pair(token: object) -> tuple[Any, ...]:
    assert isinstance(token, tuple), "a store is told by its numbers"
    return token


def _is_store(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _strings(said: dict[str, Any], name: str) -> list[str]:
    values = said.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Misunderstood(f"{name} are no names")
    return values


def _tokens(said: dict[str, Any]) -> set[tuple[Any, ...]]:
    wanted = said.get("wanted")
    if not isinstance(wanted, list) or not all(isinstance(it, list) for it in wanted):
        raise Misunderstood("stores are told by their numbers")
    if not all(isinstance(part, int | str) for it in wanted for part in it):
        raise Misunderstood("stores are told by their numbers")
    return {tuple(it) for it in wanted}


def _one_name(said: dict[str, Any]) -> str:
    names = _strings(said, "names")
    if len(names) != 1:
        raise Misunderstood("it takes one name")
    return names[0]


def _address(said: dict[str, Any]) -> tuple[int, int]:
    match said.get("address"):
        case [int(shelf), int(slot)]:
            return shelf, slot
    raise Misunderstood("there is no address")


def _name(said: dict[str, Any]) -> str:
    segment = said.get("segment")
    if not isinstance(segment, str) or not segment.isdecimal():
        raise Misunderstood("an interface is told by its number")
    return name_of(segment, _address(said))


def _links(config: Config) -> set[str]:
    own = (name for export in config.exports for name in export.interfaces or ())
    return {name for name in (*config.target.links, *own) if is_link(name)}


# The process


class _Heard(logging.Handler):
    """Keeps what is said while something is opened, for the other side to say."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < limits.OPENER_LINES_MAX:
            self.lines.append(record.getMessage())


def attend(connection: socket.socket, desk: Desk) -> None:
    """Answer one process until it has gone."""
    heard = _Heard()
    logging.getLogger("aoe").addHandler(heard)
    while True:
        data, descriptors, flags, _ = socket.recv_fds(
            connection, limits.OPENER_MESSAGE_BYTES_MAX + 1, limits.OPENER_DESCRIPTORS_MAX
        )
        if not data:
            return
        try:
            answer, given = _answered(desk, data, descriptors, flags)
            answer = answer._replace(said=tuple(heard.lines))
            heard.lines.clear()
            _send(connection, answer, given)
        except BrokenPipeError:
            return
        finally:
            for fd in descriptors:
                os.close(fd)


def _answered(desk: Desk, data: bytes, descriptors: Sequence[int], flags: int) -> tuple[Answer, Given]:
    nothing, number = Given({}), 0
    try:
        if flags & socket.MSG_CTRUNC:
            raise Misunderstood("there are too many descriptors")
        request = decode_request(data)
        number = request.id
        given = desk.do(request, descriptors)
    except AoeError as error:
        return Answer(number, {}, error=str(error)), nothing
    except OSError as error:
        return Answer(number, {}, error=f"{error.strerror}"), nothing
    return Answer(number, given.facts, len(given.descriptors)), given


def _send(connection: socket.socket, answer: Answer, given: Given) -> None:
    try:
        socket.send_fds(connection, [encode(answer)], given.descriptors)
    finally:
        for fd in given.descriptors:
            os.close(fd)


class Forked(NamedTuple):
    """What to ask an opener through, and its number: it is a child of this process."""

    socket: socket.socket
    process: int


def _as_it_is() -> None: ...


def fork(allowed: Callable[[], Config], lock_wait_s: float, lessen: Callable[[], None] = _as_it_is) -> Forked:
    """Start the opener for this process alone, before its first thread. It keeps what `lessen` leaves it of
    the rights. OSError."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = os.fork()
    if not process:
        ours.close()
        _run(its, lambda: Desk(allowed, lock_wait_s), lessen)
    its.close()
    return Forked(ours, process)


def _run(connection: socket.socket, desk: Callable[[], Desk], lessen: Callable[[], None]) -> NoReturn:
    """As a child: it has nothing of its parent's but the rights, and never returns to what that was doing."""
    status = 1
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _libc.prctl(_PR_SET_NAME, b"aoe-opener", 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)  # it ends with its parent, which may need it until then
        signal.set_wakeup_fd(-1)
        logging.getLogger().handlers.clear()
        _leave_all_but(connection.fileno())
        lessen()
        attend(connection, desk())
        status = 0
    finally:
        os._exit(status)


def _leave_all_but(kept: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
