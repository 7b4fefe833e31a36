"""Where an image is mounted for the moment in which it is opened, and what an earlier process left there."""

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aoe import timing
from aoe.disk.syscalls import is_readable
from aoe.errors import ConfigurationError
from aoe.image import processes
from aoe.image.qemu import environment
from aoe.image.user import READ, WRITE, User, becoming, let

PREFIX = "aoe-image-"
_DEVICE = "/dev/fuse"
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def home() -> Path:
    """The directory for such places."""
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path("/run") if os.geteuid() == 0 else Path(own) if own else Path("/tmp")


def let_mount(user: User) -> None:
    """Let the user of images have the device of FUSE, which udev gives to all. OSError."""
    fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        let(fd, user, READ | WRITE)
    finally:
        os.close(fd)


@contextmanager
def mountpoint(user: User, within: Path) -> Iterator[Path]:
    """An empty file to mount on. Afterwards nothing is mounted there, and there is no file."""
    directory = within / f"{PREFIX}{os.getpid()}-{started(os.getpid())}"
    directory.mkdir(mode=0o700, exist_ok=True)
    file = directory / "disk"
    try:
        file.touch(mode=0o600)
        if user.apart:
            os.chown(directory, user.uid, user.gid)
            os.chown(file, user.uid, user.gid)
        yield file
    finally:
        _remove(directory)


def clean(within: Path) -> list[str]:
    """Unmount and remove what processes left that have ended; the names of these."""
    left = [it for it in _ours(within) if not _lives(it.name)]
    for it in left:
        _remove(it)
    return [it.name for it in left]


def _ours(within: Path) -> list[Path]:
    """Of this user, or (root) of any that root had it mounted by."""
    own = os.geteuid()
    with suppress(OSError):
        return [it for it in sorted(within.glob(f"{PREFIX}*")) if own in (0, it.lstat().st_uid)]
    return []


def _lives(name: str) -> bool:
    process, _, then = name.removeprefix(PREFIX).partition("-")
    return process.isdigit() and started(int(process)) == then


def started(process: int) -> str:
    """When a process began (proc_pid_stat(5)); empty where there is none."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _remove(directory: Path) -> None:
    detach(directory / "disk")
    with suppress(OSError):
        (directory / "disk").unlink()
    with suppress(OSError):
        directory.rmdir()


def detach(file: Path) -> None:
    """Take what is mounted there out of the way; what is open of it goes on."""
    while _is_mounted(file):
        if os.geteuid() == 0:
            if _libc.umount2(os.fsencode(file), _MNT_DETACH):
                return
        else:
            words = ["fusermount3", "-u", "-z", "--", str(file)]
            if subprocess.run(words, env=environment(), capture_output=True, check=False).returncode:
                return


def _is_mounted(file: Path) -> bool:
    """Without asking what is mounted there, which may be dead."""
    with suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
        return any(line.split()[4] == str(file) for line in lines)
    return False


def opened_as(user: User, path: Path, flags: int) -> int:
    """A descriptor of what only that user may open: a child does. ConfigurationError."""
    ours, its = socket.socketpair()
    with ours, its:
        become, child = becoming(user), os.fork()
        if not child:
            _open_and_send(become, path, flags, its)
        its.close()
        try:
            return _received(ours, path)
        finally:
            processes.end(processes.Forked(child))


def _open_and_send(become: Callable[[], None], path: Path, flags: int, its: socket.socket) -> None:
    status = 1
    try:
        become()
        fd = os.open(path, flags | os.O_CLOEXEC)
        socket.send_fds(its, [b"1"], [fd])
        status = 0
    finally:
        os._exit(status)


def _received(ours: socket.socket, path: Path) -> int:
    if not is_readable(ours, timing.IMAGE_ANSWER_S):
        raise ConfigurationError(f"{path} is not opened in {timing.IMAGE_ANSWER_S:g} s")
    _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise ConfigurationError(f"{path} cannot be opened by the user of images")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]
