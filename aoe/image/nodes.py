"""How QEMU is told to open an image: every file by a descriptor, every layer by name, nothing by what stands
in an image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aoe.image.formats import LAYERED
from aoe.image.layers import Layer
from aoe.sandbox.qemu_img import name_of

SECRET = "key"
"""What the key is called there."""
EXPORT = "export"

FASTEST = "io_uring"
"""How QEMU has its files read and written: what is in the page cache costs no change of threads then."""

Node = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A layer with the descriptors of its files; `data` below 0: it has its bytes itself."""

    fd: int
    layer: Layer
    data: int = -1

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Of its files."""
        return (self.fd, self.data) if self.data >= 0 else (self.fd,)


def nodes(parts: Sequence[Part], *, read_only: bool, direct: bool, keyed: bool) -> Iterator[Node]:
    """Each after those that it needs. The first part is the top; what is below is never written to."""
    for number in reversed(range(len(parts))):
        part, is_fixed = parts[number], read_only or number > 0
        yield _file(f"file{number}", part.fd, is_fixed, direct)
        if part.data >= 0:
            yield _file(f"data{number}", part.data, is_fixed, direct)
        yield _layer(number, part, is_fixed, number + 1 < len(parts), keyed)


def _file(name: str, fd: int, is_fixed: bool, direct: bool) -> Node:
    return {
        "driver": "file",
        "node-name": name,
        "filename": name_of(fd),
        "read-only": is_fixed,
        "locking": "on",
        "discard": "unmap",
        "cache": {"direct": direct},
        "aio": FASTEST,
    }


def without_uring(node: Node) -> Node:
    """The same for a QEMU or a kernel that refuses io_uring."""
    return {word: it for word, it in node.items() if word != "aio"}


def _layer(number: int, part: Part, is_fixed: bool, has_under: bool, keyed: bool) -> Node:
    layer = part.layer
    node: Node = {
        "driver": layer.format,
        "node-name": f"image{number}",
        "file": f"file{number}",
        "read-only": is_fixed,
        "discard": "unmap",
    }
    if layer.format in LAYERED:
        node["backing"] = f"image{number + 1}" if has_under else None
    if part.data >= 0:
        node["data-file"] = f"data{number}"
    return node | _key(layer, keyed)


def overlay(number: int, directory: int, file: str) -> tuple[Node, Node]:
    """An image in qcow2 that is to lie over the one that is served: its file, and itself."""
    below = _file(f"over-file{number}", directory, False, False)
    return below | {"filename": f"{name_of(directory)}/{file}"}, {
        "driver": "qcow2",
        "node-name": f"over{number}",
        "file": f"over-file{number}",
        "discard": "unmap",
        "backing": None,
    }


def alone(part: Part) -> Node:
    """One layer without what it lies over, to be looked at."""
    node: Node = {"driver": part.layer.format, "file": {"driver": "file", "filename": name_of(part.fd)}}
    if part.layer.format in LAYERED:
        node["backing"] = None
    if part.data >= 0:
        node["data-file"] = {"driver": "file", "filename": name_of(part.data)}
    return node


def _key(layer: Layer, keyed: bool) -> Node:
    if not (keyed and layer.encrypted):
        return {}
    if layer.format == "luks":
        return {"key-secret": SECRET}
    return {"encrypt": {"format": "luks", "key-secret": SECRET}}


def export_of(node: str, mountpoint: str, *, read_only: bool) -> Node:
    """A layer as a file."""
    return {
        "type": "fuse",
        "id": EXPORT,
        "node-name": node,
        "mountpoint": mountpoint,
        "writable": not read_only,
        "growable": False,
        "allow-other": "off",
    }
