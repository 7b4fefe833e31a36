"""Files, file systems and devices that fail below the system call: what an engine in C cannot bypass."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

from aoe.wire.protocol import SECTOR
from tests.support.tools import need, need_dev_fuse, need_loop, need_root, tool, unavailable, which
from tests.support.waiting import wait_for

# What `nbdkit eval` runs: a file fail-KIND says from which byte to which it fails.
_JUDGE = """
if [ -e "{0}/fail-{1}" ]; then
    read -r first end < "{0}/fail-{1}"
    [ "{2}" -ge "$end" ] || [ "{3}" -le "$first" ] || {{ echo EIO >&2; exit 1; }}
fi
"""
_EXTENT = ("$4", "$(($4 + $3))")
_READ = 'dd if="{0}/store" skip="$4" count="$3" iflag=skip_bytes,count_bytes status=none'
_WRITE = 'dd of="{0}/store" seek="$4" oflag=seek_bytes conv=notrunc status=none'


class FuseDisk:
    """A file that a server of ours stands behind: nbdkit, through nbdfuse. `path` is that file.

    By default it does what `fail` tells it; `plugin` is another command line for nbdkit. So many
    `connections` lead there; a request waits for the others of its own.
    """

    def __init__(
        self, work: Path, sectors: int = 2048, plugin: Sequence[str] = (), connections: int = 4
    ) -> None:
        self._work = work
        work.mkdir()
        with (work / "store").open("wb") as store:
            store.truncate(sectors * SECTOR)
        self.path = work / "mount" / "disk"
        self._plugin = list(plugin) or self._scripts(sectors)
        self._connections = connections
        self._children: list[subprocess.Popen[Any]] = []

    def _scripts(self, sectors: int) -> list[str]:
        read, write, flush = (
            _JUDGE.format(self._work, kind, *extent)
            for kind, extent in (("read", _EXTENT), ("write", _EXTENT), ("flush", ("0", "1")))
        )
        return [
            "eval",
            f'get_size=echo "$tmpdir" >"{self._work}/scripts"; echo {sectors * SECTOR}',
            f"pread={read}{_READ.format(self._work)}",
            f"pwrite={write}{_WRITE.format(self._work)}",
            f"flush={flush}",
        ]

    def __enter__(self) -> Self:
        need_fuse()
        self.path.parent.mkdir(exist_ok=True)
        self._short = tempfile.TemporaryDirectory(prefix="aoe-")  # a socket's path is short, pytest's long
        try:
            self._serve()
            wait_for(self._mounted, what="the disk is not mounted")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _serve(self) -> None:
        socket, ready = Path(self._short.name, "socket"), self._work / "pid"
        life = ("--foreground", "--exit-with-parent", "--pidfile", ready)
        self._start("nbdkit", *life, "--unix", socket, *self._plugin)
        wait_for(ready.exists, what="nbdkit does not start")
        ways = ("--connections", str(self._connections))
        self._start("nbdfuse", *ways, self.path, f"nbd+unix:///?socket={socket}")

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.kill()
            child.wait()
        with contextlib.suppress(subprocess.CalledProcessError):
            tool("umount", "--lazy", self.path.parent)
        self._short.cleanup()
        with contextlib.suppress(FileNotFoundError):  # where nbdkit kept them, in /tmp whatever TMPDIR says
            shutil.rmtree((self._work / "scripts").read_text().rstrip())

    def die(self) -> None:
        """Its server is gone: who has it open gets ENOTCONN for ever. `revive` puts one in its place."""
        self.__exit__()
        self._children.clear()
        (self._work / "pid").unlink(missing_ok=True)

    def revive(self) -> None:
        """Once more, as another file for those that had it open."""
        self.__enter__()

    def _start(self, *argv: str | Path) -> None:
        command = [which(str(argv[0])) or str(argv[0]), *map(str, argv[1:])]
        with (self._work / "log").open("a") as log:
            self._children.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _mounted(self) -> bool:
        assert all(child.poll() is None for child in self._children), (self._work / "log").read_text()
        return self.path.exists()

    def fail(self, kind: str, first: int = 0, sectors: int = 1 << 40) -> None:
        """Let every "read" or "write" that touches these sectors, or every "flush", fail."""
        ready = self._work / "fail"
        ready.write_text(f"{first * SECTOR} {(first + sectors) * SECTOR}\n")
        ready.replace(self._work / f"fail-{kind}")

    def heal(self, kind: str) -> None:
        (self._work / f"fail-{kind}").unlink()

    def hang(self) -> None:
        """From now on nothing is answered: a signal alone leaves threads of the server at work a while."""
        server = self._children[0]
        server.send_signal(signal.SIGSTOP)
        os.waitpid(server.pid, os.WUNTRACED)

    def resume(self) -> None:
        self._children[0].send_signal(signal.SIGCONT)

    def threads(self) -> list[Path]:
        """The kernel's account of each of the server's threads (proc(5), `stat`)."""
        return list(Path(f"/proc/{self._children[0].pid}/task").glob("*/stat"))

    @property
    def store(self) -> Path:
        """What is really stored."""
        return self._work / "store"


def need_fuse() -> None:
    """Skip unless a user-space file system can be mounted."""
    need_root()
    need("nbdkit", "nbdfuse", "umount")
    need_dev_fuse()


@contextmanager
def loop_device(
    file: Path, sector_size: int = SECTOR, *, direct: bool = False, read_only: bool = False
) -> Iterator[Path]:
    """A block device on a file; `direct` goes round the page cache there, many requests at once."""
    need_loop()
    need("blockdev")
    options = ["--direct-io=on"] if direct else []
    options += ["--read-only"] if read_only else []
    device = Path(tool("losetup", "--sector-size", str(sector_size), *options, "--show", "--find", file))
    try:
        if not read_only:
            tool("blockdev", "--setrw", device)  # as whatever had it before may have left it
        yield device
    finally:
        _detach(device)


def _detach(device: Path) -> None:
    """The kernel gives the file back once nobody has the device open: a losetup of another test that found
    this device free, and came too late, has it open for a moment. What was mounted stays so in each process
    of a lab that began meanwhile: that is not waited for."""
    backing = Path("/sys/block", device.name, "loop/backing_file")
    ours = backing.read_text()
    tool("losetup", "--detach", device)
    wait_for(
        lambda: _text(backing) != ours or _is_mounted(device), what=f"{device} is not detached", every_s=0.1
    )


def _is_mounted(device: Path) -> bool:
    """In any mount namespace: `ip netns exec` makes one, with all that is mounted here."""
    number = device.stat().st_rdev
    told = f" {os.major(number)}:{os.minor(number)} "
    return any(told in _text(it) for it in Path("/proc").glob("[0-9]*/mountinfo"))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has gone, maybe while it was read
        return ""


@contextmanager
def protected(device: Path) -> Iterator[Path]:
    """A device that the kernel has read-only. It stays so when it is given back, so that is undone."""
    tool("blockdev", "--setro", device)
    try:
        yield device
    finally:
        tool("blockdev", "--setrw", device)


@contextmanager
def small_tmpfs(directory: Path, size: int) -> Iterator[Path]:
    """A file system in memory of `size` bytes."""
    need_root()
    need("mount", "umount")
    directory.mkdir()
    tool("mount", "-t", "tmpfs", "-o", f"size={size}", "none", directory)
    try:
        yield directory
    finally:
        tool("umount", "--lazy", directory)


def small_ext4(directory: Path, size: int) -> AbstractContextManager[Path]:
    """A file system on a device of `size` bytes; `abort` turns it read-only while it is in use."""
    return small_filesystem("ext4", directory, size, "loop,errors=remount-ro", "-F", "-m", "0")


@contextmanager
def small_filesystem(
    kind: str, directory: Path, size: int, options: str = "loop", *words: str
) -> Iterator[Path]:
    """One of a kind on a device of `size` bytes: XFS wants 300 MiB, btrfs 110 MiB."""
    need_loop()
    need(f"mkfs.{kind}", "mount", "umount")
    directory.mkdir()
    image = directory.with_suffix(f".{kind}")
    with image.open("wb") as file:
        file.truncate(size)
    tool(f"mkfs.{kind}", "-q", *words, image)
    try:
        tool("mount", "-o", options, image, directory)
    except subprocess.CalledProcessError as error:
        unavailable(
            f"no file system can be mounted here (be root of the machine): {error.stderr.splitlines()[0]}"
        )
    try:
        yield directory
    finally:
        tool("umount", "--lazy", directory)


@contextmanager
def mounted_file(device: Path, directory: Path, size: int) -> Iterator[Path]:
    """A file of `size` bytes of noise in an ext4 on a device, of which nothing is in memory yet."""
    need("mkfs.ext4", "mount", "umount")
    directory.mkdir()
    tool("mkfs.ext4", "-q", "-F", "-m", "0", device)
    tool("mount", device, directory)
    file = directory / "file"
    try:
        file.write_bytes(os.urandom(size))
        tool("umount", directory)
        tool("mount", device, directory)
        yield file
    finally:
        tool("umount", "--lazy", directory)


@contextmanager
def few_slots(device: Path, number: int) -> Iterator[None]:
    """Let the block layer have this many requests of a device at a time, as disks of one queue do. A loop
    device that is given back keeps the number, so it is put back."""
    setting = Path("/sys/block", device.name, "queue/nr_requests")
    before = setting.read_text()
    setting.write_text(str(number))
    try:
        yield
    finally:
        setting.write_text(before)


def abort(directory: Path) -> None:
    """What the kernel does to an ext4 whose metadata turns out to be corrupt: no more changes."""
    tool("mount", "-o", "remount,abort", directory)
