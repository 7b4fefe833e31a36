"""What `qemu-img info` says of one file of an image, and whether that may be opened.

Each file is judged by itself, before the next is opened: `qemu-img` is never let to follow a name that stands
in an image, which may lead to any file of this host.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aoe.errors import ConfigurationError
from aoe.image.formats import FORMATS, LAYERED, RAW
from aoe.printable import plain

_PROTOCOL = re.compile(r"[A-Za-z0-9+.-]+:")
"""How a name begins that QEMU takes for something else than a file (`json:`, `nbd:`)."""
_STREAM = "streamOptimized"
"""The kind of vmdk that is compressed, in which nothing can be written again."""
_WHOLE = ("monolithicSparse", _STREAM)
"""The kinds of vmdk that are one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One file of an image. `size` is that of the disk, in bytes; `under` the name of the image below as it
    stands in the file, in the format `under_format`; `data` that of the file with the bytes; empty: none."""

    format: str
    size: int
    under: str = ""
    under_format: str = ""
    data: str = ""
    data_raw: bool = False
    encrypted: bool = False
    dirty: bool = False
    corrupt: bool = False
    kind: str = ""
    """Of a vmdk."""


def parse(said: bytes) -> Layer:
    """The first layer of what `qemu-img info --output=json` says, with `--backing-chain` or without;
    ConfigurationError for anything else."""
    try:
        whole = json.loads(said)
        first = whole[0] if isinstance(whole, list) else whole
        return _layer(first)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"qemu-img info is not understood ({type(error).__name__})") from error


def _layer(said: Mapping[str, Any]) -> Layer:
    more = said.get("format-specific", {}).get("data", {})
    size = said["virtual-size"]
    if type(size) is not int or size < 0:
        raise ValueError(size)
    return Layer(
        format=_text(said["format"]),
        size=size,
        under=_text(said.get("backing-filename", "")),
        under_format=_text(said.get("backing-filename-format", "")),
        data=_text(more.get("data-file", "")),
        data_raw=more.get("data-file-raw", False) is True,
        encrypted=said.get("encrypted", False) is True,
        dirty=said.get("dirty-flag", False) is True,
        corrupt=more.get("corrupt", False) is True,
        kind=_text(more.get("create-type", "")),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def check(layer: Layer, wanted: str, place: str) -> None:
    """ConfigurationError for what is not as it was said to be, or cannot be served."""
    if layer.format != wanted:
        found = plain(layer.format)
        raise ConfigurationError(f"{place} is not in {wanted} (qemu-img: {found}); say which format it is in")
    if layer.corrupt:
        raise ConfigurationError(f"{place} is marked corrupt; repair it: qemu-img check -r all")
    if layer.format == "vmdk" and layer.kind not in _WHOLE:
        raise ConfigurationError(
            f"{place} has its bytes in other files ({plain(layer.kind)}); convert it: qemu-img convert"
        )


def check_written(layer: Layer, place: str) -> None:
    """ConfigurationError for what QEMU reads alone."""
    if layer.format == "vmdk" and layer.kind == _STREAM:
        raise ConfigurationError(
            f"{place} can only be read ({_STREAM}); say read-only, or convert it: qemu-img convert"
        )


def under_of(layer: Layer, place: str) -> tuple[str, str] | None:
    """The file name and format of the image below; None where there is none. ConfigurationError for one that
    must not be opened."""
    if not layer.under:
        return None
    if layer.format not in LAYERED:
        raise ConfigurationError(f"{place}: an image in {layer.format} lies over another; convert it")
    if layer.under_format not in (RAW, *FORMATS):
        raise ConfigurationError(
            f"{place} does not say in which format {plain(layer.under)} is; say so: qemu-img rebase -u -F"
        )
    return _file(layer.under, place), layer.under_format


def data_of(layer: Layer, place: str) -> str:
    """The file name of what has its bytes; empty where it has them itself. ConfigurationError for one that
    must not be opened."""
    return _file(layer.data, place) if layer.data else ""


def _file(name: str, place: str) -> str:
    """A name that stands in an image, as the path of a file."""
    if _PROTOCOL.match(name) and not name.startswith("./"):
        raise ConfigurationError(f"{place} leads to {plain(name)}, which is no file; give it one beside it")
    if "\0" in name or name.endswith(("/", "/.", "/..")) or name in (".", ".."):
        raise ConfigurationError(f"{place} leads to {plain(name)}, which is no file; give it one beside it")
    return name
