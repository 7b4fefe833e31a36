"""A pool on a thin pool of the real LVM, in a guest without udev: verbs, kills, a daemon, a power cut."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import LIFETIME_S, LinuxGuest, needs_qemu
from tests.support.labs.guests.python import add_python
from tests.support.tools import need, which
from tests.vm import guest_lvm, guest_lvm_served

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

DISK_BYTES = 512 << 20
PROGRAMS = ("lvm", "dmsetup", "thin_ls", "thin_check", "qemu-img", "prlimit", "setpriv")
MODULES = (
    "aoe.cli.target",
    "aoe.cli.run",
    "aoe.engine",
    "aoe.initiator.attach",
    "aoe.pool.asking",
    "aoe.pool.lvm",
    "tests.vm.guest_lvm",
    "tests.vm.guest_lvm_served",
)
_CONFIG = "activation { monitoring = 0 }\n"
"""There is no dmeventd here."""
_MAKE = (
    "lvm vgcreate vg /dev/vda && lvm lvcreate --yes --type thin-pool --size 128M --name thin vg",
    "lvm lvcreate --yes --name plain --size 4M --wipesignatures n vg",
)
_WITHOUT_UDEV = (
    'activation { udev_sync = 0 udev_rules = 0 }\ndevices { external_device_info_source = "none" }\n'
)
_CABLE = (
    "rmmod aoe && ip link set lo up && ip link add v0 type veth && ip link set v0 up && ip link set veth0 up"
)
"""The other end is veth0. The kernel would have the disks there, too, and lvm look for volumes in them."""


class _Guest(LinuxGuest):
    lifetime_s = 1700.0


def guest_files() -> GuestFiles:
    files = GuestFiles(kernel().with_thin())
    for program in PROGRAMS:
        files.copy_program(Path(which(program) or "").resolve(), f"usr/sbin/{program}")
    python = add_python(files, *MODULES)
    for name, module in (("pool", guest_lvm), ("served", guest_lvm_served)):
        files.add(name, f"#!/bin/sh\nexec {python} -m {module.__name__} $1\n".encode(), 0o755)
    files.add("etc/lvm/lvm.conf", (_CONFIG + _WITHOUT_UDEV).encode())
    return files


@contextmanager
def booted(directory: Path, files: GuestFiles) -> Iterator[_Guest]:
    directory.mkdir()
    drive = ("-drive", f"file={directory.parent / 'disk'},format=raw,if=virtio,cache=unsafe")
    with _Guest(directory, kernel(), files, *drive, memory_mib=512) as guest:
        guest.check("export PATH=/usr/sbin:$PATH")
        yield guest


def told(guest: _Guest, what: str) -> dict[str, Any]:
    """What a part of the scenario came to."""
    *_, last = guest.check(f"{what} 2>&1", LIFETIME_S).splitlines()
    said: dict[str, Any] = json.loads(last)
    return said


def test_a_pool_on_lvm(tmp_path: Path) -> None:
    needs_qemu()
    need(*PROGRAMS)
    (tmp_path / "disk").touch()
    with (tmp_path / "disk").open("r+b") as disk:
        disk.truncate(DISK_BYTES)
    files = guest_files()
    with booted(tmp_path / "first", files) as guest:
        guest.check(_CABLE)
        for command in _MAKE:
            guest.check(command)
        times = told(guest, "/pool verbs")
        print("\na clone of a template of 10 GiB, in an emulated guest:", times)
        assert 0 < times["lvm_s"] < times["clone_s"]
        assert told(guest, "/pool killed")["kills"] == 5
        print("through the daemon:", told(guest, "/served"))
        guest.start("/pool churn")
        guest.see("round 1 done")
        guest.see("round 2 done")
        guest.kill()
    with booted(tmp_path / "second", files) as guest:
        guest.check("lvm vgchange --activate y vg")
        assert told(guest, "/pool again")["volumes"] == ["base", "disk", "web"]
