"""Which files a process may still open (landlock(7)): none, but below the directories that are named."""

import ctypes
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446
"""The same numbers on every architecture."""
_ASK_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_DIRECTORY, _MAKE_FILE, _TRUNCATE = 1 << 5, 1 << 7, 1 << 8, 1 << 14
_FILES_SINCE = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights on files there are since which version."""
_TCP, _TCP_SINCE = 0b11, 4
_SCOPES, _SCOPES_SINCE = 0b11, 6
"""Abstract Unix sockets, and signals, of processes outside."""

READING = _READ | _LIST
CHANGING = READING | _WRITE | _REMOVE_FILE | _MAKE_DIRECTORY | _MAKE_FILE | _TRUNCATE

_libc = ctypes.CDLL(None, use_errno=True)


def restrict_files(below: Mapping[Path, int], *, alone: bool) -> str:
    """Let this thread, and those it will start, do on files only what `below` says of directories: READING or
    CHANGING. Why it cannot be, where the kernel lacks it; else empty. `alone` forbids sockets and signals of
    other processes too, where the kernel can. Needs no privilege once no_new_privs is set."""
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


def _add(ruleset: int, below: Iterable[tuple[Path, int]]) -> None:
    """What is not there is not allowed."""
    for path, rights in below:
        try:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            _libc.syscall(_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, fd), 0)
        finally:
            os.close(fd)
