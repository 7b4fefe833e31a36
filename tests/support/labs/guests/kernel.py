"""A Linux kernel for guests: Debian's package, unpacked and never installed, cached in the repository."""

import contextlib
import fcntl
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.tools import need, unavailable, which

PACKAGE = "linux-image-amd64"
MODULES = ("virtio_pci", "virtio_net", "virtio_blk", "crc32c_generic", "ext4", "nbd", "aoe")
THIN = ("dm_thin_pool", "veth")
"""What only a guest with LVM needs besides, and a cable that begins and ends in it."""
POOLS = ("fuse", "xfs")
"""What only one with volumes in directories needs besides."""
RETRIES = 3
"""How often apt fetches again what a mirror failed to give."""
CACHE = Path(__file__).parents[4] / ".cache" / "guest"

_XZ_MAGIC = b"\xfd7zXZ\0"


class Kernel(NamedTuple):
    """`image` is what QEMU's -kernel takes; the modules are in an order in which they load."""

    image: Path
    modules: tuple[Path, ...]
    thin: tuple[Path, ...]
    """Modules to load behind those, for thin volumes."""
    pools: tuple[Path, ...]
    """As `thin`, for images and shared blocks."""

    def with_thin(self) -> "Kernel":
        """One whose guests load those, too."""
        return self._replace(modules=(*self.modules, *self.thin))

    def with_pools(self) -> "Kernel":
        """As `with_thin`."""
        return self._replace(modules=(*self.modules, *self.pools))


def kernel() -> Kernel:
    """The cached kernel. Whoever comes first unpacks it, and the others wait."""
    home = CACHE / f"linux-{zlib.crc32(repr((MODULES, THIN, POOLS)).encode()):08x}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / "lock"):
        if not home.exists():
            _unpack(home)
    return Kernel(home / "image", *(_ordered(home, name) for name in ("order", "thin", "pools")))


def _ordered(home: Path, name: str) -> tuple[Path, ...]:
    return tuple(home / module for module in (home / name).read_text().split())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One test at a time, also of other processes."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack(home: Path) -> None:
    need("apt-cache", "apt-get", "dpkg-deb")
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        work = Path(name)
        options = ("-o", "APT::Sandbox::User=", "-o", f"Acquire::Retries={RETRIES}")
        _run("apt-get", *options, "download", _concrete_package(), cwd=work)
        _run("dpkg-deb", "-x", str(next(work.glob("*.deb"))), str(work / "root"), cwd=work)
        made = work / "made"
        made.mkdir()
        (made / "image").write_bytes(elf(next(work.glob("root/boot/vmlinuz-*")).read_bytes()))
        available = {_module_name(path): path for path in work.glob("root/**/*.ko*")}
        order = load_order(MODULES, available)
        thin, pools = (
            [name for name in load_order(it, available) if name not in order] for it in (THIN, POOLS)
        )
        for file, modules in (("order", order), ("thin", thin), ("pools", pools)):
            (made / file).write_text("\n".join(_plain(available[it], made).name for it in modules))
        made.rename(home)


def _concrete_package() -> str:
    """The package of this month's kernel, which the name for every month depends on."""
    found = re.search(rf"Depends: ({PACKAGE[:-6]}-\S+)", _run("apt-cache", "depends", PACKAGE, cwd=CACHE))
    if not found:
        unavailable(f"{PACKAGE} unknown to apt: this needs Debian's amd64 archive and apt-get update")
    return found[1]


def _run(*argv: str, cwd: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    tool = which(argv[0]) or argv[0]
    done = subprocess.run(
        [tool, *argv[1:]], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        unavailable(f"no guest kernel: {' '.join(argv[:4])}: {done.stderr.strip()} (try apt-get update)")
    return done.stdout


def elf(image: bytes) -> bytes:
    """The kernel inside a bzImage, so that the emulated processor need not unpack it: 4 s saved a boot.

    Offsets are of the x86 boot protocol's setup header. A kernel that is not packed with xz stays as it is.
    """
    setup = (image[0x1F1] + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[setup + offset : setup + offset + length]
    return lzma.LZMADecompressor().decompress(payload) if payload.startswith(_XZ_MAGIC) else image


def load_order(wanted: tuple[str, ...], available: dict[str, Path]) -> list[str]:
    """Modules and what they depend on, each after its own dependencies."""
    order: list[str] = []
    for name in wanted:
        if name not in order:
            needed = _dependencies(_module_bytes(available[name]))
            order += [other for other in load_order(needed, available) if other not in order]
            order.append(name)
    return order


def _dependencies(module: bytes) -> tuple[str, ...]:
    """`depends=` of a module's .modinfo section, which is a list of NUL-terminated strings."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return tuple(name.replace("-", "_") for name in found[1].decode().split(",") if name) if found else ()


def _module_name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _module_bytes(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _plain(path: Path, directory: Path) -> Path:
    """A copy without compression: busybox insmod reads nothing else."""
    if path.suffix == ".ko":
        return Path(shutil.copy(path, directory))
    copy = directory / f"{_module_name(path)}.ko"
    copy.write_bytes(_module_bytes(path))
    return copy
