"""Giving up what is not needed once sockets and disks are open (capabilities(7), prctl(2))."""

import ctypes
import os
import pwd
import resource
import struct
from pathlib import Path

from aoe.errors import ConfigurationError

_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63

_OPENERS = (1, 2, 10, 12, 13)
"""What an opener needs: to open any path (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH), UDP ports below 1024
(CAP_NET_BIND_SERVICE), large buffers (CAP_NET_ADMIN), packet sockets (CAP_NET_RAW)."""

_libc = ctypes.CDLL(None, use_errno=True)


def drop_privileges(user: pwd.struct_passwd | None = None) -> None:
    """Give up every capability, for good, and become `user`. Must run before the first thread starts: it
    counts for one thread and those it starts. OSError where the kernel refuses."""
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if user is not None:
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if any(_capabilities()):
        _set_capabilities(0)


def keep_openers() -> None:
    """Give up, for good, every capability that an opener does not need. OSError where the kernel refuses."""
    for capability in set(range(_LAST_CAPABILITY + 1)) - set(_OPENERS):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _, permitted, _, _, _, _ = _capabilities()
    _set_capabilities(permitted & sum(1 << number for number in _OPENERS))


def _capabilities() -> tuple[int, ...]:
    """Effective, permitted and inheritable ones, those below 32 first."""
    header, room = struct.pack("Ii", _CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(24)
    _checked(_libc.capget(header, room))
    return struct.unpack("6I", room.raw)


def _set_capabilities(low: int) -> None:
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, struct.pack("6I", low, low, 0, 0, 0, 0)))


def hand_over(directory: Path, user: pwd.struct_passwd) -> None:
    """Let `user` go on with what root kept in a directory of its own, which is made. OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (directory, *directory.iterdir()):
        if path.lstat().st_uid == 0:
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def allow_descriptors(needed: int, *, for_good: bool = False) -> None:
    """Allow so many open files, `for_good` as many as can be; ConfigurationError if that is fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigurationError(
            f"{needed} open files are needed for so many disks and interfaces, and {hard} are allowed; "
            "raise the limit (ulimit -n, or LimitNOFILE= in a systemd unit)"
        )
    if for_good or (soft != resource.RLIM_INFINITY and soft < needed):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _checked(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
