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
        last = held.take_over(Kind.NAME, _KEY)
    return _begun(held) if last is None else _read(last) or _begun(held)


def _begun(held: Held) -> str:
    fd = os.memfd_create("aoe-target", os.MFD_CLOEXEC)
    try:
        os.write(fd, secrets.token_bytes(LIFE_NAME_BYTES))
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
