"""What the machine must have: a test without it is skipped with the remedy, and fails where CI=true."""

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from aoe.engine import why_unavailable

_EVERY_USER = (1 << 32) - 1
"""Numbers of users that a process sees which is in no user namespace (user_namespaces(7))."""
_PACKAGES = {
    "aoe-sancheck": "aoetools",
    "aoecfg": "aoetools",
    "aoeping": "aoetools",
    "apt-cache": "apt",
    "apt-get": "apt",
    "blockdev": "util-linux",
    "busybox": "busybox-static",
    "capsh": "libcap2-bin",
    "clang": "clang libclang-rt-14-dev",
    "cpio": "cpio",
    "dh": "debhelper",
    "dmsetup": "dmsetup",
    "dpkg-buildpackage": "dpkg-dev",
    "dpkg-deb": "dpkg",
    "e2fsck": "e2fsprogs",
    "fio": "fio",
    "fusermount3": "fuse3",
    "gcc": "gcc",
    "groff": "groff-base",
    "ip": "iproute2",
    "ipxe": "ipxe",
    "losetup": "mount",
    "lsattr": "e2fsprogs",
    "lvm": "lvm2",
    "mke2fs": "e2fsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "nbd-client": "nbd-client",
    "nbdcopy": "libnbd-bin",
    "nbdfuse": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "nbdkit": "nbdkit",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "systemd-analyze": "systemd",
    "tc": "iproute2",
    "thin_check": "thin-provisioning-tools",
    "thin_ls": "thin-provisioning-tools",
    "tmux": "tmux",
    "tshark": "tshark",
    "umount": "mount",
    "unshare": "util-linux",
    "valgrind": "valgrind",
    "vblade": "vblade",
    "zstd": "zstd",
}
_FILES = {"ipxe": "/usr/lib/ipxe/ipxe.lkrn"}
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def which(tool: str) -> str | None:
    """Path of a tool, also where PATH lacks the sbin directories, as an ordinary user's does."""
    if tool in _FILES:
        return _FILES[tool] if Path(_FILES[tool]).exists() else None
    return shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def tool(*argv: str | Path) -> str:
    """Run a tool of the system, which must end well: what it prints."""
    command = [which(str(argv[0])) or str(argv[0]), *map(str, argv[1:])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    try:
        done.check_returncode()
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise
    return done.stdout.strip()


def need(*tools: str) -> None:
    """Skip the calling test unless all of these tools are installed."""
    missing = [tool for tool in tools if which(tool) is None]
    if missing:
        packages = sorted(set(map(package_of, missing)))
        unavailable(f"{', '.join(missing)} missing: apt-get install {' '.join(packages)}")


def package_of(tool: str) -> str:
    """What has it in Debian; several where one is not enough."""
    return _PACKAGES.get(tool, tool)


def need_root() -> None:
    """Skip unless uid 0, perhaps of a user namespace."""
    if os.geteuid() != 0:
        unavailable("needs root: run as root, or under unshare --user --map-root-user --net --mount")


def need_users() -> None:
    """Skip unless this process can become another user: the root of a user namespace has no other."""
    need_root()
    _, _, count = Path("/proc/self/uid_map").read_text().split()[:3]
    if int(count) != _EVERY_USER:
        unavailable("there is no other user in this namespace: run as root")


def need_namespaces() -> None:
    """Skip unless this process can make network namespaces and move interfaces between them."""
    need_root()
    need("ip")
    reason = _namespace_obstacle()
    if reason:
        unavailable(f"no network namespaces here: {reason}")


def need_loop() -> None:
    """Skip unless loop devices can be set up (never in a user namespace)."""
    need_root()
    need("losetup")
    reason = loop_obstacle()
    if reason:
        unavailable(f"no loop devices here: {reason}")


def need_libnbd() -> str:
    """A Python that has libnbd: Debian's own, as no package index has it. Skip unless it does."""
    python = "/usr/bin/python3"
    if not _imports(python, "nbd"):
        unavailable("libnbd for Python missing: apt-get install python3-libnbd")
    return python


@functools.cache
def _imports(python: str, module: str) -> bool:
    command = [python, "-c", f"import {module}"]
    return Path(python).exists() and not subprocess.run(command, capture_output=True, check=False).returncode


def unavailable(reason: str) -> NoReturn:
    """Skip with a reason, or fail where a skip would hide that nothing was tested."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def need_dev_fuse() -> None:
    """Skip unless this process may serve a file system."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        unavailable("no FUSE here: modprobe fuse, or allow the use of /dev/fuse")


def need_images() -> None:
    """Skip unless images can be made, and served as files."""
    need("qemu-img", "qemu-storage-daemon", "fusermount3")
    need_dev_fuse()


@functools.cache
def _namespace_obstacle() -> str:
    need("unshare")
    tried = subprocess.run(
        [which("unshare") or "unshare", "--net", "true"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if tried.returncode:
        return tried.stderr.strip()
    runtime = Path("/run/netns") if Path("/run/netns").exists() else Path("/run")
    return "" if os.access(runtime, os.W_OK) else f"{runtime} is not writable (mount a tmpfs on /run)"


def loop_obstacle() -> str:
    """Why loop devices cannot be set up; empty where they can."""
    control = Path("/dev/loop-control")
    if which("losetup") is None or not control.exists():
        return "no losetup or no loop driver"
    return "" if os.access(control, os.R_OK | os.W_OK) else f"{control} may not be used"


def need_engine() -> None:
    """Skip unless the compiled engine can be loaded."""
    reason = why_unavailable()
    if reason:
        unavailable(f"no compiled engine: {reason}")
