"""What `qemu-img` says about one file of an image: by a descriptor, in the sandbox; it opens no other."""

import json
import os
import struct

from aoe import limits, timing
from aoe.errors import ConfigurationError
from aoe.image.layers import Layer, parse
from aoe.image.nodes import Part, alone
from aoe.printable import plain
from aoe.sandbox import child, qemu_img
from aoe.sandbox.qemu_img import name_of

MISSING = "{} is missing, which images need: apt-get install qemu-system-common qemu-utils fuse3"
PROGRAM = "qemu-storage-daemon"
_PATH = "/usr/local/bin:/usr/bin:/bin"
NO_USER = "the user that reads images cannot be become here; start the target as root, or as an ordinary user"
_VDI_HEAD = struct.Struct("<344xI28xI8xI")
"""Where the blocks begin, how large one is (bytes), how many there are."""
_NO_CHECK = 63
_LEAKS = 3
"""What `qemu-img check` ends with for a format that cannot be checked, and where only room is lost."""


def environment() -> dict[str, str]:
    """What programs of QEMU's are started with."""
    return {"PATH": os.environ.get("PATH", _PATH), "LC_ALL": "C"}


def info(fd: int, place: str) -> Layer:
    """What a file is, by what stands in it. ConfigurationError."""
    words = ("-U", "--output=json", name_of(fd))
    done = qemu_img.run("info", *words, reads=(fd,), end_s=timing.IMAGE_INFO_S)
    if done.status:
        said = _said(done, fd, place)
        raise ConfigurationError(f"{place} cannot be read as an image ({said}); look at it: qemu-img info")
    layer = parse(done.out.encode())
    if layer.format == "vdi" and _vdi_ends_early(fd):
        raise ConfigurationError(f"{place} is damaged: its end is cut off; fetch it again")
    return layer


def _vdi_ends_early(fd: int) -> bool:
    """Neither opening nor `qemu-img check` looks whether the blocks are there that the header counts."""
    head = os.pread(fd, _VDI_HEAD.size, 0)
    if len(head) < _VDI_HEAD.size:
        return True
    data, block, blocks = _VDI_HEAD.unpack(head)
    return bool(os.fstat(fd).st_size < data + block * blocks)


def replay(fd: int) -> None:
    """Have done what the log of a vhdx, open to be written, says is under way, as after a power cut. Nothing
    is done where another program has it; whether it can be read then is another question."""
    most = os.fstat(fd).st_size + limits.IMAGE_REPLAYED_BYTES
    qemu_img.run("check", "-q", "-r", "all", "-f", "vhdx", name_of(fd), writes=(fd,), file_bytes=most)


def check(part: Part, place: str) -> None:
    """ConfigurationError for a layer that is damaged, or not whole. What it lies over is not looked at. That
    of a large one takes minutes."""
    words = ("-U", "-q", f"json:{json.dumps(alone(part))}")
    cpu_s = qemu_img.patience_for(part.layer.size)
    done = qemu_img.run("check", *words, reads=part.descriptors, cpu_s=cpu_s, end_s=None)
    if done.status not in (0, _LEAKS, _NO_CHECK):
        said = _said(done, part.fd, place)
        raise ConfigurationError(f"{place} is damaged; look at it: qemu-img check ({said})")


def _said(done: child.Done, fd: int, place: str) -> str:
    """In one line, with the name that the file has for people."""
    lines = (done.problem or done.out)[: limits.IMAGE_SAID_BYTES].replace(name_of(fd), place)
    said = lines.split("; ")[0].removeprefix("qemu-img: ")
    return plain(said.replace(f"Could not open '{place}': ", ""))
