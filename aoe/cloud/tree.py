"""The tree of a root: what is in it, what does not belong into an image, and its times."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from aoe.cloud.identity import Entry

_UNIT = 4096
EMPTIED = ("run", "tmp", "var/tmp", "var/log", "var/lib/apt/lists", "var/cache/apt", "var/cache/ldconfig")
"""Directories whose files and links are dropped; those below them stay."""
DROPPED = (
    *("var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret"),
    *("vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"),
)
"""What is of one machine or moment, and links to a kernel that is not in the root."""


def entries(top: Path) -> Iterator[Entry]:
    """Everything below it, without its times."""
    for path in _below(top):
        found = path.lstat()
        yield Entry(
            str(path.relative_to(top)),
            found.st_mode,
            found.st_uid,
            found.st_gid,
            _content(path, found),
            tuple(_extra(path)),
        )


def _below(top: Path) -> Iterator[Path]:
    """The top, and all that is in it; links are not followed."""
    yield top
    for path, directories, files in os.walk(top):
        yield from (Path(path, it) for it in (*directories, *files))


def _content(path: Path, found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return str(path.readlink())
    if stat.S_ISREG(found.st_mode):
        return sha256(path)
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" if found.st_rdev else ""


def _extra(path: Path) -> Iterator[tuple[str, str]]:
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        yield name, os.getxattr(path, name, follow_symlinks=False).hex()


def sha256(path: Path) -> str:
    """The digest of a file. OSError."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def bytes_of(top: Path) -> int:
    """What a tree takes in blocks of ext4: the same, whatever file system it is on."""
    return sum(_bytes_of(it.lstat()) for it in _below(top))


def _bytes_of(found: os.stat_result) -> int:
    size = found.st_size if stat.S_ISREG(found.st_mode) else 1
    return -(-size // _UNIT) * _UNIT


def clean(top: Path) -> None:
    """Drop what is different in each build, and what no two machines may share."""
    for name in EMPTIED:
        for path, _, files in os.walk(top / name):
            _unlink(Path(path, it) for it in files)
    _unlink(top / it for it in DROPPED)
    _unlink((top / "etc/ssh").glob("ssh_host_*"))
    machine = top / "etc/machine-id"
    _unlink([machine])
    machine.touch()
    machine.chmod(0o444)  # whatever the umask; systemd gives each machine one when it starts (machine-id(5))


def _unlink(paths: "Iterator[Path] | list[Path]") -> None:
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def take(top: Path, kernel: str, to: tuple[Path, Path]) -> None:
    """Take the kernel of a version, and its initramfs, out of the root. FileNotFoundError."""
    for name, path in zip(("vmlinuz", "initrd.img"), to, strict=True):
        shutil.move(top / "boot" / f"{name}-{kernel}", path)


def kernels(top: Path) -> list[str]:
    """The versions whose modules are there."""
    return [it.name for it in (top / "usr/lib/modules").glob("*")]


def set_times(top: Path, epoch: int) -> None:
    """Nothing is younger than `epoch` (seconds since 1970)."""
    for path in _below(top):
        if path.lstat().st_mtime > epoch:
            os.utime(path, (epoch, epoch), follow_symlinks=False)
