"""Bytes that a caller gives."""

from typing import Any

from aoe.errors import OutOfRangeError


def octets(what: str, data: Any) -> bytes:
    """The bytes of anything that has some: bytes, bytearray, memoryview. TypeError for a text or a number."""
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        raise TypeError(f"{what} is bytes, not str; encode it, as text.encode()")
    try:
        return memoryview(data).tobytes()
    except TypeError:
        raise TypeError(f"{what} is bytes, not {type(data).__name__}") from None


def room(what: str, buffer: Any) -> memoryview:
    """The bytes of a buffer that can be written to. TypeError for one that cannot."""
    try:
        view = memoryview(buffer)
    except TypeError:
        raise TypeError(f"{what} is a bytearray, not {type(buffer).__name__}") from None
    if view.readonly or not view.contiguous:
        raise TypeError(f"{what} cannot be written to; give a bytearray")
    return view.cast("B")


def mac(data: Any) -> bytes:
    """A MAC. TypeError for what is no bytes, OutOfRangeError for another length than 6."""
    if isinstance(data, str):
        raise TypeError(f"a MAC is 6 bytes, not str; aoe.wire.frame.parse_mac({data!r}) makes them")
    found = octets("a MAC", data)
    if len(found) != 6:
        raise OutOfRangeError(f"a MAC has 6 bytes, not {len(found)}")
    return found
