"""Judges the state directory: the daemon can keep something there, and no other user can change it."""

from collections.abc import Iterator
from typing import NamedTuple

from aoe import limits
from aoe.doctor.checks import Finding, fault, fine, halves, unseen

_NEEDED = limits.DOCTOR_STATE_FREE
_OTHERS_WRITE = 0o022


class State(NamedTuple):
    """`path`, and whether it is `there`. `problem` is why this user cannot look inside. So many bytes
    (`room`) and names (`files`, None: the file system sets no bound) can be added. `damaged` says of records
    what is wrong, `failed` are the stores whose sync failed."""

    path: str
    there: bool = True
    problem: str = ""
    uid: int = 0
    mode: int = 0o700
    read_only: bool = False
    room: int = _NEEDED
    files: int | None = None
    damaged: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def judge(one: State, uid: int | None) -> Iterator[Finding]:
    """`uid` is the user of the daemon that has it; None where there is none, which may make it."""
    about = one.path
    if one.problem:
        yield unseen("state-dir", about, one.problem, "sudo aoe-target doctor")
    elif not one.there and uid is not None:
        yield fault("state-dir", about, "it is gone", "systemctl restart aoe-target, which makes it again")
    elif one.there:
        yield from _writable(one, uid)
        yield from _open(one, uid)
        yield from (_damaged(about, it) for it in one.damaged)
        for path in one.failed if uid is None else ():
            remedy = "repair the disk, start the service, then aoe-target reopen its address"
            yield fault("sync-failed", path, "a sync failed in an earlier run", remedy)


def _writable(one: State, uid: int | None) -> Iterator[Finding]:
    about = one.path
    if one.read_only:
        yield fault("state-dir", about, "its file system is read-only", "dmesg; mount -o remount,rw")
    elif one.room < _NEEDED or (one.files is not None and one.files < limits.DOCTOR_STATE_FILES):
        seen = f"its file system is full: {one.room} bytes"
        more = "" if one.files is None else f" and {one.files} names"
        yield fault("state-dir", about, f"{seen}{more} are free", f"df {about}, and make room")
    elif uid not in (None, 0) and one.uid != uid:
        yield fault("state-dir", about, f"uid {one.uid} owns it, the daemon is uid {uid}", _own(about, uid))
    else:
        yield fine("state-dir", about, f"{one.room} bytes are free")


def _open(one: State, uid: int | None) -> Iterator[Finding]:
    if one.mode & _OTHERS_WRITE:
        yield fault("state-open", one.path, f"mode {one.mode & 0o7777:o}", f"chmod 700 {one.path}")
    elif uid == 0 and one.uid != 0:
        yield fault("state-open", one.path, f"uid {one.uid} owns it, the daemon is root", _own(one.path, 0))


def _own(path: str, uid: int | None) -> str:
    return f"chown -R {uid} {path}"


def _damaged(about: str, problem: str) -> Finding:
    seen, remedy = halves(problem)
    return fault("state-damaged", about, seen, remedy)
