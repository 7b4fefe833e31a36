"""Another user than root, for what needs none of its rights."""

import ctypes
import os
import struct
from pathlib import Path

_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)

OTHER = 65534
SETGID, SETUID, DAC_OVERRIDE = 1 << 6, 1 << 7, 1 << 1
"""Rights of a process (capabilities(7))."""


def become_other() -> None:
    """This process, for good, where it is root and may; files that are open stay so. Only with one thread."""
    if may_change():
        os.setgroups([])
        os.setgid(OTHER)
        os.setuid(OTHER)


def keep_only(kept: int) -> None:
    """This thread has no other rights from now on, and where it can gain none (`bpf.gain_nothing`) neither do
    programs that it starts. OSError."""
    low = rights() & kept
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, struct.pack("6I", low, low, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "giving up rights")


def may_change() -> bool:
    """Whether this process is root, and there is another user: not in each user namespace."""
    wanted = SETGID | SETUID
    return (
        os.geteuid() == 0
        and rights() & wanted == wanted
        and all(_is_mapped(Path(f"/proc/self/{kind}_map").read_text()) for kind in ("uid", "gid"))
    )


def _is_mapped(text: str) -> bool:
    lines = (line.split() for line in text.splitlines())
    return any(int(first) <= OTHER < int(first) + int(count) for first, _, count in lines)


def rights() -> int:
    """Of this process."""
    status = Path("/proc/self/status").read_text()
    return next(int(it.split()[1], 16) for it in status.splitlines() if it.startswith("CapEff:"))
