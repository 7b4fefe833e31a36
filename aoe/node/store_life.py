"""The name of a life of the service: it goes on over restarts, crashes and upgrades. A stop ends it, which
empties the store of descriptors of its manager (sd_notify(3)). What is kept of it means the same in every
version: that a disk failed is not forgotten because the other descriptors have other names."""

import os
import secrets

from aoe.limits import LIFE_NAME_BYTES
from aoe.node.held import Held, Kind

_KEY = ""


def name_of_life(held: Held) -> str | None:
    """As a hexadecimal number by chance, kept in memory that the manager holds; None without one."""
    if not held.is_managed:
        return None
    last = held.take(Kind.NAME, _KEY)
    if last is None:
        return _gone_on(held)
    return _read(last) or _begun(held)


def _gone_on(held: Held) -> str:
    """From a life of another version, if there was one. Not with its memory: what the manager holds already
    it would not hold under another name, too."""
    others = held.take_of_others(Kind.NAME, _KEY)
    names = [_read(fd) for _, fd in others]
    begun = _begun(held, next(filter(None, names), ""))
    for other in dict(others):
        held.drop(other)
    return begun


def _begun(held: Held, name: str = "") -> str:
    fd = os.memfd_create("aoe-target", os.MFD_CLOEXEC)
    try:
        os.write(fd, bytes.fromhex(name) or secrets.token_bytes(LIFE_NAME_BYTES))
        held.forget(Kind.NAME, _KEY)
        held.keep(Kind.NAME, _KEY, fd)
        return os.pread(fd, LIFE_NAME_BYTES, 0).hex()
    finally:
        os.close(fd)


def _read(fd: int) -> str:
    """Empty where it is not what we had it hold."""
    try:
        name = os.pread(fd, LIFE_NAME_BYTES, 0)
    except OSError:
        return ""
    finally:
        os.close(fd)
    return name.hex() if len(name) == LIFE_NAME_BYTES else ""
