"""A pool that is a directory: what is in it, and how each step is done there.

aoe-pool.json        the marker
spare                room for the records of what is deleted when the store is full
volumes/NAME.json    a volume; NAME.json.new while it is written; UUID.gone when it is to go
images/ID.raw        a state of a disk (or ID.qcow2); ID.raw.new until a record has it
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from aoe import limits, timing
from aoe.disk import locks, syscalls
from aoe.errors import PoolError
from aoe.image import sound
from aoe.image.layers import Layer as File
from aoe.image.nodes import Part
from aoe.pool import handles, marking, names, qcow2, qemu_img, records
from aoe.pool.download import Scratch
from aoe.pool.handles import NEW
from aoe.pool.names import FORMATS, Format
from aoe.pool.qemu_img import Layer, Told
from aoe.pool.room import Room, Usage
from aoe.pool.settling import Found, apart
from aoe.pool.steps import Check, Drop, Find, Fit, Forget, Hide, Make, Move, Save, Settle, Step, Sweep
from aoe.pool.volume import Image, Volume

_RECORD, _GONE = ".json", ".gone"
_SPARE = "spare"
_PROBE = bytes(4096)
_NOT_SHARED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EISDIR)


class Directory:
    """An open pool of this kind. What a call does to the store may fail with OSError or PoolError."""

    formats: tuple[Format, ...] = FORMATS
    cuts_in_use = False

    def __init__(self, path: str, name: str = "") -> None:
        """ConfigurationError for what is no pool."""
        self.said = marking.shown(path, name)
        self._path = path
        self._at = marking.marked(path, name)

    def lock(self, patience_s: float = timing.POOL_TURN_S) -> None:
        """Keep other processes out until it is closed. PoolError names the one that works here."""
        marking.lock(self._at.marker, self.said, patience_s)

    def close(self) -> None:
        """Let others work here."""
        self._at.close()

    # What is there

    def is_there(self) -> bool:
        """Whether its path leads here still."""
        try:
            return os.path.samestat(os.fstat(self._at.marker), (Path(self._path) / marking.MARKER).lstat())
        except OSError:
            return False

    def path_of(self, image: Image) -> str:
        """Where an image is, for what opens it by a path."""
        return str(Path(self._path) / marking.IMAGES / image.file)

    def ready(self, image: Image) -> str:
        """The same: a file can always be opened."""
        return self.path_of(image)

    def room(self) -> Room:
        """How full the store is."""
        found = os.fstatvfs(self._at.images)
        return Room(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def scratch(self, reserve: int) -> Scratch:
        """In it, so that what is fetched is where it is wanted."""
        return Scratch(self._path, self.room().spare(reserve))

    def reflinks(self) -> bool:
        """Whether files here can share blocks: tried with two that have no name."""
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        with ExitStack() as both:
            try:
                one, other = (os.open(".", flags, 0o600, dir_fd=self._at.images) for _ in range(2))
                both.callback(syscalls.close_all, (one, other))
                os.pwrite(one, _PROBE, 0)
                syscalls.clone_file(other, one)
            except OSError as error:
                if error.errno in _NOT_SHARED:
                    return False
                raise
        return True

    def usage(self, image: Image) -> Usage:
        """What an image takes; nothing where it is not there."""
        try:
            with handles.opened(self._at.images, image.file, os.O_RDONLY) as fd:
                return _usage(fd)
        except FileNotFoundError:
            return Usage(0, 0)

    def measure(self) -> None:
        """Nothing is to be done: each is measured alone."""

    def end_sharing(self, image: Image) -> None:
        """A raw one: what another program writes keeps the time of its last change (`aoe.image.sound`)."""
        if image.format == "raw":
            with suppress(OSError), handles.opened(self._at.images, image.file, os.O_RDWR) as fd:
                syscalls.end_sharing(fd)

    def found(self) -> Found:
        """All that is there."""
        there = handles.listed(self._at.volumes)
        volumes: dict[str, Volume] = {}
        gone: dict[str, Volume] = {}
        damaged: dict[str, str] = {}
        strange = []
        for file in sorted(there):
            stem, _, ending = file.rpartition(".")
            if f".{ending}" == _RECORD and names.is_name(stem):
                self._read(file, stem, volumes, damaged)
            elif f".{ending}" == _GONE and records.is_id(stem):
                self._read(file, stem, gone, damaged)
            elif not file.endswith(_RECORD + NEW):
                strange.append(f"{marking.VOLUMES}/{file}")
        whole, twice = apart(volumes)
        images, new, others = self._images()
        damaged |= {self._record(name): problem for name, problem in twice.items()}
        return Found(
            volumes=whole,
            gone=gone,
            damaged=damaged,
            taken={Path(file).stem: problem for file, problem in damaged.items()},
            images=images,
            new=new,
            unfinished=tuple(file for file in there if file.endswith(_RECORD + NEW)),
            strange=(*strange, *others),
        )

    def _record(self, name: str) -> str:
        return f"{marking.VOLUMES}/{name}{_RECORD}"

    def _read(self, file: str, key: str, into: dict[str, Volume], damaged: dict[str, str]) -> None:
        try:
            into[key] = records.load(handles.read(self._at.volumes, file, limits.POOL_RECORD_BYTES_MAX))
        except FileNotFoundError:
            pass  # another process removed it, where this one only looks
        except records.BadRecord as error:
            damaged[f"{marking.VOLUMES}/{file}"] = str(error)
        except OSError as error:
            damaged[f"{marking.VOLUMES}/{file}"] = error.strerror or str(error)

    def _images(self) -> tuple[dict[str, int], dict[str, int], list[str]]:
        images, new, strange = {}, {}, []
        for file, found in handles.listed(self._at.images).items():
            if not (stat.S_ISREG(found.st_mode) and records.is_image_file(file.removesuffix(NEW))):
                strange.append(f"{marking.IMAGES}/{file}")
            elif file.endswith(NEW):
                new[file.removesuffix(NEW)] = found.st_size
            else:
                images[file] = found.st_size
        return images, new, strange

    # Room for what makes room

    def save(self) -> None:
        """Keep a little of the store, if it has that."""
        try:
            with handles.opened(self._at.top, _SPARE, os.O_CREAT | os.O_RDWR) as fd:
                os.posix_fallocate(fd, 0, limits.POOL_SPARE_BYTES)
        except OSError:
            self.spend()

    def spend(self) -> bool:
        """Give it up; false where there is none. Its blocks are free when this returns; those of a file that
        is removed may be later."""
        try:
            with handles.opened(self._at.top, _SPARE, os.O_WRONLY) as fd:
                had = os.fstat(fd).st_size > 0
                os.ftruncate(fd, 0)
                os.fsync(fd)
        except OSError:
            return False
        return had

    # Steps

    def do(self, step: Step) -> None:
        """One of them."""
        match step:
            case Make():
                self._make(step)
            case Find(image):
                self._find(image)
            case Check(image, base):
                self._check(image, base)
            case Save(name, volume):
                handles.replace(self._at.volumes, name + _RECORD, records.dump(volume))
            case Settle(image):
                handles.rename(self._at.images, image.file + NEW, image.file)
            case Fit(image, was):
                self._fit(image, was)
            case Move(old, new):
                handles.rename(self._at.volumes, old + _RECORD, new + _RECORD)
            case Hide(name, uuid):
                handles.rename(self._at.volumes, name + _RECORD, uuid + _GONE)
            case _:
                self._remove(step)

    def _remove(self, step: Drop | Forget | Sweep) -> None:
        match step:
            case Drop(file, new, emptied):
                within, name = self._at.images, file + NEW * new
                if emptied:
                    self._empty(name)
            case Forget(uuid):
                within, name = self._at.volumes, uuid + _GONE
            case Sweep(file):
                within, name = self._at.volumes, file
        handles.remove(within, name)
        os.fsync(within)

    def _empty(self, name: str) -> None:
        with (
            suppress(OSError, PoolError),
            handles.opened(self._at.images, name, os.O_RDWR) as fd,
        ):
            _take(fd, Path(name), read=False)
            os.ftruncate(fd, 0)

    def _make(self, step: Make) -> None:
        file = step.image.file + NEW
        try:
            with handles.opened(self._at.images, file, os.O_CREAT | os.O_EXCL | os.O_RDWR) as fd:
                self._fill(fd, step)
                os.fsync(fd)
            os.fsync(self._at.images)
        except BaseException:
            with suppress(OSError):
                handles.remove(self._at.images, file)
            raise

    def _fill(self, fd: int, step: Make) -> None:
        if step.of is None or step.how == "overlay":
            syscalls.write_in_place(fd)
            begin(fd, step.image, step.of)
            return
        with self._opened_even_new(step.of) as source:
            syscalls.write_as(fd, source)
            syscalls.clone_file(fd, source)
        if step.image.format == "raw":
            os.ftruncate(fd, step.image.size)

    @contextmanager
    def _opened_even_new(self, image: Image) -> Iterator[int]:
        """One whose name is not settled, too."""
        with ExitStack() as held:
            try:
                fd = held.enter_context(handles.opened(self._at.images, image.file, os.O_RDONLY))
            except FileNotFoundError:
                fd = held.enter_context(handles.opened(self._at.images, image.file + NEW, os.O_RDONLY))
            yield fd

    # What is filled before it has a name

    @contextmanager
    def unnamed(self, image: Image) -> Iterator[int]:
        """A new image that nothing is left of, unless a step brings it. OSError where the file system has no
        files without a name."""
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._at.images)
        try:
            syscalls.write_in_place(fd)
            begin(fd, image)
            yield fd
        finally:
            os.close(fd)

    def name(self, fd: int, image: Image) -> None:
        """Such a one becomes a new image, for the verb that finds it, or to be removed like any other."""
        handles.link(fd, self._at.images, image.file + NEW)

    def _check(self, image: Image, base: Image | None) -> None:
        with handles.opened(self._at.images, image.file, os.O_RDONLY) as fd:
            if qemu_img.base_of(fd, image) != (base.file if base else None):
                raise ValueError(f"{image.file} was not merged")

    def _find(self, image: Image) -> None:
        with handles.opened(self._at.images, image.file + NEW, os.O_RDONLY) as fd:
            if image.format == "raw" and os.fstat(fd).st_size != image.size:
                raise ValueError("it has another size than it is said to have")

    @contextmanager
    def layers(self, images: Iterable[Image]) -> Iterator[list[Layer]]:
        """The images that a state is made of, the last one first, to be read. ConfigurationError for one that
        another program changed."""
        with ExitStack() as held:
            layers, chain = [], []
            for it in images:
                fd = held.enter_context(handles.opened(self._at.images, it.file, os.O_RDONLY))
                layers.append(Layer(fd, it.format))
                chain.append((Part(fd=fd, layer=File(format=it.format, size=it.size)), self.path_of(it)))
            sound.check_kept(chain, linked=False)
            yield layers

    def rebase(self, image: Image, through: Sequence[Image], base: Image | None, told: Told) -> None:
        """Let an overlay be one of another image, or none. It has the same bytes all the time, so it is done
        again where it was interrupted. QEMU's locks are qemu-img's own meanwhile: what is in use costs no
        processes, as a daemon tries it each minute."""
        with self.alone(image, read=False):
            pass
        with handles.opened(self._at.images, image.file, os.O_RDWR) as fd:
            below = [*through, *((base,) if base else ())]
            with self.layers([image, *below]) as them:
                for layer, it in zip(them, (image, *through), strict=False):
                    qemu_img.check_base(layer.fd, it, {known.file for known in below})
            sound.forget(fd, merged=True)
            qemu_img.rebase(self._at.images, fd, image, base, told)
            os.fsync(fd)

    def _fit(self, image: Image, was: int) -> None:
        with handles.opened(self._at.images, image.file, os.O_RDWR) as fd:
            if image.format == "raw":
                least = min(os.fstat(fd).st_size, was, image.size)
                os.ftruncate(fd, least)  # what is behind becomes zeroes
                os.ftruncate(fd, image.size)
            else:
                qcow2.resize(fd, image, was)
            os.fsync(fd)

    # What else uses an image

    @contextmanager
    def alone(self, image: Image, *, read: bool) -> Iterator[None]:
        """Inside, nothing else writes to an image, nor reads it unless this only reads (`read`). PoolError
        names what uses it."""
        flags = os.O_RDONLY if read else os.O_RDWR
        with ExitStack() as held:
            with suppress(FileNotFoundError):  # what is not there is used by nothing
                fd = held.enter_context(handles.opened(self._at.images, image.file, flags))
                _take(fd, Path(self.path_of(image)), read)
            yield


def _take(fd: int, path: Path, read: bool) -> None:
    try:
        locks.take(fd, path, read_only=read, is_block=False)
        ended = read or not locks.is_changed(fd)
    except BlockingIOError as error:
        user = locks.holder(fd) or "another program, such as QEMU"
        raise PoolError(f"{path.name} is in use by {user}; stop it first") from error
    if not ended:
        raise PoolError(f"writes of an earlier process to {path.name} have not ended; wait for them")
    if loop := locks.loop_on(fd, read):
        raise PoolError(f"{path.name} is in use by {loop}; detach it: losetup --detach /dev/{loop}")


def begin(fd: int, image: Image, base: Image | None = None) -> None:
    """Let an open file without content be an image with zeroes in it, or one that is the differences to
    another. OSError, PoolError, ConfigurationError."""
    if image.format == "raw":
        os.ftruncate(fd, image.size)
    else:
        qcow2.create(fd, image, base)


def _usage(fd: int) -> Usage:
    """Extents may be larger than what is in use of them, where the file system gave out more. What is behind
    the end is no part of the disk (`syscalls.end_sharing` leaves a block there)."""
    found = os.fstat(fd)
    allocated = found.st_blocks * 512
    own = extents = shared = 0
    try:
        for it in syscalls.extents(fd):
            extents += 1
            shared += it.shared
            own += 0 if it.shared else max(0, min(it.length, found.st_size - it.start))
    except OSError:
        own = allocated  # without the call there is no sharing either
    return Usage(allocated, min(own, allocated), extents, shared)
