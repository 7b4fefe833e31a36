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
from aoe.pool import download, foreign, qemu_img, store
from aoe.pool.adopting import Adopt, Freeze, Template, check_template
from aoe.pool.directory import begin
from aoe.pool.names import Foreign, Format, Kind
from aoe.pool.qemu_img import Layer, QemuImgFailed, Told
from aoe.pool.steps import Plan
from aoe.pool.unnamed import Unnamed, unnamed
from aoe.pool.volume import Image, check_size
from aoe.pool.work import ImageInUse, Work, failed, fresh_id
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
        if sha256 is not None and (found := download.hashed(fd)) != sha256:
            raise ConfigurationError(f"{said} has the SHA-256 {found}, not {sha256}")
        yield source_of(fd, path.name, said, form)
    finally:
        os.close(fd)


@contextmanager
def brought(
    work: Work, image: str, form: Foreign | None, sha256: str | None, told: download.Told
) -> Iterator[Source]:
    """An image by its path, or by a URL, from which it is fetched first: `told` gets how many bytes there
    are, and of how many. They are kept until what is inside ends well, or the image is found to be damaged.
    ConfigurationError, FetchFailed, PoolError."""
    sha256 = sha256 and sha256.lower()
    if not download.is_url(image):
        with source(Path(image), form, sha256) as of:
            yield of
        return
    with download.fetched(work.scratch, image, sha256, told) as file:
        try:
            yield source_of(file.fd, download.name_of(image), image, form)
        except qemu_img.Unsound:
            file.forget()
            raise
        file.forget()


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
    image = _import(work, of, volume, to)
    with _filled(work, image) as fd:
        with _copying(work, of.said):
            qemu_img.convert(name_of(of.fd), of.format, (of.fd,), Layer(fd, image.format), image.size, told)
        yield Filled(work, fd, image, _adopt(volume, image))


def import_steps(work: Work, of: Source, volume: str, to: Format | None) -> list[str]:
    """What that would do now, in words. ConfigurationError, PoolError."""
    image = _import(work, of, volume, to)
    return [_copied(f"{of.said} ({of.format})", image), *work.plan(_adopt(volume, image)).sentences]


def fetch_steps(work: Work, url: str, volume: str, to: Format | None) -> list[str]:
    """The same where it is not known yet what comes from a URL."""
    at = work.standing()
    at.check_new(volume)
    where = f"{work.scratch.path}/{download.SCRATCH}"
    return [
        f"fetch {plain(download.check_url(url))} to {where}, or what is missing there of it",
        f"copy what that has into a new image ({at.chosen(to)}), and remove it",
        f"write the record of {volume}",
    ]


def _import(work: Work, of: Source, volume: str, to: Format | None) -> Image:
    """The image of a new volume that a copy is for."""
    at = work.standing()
    at.check_new(volume)
    form = at.chosen(to)
    facts = qemu_img.examined(of.fd, of.format, form, of.said)
    if facts.size == 0:
        raise ConfigurationError(f"{of.said} is empty; name an image that has something in it")
    size = check_size(-(-facts.size // protocol.SECTOR) * protocol.SECTOR, form)
    work.room.check_for(facts.needed, work.reserve, of.said)
    return Image(id=fresh_id(), size=size, format=form)


def _adopt(volume: str, image: Image) -> Adopt:
    return Adopt(volume, image.id, image.size, image.format)


def _copied(what: str, image: Image) -> str:
    return f"copy what {what} has into a new image {image.file} of {image.size} bytes"


def mark_of(kind: Kind, volume: str) -> Freeze | None:
    """What alone makes a template of a volume in a pool of that kind; None where it is copied for that."""
    return Freeze(volume) if store.cuts_in_use(kind) else None


@contextmanager
def template(work: Work, volume: str, told: Told) -> Iterator[Filled]:
    """A copy of a volume, with its blocks side by side, by which it becomes one that is only cloned. Nothing
    else may use it inside."""
    with _to_be_template(work, volume) as (layers, image, request), _filled(work, image) as fd:
        fds = [it.fd for it in layers]
        words = qemu_img.opened(layers, image.size), layers[0].format, fds
        with _copying(work, work.tree.said(volume)):
            qemu_img.convert(*words, Layer(fd, image.format), image.size, told)
        yield Filled(work, fd, image, request)


def template_steps(work: Work, volume: str) -> list[str]:
    """What that would do now, in words. ConfigurationError, and PoolError where something uses it."""
    with _to_be_template(work, volume) as (_, image, request):
        return [_copied(work.tree.said(volume), image), *work.plan(request).sentences]


@contextmanager
def _to_be_template(work: Work, volume: str) -> Iterator[tuple[list[Layer], Image, Template]]:
    """What the volume is made of, the image for a copy of it, and the verb behind that."""
    image, request = template_of(work, volume)
    with ExitStack() as held:
        layers = _held(work, held, work.tree.chain(work.tree.volume(volume).head), read=False)
        work.room.check_for(_taken(layers), work.reserve, work.tree.said(volume))
        yield layers, image, request


def template_of(work: Work, volume: str) -> tuple[Image, Template]:
    """A new image for a copy of a volume, and the verb that is to find it. ConfigurationError, PoolError."""
    was = work.tree.volume(volume)
    at = work.standing()
    check_template(at, volume, was)
    image = Image(id=fresh_id(), size=was.size, format=at.usual)
    return image, Template(volume, was.head.id, image.id, image.format)


def save(work: Work, volume: str, snapshot: str, to: Path, form: Format | None, told: Told) -> int:
    """Write what a volume or snapshot has to a new file, in the format that its name says, if none is asked
    for; its bytes. ConfigurationError, PoolError."""
    form = foreign.saved_as(to.name, form)
    with _to_be_saved(work, volume, snapshot, to) as (layers, kept, file):
        begin(file.fd, replace(kept, format=form))
        fds = [it.fd for it in layers]
        words = qemu_img.opened(layers, kept.size), layers[0].format, fds
        try:
            qemu_img.convert(*words, Layer(file.fd, form), kept.size, told)
        except QemuImgFailed as error:
            said = work.tree.said(volume, snapshot)
            raise PoolError(f"{plain(str(to))}: to copy {said}: {error}; nothing is left there") from error
        file.name()
    return to.stat().st_size


def save_steps(work: Work, volume: str, snapshot: str, to: Path, form: Format | None) -> list[str]:
    """What that would do now, in words. ConfigurationError, PoolError."""
    form = foreign.saved_as(to.name, form)
    with _to_be_saved(work, volume, snapshot, to) as (_, kept, _):
        said = work.tree.said(volume, snapshot)
        return [
            f"copy what {said} has into a new file ({form}) of {kept.size} bytes",
            f"name it {plain(str(to))}",
        ]


@contextmanager
def _to_be_saved(
    work: Work, volume: str, snapshot: str, to: Path
) -> Iterator[tuple[list[Layer], Image, Unnamed]]:
    """What a state is made of, its image, and a file for a copy of it, which has no name yet."""
    kept = work.image_of(volume, snapshot)
    with ExitStack() as held:
        try:
            layers = _held(work, held, work.tree.chain(kept), read=True)
        except ImageInUse as error:
            raise PoolError(f"{error}{'' if snapshot else ', or save a snapshot of it'}") from error
        yield layers, kept, held.enter_context(unnamed(to))


def _held(work: Work, held: ExitStack, images: list[Image], *, read: bool) -> list[Layer]:
    """The images of a state, which nothing writes to meanwhile; nothing reads the first one unless `read`."""
    with _failures(work, "opening its images"):
        for at, image in enumerate(images):
            work.hold(held, image, read=read or at > 0)
        return held.enter_context(work.store.layers(images))


@contextmanager
def _copying(work: Work, what: str) -> Iterator[None]:
    """Inside, qemu-img fails at the copy of something."""
    try:
        yield
    except QemuImgFailed as error:
        raise failed(work.store.said, f"to copy {what}", error) from error


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
    """Inside, what a store, or qemu-img there, fails at is a PoolError."""
    try:
        yield
    except (OSError, QemuImgFailed) as error:
        raise failed(work.store.said, what, error) from error
