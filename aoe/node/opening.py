"""Opens stores and interfaces, with the rights of this process, and does the verbs of pools."""

import logging
import os
import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from aoe import timing
from aoe.config.values import ExportConfig, is_link, volume_of
from aoe.disk.base import StoreName
from aoe.disk.device import Batch
from aoe.disk.found import token_at, token_of
from aoe.disk.open import Opening, hold_store, open_store, try_store
from aoe.disk.opened import Opened
from aoe.disk.opened import Store as OpenStore
from aoe.disk.syscalls import close_all
from aoe.errors import AoeError, ConfigurationError
from aoe.image.asking import Asked, StillChecked, Unknown
from aoe.image.asking import token_of as token_of_image
from aoe.image.formats import RAW
from aoe.link.base import Link
from aoe.link.naming import Known, all_known
from aoe.link.packet import PacketLink, only_interface
from aoe.link.packet_sockets import Sockets
from aoe.link.udp import UdpLink, UdpSpec
from aoe.node.chores import Chores, Facts
from aoe.node.cut_files import CutFiles
from aoe.node.holds import IMAGES, Busy, Hold, Holds, Keeper, Place, Rest
from aoe.node.merges import merges
from aoe.node.needs import Held, There
from aoe.node.patient import Call, NoAnswer, Patient, tried
from aoe.node.plan import Store
from aoe.node.pools import Pools
from aoe.node.resumed import again, has_lives
from aoe.node.rooms import rooms
from aoe.node.scheduled import Looks
from aoe.pool.asked import Wish
from aoe.pool.qemu_img import Told
from aoe.pool.requests import Cut
from aoe.printable import plain
from aoe.target.keys import StoreKey
from aoe.target.naming import key_of
from aoe.wire.protocol import SECTOR

T = TypeVar("T")

log = logging.getLogger("aoe.node")


class Where(NamedTuple):
    """The file or device of an export, and how it is opened; of a volume also that, and which disk it is."""

    path: Path
    how: Opening
    volume: str = ""
    name: StoreName = StoreName()

    def said(self, error: ConfigurationError) -> str:
        """What is wrong with it, by the name that the file has for it."""
        return str(error).replace(str(self.path), self.volume) if self.volume else str(error)

    def held(self, opened: Opened, store: Store) -> Held:
        """Once it is open."""
        if not self.volume:
            return Held(opened, key_of(self.path, opened, self.how), store)
        name = self.name.part(self.how.part)
        key = StoreKey(self.volume, self.how.part, name, str(self.path.resolve()))
        return Held(opened._replace(store_name=name), key, store)


class InProcess:
    """An opener without any rights but those of this process."""

    def __init__(
        self,
        lock_wait_s: float,
        sockets: Sockets = Sockets(),  # noqa: B008
        pools: Pools | None = None,
        images: Asked | None = None,
    ) -> None:
        """Another process that has a store, or a pool, is waited for, for `lock_wait_s`. Images are
        served through `images`."""
        self._images = images or Asked(None)
        self._image_uses: Counter[str] = Counter()
        self._image_wheres: dict[str, Where] = {}
        self._lock_wait_s = lock_wait_s
        self._sockets = sockets
        self.patient = Patient()
        self.pools = Pools(patient=self.patient) if pools is None else pools
        self.chores = Chores(self.pools, self._is_ours, self._follow_heads, self)
        self.cuts = CutFiles(self.pools)
        self._looks = Looks()
        self._holds = Holds()
        self._apart = False

    def adopt(self, keeper: Keeper, found: Iterable[tuple[str, int]]) -> list[str]:
        """From now on keep there, for the next life, what holds stores. Go on with what an earlier one kept;
        the names of what is not what it is called, and was closed."""
        self._apart = True
        self._images.lasts = lambda life, fd: keeper.keep(f"{IMAGES}{life}", fd)
        return self._holds.adopt(keeper, found)

    def find(self, places: Iterable[str]) -> There:
        there = There()
        self.pools.look(self._lock_wait_s)
        of_pools = self._by_pool(places)
        paths = of_pools.pop("", [])
        for pool, them in of_pools.items():
            there.add(them, self._tokens(pool, them))
        there.add(paths, self.patient.each(paths, plain, self._token, timing.OPENER_PATIENCE_S))
        return there

    def _by_pool(self, places: Iterable[str]) -> dict[str, list[str]]:
        """Each with what is in it; paths have no name."""
        pools, found = frozenset(self.pools.names), defaultdict[str, list[str]](list)
        for place in places:
            name = volume_of(place)
            found[name.pool if name is not None and name.pool in pools else ""].append(place)
        return found

    def _tokens(self, pool: str, places: Sequence[str]) -> list[Store | AoeError | None]:
        """Of volumes of one."""
        try:
            return self.pools.ask(pool, lambda: [tried(self._token, it) for it in places])
        except AoeError as error:
            return [error] * len(places)

    def _token(self, place: str) -> Store | None:
        """Blocks."""
        sight = self.pools.sight(place)
        store = token_at(place if sight is None else str(sight.path))
        if sight is not None and store is None:
            raise ConfigurationError(f"{place}: its image {sight.path} is not there; put back a copy of it")
        return store if sight is None or sight.format == RAW else _token_of_image(sight.name)

    def open_stores(self, exports: Iterable[ExportConfig]) -> Iterator[Held | AoeError | OSError]:
        batch = Batch()
        for export in exports:
            try:
                yield self.open_store(export, batch)
            except (AoeError, OSError) as error:
                yield error

    def open_store(self, export: ExportConfig, batch: Batch | None = None) -> Held:
        """Of one export, perhaps as one of a batch. AoeError, OSError."""
        where, opened = self._where(export), partial(self._open, batch=batch or Batch())
        if where.how.format != RAW:  # what serves it has a time of its own
            return self._at(where, opened)
        open_it = partial(self._at, where, opened)
        patience_s = self._lock_wait_s + timing.OPENER_PATIENCE_S
        pool = volume_of(where.volume)
        if pool is not None:
            return self.pools.ask(pool.pool, open_it, patience_s, self._undo)
        made = Call(export.place, plain(export.place), open_it, self._undo)
        return self.patient.ask(made, patience_s)

    def _undo(self, held: Held) -> None:
        """It was opened too late."""
        close_all([held.opened.store.fd])
        self.release(held)

    def tried(self, export: ExportConfig) -> OpenStore:
        """What would be opened, as `try_store` says it. ConfigurationError."""
        return self._at(self._where(export), _tried)

    @staticmethod
    def _at(where: Where, call: Callable[[Where], T]) -> T:
        try:
            return call(where)
        except (Busy, StillChecked):
            raise
        except ConfigurationError as error:
            raise ConfigurationError(where.said(error)) from error

    def _where(self, export: ExportConfig) -> Where:
        """What of which file or device it serves. ConfigurationError."""
        how = opening_of(export)._replace(lock_wait_s=self._lock_wait_s)
        pool = volume_of(export.place)
        if pool is None or pool.pool not in self.pools.names:
            return Where(Path(export.place), how)
        sight = self.pools.ask(pool.pool, lambda: self.pools.sight(export.place))
        assert sight is not None, "it is of a pool"
        how = how._replace(size=sight.size, read_only=how.read_only or sight.read_only, format=sight.format)
        return Where(sight.path, how, export.place, sight.name)

    def _open(self, where: Where, batch: Batch) -> Held:
        """A verb may have gone on until its lock was had."""
        held = self._open_raw(where, batch) if where.how.format == RAW else self._open_image(where)
        try:
            self.pools.check_same(where.volume, where.path, where.how.size)
        except BaseException:
            close_all([held.opened.store.fd])
            self.release(held)
            raise
        return held

    def _open_raw(self, where: Where, batch: Batch) -> Held:
        path, how, *_ = where
        hold = self._hold(path, how) if self._is_held(how.shared, how.read_only) else None
        if hold is None:
            opened = self._together(path, how, batch)
            return where.held(opened, token_of(os.fstat(opened.store.fd)))
        try:
            opened = again(path, how, hold, batch)
        except BaseException:
            self._holds.release(hold.place)
            raise
        return where.held(opened, hold.place.store)

    def _open_image(self, where: Where) -> Held:
        """Locked by the process that serves it."""
        token = _token_of_image(where.name) if where.volume else token_at(str(where.path))
        opened = self._images.open(where.path, where.how, _file_of(token))
        name = token_of_image(opened.image)
        self._image_uses[name] += 1
        self._image_wheres[name] = where
        return where.held(opened, token)

    def _follow_heads(self) -> None:
        """Let the disks of images go on in what their volumes have now: overlays over what is served."""
        for name, where in list(self._image_wheres.items()):
            head = self._head(where) if self._image_uses[name] > 0 else None
            if head not in (None, where.path):
                self._image_wheres[name] = where._replace(path=head)
                try:
                    self._images.switch(name, head)
                except ConfigurationError as error:  # it is tried again when the disk is used
                    log.error("%s does not go on in its image: %s", where.volume, error)

    def check(self, path: str) -> None:
        """As `aoe.pool.work.InUse` has it, here and below."""
        self._ask_images(path, self._images.check)

    def grow(self, path: str, size: int) -> None:
        self._ask_images(path, lambda name: self._images.grow(name, size))

    def _ask_images(self, path: str, ask: Callable[[str], None]) -> None:
        """About the one that is served from a file. ConfigurationError."""
        wheres = list(self._image_wheres.items())
        names = (name for name, it in wheres if str(it.path) == path and self._image_uses[name] > 0)
        name = next(names, None)
        if name is None:
            raise ConfigurationError(f"{path} is being taken, or put into service; try again")
        self._at(self._image_wheres[name], lambda _: ask(name))

    def _head(self, where: Where) -> Path | None:
        """Where the present state of a volume is, whatever it is called; none for a snapshot."""
        pool = volume_of(where.volume)
        if pool is None:
            return None
        with suppress(ConfigurationError):
            work = self.pools.work(pool.pool)
            return next(
                (Path(work.where(it.head)) for it in work.volumes.values() if it.uuid == where.name.text),
                None,
            )
        return None

    def image_again(self, export: ExportConfig, image: str) -> tuple[str, int]:
        """As `aoe.target.system.System.image_again`; also of one that an earlier opener had served."""
        file = token_of_image(image)
        if self._image_uses[file] > 0:
            with suppress(Unknown):
                return self._images.again(image)
            self._image_uses[file] -= 1  # of what has it served no more
        held = self._at(self._where(export), self._open_image)
        if _file_of(held.store) == file:
            return held.opened.image, held.opened.store.fd
        close_all([held.opened.store.fd])
        self._let_image_go(_file_of(held.store))
        raise ConfigurationError(f"{export.address}: {plain(export.path)} leads to another image by now")

    def _let_image_go(self, file: str) -> None:
        self._image_uses[file] -= 1
        if self._image_uses[file] <= 0:
            self._image_wheres.pop(file, None)
        with suppress(ConfigurationError):  # its process has gone
            self._images.release(file)

    def _is_held(self, shared: bool, read_only: bool) -> bool:
        return not shared or (self._apart and not read_only)

    def _hold(self, path: Path, how: Opening) -> Hold | None:
        """For one more export; none where one description is to have the locks and the I/O."""
        hold = self._holds.use(Place(token_at(str(path)), how.shared))
        if hold is not None or not self._apart:
            return hold
        fd = hold_store(path, how)
        if not (how.read_only or has_lives(fd, path)):
            os.close(fd)
            return None
        hold = Hold(fd, Place(token_of(os.fstat(fd)), how.shared))
        self._holds.put(hold)
        return hold

    def _together(self, path: Path, how: Opening, batch: Batch) -> Opened:
        opened = open_store(path, how, batch=batch)
        if not how.shared:
            fd = os.dup(opened.store.fd)
            place = Place(token_of(os.fstat(fd)), shared=False)
            self._holds.put(Hold(fd, place, apart=False))
        return opened

    def release(self, *held: Held) -> None:
        for it in held:
            store = it.opened.store
            self.release_use(it.store, store.shared, store.read_only)

    def release_use(self, store: Store, shared: bool, read_only: bool) -> None:
        """The same, by what the export's use was. To close what does not answer may wait for that."""
        made = Call(object(), "a disk", lambda: self._release_use(store, shared, read_only))
        with suppress(NoAnswer):
            self.patient.ask(made, timing.OPENER_PATIENCE_S)

    def _release_use(self, store: Store, shared: bool, read_only: bool) -> None:
        file = _file_of(store)
        if self._image_uses[file] > 0:
            self._let_image_go(file)
            return
        if self._is_held(shared, read_only):
            self._holds.release(Place(store, shared))

    def go_on_with(self, store: Store, shared: bool, read_only: bool) -> None:
        """An export of this node has a store that it opened through an earlier opener. Once adopted."""
        if self._is_held(shared, read_only):
            self._holds.go_on_with(Place(store, shared), changes=not read_only)

    def rest(self, wanted: Collection[Store]) -> Rest:
        return self._holds.rest(wanted)

    def volume(self, pool: str, request: Wish, *, only_plan: bool) -> Facts:
        return self.chores.do(pool, request, only_plan=only_plan)

    def hear(self, connection: int) -> None: ...

    def begin_cut(self, pool: str, request: Cut, cause: str) -> Facts:
        return self.cuts.begin(pool, request, cause)

    def cut_file(self, number: int) -> int:
        return self.cuts.file(number)

    def end_cut(self, number: int, *, whole: bool) -> Facts:
        return self.cuts.end(number, whole=whole)

    def volumes(self, pool: str, after: str) -> Facts:
        return self.chores.listed(pool, after)

    def rooms(self) -> list[Facts]:
        return list(rooms(self.pools))

    def merges(self) -> list[Facts]:
        return list(merges(self.pools, self.chores.do, self))

    def is_written(self, path: str) -> bool:
        """As `aoe.pool.merging.Served` has it, here and below."""
        return path in (str(it.path) for it in self._served_images() if not it.how.read_only)

    def merge(self, path: str, base: str, told: Told) -> bool:
        return self._images.merge(path, base, told)

    def dues(self) -> list[Facts]:
        return self._looks.dues(self.pools, datetime.now(UTC))

    def _is_ours(self, path: str) -> bool:
        return self._holds.has(token_at(path)) or path in (str(it.path) for it in self._served_images())

    def _served_images(self) -> list[Where]:
        wheres = list(self._image_wheres.items())  # another thread may open one meanwhile
        return [where for name, where in wheres if self._image_uses[name] > 0]

    def close(self) -> None:
        self._holds.close()
        self._images.close()
        self.pools.close()

    def hurry(self) -> None:
        """It is this process that opens."""

    def when_answering(self, call: Callable[[], None]) -> None:
        """It answers always."""

    def open_link(self, name: str) -> Link:
        return UdpLink(UdpSpec.parse(name)) if is_link(name) else PacketLink(name, self._sockets, waits=True)

    def look(self) -> list[Known]:
        return all_known(self._sockets.asking)

    def only(self) -> str:
        return only_seen_by(self._sockets)

    def watching(self) -> socket.socket:
        return self._sockets.watching()


def _tried(where: Where) -> OpenStore:
    path, how, *_ = where
    if how.format == RAW or how.size is None:
        return try_store(path, how)
    return OpenStore(-1, how.offset, how.size, SECTOR, False, how.read_only, False, grows=False)


def only_seen_by(sockets: Sockets) -> str:
    """The Ethernet interface to use where none is named. ConfigurationError."""
    with sockets.asking() as kernel:
        return only_interface(kernel)


def opening_of(export: ExportConfig) -> Opening:
    """How the store of an export is opened."""
    how = Opening(export.read_only, export.direct, export.shared, export.offset, export.length)
    return how._replace(format=export.form, key_file=export.key_file)


def _token_of_image(name: StoreName) -> Store:
    """Of a volume, which goes on in another file when a snapshot of it is cut."""
    return "image", name.text


def _file_of(store: Store | None) -> str:
    """An image, as `aoe.image` tells it."""
    return ":".join(map(str, store)) if isinstance(store, tuple) else ""
