"""The files of an image, opened one after the other as each says which is below it; all in one directory."""

import errno
import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from aoe import limits
from aoe.disk.syscalls import close_all
from aoe.errors import ConfigurationError
from aoe.image import layers, qemu
from aoe.image.formats import RAW
from aoe.image.layers import Layer
from aoe.image.nodes import Part
from aoe.image.user import READ, WRITE, User, let
from aoe.printable import plain

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Chain(NamedTuple):
    """An image with all that is below it, the top first, and what each is called."""

    parts: tuple[Part, ...]
    places: tuple[str, ...]
    directory: int
    """Where all are, open only for what is below it."""

    @property
    def descriptors(self) -> list[int]:
        """Of all its files."""
        return [fd for it in self.parts for fd in it.descriptors]

    def close(self) -> None:
        """Let go of its files."""
        close_all([*self.descriptors, self.directory])


def open_chain(path: Path, form: str, user: User, *, read_only: bool) -> Chain:
    """Open an image in a format; every file may be read by the user of images then, and the top written.
    ConfigurationError for one that leads out of its directory, or is not what it says."""
    with ExitStack() as unless_whole:
        opened: list[int] = []
        unless_whole.callback(close_all, opened)
        chain = _Walk(path, user, opened).all(form, read_only=read_only)
        unless_whole.pop_all()
    return chain


def _remedy(error: OSError, uid: int) -> str:
    if error.errno == errno.ENOENT:
        return "; put the file there"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EOPNOTSUPP):
        return f"; let the user that reads images have it (its number is {uid})"
    return ""


class _Walk:
    """From the top down. What is `opened` is listed before anything else is done with it."""

    def __init__(self, path: Path, user: User, opened: list[int]) -> None:
        try:
            self._top = path.resolve(strict=True)
            directory = os.open(self._top.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(f"{plain(str(path))}: {error.strerror}; name an image") from error
        self._said = plain(str(path))
        self._directory = directory
        opened.append(directory)
        self._user = user
        self._opened = opened
        self._seen: set[tuple[int, int]] = set()

    def all(self, form: str, *, read_only: bool) -> Chain:
        parts: list[Part] = []
        places: list[str] = []
        name, place = self._top.name, self._said
        while True:
            if len(parts) == limits.POOL_CHAIN_MAX:
                raise ConfigurationError(
                    f"{self._said} lies over more than {limits.POOL_CHAIN_MAX - 1} images; convert it"
                )
            part = self._part(name, place, form, writes=not (parts or read_only))
            parts.append(part)
            places.append(place)
            under = None if form == RAW else layers.under_of(part.layer, place)
            if under is None:
                return Chain(tuple(parts), tuple(places), self._directory)
            name, form = self._beside(under[0], place), under[1]
            place = self._place(name)

    def _part(self, name: str, place: str, form: str, *, writes: bool) -> Part:
        fd = self._open(name, place, writes=writes)
        if form == RAW:
            return Part(fd=fd, layer=Layer(format=RAW, size=os.fstat(fd).st_size))
        layer = self._looked_at(fd, place, form, writes=writes)
        layers.check(layer, form, place)
        if writes:
            layers.check_written(layer, place)
        data = layers.data_of(layer, place)
        if not data:
            return Part(fd=fd, layer=layer)
        beside = self._beside(data, place)
        return Part(fd=fd, layer=layer, data=self._open(beside, self._place(beside), writes=writes))

    def _looked_at(self, fd: int, place: str, form: str, *, writes: bool) -> Layer:
        """A vhdx of which writes were interrupted may have to be written before it can be read."""
        try:
            return qemu.info(fd, place)
        except ConfigurationError:
            if form != "vhdx" or not writes:
                raise
        qemu.replay(fd)
        return qemu.info(fd, place)

    def _place(self, name: str) -> str:
        """What a file of the directory is called for people."""
        return plain(str(self._top.parent / name))

    def _beside(self, name: str, place: str) -> str:
        """The name in the directory of what an image leads to. ConfigurationError where it is elsewhere."""
        there = self._top.parent / name
        try:
            is_here = os.path.samestat(there.parent.stat(), os.fstat(self._directory))
        except (OSError, ValueError):
            is_here = False
        if not is_here:
            raise ConfigurationError(
                f"{place} leads to {plain(name)}, which is not in its directory; move it there, or convert it"
            )
        return there.name

    def _open(self, name: str, place: str, *, writes: bool) -> int:
        flags = _FLAGS | (os.O_RDWR if writes else os.O_RDONLY)
        try:
            fd = os.open(name, flags, dir_fd=self._directory)
            self._opened.append(fd)
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigurationError(f"{place} is not a file; an image is one")
            self._meet((found.st_dev, found.st_ino), place)
            let(fd, self._user, READ | WRITE if writes else READ)
        except OSError as error:
            raise ConfigurationError(f"{place}: {error.strerror}{_remedy(error, self._user.uid)}") from error
        return fd

    def _meet(self, file: tuple[int, int], place: str) -> None:
        if file in self._seen:
            raise ConfigurationError(f"{self._said} lies over itself ({place}); it cannot be read")
        self._seen.add(file)
