"""The last member of an initramfs: a cpio archive (initramfs buffer format, "newc") with the image's id.

The kernel unpacks one archive behind the other. Of a file that was cut off, the last one is missing. It is a
frame of zstd, as what is before it: to zstd(1), and so to lsinitramfs(8), both together are one file.
"""

import struct

from aoe.cloud import identity

_ALIGNED = 4
_DIRECTORY, _FILE = 0o40755, 0o100644
_END = "TRAILER!!!"
_ZSTD, _ONE_SEGMENT, _SIZE_LEAST, _LAST_RAW = 0xFD2FB528, 0x60, 256, 1
"""RFC 8878: a frame that says in two bytes how much is in it, which is one block that is not compressed."""


def member(id: str) -> bytes:
    """What is put behind an initramfs that is compressed by zstd."""
    data = archive(id)
    block = _LAST_RAW | len(data) << 3
    head = struct.pack("<IBH", _ZSTD, _ONE_SEGMENT, len(data) - _SIZE_LEAST)
    return head + block.to_bytes(3, "little") + data


def archive(id: str) -> bytes:
    """What is in it."""
    names = identity.FILE.split("/")
    above = ["/".join(names[:count]) for count in range(1, len(names))]
    records = [_record(it, _DIRECTORY, b"", links=2) for it in above]
    return b"".join([*records, _record(identity.FILE, _FILE, f"{id}\n".encode()), _record(_END, 0, b"")])


def id_at_end(tail: bytes) -> str | None:
    """The id, from the last `LENGTH` bytes of an initramfs; None where they are no archive with one."""
    id = tail[_AT : _AT + _DIGITS].decode("latin-1")
    return id if identity.is_id(id) and tail == archive(id) else None


def _record(name: str, mode: int, data: bytes, links: int = 1) -> bytes:
    """A file: magic, 13 fields of eight hexadecimal digits, the name and the data, each padded."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % it for it in fields) + path
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNED)


_SAMPLE = "f" * 32
_DIGITS = len(_SAMPLE)
LENGTH = len(archive(_SAMPLE))
"""Bytes of an archive."""
_AT = archive(_SAMPLE).index(_SAMPLE.encode())
