"""A pool on a thin pool of the real LVM, in a guest without udev: verbs, kills, a full store, a power cut."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe.wire.protocol import SECTOR
from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import (
    LIFETIME_S,
    PATIENCE_S,
    Address,
    LinuxGuest,
    needs_qemu,
    udp_card,
)
from tests.support.labs.guests.python import add_python
from tests.support.labs.ports import UdpPort, own_address
from tests.support.labs.raw_client import AtaFailed, Client, NoAnswer
from tests.support.tools import need, which
from tests.support.waiting import wait_for
from tests.vm import guest_lvm, guest_serve

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

DISK_BYTES = 512 << 20
PROGRAMS = ("lvm", "dmsetup", "thin_ls", "thin_check", "qemu-img", "prlimit", "setpriv")
MODULES = (
    "aoe.pool.lvm",
    "aoe.pool.work",
    "aoe.pool.store",
    "aoe.pool.filling",
    "aoe.pool.asking",
    "http.server",
    "statistics",
    "json",
    "subprocess",
)
SERVING = ("aoe.cli.target", "aoe.cli.serve", "aoe.cli.run", "aoe.engine", "shutil")
_MIB = (1 << 20) // SECTOR
_CONFIG = "activation { monitoring = 0 }\n"
"""There is no dmeventd here."""
_MAKE = (
    "lvm vgcreate vg /dev/vda && lvm lvcreate --yes --type thin-pool --size 128M --name thin vg",
    "lvm lvcreate --yes --name plain --size 4M --wipesignatures n vg",
)
_WITHOUT_UDEV = (
    'activation { udev_sync = 0 udev_rules = 0 }\ndevices { external_device_info_source = "none" }\n'
)


def guest_files() -> GuestFiles:
    files = GuestFiles(kernel().with_thin())
    for program in PROGRAMS:
        files.copy_program(Path(which(program) or "").resolve(), f"usr/sbin/{program}")
    python = add_python(files, *MODULES, *SERVING)
    files.copy(Path(guest_lvm.__file__), "lvm.py")
    files.copy(Path(guest_serve.__file__), "serve.py")
    files.add("pool", f"#!/bin/sh\nexec {python} /lvm.py $1\n".encode(), 0o755)
    files.add("serve", f"#!/bin/sh\nexec {python} /serve.py /exports\n".encode(), 0o755)
    files.add("etc/lvm/lvm.conf", (_CONFIG + _WITHOUT_UDEV).encode())
    return files


@contextmanager
def booted(directory: Path, files: GuestFiles, *arguments: str) -> Iterator[LinuxGuest]:
    directory.mkdir()
    drive = ("-drive", f"file={directory.parent / 'disk'},format=raw,if=virtio,cache=unsafe")
    with LinuxGuest(directory, kernel(), files, *drive, *arguments, memory_mib=512) as guest:
        guest.check("export PATH=/usr/sbin:$PATH")
        yield guest


def told(guest: LinuxGuest, what: str) -> dict[str, Any]:
    """What a part of the scenario came to."""
    *_, last = guest.check(f"/pool {what} 2>&1", LIFETIME_S).splitlines()
    said: dict[str, Any] = json.loads(last)
    return said


def test_a_pool_on_lvm(tmp_path: Path) -> None:
    needs_qemu()
    need(*PROGRAMS)
    (tmp_path / "disk").touch()
    with (tmp_path / "disk").open("r+b") as disk:
        disk.truncate(DISK_BYTES)
    files, here, there = guest_files(), own_address(), own_address()
    with booted(tmp_path / "first", files, *udp_card(here, there)) as guest:
        guest.check("ip link set lo up")
        for command in _MAKE:
            guest.check(command)
        times = told(guest, "verbs")
        print("\na clone of a template of 10 GiB, in an emulated guest:", times)
        assert 0 < times["lvm_s"] < times["clone_s"]
        assert told(guest, "killed")["kills"] == 5
        full(guest, here, there)
        guest.start("/pool churn")
        guest.see("round 1 done")
        guest.see("round 2 done")
        guest.kill()
    with booted(tmp_path / "second", files) as guest:
        guest.check("lvm vgchange --activate y vg")
        assert told(guest, "again")["volumes"] == ["base", "served", "web"]


def full(guest: LinuxGuest, here: Address, there: Address) -> None:
    """A first write finds no room: an ATA error for that, and no other; good again once there is room."""
    made = told(guest, "filled")
    assert "0 % of the pool's store is free, and 10 % is its reserve" in made["said"]
    where = ["--interface", "eth0", "--state-dir", "/tmp/state", "--force", "--direct"]
    export = ["serve", f"{made['path']}=0.0", *where, "--durability", "write-through", "--engine", "c"]
    guest.check(f"echo '{json.dumps([(True, export)])}' >/exports && ip link set eth0 up")
    guest.check("/serve >/dev/ttyS0 2>&1 &")
    port = UdpPort(there, local=here)
    try:
        client = Client(port, 0, 0, timeout=1.0, retries=60)
        wait_for(functools.partial(answers, client), PATIENCE_S, "no answer")
        data = bytes([5]) * SECTOR
        client.write(0, data)
        assert client.read(0) == data
        with pytest.raises(AtaFailed):
            client.write(_MIB, data)
        client.write(1, data)
        assert client.read(1) == data
        guest.check("lvm lvextend --size +64M vg/thin")
        client.write(_MIB, data)
        assert client.read(_MIB) == data
    finally:
        port.close()
    guest.check("kill $(cat /pids)")


def answers(client: Client) -> bool:
    try:
        client.config()
    except NoAnswer:
        return False
    return True
