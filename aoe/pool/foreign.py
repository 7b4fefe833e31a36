"""Which format an image of others has: what its name says, or its user, never what its bytes seem to be.

A guest can write what it likes to a raw disk, and so make it look like an image that names a file of the
host. But bytes that speak against the name are asked about, rather than copied as they are.
"""

from aoe.errors import ConfigurationError
from aoe.pool.names import FORMATS, Foreign, Format
from aoe.printable import plain

_SUFFIXES: dict[str, Foreign] = {
    "qcow2": "qcow2",
    "qcow": "qcow2",
    "vmdk": "vmdk",
    "vdi": "vdi",
    "vhdx": "vhdx",
    "vhd": "vpc",
    "vpc": "vpc",
}
_BEGINNINGS: tuple[tuple[int, bytes, Foreign], ...] = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
)
_PACKED = ((b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"))


def saved_as(name: str, wanted: Format | None) -> Format:
    """In which format a file of that name is written; `wanted` is its user's word. ConfigurationError where
    neither says one that is written here."""
    if wanted is not None:
        return wanted
    by_name = _by_name(name)
    if by_name in FORMATS:
        return by_name
    raise ConfigurationError(
        f"{plain(name)} names {by_name}, and raw or qcow2 is written; say --format, or choose another name"
    )


def _by_name(name: str) -> Foreign:
    return _SUFFIXES.get(name.rpartition(".")[2].lower(), "raw")


def format_of(name: str, head: bytes, wanted: Foreign | None, said: str) -> Foreign:
    """Of an image by its file name and its first bytes; `wanted` is its user's word. ConfigurationError where
    neither says a format, and the bytes are not those of a raw disk."""
    if wanted is not None:
        return wanted
    by_name = _by_name(name)
    if by_name != "raw":
        return by_name
    for packed, how in _PACKED:
        if head.startswith(packed):
            raise ConfigurationError(f"{said} is packed by {how}; unpack it first, or say --format raw")
    for at, beginning, found in _BEGINNINGS:
        if head[at:].startswith(beginning):
            raise ConfigurationError(f"{said} begins as a {found} image does; say --format {found}, or raw")
    return "raw"
