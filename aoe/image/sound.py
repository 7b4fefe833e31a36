"""What of an image needs no check: beside a file stands in which state it was found whole, or was closed by
what served it. A copy is checked, and what was changed since, or not closed.

And what must not have changed: beside a layer below others stands in which state these were served over it.
That binds the file alone which has it, no copy.
"""

import os
from contextlib import suppress

from aoe.errors import ConfigurationError
from aoe.image.formats import RAW
from aoe.image.nodes import Part

_NAME, _KEPT = "user.aoe-target.whole", "user.aoe-target.kept"


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


def keep(part: Part) -> None:
    """It is only read from now on, as other layers lie over it."""
    with suppress(OSError):
        os.setxattr(part.fd, _KEPT, _state(part))


def check_kept(part: Part, place: str) -> None:
    """ConfigurationError where it was changed since."""
    try:
        noted = os.getxattr(part.fd, _KEPT)
    except OSError:
        return
    now = _state(part)
    if noted != now and noted.partition(b":")[0] == now.partition(b":")[0]:
        raise ConfigurationError(
            f"{place} was changed by another program, and what is served lies over it; put back a copy of it "
            f"by mv, or, if that change is right, setfattr -x {_KEPT} {place}"
        )


def forget(fd: int) -> None:
    """A file is about to be written. OSError where that does not last: then it must not be."""
    gone = [_is_removed(fd, name) for name in (_NAME, _KEPT)]
    if any(gone):
        os.fsync(fd)


def _is_removed(fd: int, name: str) -> bool:
    try:
        os.removexattr(fd, name)
    except OSError:
        return False  # it had none
    return True


def _is_silent(part: Part) -> bool:
    return part.layer.format == RAW or part.layer.encrypted


def _state(part: Part) -> bytes:
    found = map(os.fstat, part.descriptors)
    return " ".join(f"{it.st_ino}:{it.st_size}:{it.st_mtime_ns}" for it in found).encode()
