"""Whom the processes that read images are: a user of their own, without a network, where root starts them."""

import ctypes
import os
import pwd
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aoe.errors import ConfigurationError
from aoe.sandbox.user import OTHER, may_change

NAME = "aoe-target-image"
"""On a host that knows that user; else the user with the least rights there is. One without a name would not
do: fusermount3 refuses that."""

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _ONE_USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_UNMASKED = (_USER_OBJ, _OTHER, _MASK)
_NOBODY = 0xFFFFFFFF
READ, WRITE, SEARCH = 4, 2, 1

_libc = ctypes.CDLL(None, use_errno=True)


class User(NamedTuple):
    """The numbers of a user; `apart`: another one than this process is, which root can become."""

    uid: int
    gid: int
    apart: bool


def reader() -> User:
    """Whom they are to be. ConfigurationError where root finds no such user."""
    if not may_change():
        return User(os.geteuid(), os.getegid(), apart=False)
    known = _known()
    return User(known.pw_uid, known.pw_gid, apart=True)


def _known() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        pass
    try:
        return pwd.getpwuid(OTHER)
    except KeyError as error:
        raise ConfigurationError(f"no user can read images; make one: adduser --system {NAME}") from error


def becoming(user: User) -> Callable[[], None]:
    """What a child does before it is another program, or opens what that user may."""
    own = os.getpid()

    def become() -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        if user.apart:
            _checked(_libc.unshare(_CLONE_NEWNET))
            os.setgroups([])
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
        end_with(own)

    return become


def end_with(parent: int) -> None:
    """Have this process end when the one does that forked it."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)  # it ended before that


def _checked(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# Letting that user have a file


class Entry(NamedTuple):
    """Of an access control list (acl(5)): whom it is for, and what is allowed."""

    tag: int
    allowed: int
    number: int


def let(fd: int, user: User, allowed: int) -> bool:
    """Let that user have a file of another one, if it may not have it already, by an entry in the list of the
    file (setfacl(1)); whether there is a new one. OSError where the file system has no such lists."""
    if not user.apart:
        return False
    found = os.fstat(fd)
    entries = _entries(fd, found.st_mode)
    if _allows(entries, found, user, allowed):
        return False
    os.setxattr(fd, _ACL, packed(added(entries, user.uid, allowed)))
    return True


def _entries(fd: int, mode: int) -> list[Entry]:
    try:
        return list(unpacked(os.getxattr(fd, _ACL)))
    except OSError:
        allowed = ((_USER_OBJ, mode >> 6), (_GROUP_OBJ, mode >> 3), (_OTHER, mode))
        return [Entry(tag, bits & 7, _NOBODY) for tag, bits in allowed]


def _allows(entries: list[Entry], found: os.stat_result, user: User, allowed: int) -> bool:
    """By the entry that counts for it."""
    mask = next((it.allowed for it in entries if it.tag == _MASK), 7)
    if found.st_uid == user.uid:
        tag = _USER_OBJ
    elif any(it.tag == _ONE_USER and it.number == user.uid for it in entries):
        tag = _ONE_USER
    else:
        tag = _GROUP_OBJ if found.st_gid == user.gid else _OTHER
    one = next(it for it in entries if it.tag == tag and (tag != _ONE_USER or it.number == user.uid))
    bits = one.allowed if tag in _UNMASKED else one.allowed & mask
    return bits & allowed == allowed


def added(entries: list[Entry], uid: int, allowed: int) -> list[Entry]:
    """The list with an entry for a user. What its group may does not change by the mask that it needs."""
    kept = [it for it in entries if not (it.tag == _ONE_USER and it.number == uid)]
    old = next((it.allowed for it in entries if it.tag == _MASK), None)
    if old is not None:
        kept = [it if it.tag in _UNMASKED else it._replace(allowed=it.allowed & old) for it in kept]
    kept = [it for it in kept if it.tag != _MASK]
    mine = Entry(_ONE_USER, allowed, uid)
    mask = allowed
    for it in kept:
        mask |= 0 if it.tag in _UNMASKED else it.allowed
    return sorted((*kept, mine, Entry(_MASK, mask, _NOBODY)), key=lambda it: (it.tag, it.number))


def packed(entries: list[Entry]) -> bytes:
    """As the kernel has it."""
    return struct.pack("<I", _ACL_VERSION) + b"".join(_ENTRY.pack(*it) for it in entries)


def unpacked(listed: bytes) -> Iterator[Entry]:
    """The entries of what the kernel has."""
    for at in range(4, len(listed) - _ENTRY.size + 1, _ENTRY.size):
        yield Entry(*_ENTRY.unpack_from(listed, at))
