"""The initramfs of a guest: files gathered in memory, written as a cpio archive."""

import re
import stat
import subprocess
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tests.support.labs.guests.kernel import Kernel
from tests.support.tools import need, which

SHELL = 'while line=$(head -n 1) && [ -n "$line" ]; do eval "$line"; echo "status $?"; done'
"""A line in, its output and then its exit status out. `read` of busybox forgets what it has of a line where a
child of the shell ends meanwhile."""
INIT = f"""\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in $(cat /modules/order); do insmod /modules/$module || echo "insmod $module failed"; done
exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty raw -echo
echo ready
{SHELL}
"""
"""The second serial port is a shell."""


class _Entry(NamedTuple):
    mode: int
    data: bytes


class GuestFiles:
    """What a guest has at boot: busybox, the kernel's modules and whatever is added. It runs `init`."""

    def __init__(self, kernel: Kernel, init: str = INIT) -> None:
        need("busybox")
        self._entries: dict[PurePosixPath, _Entry] = {}
        for directory in ("dev", "proc", "sys", "tmp", "mnt"):
            self._directory(PurePosixPath(directory))
        self.copy(Path(which("busybox") or ""), "bin/busybox")
        self.add("init", init.encode(), 0o755)
        self.add("modules/order", " ".join(path.name for path in kernel.modules).encode())
        for path in kernel.modules:
            self.copy(path, f"modules/{path.name}")

    def add(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Put a file in place, and the directories above it."""
        where = PurePosixPath(path.lstrip("/"))
        self._directory(where.parent)
        self._entries[where] = _Entry(stat.S_IFREG | mode, data)

    def copy(self, source: Path, path: str | None = None) -> None:
        """Copy a file of this host, by default to its own path. A symbolic link becomes what it points to."""
        self.add(path or str(source), source.read_bytes(), source.stat().st_mode & 0o777)

    def copy_program(self, source: Path, path: str | None = None) -> None:
        """Copy a program or extension module together with the libraries it is linked to."""
        self.copy(source, path)
        for library in libraries(source):
            self.copy(library)

    def write(self, archive: Path) -> Path:
        """Write the archive. It is not compressed: unpacking is slow on an emulated processor."""
        records = [_record(str(path), *self._entries[path]) for path in sorted(self._entries)]
        archive.write_bytes(b"".join([*records, _record("TRAILER!!!", 0, b"")]))
        return archive

    def _directory(self, path: PurePosixPath) -> None:
        for parent in (path, *path.parents):
            if parent.name:
                self._entries.setdefault(parent, _Entry(stat.S_IFDIR | 0o755, b""))


def libraries(program: Path) -> list[Path]:
    """Shared libraries that the dynamic linker would load, and the linker itself."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=300, check=False)
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", listed.stdout)]


def _record(name: str, mode: int, data: bytes) -> bytes:
    """One file in the "newc" format: eight hex digits a field, header and data padded to 4 bytes."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return _padded(header) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
