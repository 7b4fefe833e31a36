"""What an opener does for the process that asks it: opens what root's file names, and nothing else."""

import fcntl
import json
import os
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from aoe import limits, timing
from aoe.config.values import Config, ExportConfig, is_link
from aoe.disk.device import Batch
from aoe.disk.locks import described_anew
from aoe.disk.syscalls import close_all
from aoe.disk.watch import add_watch
from aoe.errors import AoeError, ConfigurationError
from aoe.image.asking import Asked, StillChecked
from aoe.link.packet_sockets import Sockets
from aoe.link.udp import UdpSpec, open_datagrams
from aoe.node import links
from aoe.node.groups import number_of
from aoe.node.holds import Busy, Keeper
from aoe.node.meant import Meant
from aoe.node.needs import Held
from aoe.node.opener_messages import Given, Misunderstood, Request, store_facts, strings
from aoe.node.opening import InProcess
from aoe.node.patient import Call
from aoe.node.permits import Permits
from aoe.node.plan import Store
from aoe.node.pool_desk import Hear, PoolDesk, no_person
from aoe.target.address_locks import Names, name_of

Texts = Mapping[str, Callable[[], int]]
_NO_TEXTS: Texts = {}


class Kept(Keeper):
    """What another process is to keep for the next life of the service, or no more, until it hears it."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, int | None]] = []
        self._changing = threading.Lock()
        """A store may be opened, or closed, when it is waited for no more."""

    def keep(self, key: str, fd: int) -> None:
        with self._changing:
            self.changes.append((key, os.dup(fd)))

    def forget(self, key: str) -> None:
        with self._changing:
            self.changes.append((key, None))

    def some(self) -> tuple[list[list[Any]], list[int]]:
        """As many as fit beside an answer, in their order: a key and whether its descriptor is there."""
        with self._changing:
            part = self.changes[: limits.OPENER_CHANGES_MAX]
            del self.changes[: limits.OPENER_CHANGES_MAX]
        return [[key, fd is not None] for key, fd in part], [fd for _, fd in part if fd is not None]


class Desk:
    """Does what is asked by one process, as far as `allowed`, root's file, names it. It is read each time."""

    def __init__(
        self,
        allowed: Callable[[], Config],
        lock_wait_s: float,
        texts: Texts = _NO_TEXTS,
        images: Asked | None = None,
        hear: Hear = no_person,
    ) -> None:
        """`texts` open what is read of root's: the `file`, and the `changes` beside it. `images` are had
        served there. Of what is asked for in pools, `hear` hears itself which person asks."""
        self._allowed = allowed
        self._texts = texts
        self._handed = False
        """Whether the file was handed out, and not read since."""
        self._known = Config()
        self._by_key: Mapping[tuple[int, int], ExportConfig] = {}
        self._places: Set[str] = frozenset()
        self._lock_wait_s = lock_wait_s
        self._stores = InProcess(lock_wait_s, images=images)
        self._uses: Counter[Use] = Counter()
        self._kept = Kept()
        self._sockets = Sockets()
        self._meant = Meant()
        self._names = Names()
        self._verbs: dict[str, Callable[[dict[str, Any], Sequence[int]], Given]] = {
            "find": self._find,
            "stores": self._open_stores,
            "release": self._release,
            "adopt": self._adopt,
            "use": self._use,
            "rest": self._rest,
            "close": self._close,
            "kept": lambda *_: Given({}),
            "anew": self._anew,
            "packet": self._packet,
            "asking": lambda *_: _handed(self._sockets.asking()),
            "watching": lambda *_: _handed(self._sockets.watching()),
            "datagrams": self._datagrams,
            "only": self._only,
            "lock": self._lock,
            "holder": self._holder,
            "watch": self._watch,
            "image": self._image,
            "bind": self._bind,
            "text": self._text,
            "group": self._group,
            **PoolDesk(self._stores, self._look, Permits(time.monotonic), hear).verbs,
        }

    def do(self, request: Request, descriptors: Sequence[int]) -> Given:
        """What comes of it. AoeError, OSError."""
        verb = self._verbs.get(request.verb)
        if verb is None:
            raise Misunderstood(f"the opener knows no {request.verb[: limits.CONFIG_SHOWN_MAX]!r}")
        return self._with_kept(verb(request.arguments, descriptors))

    def _with_kept(self, given: Given) -> Given:
        """Together with what the other side is to keep for the next life."""
        if not self._kept.changes:
            return given
        keys, descriptors = self._kept.some()
        return Given({**given.facts, "kept": keys}, (*given.descriptors, *descriptors))

    def meanwhile(self) -> None:
        """After an answer. What was handed the file reads it, and asks next for what that names."""
        if self._handed:
            self._handed = False
            with suppress(AoeError):  # said to what is asked next
                self._allowed()

    def _look(self) -> None:
        """At what root's file says now."""
        now = self._allowed()
        if now is not self._known:
            self._known, self._by_key = now, now.by_key
            self._places = frozenset(export.place for export in now.exports)
            self._stores.pools.follow(now.pools, now.schedules)

    def _by_address(self, address: tuple[int, int]) -> ExportConfig:
        """As the last look found it."""
        export = self._by_key.get(address)
        if export is None:
            raise ConfigurationError("e{}.{} is not in the file that the opener reads".format(*address))
        return export

    # What root's file says

    def _text(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """To be read by the other side."""
        opened = self._texts.get(str(said.get("which")))
        if opened is None:
            raise Misunderstood("there is no such text")
        self._handed = said["which"] == "file"
        try:
            return Given({}, (opened(),))
        except OSError as error:
            return Given({"errno": error.errno})

    def _group(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        name, allowed = _one_name(said), self._allowed()
        if name not in (allowed.target.control_group, *(it.admins for it in allowed.pools)):
            raise ConfigurationError(f"group {name} is not in the file that the opener reads")
        return Given({"group": number_of(name)})

    # Stores

    def _find(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        places = strings(said, "places")
        self._look()
        found = self._stores.find(place for place in places if place in self._places)
        stores = {place: list(_pair(store)) for place, store in found.items()}
        return Given({"stores": stores, "why": _reasons(found.why, places)})

    def _open_stores(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """As many as an answer has room for, and time: the other side asks for the rest."""
        until_s, room = time.monotonic() + timing.OPENER_TURN_S, limits.OPENER_STORES_BYTES
        told, descriptors, batch = list[dict[str, Any]](), list[int](), Batch()
        self._look()
        for one in _objects(said, "stores"):
            if told and (room <= 0 or time.monotonic() > until_s):
                break
            facts, opened = self._store(one, batch)
            told.append(facts)
            descriptors += opened
            room -= len(json.dumps(facts))
        return Given({"stores": told}, tuple(descriptors))

    def _store(self, said: dict[str, Any], batch: Batch) -> Given:
        try:
            held = self._stores.open_store(self._export(said), batch)
        except Busy as error:
            return Given({"busy": list(_pair(error.store)), "why": str(error)})
        except StillChecked as error:
            return Given({"checked": str(error)})
        except AoeError as error:
            return Given({"error": str(error)})
        except OSError as error:
            return Given({"error": f"{error.strerror}"})
        self._uses[use_of(held)] += 1
        facts = store_facts(held.opened, held.key, _pair(held.store))
        return Given(facts, (held.opened.store.fd,))

    def _export(self, said: dict[str, Any]) -> ExportConfig:
        """What the file says of an address, if the other side has read the same there."""
        export = self._by_address(_address(said.get("address")))
        if how_of(export) != said.get("how"):
            raise ConfigurationError(f"{export.address}: the opener reads another file; apply it again")
        return export

    def _release(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        for use in _uses(said):
            if self._uses[use]:
                self._uses[use] -= 1
                self._stores.release_use(*use)
        return Given({})

    def _adopt(self, said: dict[str, Any], descriptors: Sequence[int]) -> Given:
        """Hold apart from now on, and go on with what holds stores already."""
        names = strings(said, "names")
        if len(names) != len(descriptors) or not all(map(_is_store, descriptors)):
            raise Misunderstood("each store that is held has a name")
        found = zip(names, [os.dup(fd) for fd in descriptors], strict=True)
        return Given({"unknown": self._stores.adopt(self._kept, found)})

    def _use(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """What the other side has of an earlier opener, whose pools are ours now."""
        with suppress(ConfigurationError):  # what is open goes on, whatever the file says
            self._look()
        self._stores.pools.look(self._lock_wait_s)
        for use in _uses(said):
            self._stores.go_on_with(*use)
            self._uses[use] += 1
        return Given({})

    def _rest(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        rest = self._stores.rest(_tokens(said))
        return Given({"free": [list(_pair(it)) for it in rest.free], "waits": rest.waits})

    def _close(self, _: dict[str, Any], __: Sequence[int]) -> Given:
        self._stores.close()
        self._uses.clear()
        return Given({})

    def _anew(self, _: dict[str, Any], descriptors: Sequence[int]) -> Given:
        """Another description of a store that the other side has, with no right that this one lacks."""
        if len(descriptors) != 1:
            raise Misunderstood("only a store is opened anew")
        copy = os.dup(descriptors[0])
        made = Call(object(), "the disk of an export", lambda: _opened_anew(copy), os.close)
        return Given({}, (self._stores.patient.ask(made, timing.OPENER_PATIENCE_S),))

    def _image(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """One that the other side has, and whose process ended."""
        self._look()
        export = self._by_address(_address(said.get("address")))
        image, fd = self._stores.image_again(export, str(said.get("image")))
        return Given({"image": image}, (fd,))

    def _watch(self, _: dict[str, Any], descriptors: Sequence[int]) -> Given:
        """Have an inotify of the other side tell what happens to the names of its files."""
        if len(descriptors) < 2:
            raise Misunderstood("an inotify and files are watched with")
        inotify, *files = map(os.dup, descriptors)  # what is late has them for as long
        added = self._stores.patient.each(
            files, lambda _: "the disk of an export", partial(add_watch, inotify), timing.OPENER_PATIENCE_S
        )
        if not any(isinstance(it, AoeError) for it in added):
            close_all([inotify, *files])
        return Given({"watches": [-1 if isinstance(it, AoeError) else it for it in added]})

    # Links

    def _packet(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """On an interface, or for one that comes later: then there is no name yet."""
        name = _one_name(said)
        if name:
            self._check_interface(name)
        return _handed(self._sockets.packet(name))

    def _check_interface(self, name: str) -> None:
        if is_link(name) or name not in links.Names(self._allowed(), only=self._meant).all:
            raise ConfigurationError(f"{name} is not in the file that the opener reads")

    def _only(self, _: dict[str, Any], descriptors: Sequence[int]) -> Given:
        """Which is meant where none is named, if need be as an earlier opener said it."""
        for it in descriptors:
            self._meant.go_on_with(it)
        return Given({}, (self._meant.told(),))

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
        spec = UdpSpec.parse(text)  # names of hosts are looked up here
        opened = open_datagrams(spec)
        return _handed(opened.socket, mac=opened.mac.hex(), bind=spec.bind, peers=spec.peers, mtu=spec.mtu)

    # Addresses

    def _lock(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        self._look()
        wanted = _objects(said, "names")
        for it in wanted:
            self._by_address(_address(it.get("address")))
        taken = self._names.bound(*map(_name, wanted))
        descriptors = tuple(it.detach() for it in taken if it is not None)
        return Given({"taken": [it is not None for it in taken]}, descriptors)

    def _holder(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        return Given({"holder": self._names.holder(_name(said))})


def _opened_anew(fd: int) -> int:
    """It is closed."""
    try:
        if not _is_store(fd):
            raise Misunderstood("only a store is opened anew")
        return described_anew(fd, fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_DIRECT))
    finally:
        close_all([fd])


def how_of(export: ExportConfig) -> list[Any]:
    """What decides how a store is opened, for both sides to compare."""
    it = export
    return [it.place, it.offset, it.length, it.direct, it.shared, it.read_only, it.form, it.key_file]


class Use(NamedTuple):
    """How an export uses a store."""

    store: Store
    shared: bool
    read_only: bool


def use_of(held: Held) -> Use:
    """Of a store that was opened for an export."""
    return Use(held.store, held.opened.store.shared, held.opened.store.read_only)


def _uses(said: dict[str, Any]) -> list[Use]:
    uses = said.get("uses")
    if not isinstance(uses, list):
        raise Misunderstood("there are no uses of stores")
    return [_use(it) for it in uses]


def _use(told: object) -> Use:
    match told:
        case [list(store), bool(shared), bool(read_only)]:
            return Use(_store(store), shared, read_only)
    raise Misunderstood("that is no use of a store")


def _store(told: list[Any]) -> tuple[Any, ...]:
    if not all(isinstance(part, int | str) for part in told):
        raise Misunderstood("stores are told by their numbers")
    return tuple(told)


def _handed(opened: socket.socket, **facts: object) -> Given:
    return Given(facts, (opened.detach(),))


def _reasons(why: Mapping[str, str], places: Sequence[str]) -> list[list[Any]]:
    """Each with the numbers of the places that it is of, as long as there is room for that."""
    numbers: dict[str, list[int]] = {}
    for number, place in enumerate(places):
        if place in why:
            numbers.setdefault(why[place], []).append(number)
    room, told = limits.OPENER_WHY_BYTES, list[list[Any]]()
    for it in numbers.items():
        room -= len(json.dumps(it)) + 1
        if room >= 0:
            told.append(list(it))
    return told


def _pair(token: object) -> tuple[Any, ...]:
    assert isinstance(token, tuple), "a store is told by its numbers"
    return token


def _is_store(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _tokens(said: dict[str, Any]) -> set[tuple[Any, ...]]:
    wanted = said.get("wanted")
    if not isinstance(wanted, list) or not all(isinstance(it, list) for it in wanted):
        raise Misunderstood("stores are told by their numbers")
    return set(map(_store, wanted))


def _one_name(said: dict[str, Any]) -> str:
    names = strings(said, "names")
    if len(names) != 1:
        raise Misunderstood("it takes one name")
    return names[0]


def _objects(said: dict[str, Any], name: str) -> list[dict[str, Any]]:
    values = said.get(name)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise Misunderstood(f"{name} are not told one by one")
    if len(values) > limits.OPENER_STORES_MAX:
        raise Misunderstood(f"{len(values)} {name} are too many")
    return values


def _address(told: object) -> tuple[int, int]:
    match told:
        case [int(shelf), int(slot)]:
            return shelf, slot
    raise Misunderstood("there is no address")


def _name(said: dict[str, Any]) -> str:
    segment = said.get("segment")
    if not isinstance(segment, str) or not segment.isdecimal():
        raise Misunderstood("an interface is told by its number")
    return name_of(segment, _address(said.get("address")))


def _links(config: Config) -> set[str]:
    own = (name for export in config.exports for name in export.interfaces or ())
    return {name for name in (*config.target.links, *own) if is_link(name)}
