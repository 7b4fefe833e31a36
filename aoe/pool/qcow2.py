"""Images in qcow2, made and resized by qemu-img: it is given a descriptor, and opens no other image."""

from aoe.pool import qemu_img
from aoe.pool.qemu_img import Layer
from aoe.pool.volume import Image
from aoe.sandbox.qemu_img import name_of

_REMEDY = "apt-get install qemu-utils, or say --format raw"


def create(fd: int, image: Image, base: Image | None = None) -> None:
    """Make an empty image of an open file, or one that is the differences to another. The name of that is
    relative, and both are in one directory. PoolError, ConfigurationError."""
    over = ["-u", "-b", base.file, "-F", base.format] if base else []  # -u: the base is not even opened
    words = "-q", "-f", "qcow2", *over, name_of(fd), str(image.size)
    qemu_img.run("create", *words, writes=(fd,), remedy=_REMEDY, **qemu_img.bounds(image.size))


def resize(fd: int, image: Image, was: int) -> None:
    """Let its disk have another size than it `was`, while this process has the locks of QEMU's that are on
    it. Its base is not opened. PoolError, ConfigurationError."""
    disk, size = qemu_img.opened([Layer(fd, "qcow2")], image.size), str(image.size)
    how = qemu_img.bounds(max(image.size, was, qemu_img.size_of(fd)))
    qemu_img.run("resize", "-q", *["--shrink"] * (image.size < was), disk, size, writes=(fd,), **how)
