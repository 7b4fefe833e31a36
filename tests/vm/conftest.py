"""A Debian guest with our package beside it, and a network between it and this machine."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.labs.debian import deb_kept, field
from tests.support.labs.guests.debian import DebianGuest, debian_root
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import SIDE, add_tap, host, needs_qemu, tap_card
from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.tools import need_namespaces, tool
from tests.vm.unit import ended

SECTORS = 32 << 11
"""Of the guest's second disk."""
XFS_BYTES = 300 << 20
"""The least that mkfs.xfs makes."""
_LONGEST = ("service", "image", "tutorial", "lvm", "root", "managers", "sanitizers")
IMAGES = ("fuse3", "qemu-system-common", "qemu-utils")
"""Packages for volumes in qcow2."""


class Site(NamedTuple):
    """The network between this machine and the guest, and what is the guest's."""

    lab: Lab
    work: Path
    package: Path
    root: Path
    disks: tuple[Path, ...]

    @contextmanager
    def booted(self, *payload: Path, cards: Sequence[str] = ()) -> Iterator[DebianGuest]:
        """Until the end of the block; `eth0` is the cable to this side, `cards` are more."""
        with DebianGuest(
            self.work,
            kernel().with_pools(),
            self.root,
            *tap_card("tap0", 9000),
            *cards,
            disks=self.disks,
            payload=payload,
            lab=self.lab,
        ) as guest:
            guest.check("ip link set eth0 mtu 9000 up")
            yield guest

    def read(self, address: str, sectors: int = 1) -> bytes:
        """The first ones of a disk, by a client on this side."""
        return ended(self._client("patient_client", address, str(sectors)))

    def write(self, address: str, data: bytes) -> None:
        """To the first sectors."""
        ended(self.writes(address), data)

    def writes(self, address: str) -> "subprocess.Popen[bytes]":
        """As `write`, of what it is given to read."""
        return self._client("patient_client", address, "0")

    def writing_client(self) -> "subprocess.Popen[bytes]":
        """Writers on e1.0, until they have no more to read."""
        return self._client("writing_client")

    def _client(self, module: str, *words: str) -> "subprocess.Popen[bytes]":
        command = self.lab.command(SIDE, sys.executable, "-m", f"tests.vm.{module}", "tap0", *words)
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[Site]:
    needs_qemu()
    need_namespaces()
    package = deb_kept()
    root = root_for(package, tmp_path / "root.ext4")
    with host() as lab:
        add_tap(lab, "tap0", 9000)
        disks = (image(tmp_path / "disk", SECTORS), image(tmp_path / "own", SECTORS), xfs(tmp_path / "xfs"))
        yield Site(lab, tmp_path, package, root, disks)


def xfs(path: Path) -> Path:
    """The guest's third disk, whose files can share blocks."""
    with path.open("wb") as made:
        made.truncate(XFS_BYTES)
    tool("mkfs.xfs", "-q", "-m", "reflink=1", path)
    return path


def root_for(package: Path, copy: Path) -> Path:
    """A root that has what the package needs, so that it is installed without a network, and `IMAGES`."""
    needs = [one.split()[0].split(":")[0] for one in field(package, "Depends").split(", ")]
    needs += field(package, "Recommends").split(", ")
    return debian_root([*(name for name in needs if name != "systemd"), *IMAGES], copy)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, and nothing waits for it at the end."""
    names = [f"test_{it}.py" for it in _LONGEST]
    items.sort(key=lambda it: names.index(it.path.name) if it.path.name in names else len(names))
