"""What of an image needs no check: beside a file stands in which state it was found whole, or was closed by
what served it. A copy is checked, and what was changed since, or not closed.

And what must not have changed: beside a layer below others stands in which state these were served over it,
and beside each layer which file it lay over then. That binds the file alone which has it, no copy.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aoe.disk import syscalls
from aoe.errors import ConfigurationError
from aoe.image.formats import RAW
from aoe.image.nodes import Part

_NAME, _KEPT, _OVER = "user.aoe-target.whole", "user.aoe-target.kept", "user.aoe-target.over"

Placed = tuple[Part, str]
"""A layer, and what it is called."""


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


def keep(chain: Sequence[Placed]) -> None:
    """Of layers, the top first, what lies below others is only read from now on."""
    for (part, _), below in _pairs(chain):
        with suppress(OSError):
            os.setxattr(part.fd, _OVER, os.fsencode("/".join((_file(part), *_below(below)))))
            if below:
                os.setxattr(below[0].fd, _KEPT, _state(below[0]))


def check_kept(chain: Sequence[Placed], *, linked: bool = True) -> None:
    """ConfigurationError where what lies below was changed since, or is another file. Unless the chain is
    `linked` as its files say, they may say another one, as after a merge that was interrupted."""
    for part, place in chain[1:]:
        _check_same(part, place)
    for (part, place), below in _pairs(chain):
        _check_over(part, place, below, linked)


def _check_same(part: Part, place: str) -> None:
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


def _check_over(part: Part, place: str, below: Placed | None, linked: bool) -> None:
    """A copy that is put back has the same size and time; the same file may have another one by a merge."""
    try:
        noted, *was = os.fsdecode(os.getxattr(part.fd, _OVER)).split("/")
    except OSError:
        return
    now = _below(below)
    if noted != _file(part) or len(was) != len(now):
        return
    if linked and was[0] != now[0]:
        raise ConfigurationError(
            f"{place} lay over {was[0] or 'no other image'} when it was served, and another program let it "
            f"lie over {now[0] or 'none'}; undo that by qemu-img rebase -u, or, if it is right, "
            f"setfattr -x {_OVER} {place}"
        )
    if below and was[0] == now[0] and was[1] != now[1] and was[2] != now[2]:
        raise ConfigurationError(
            f"{below[1]} is another file than {place} was served over; put back a copy of that with its time "
            f"(cp -p, mv), or, if this one is right, setfattr -x {_OVER} {place}"
        )


def forget(fd: int, *, merged: bool = False) -> None:
    """A file is about to be written, or to lie over another one (`merged`). OSError where that does not last:
    then it must not be."""
    gone = [_is_removed(fd, name) for name in (_NAME, _KEPT, *[_OVER] * merged)]
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


def _pairs(chain: Sequence[Placed]) -> "zip[tuple[Placed, Placed | None]]":
    return zip(chain, (*chain[1:], None), strict=True)


def _below(below: Placed | None) -> tuple[str, str, str]:
    """Its name, which file it is, and what is the same of a copy of it."""
    if below is None:
        return "", "", ""
    part, place = below
    found = map(os.fstat, part.descriptors)
    return Path(place).name, _file(part), " ".join(f"{it.st_size}:{it.st_mtime_ns}" for it in found)


def _file(part: Part) -> str:
    """Unlike its inode, that of a file that is gone is never another one's."""
    return syscalls.file_handle(part.fd) or str(os.fstat(part.fd).st_ino)
