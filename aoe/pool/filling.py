"""How images come into a pool whole, and go out of it: copied by qemu-img before a verb finds them.

Nothing is left of a copy that does not come to its end, however that comes. The pool is not locked meanwhile:
what is copied of it is held by QEMU's locks, and each function here yields what is to be done at its end.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aoe import limits
from aoe.errors import ConfigurationError, PoolError
from aoe.pool import foreign, qemu_img
from aoe.pool.adopting import Adopt, Template, check_template
from aoe.pool.directory import begin
from aoe.pool.download import hashed
from aoe.pool.names import Foreign, Format
from aoe.pool.qemu_img import Layer, Told
from aoe.pool.steps import Plan
from aoe.pool.unnamed import unnamed
from aoe.pool.volume import Image, check_size
from aoe.pool.work import Work, fresh_id
from aoe.printable import plain
from aoe.sandbox.qemu_img import name_of
from aoe.wire import protocol


@dataclass(frozen=True, slots=True)
class Source:
    """An image of others, open as `fd`, with its name for messages."""

    fd: int
    said: str
    format: Foreign


def source_of(fd: int, name: str, said: str, form: Foreign | None) -> Source:
    """An open image that was called `name`. ConfigurationError where that and its content do not say the same
    of its format."""
    head = os.pread(fd, limits.POOL_FOREIGN_HEAD_BYTES, 0)
    return Source(fd, plain(said), foreign.format_of(name, head, form, plain(said)))


@contextmanager
def source(path: Path, form: Foreign | None, sha256: str | None = None) -> Iterator[Source]:
    """An image that is a file or block device. ConfigurationError where it cannot be opened, or is another
    than the one that was meant."""
    said = plain(str(path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no path"
        raise ConfigurationError(f"{said}: {reason}; name an image that this user may read") from error
    try:
        kind = os.fstat(fd).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
            raise ConfigurationError(f"{said} is neither a file nor a block device; name an image")
        if sha256 is not None and (found := hashed(fd)) != sha256:
            raise ConfigurationError(f"{said} has the SHA-256 {found}, not {sha256}")
        yield source_of(fd, path.name, said, form)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Filled:
    """An image that is filled, in the pool of `work`, and the verb that is to find it."""

    work: Work
    fd: int
    image: Image
    request: Adopt | Template

    def name(self) -> None:
        """Once it is sure that the verb can be done. PoolError."""
        with _failures(self.work, "naming what was copied"):
            self.work.store.name(self.fd, self.image)

    def done_by(self, work: Work) -> Plan:
        """The verb. ConfigurationError, PoolError: then nothing of it is left."""
        work.plan(self.request)
        self.name()
        return work.do(self.request)


@contextmanager
def imported(work: Work, of: Source, volume: str, to: Format | None, told: Told) -> Iterator[Filled]:
    """A copy of an image for a new volume; `told` gets how much is done. ConfigurationError, PoolError."""
    at = work.standing()
    at.check_new(volume)
    form = at.chosen(to)
    facts = qemu_img.examined(of.fd, of.format, form, of.said)
    size = check_size(-(-facts.size // protocol.SECTOR) * protocol.SECTOR)
    work.room.check_for(facts.needed, work.reserve, of.said)
    image = Image(id=fresh_id(), size=size, format=form)
    with _filled(work, image) as fd:
        qemu_img.convert(name_of(of.fd), of.format, (of.fd,), Layer(fd, form), size, told)
        yield Filled(work, fd, image, Adopt(volume, image.id, size, form))


@contextmanager
def template(work: Work, volume: str, told: Told) -> Iterator[Filled]:
    """A copy of a volume, with its blocks side by side, by which it becomes one that is only cloned. Nothing
    else may use it inside."""
    was = work.tree.volume(volume)
    at = work.standing()
    check_template(at, volume, was)
    image = Image(id=fresh_id(), size=was.size, format=at.usual)
    with ExitStack() as held:
        said = work.tree.said(volume)
        layers = _held(work, held, work.tree.chain(was.head), read=False)
        work.room.check_for(_taken(layers), work.reserve, said)
        fd = held.enter_context(_filled(work, image))
        fds = [it.fd for it in layers]
        qemu_img.convert(
            qemu_img.opened(layers, was.size), layers[0].format, fds, Layer(fd, image.format), was.size, told
        )
        request = Template(volume, was.head.id, image.id, image.format)
        yield Filled(work, fd, image, request)


def save(work: Work, volume: str, snapshot: str, to: Path, form: Format, told: Told) -> int:
    """Write what a volume or snapshot has to a new file; its bytes. ConfigurationError, PoolError."""
    tree = work.tree
    kept = tree.snapshot(volume, snapshot).image if snapshot else tree.volume(volume).head
    with ExitStack() as held:
        layers = _held(work, held, tree.chain(kept), read=True)
        file = held.enter_context(unnamed(to))
        begin(file.fd, replace(kept, format=form))
        fds = [it.fd for it in layers]
        qemu_img.convert(
            qemu_img.opened(layers, kept.size), layers[0].format, fds, Layer(file.fd, form), kept.size, told
        )
        file.name()
    return to.stat().st_size


def _held(work: Work, held: ExitStack, images: list[Image], *, read: bool) -> list[Layer]:
    """The images of a state, which nothing writes to meanwhile; nothing reads the first one unless `read`."""
    with _failures(work, "opening its images"):
        for at, image in enumerate(images):
            held.enter_context(work.store.alone(image, read=read or at > 0))
        return held.enter_context(work.store.layers(images))


def _taken(layers: list[Layer]) -> int:
    return sum(os.fstat(it.fd).st_blocks * 512 for it in layers)


@contextmanager
def _filled(work: Work, image: Image) -> Iterator[int]:
    """An empty image, to be filled."""
    with ExitStack() as held:
        with _failures(work, "making an image to be filled"):
            fd = held.enter_context(work.store.unnamed(image))
        yield fd


@contextmanager
def _failures(work: Work, what: str) -> Iterator[None]:
    """Inside, what a store fails at is a PoolError."""
    try:
        yield
    except OSError as error:
        raise PoolError(f"{work.store.said}: {what}: {error.strerror or error}") from error
