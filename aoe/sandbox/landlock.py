"""Which files a thread may still open (landlock(7)): none, but those that are named, or below what is."""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446
"""The same numbers on every architecture."""
_ASK_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_DIRECTORY, _MAKE_FILE, _TRUNCATE = 1 << 5, 1 << 7, 1 << 8, 1 << 14
_DEVICE_CALLS = 1 << 15
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE_CALLS
"""The rest makes sense for directories only."""
_FILES_SINCE = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights on files there are since which version."""
_TCP, _TCP_SINCE = 0b11, 4
_SCOPES, _SCOPES_SINCE = 0b11, 6
"""Abstract Unix sockets, and signals, of processes outside."""

READING = _READ | _LIST
RUNNING = READING | _EXECUTE
ASKING = READING | _DEVICE_CALLS
OVERWRITING = ASKING | _WRITE | _TRUNCATE
"""Of what is there; how large a device is takes a call to it."""
CHANGING = READING | _WRITE | _REMOVE_FILE | _MAKE_DIRECTORY | _MAKE_FILE | _TRUNCATE

Place = Path | int
"""A path, or a descriptor."""

_libc = ctypes.CDLL(None, use_errno=True)


def restrict_files(below: Mapping[Place, int], *, alone: bool) -> str:
    """Let this thread, and those it will start, do on files only what `below` says of paths or descriptors:
    READING and others; of a directory, that is for all below it. Why it cannot be, where the kernel lacks it;
    else empty. `alone` forbids sockets and signals of other processes too, where the kernel can. Needs no
    privilege once no_new_privs is set."""
    version = _libc.syscall(_CREATE, None, 0, _ASK_VERSION)
    if version < 1:
        return f"files are not restricted: no landlock in this kernel ({os.strerror(ctypes.get_errno())})"
    ruleset = _ruleset(version, alone)
    if ruleset < 0:
        return f"files are not restricted: {os.strerror(ctypes.get_errno())}"
    try:
        known = _file_rights(version)
        _add(ruleset, ((path, rights & known) for path, rights in below.items()))
        if _libc.syscall(_RESTRICT, ruleset, 0):
            return f"files are not restricted: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    return ""


def _file_rights(version: int) -> int:
    """All that a version knows."""
    return (1 << max(count for since, count in _FILES_SINCE.items() if since <= version)) - 1


def _ruleset(version: int, alone: bool) -> int:
    """Its descriptor. A kernel takes only what it knows."""
    words = [_file_rights(version)]
    if version >= _TCP_SINCE:
        words.append(_TCP)
    if version >= _SCOPES_SINCE:
        words.append(_SCOPES if alone else 0)
    attributes = struct.pack(f"{len(words)}Q", *words)
    return int(_libc.syscall(_CREATE, attributes, len(attributes), 0))


def _add(ruleset: int, below: Iterable[tuple[Place, int]]) -> None:
    """What is not there is not allowed."""
    for place, rights in below:
        try:
            with _opened(place) as fd:
                is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
                rule = struct.pack("=Qi", rights if is_directory else rights & _ON_FILES, fd)
                _libc.syscall(_ADD, ruleset, _PATH_BENEATH, rule, 0)
        except OSError:
            continue


@contextmanager
def _opened(place: Place) -> Iterator[int]:
    if isinstance(place, int):
        yield place
        return
    fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
