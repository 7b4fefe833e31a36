"""What qemu-img is asked for, in a sandbox (`aoe.sandbox`): it gets descriptors, and opens nothing else.

Images of others are looked at before they are used: one that names other files is refused, and one that is
damaged. Those of a pool are named with all that they are differences to, so that no image says itself what is
below it.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from aoe import limits
from aoe.errors import ConfigurationError, PoolError
from aoe.pool.names import Foreign, Format
from aoe.pool.volume import Image
from aoe.printable import plain
from aoe.sandbox import child, qemu_img
from aoe.sandbox.qemu_img import name_of

_CHECKED = ("qcow2", "vmdk", "vdi", "vhdx")
_LEAKS, _CORRUPT, _ALL = 3, 2, 100.0
_PROGRESS = re.compile(rb"\(([0-9.]+)/100%\)")
_NAME = re.compile(r"(qemu-img: )?/proc/self/fd/[0-9]+: ")

Told = Callable[[float], object]
"""Gets how much is done, 0 to 1. What it raises ends that."""


class QemuImgFailed(PoolError):
    """What qemu-img says why it did not do something; whose image that is its caller knows."""


class Unsound(PoolError):
    """An image that is damaged, or not of the format that it is said to have."""


class Layer(NamedTuple):
    """An open image of a pool, which is differences to the next one."""

    fd: int
    format: Format


class Facts(NamedTuple):
    """Of an image: the size of its disk, and how many bytes its copy will take, both in bytes."""

    size: int
    needed: int


def run(
    verb: str,
    *words: str,
    reads: Sequence[int] = (),
    writes: Sequence[int] = (),
    may_be: Sequence[int] = (0,),
    **how: Any,
) -> child.Done:
    """qemu-img with a verb, which may end with one of these numbers. QemuImgFailed says why it did not."""
    done = qemu_img.run(verb, *words, reads=reads, writes=writes, **how)
    if done.status not in may_be:
        raise QemuImgFailed(f"qemu-img {verb}: {_reason(plain(qemu_img.problem_of(done)))}")
    return done


def _reason(said: str) -> str:
    """Without the names that files have there. It begins with why a file that it could not write could not be
    removed."""
    lines = _NAME.sub("", said).split("; ")
    kept = [it for it in lines if not it.startswith("Error when deleting file")]
    return "; ".join(kept or lines)


def opened(layers: Sequence[Layer], size: int) -> str:
    """Images of a pool, the last state first, as one word; the disk has `size` bytes. This process has the
    locks of QEMU's on them."""
    return f"json:{json.dumps(_node(layers, size))}"


def _node(layers: Sequence[Layer], size: int) -> dict[str, Any]:
    """A raw image may be longer than the disk, as a logical volume is that has whole extents."""
    top, *below = layers
    driver = "host_device" if stat.S_ISBLK(os.fstat(top.fd).st_mode) else "file"
    file = {"driver": driver, "filename": name_of(top.fd), "locking": "off"}
    if top.format == "raw":
        return {"driver": "raw", "size": size, "file": file}
    return {"driver": top.format, "file": file, "backing": _node(below, size) if below else None}


# Images of others


def examined(fd: int, form: Foreign, to: Format, said: str) -> Facts:
    """A foreign image, before it is copied to another format. ConfigurationError for one that depends on
    other files or is encrypted; Unsound for one that is damaged."""
    try:
        facts = json.loads(run("info", "--output=json", "-f", form, name_of(fd), reads=(fd,)).out)
        _check_alone(facts, said)
        if form in _CHECKED:
            _check_sound(fd, form)
        words = ("--output=json", "-f", form, "-O", to, name_of(fd))
        needed = json.loads(run("measure", *words, reads=(fd,)).out)["required"]
    except (ValueError, KeyError, TypeError) as error:
        raise Unsound(f"{said}: qemu-img says nothing of it that is understood ({error})") from error
    except PoolError as error:
        raise Unsound(f"{said} is no sound {form} image: {error}") from error
    return Facts(int(facts["virtual-size"]), int(needed))


def _check_alone(facts: dict[str, Any], said: str) -> None:
    other = facts.get("backing-filename") or _of_format(facts).get("data-file")
    if other:
        raise ConfigurationError(
            f"{said} is made of differences to, or keeps its data in, {plain(str(other))}; make one image of "
            "it first: qemu-img convert"
        )
    if facts.get("encrypted"):
        raise ConfigurationError(f"{said} is encrypted; decrypt it first: qemu-img convert")


def _of_format(facts: dict[str, Any]) -> dict[str, Any]:
    found = facts.get("format-specific", {}).get("data", {})
    return found if isinstance(found, dict) else {}


def _check_sound(fd: int, form: Foreign) -> None:
    words = ("--output=json", "-f", form, name_of(fd))
    done = run("check", *words, reads=(fd,), may_be=(0, _LEAKS, _CORRUPT))
    if done.status == _CORRUPT:
        count = json.loads(done.out).get("corruptions", "some")
        raise PoolError(f"qemu-img check finds {count} errors")


# Copies


def convert(source: str, form: Foreign, reads: Sequence[int], to: Layer, size: int, told: Told) -> None:
    """Copy what an image has, the disk of which has `size` bytes, into an empty one of as many. PoolError."""
    run(
        *("convert", "-p", "-n", "--target-is-zero", "-S", str(limits.POOL_HOLE_BYTES)),
        *("-f", form, "-O", to.format, source, opened([to], size)),
        reads=reads,
        writes=(to.fd,),
        heard=_progress(told),
        **bounds(size),
    )


# Images of a pool


def check_base(fd: int, image: Image, known: Collection[str]) -> None:
    """PoolError where an image says itself that it is differences to something else than its record knows."""
    said = base_of(fd, image)
    if said is not None and said not in known:
        raise PoolError(
            f"{image.file} names {plain(str(said))}, and its record does not; put back a copy of it"
        )


def base_of(fd: int, image: Image) -> str | None:
    """What an image says that it is differences to."""
    facts = json.loads(run("info", "-U", "--output=json", "-f", image.format, name_of(fd), reads=(fd,)).out)
    said = facts.get("backing-filename")
    return None if said is None else str(said)


def rebase(within: int, fd: int, image: Image, base: Image | None, told: Told) -> None:
    """Let an image, open to be written, take what it needs of those below it, down to another one, or all.
    They are in one directory, and named in it."""
    below = ["-b", base.file, "-F", base.format] if base else ["-b", ""]
    words = "-p", "-f", image.format, *below, f"{name_of(within)}/{image.file}"
    how = bounds(image.size)
    run("rebase", *words, reads=(within,), writes=(fd,), heard=_progress(told), **how)


def bounds(size: int) -> dict[str, Any]:
    """Of what copies a disk of so many bytes: a slow processor and a slow disk are waited for."""
    most = size + size // 8 + limits.POOL_IMAGE_HEAD_BYTES
    return {"cpu_s": qemu_img.patience_for(size), "end_s": None, "file_bytes": most}


def _progress(told: Told) -> Callable[[bytes], None]:
    """What is told may end it, so it is told while nothing is heard, too."""
    done = 0.0

    def heard(text: bytes) -> None:
        nonlocal done
        found = _PROGRESS.findall(text)
        if found:
            done = min(float(found[-1]) / _ALL, 1.0)
        told(done)

    return heard


def size_of(fd: int) -> int:
    """Bytes of a file or device."""
    return os.lseek(fd, 0, os.SEEK_END)
