"""A pool that is a thin pool of LVM: what is in it, and how each step is done there, by lvm's commands.

Each image is a thin volume `aoe-ID`. The record of a volume is in tags of its present state (see
`aoe.pool.lvm_tags`), which lvm writes all at once. What is kept is read-only, and inactive until it is
opened. A volume in use can be cut: the kernel holds its writes meanwhile, so that is as after a power cut.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path

from aoe import timing
from aoe.disk import locks
from aoe.errors import AoeError, PoolError
from aoe.pool import lvm_marking, lvm_seen, lvm_tags, marking
from aoe.pool.download import Scratch
from aoe.pool.lvm_seen import name_of
from aoe.pool.lvm_sharing import Sharing
from aoe.pool.lvm_volumes import NO_ID, Volumes
from aoe.pool.names import Format
from aoe.pool.qemu_img import Layer, Told
from aoe.pool.room import NOTHING, Room, Usage
from aoe.pool.settling import Found, settle
from aoe.pool.steps import Check, Drop, Find, Fit, Forget, Hide, Make, Move, Save, Settle, Step, Sweep
from aoe.pool.volume import Image, Volume


class LvmThin:
    """An open pool of this kind. What a call does to the store may fail with OSError or PoolError."""

    formats: tuple[Format, ...] = ("raw",)
    cuts_in_use = True

    def __init__(self, path: str, name: str = "") -> None:
        """`path` is VG/THIN-POOL. ConfigurationError for what is no pool."""
        self._place = lvm_marking.place_of(path, name)
        self.said = self._place.said
        self._pool = lvm_marking.marked(self._place, name)
        self._volumes = Volumes(self._place, self._pool)
        self._sharing = Sharing(self._place)
        self._held: dict[str, int] = {}
        self._named: set[str] = set()
        self._node = self._place.node()

    def lock(self, patience_s: float = timing.POOL_TURN_S) -> None:
        """Keep other processes of this machine out until it is closed. PoolError names the one that works
        here."""
        self._volumes.lock = self._place.open_lock("pool")
        marking.lock(self._volumes.lock, self.said, patience_s)
        lvm_marking.prepare(self._place, self._pool, self._volumes.lock)
        self._node = self._place.node()

    def close(self) -> None:
        """Let others work here."""
        if self._volumes.lock is not None:
            os.close(self._volumes.lock)
            self._volumes.lock = None

    # What is there

    def is_there(self) -> bool:
        """Whether the thin pool is active still, and the same."""
        return self._node is None or self._node == self._place.node()

    def path_of(self, image: Image) -> str:
        """Where an image is while it is active."""
        return str(self._volumes.path(name_of(image)))

    def ready(self, image: Image) -> str:
        """The same, and it is active now."""
        self._volumes.activate(name_of(image))
        return self.path_of(image)

    def room(self) -> Room:
        """How full the thin pool is: its data, and its metadata."""
        return self._place.pool().room

    def scratch(self, reserve: int) -> Scratch:
        """In a file system of this machine: a thin volume for it would have to be sized before it is known
        how much comes."""
        del reserve
        path = self._place.host.cache / self._place.path
        there = next(it for it in (path, *path.parents) if it.exists())
        found = os.statvfs(there)
        return Scratch(str(path), found.f_bavail * found.f_frsize, apart=True)

    def reflinks(self) -> bool:
        """Thin volumes share blocks."""
        return True

    def usage(self, image: Image) -> Usage:
        """What an image took when all were last measured; nothing where it was not there then."""
        lv = name_of(image)
        known = self._volumes.known.get(lv)
        if known is not None and known.thin_id == NO_ID:
            self._volumes.look()
            known = self._volumes.known.get(lv)
        return self._sharing.of(known.thin_id) if known else NOTHING

    def measure(self) -> None:
        """All at once, and seldom again by itself. It takes time for each block of each volume."""
        self._sharing.measure()

    def end_sharing(self, image: Image) -> None:
        """Nothing is to be done: a thin pool knows what is shared of each block."""

    def found(self) -> Found:
        """All that is there."""
        self._volumes.look()
        return lvm_seen.found(self._volumes.known)

    # Room for what makes room

    def save(self) -> None:
        """None is needed: what a deletion writes has its place in the volume group. What an interrupted verb
        has not made read-only is that now."""
        self._keep(lvm_seen.kept(lvm_seen.found(self._volumes.known).volumes.values()))

    def spend(self) -> bool:
        """There is none."""
        return False

    # Steps

    def do(self, step: Step) -> None:
        """One of them."""
        self._sharing.forget()
        match step:
            case Make():
                self._make(step)
            case Save(name, volume):
                self._save(name, volume)
            case Settle(image):
                self._volumes.tag(name_of(image), less={lvm_tags.NEW})
            case Fit(image, was):
                self._volumes.resize(name_of(image), image.size, was)
            case Move(old, new):
                self._retag(old, lvm_tags.of_name(new))
            case Hide(name):
                self._retag(name, lvm_tags.GONE)
            case Find(image):
                self._find(image)
            case Check():
                raise self._nothing_to_merge()
            case _:
                self._remove(step)

    def _remove(self, step: Drop | Forget | Sweep) -> None:
        match step:
            case Drop(file, new):
                self._drop(name_of(file), new)
            case Forget(uuid):
                for lv in lvm_seen.of_uuid(self._volumes.known, uuid):
                    self._strip(lv)
            case Sweep(lv):
                self._strip(lv)

    def _make(self, step: Make) -> None:
        assert step.how == "copy", "there are no overlays here"
        lv = name_of(step.image)
        if step.of is None:
            self._volumes.create(lv, step.image.size)
        else:
            self._volumes.copy(lv, name_of(step.of), kept=step.kept)

    def _save(self, name: str, volume: Volume) -> None:
        """The new record is whole before the old one goes, where that is on another logical volume."""
        known = self._volumes.known
        home, homes = name_of(volume.head), lvm_seen.homes(known, lvm_tags.of_name(name))
        serials = [lvm_tags.serial(known[lv].tags) for lv in homes]
        serial = max(serials, default=0) + (homes != [home])
        record = lvm_tags.of_record(name, serial, volume)
        self._volumes.tag(home, record, {*self._record_of(home), lvm_tags.NEW})
        for lv in homes:
            if lv != home:
                self._strip(lv)
        self._keep(lvm_seen.kept([volume]))

    def _retag(self, name: str, tag: str) -> None:
        was = lvm_tags.of_name(name)
        for lv in lvm_seen.homes(self._volumes.known, was):
            self._volumes.tag(lv, {tag}, {was})

    def _record_of(self, lv: str) -> set[str]:
        return {tag for tag in self._volumes.known[lv].tags if lvm_tags.is_of_record(tag)}

    def _strip(self, lv: str) -> None:
        self._volumes.tag(lv, less=self._record_of(lv))

    def _drop(self, lv: str, new: bool) -> None:
        it = self._volumes.known.get(lv)
        if it is not None and (lvm_tags.NEW in it.tags) == new and not (new and self._is_filled(lv)):
            self._let_go(lv)
            self._volumes.remove(lv)

    def _keep(self, lvs: Iterable[str]) -> None:
        """Nothing is wrong without that, so what fails is tried again the next time."""
        for lv in lvs:
            if lv in self._volumes.known and not self._volumes.known[lv].kept:
                self._let_go(lv)
                with suppress(PoolError):
                    self._volumes.keep(lv)

    # What is filled before a record names it

    @contextmanager
    def unnamed(self, image: Image) -> Iterator[int]:
        """A new image, which others leave alone while it is filled, as it is locked. Where this process is
        killed, it goes with the next one that is found, or when the pool is next opened."""
        lv = name_of(image)
        try:
            self._volumes.create(lv, image.size)
            self._held[lv] = _taken(self._volumes.path(lv), read=False, flags=os.O_RDWR)
            yield self._held[lv]
        finally:
            if lv not in self._named:
                self._let_go(lv)
                with suppress(AoeError):  # it may not have been made
                    self._volumes.remove(lv)

    def name(self, fd: int, image: Image) -> None:
        """From now on one that no record names is not wanted."""
        os.fsync(fd)
        self._named.add(name_of(image))
        self._let_go(name_of(image))

    def _find(self, image: Image) -> None:
        self._volumes.look()
        found = lvm_seen.found(self._volumes.known)
        if found.new.get(image.file, 0) < image.size:
            raise PoolError(f"{name_of(image)} is not there, or has another size than it is said to have")
        for step in chain.from_iterable(settle(found)):
            if isinstance(step, Drop) and step.new and step.file != image.file:
                with suppress(PoolError):
                    self._drop(name_of(step.file), new=True)

    def _is_filled(self, lv: str) -> bool:
        """Whether another process fills a new one."""
        if lv in self._held:
            return False
        try:
            with self._alone(lv, read=False):
                return False
        except PoolError:
            return True

    @contextmanager
    def layers(self, images: Iterable[Image]) -> Iterator[list[Layer]]:
        """The one image that a state is made of here, to be read."""
        with ExitStack() as held:
            yield [Layer(held.enter_context(_opened(Path(self.ready(it)))), it.format) for it in images]

    def rebase(self, image: Image, through: Sequence[Image], base: Image | None, told: Told) -> None:
        """There is nothing to do."""
        del image, through, base, told
        raise self._nothing_to_merge()

    def _nothing_to_merge(self) -> PoolError:
        return PoolError(f"{self.said} has no images that are differences to others, so none are merged")

    # What else uses an image

    @contextmanager
    def alone(self, image: Image, *, read: bool) -> Iterator[None]:
        """Inside, nothing else writes to an image, nor reads it unless this only reads (`read`), until it is
        removed. What is inactive is used by nothing. PoolError names what uses it."""
        with self._alone(name_of(image), read=read):
            yield

    @contextmanager
    def _alone(self, lv: str, *, read: bool) -> Iterator[None]:
        try:
            if self._volumes.is_active(lv):
                known = self._volumes.known.get(lv)
                flags = os.O_RDONLY if read or (known and known.read_only) else os.O_RDWR
                self._held[lv] = _taken(self._volumes.path(lv), read, flags)
            yield
        finally:
            self._let_go(lv)

    def _let_go(self, lv: str) -> None:
        """lvm neither removes nor deactivates what is open."""
        if lv in self._held:
            os.close(self._held.pop(lv))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _taken(path: Path, read: bool, flags: int) -> int:
    try:
        fd = os.open(path, flags if read else flags | os.O_EXCL)
    except OSError as error:
        user = locks.user_of_device(path) or "mounted, or used by another program"
        raise PoolError(f"{path} is in use ({user}); stop that first") from error
    try:
        _lock(fd, path, read)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, path: Path, read: bool) -> None:
    try:
        locks.take(fd, path, read_only=read, is_block=True)
    except BlockingIOError as error:
        user = locks.holder(fd) or "another program"
        raise PoolError(f"{path} is in use by {user}; stop it first") from error
    if not read and locks.is_changed(fd):
        raise PoolError(f"writes of an earlier process to {path} have not ended; wait for them")
