"""What of an image needs no check: beside a file stands in which state it was found whole, or was closed by
what served it. A copy is checked, and what was changed since, or not closed."""

import os
from contextlib import suppress

from aoe.image.formats import RAW
from aoe.image.nodes import Part

_NAME = "user.aoe-target.whole"


def needs_check(part: Part) -> bool:
    """Whether nothing says that a layer is whole. Nothing can be said of what is raw or encrypted."""
    if _is_silent(part):
        return False
    try:
        return part.layer.dirty or os.getxattr(part.fd, _NAME) != _state(part)
    except OSError:
        return True


def note(part: Part) -> None:
    """It is whole as it is now. Where a file can have no such note, it is checked each time."""
    if _is_silent(part):
        return
    with suppress(OSError):
        os.setxattr(part.fd, _NAME, _state(part))


def forget(part: Part) -> None:
    """It is about to be written. OSError where that does not last: then it must not be."""
    try:
        os.removexattr(part.fd, _NAME)
    except OSError:
        return  # it had none
    os.fsync(part.fd)


def _is_silent(part: Part) -> bool:
    return part.layer.format == RAW or part.layer.encrypted


def _state(part: Part) -> bytes:
    found = map(os.fstat, part.descriptors)
    return " ".join(f"{it.st_ino}:{it.st_size}:{it.st_mtime_ns}" for it in found).encode()
