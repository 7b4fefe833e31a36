"""Looks at the service: asks the daemon, and looks at its process and its unit."""

import grp
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from aoe import timing
from aoe.control.client import Client
from aoe.disk.identity import HERE, Host, raw_text
from aoe.doctor.of_service import SILENT, Process, Seat, Unit
from aoe.errors import ConfigurationError, ControlFailed

UNIT, OPENER = "aoe-target.service", "aoe-target-opener.socket"
_PROPERTIES = (
    *("LoadState", "ActiveState", "Result", "NeedDaemonReload", "FileDescriptorStoreMax", "User"),
    *("SupplementaryGroups", "ProtectHome", "ExecStart", "UnitFileState"),
)
_GONE = " (deleted)"
_OPEN_FILES, _UNLIMITED = "Max open files", 1 << 30


class Asked(NamedTuple):
    """What a daemon said, and its pid; or why it did not, and of which kind that is."""

    said: dict[str, Any] | None
    pid: int = 0
    problem: str = ""
    kind: str = ""


def ask(socket: Path) -> Asked:
    """The daemon there. Blocks."""
    try:
        with Client(socket) as client:
            return Asked(client.ask("status"), client.pid)
    except ControlFailed as error:
        return Asked(None, 0, str(error), error.kind)
    except ConfigurationError as error:
        return Asked(None, 0, str(error), "no-daemon")


def seat(socket: Path) -> Seat | None:
    """Its directory; None where there is none that this user may look at."""
    try:
        return Seat(str(socket.parent), socket.parent.stat().st_mode)
    except OSError:
        return None


def process(pid: int, host: Host = HERE) -> Process:
    """As the kernel shows it to this user."""
    at = host.proc / str(pid)
    return Process(pid, _uid(at), _descriptors(at), _replaced(at))


def _uid(at: Path) -> int | None:
    try:
        return at.stat().st_uid
    except OSError:
        return None


def _descriptors(at: Path) -> int | None:
    lines = raw_text(at / "limits").splitlines()
    found = (it.removeprefix(_OPEN_FILES).split() for it in lines if it.startswith(_OPEN_FILES))
    soft = next(found, [""])[0]
    return int(soft) if soft.isdecimal() else _UNLIMITED if soft else None


def _replaced(at: Path) -> tuple[str, ...]:
    """Of our compiled parts; dpkg and pip replace a file by another one of that name."""
    names = (it.partition("/")[1:] for it in raw_text(at / "maps").splitlines() if it.endswith(_GONE))
    files = ("".join(it).removesuffix(_GONE) for it in names)
    return tuple(dict.fromkeys(it for it in files if "/aoe/" in it and it.endswith(".so")))


def unit(name: str) -> Unit | None:
    """As systemd shows it, `SILENT` where it does not in time; None where there is no systemd, or no such
    unit. Blocks for a moment."""
    command = ["systemctl", "show", name, "--property", ",".join(_PROPERTIES)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timing.DOCTOR_LOOK_S, check=False
        )
    except subprocess.TimeoutExpired:
        return SILENT
    except OSError:
        return None
    found = dict(it.split("=", 1) for it in done.stdout.splitlines() if "=" in it)
    if done.returncode or found.get("LoadState") != "loaded":
        return None
    return Unit(found, _there(found.get("User", "")))


def _there(user: str) -> bool:
    return not user or ids_of(user) is not None


def ids_of(user: str, groups: str = "") -> tuple[int, frozenset[int]] | None:
    """User and groups by their numbers, with others by name; None where there is no such user."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return None
    known = {it.gr_name: it.gr_gid for it in grp.getgrall()}
    more = {known[it] for it in groups.split() if it in known}
    return found.pw_uid, frozenset({*os.getgrouplist(user, found.pw_gid), *more})
