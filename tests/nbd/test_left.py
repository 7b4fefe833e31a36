"""What a door does with what the last one had under way, where no answer settles it."""

import ctypes
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.nbd.nbdkit import PLUGIN
from tests.cli.test_stdio import Running
from tests.support.labs.nbd_client import NbdClient
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.labs.served import SECTORS
from tests.support.tools import which
from tests.support.waiting import PATIENCE_S, wait_for

ROOT = Path(__file__).parents[2]
DEBTS = 64
SERVER = bytes((2, 0, 0, 0, 7, 7))
SPOKEN = "02:00:00:00:07:07"


class Debt(ctypes.Structure):
    """`aoe_debt` (csrc/engine.h)."""

    _fields_ = (
        ("instance", ctypes.c_uint64),
        ("until_ns", ctypes.c_int64),
        ("quiesce_ns", ctypes.c_int64),
        ("port", ctypes.c_uint32),
        ("tag", ctypes.c_uint32),
        ("shelf", ctypes.c_uint16),
        ("stream", ctypes.c_uint16),
        ("slot", ctypes.c_uint8),
        ("epoch", ctypes.c_uint8),
        ("own", ctypes.c_uint8 * 6),
        ("mac", ctypes.c_uint8 * 6),
        ("cached", ctypes.c_uint8),
    )


class Slot(ctypes.Structure):
    _fields_ = (("count", ctypes.c_uint32), ("debts", Debt * DEBTS))


class Estate(ctypes.Structure):
    """As csrc/door/estate.h has it."""

    _fields_ = (
        ("signature", ctypes.c_uint64),
        ("died_ns", ctypes.c_int64),
        ("fence_ns", ctypes.c_int64),
        ("size", ctypes.c_uint64),
        ("owner", ctypes.c_uint64),
        ("is_known", ctypes.c_uint32),
        ("serial", ctypes.c_uint8 * 20),
        ("current", ctypes.c_uint32),
        ("sending", ctypes.c_uint32),
        ("is_over", ctypes.c_uint32),
        ("slots", Slot * 2),
    )


def test_the_layout_is_that_of_c() -> None:
    """As far as a door can tell it: `test_...` below would find no debt otherwise."""
    assert (ctypes.sizeof(Debt), Estate.slots.offset) == (56, 80)


def signature() -> int:
    """What is in front of that layout."""
    header = (ROOT / "csrc/door/estate.h").read_text()
    (number,) = re.findall(r"^#define ESTATE_SIGNATURE (0x[0-9a-f]+)ull", header, re.MULTILINE)
    return int(number, 16)


class Next(NamedTuple):
    """A door that comes after one that died, and its supervisor's memory."""

    process: "subprocess.Popen[str]"
    estate: int
    socket: Path

    def serves(self) -> bool:
        """Whether a client may connect."""
        assert self.process.poll() is None
        return self.socket.exists()

    def connect(self) -> NbdClient:
        wait_for(self.serves)
        return NbdClient(self.socket)

    def says(self) -> str:
        """Its next line."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().strip()

    def release(self) -> None:
        """As SIGUSR1 to a supervisor does."""
        os.pwrite(self.estate, (1).to_bytes(4, "little"), Estate.is_over.offset)


@contextmanager
def after(
    work: Path, server: tuple[str, int], *words: str, rest: bool = False, serial: bytes = b""
) -> Iterator[Next]:
    """One that finds a note of changes at a server, which did not tell of streams, and of a `rest`; and
    of the serial of the disk."""
    need_nbdkit()
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    left = Debt(until_ns=now_ns, quiesce_ns=10**9, shelf=5, mac=(ctypes.c_uint8 * 6)(*SERVER))
    estate = Estate(signature=signature(), died_ns=now_ns, is_known=bool(serial))
    estate.serial[: len(serial)] = serial
    estate.slots[0].count = 1 + rest
    estate.slots[0].debts[0] = left
    estate.slots[0].debts[1] = Debt(until_ns=now_ns, quiesce_ns=10**9)
    fd = os.memfd_create("estate")
    os.write(fd, bytes(estate))
    plugin = [which("nbdkit") or "", "--foreground", f"--unix={work / 'nbd'}", str(PLUGIN), "address=e0.0"]
    link = f"link=udp:127.0.0.1:0,peer={server[0]}:{server[1]}"
    process = subprocess.Popen(
        [*plugin, link, f"supervised={fd}", *words], stderr=subprocess.PIPE, text=True, pass_fds=[fd]
    )
    try:
        yield Next(process, fd, work / "nbd")
    finally:
        process.kill()
        with process:
            os.close(fd)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Running]:
    disk = tmp_path / "disk.img"
    disk.write_bytes(os.urandom(SECTORS * 512))
    with Running(disk) as target:
        assert target.is_served()
        yield target


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_server_that_is_gone_is_fenced(target: Running, tmp_path: Path) -> None:
    """By the user's command, as another one has the disk."""
    fence = script(tmp_path / "fence", f"echo $* >>{tmp_path}/fenced")
    with after(tmp_path, target.remote, f"fence={fence}", "hold=true") as door, door.connect() as client:
        assert client.read(0, 512) == (tmp_path / "disk.img").read_bytes()[:512]
        assert (tmp_path / "fenced").read_text() == f"{SPOKEN} e5.0\n"


def test_what_it_waits_for_is_told_and_the_remedy(target: Running, tmp_path: Path) -> None:
    """Of a server, and of what there was no place to note the server of."""
    with after(tmp_path, target.remote, "hold=true", rest=True) as door:
        lines = [next(line for line in iter(door.says, "") if "the last door" in line), door.says()]
        for line, where in zip(lines, (f"e5.0 at {SPOKEN}", "a server of e0.0"), strict=True):
            assert f"{where} may still carry out what the last door sent" in line
            assert "until it is fenced, as hold is set" in line
            assert line.endswith(f"kill -USR1 {os.getpid()}")
        assert not door.serves()
        door.release()
        with door.connect() as client:
            assert client.read(0, 512) == (tmp_path / "disk.img").read_bytes()[:512]


def test_another_disk_is_not_given_to_the_kernel(target: Running, tmp_path: Path) -> None:
    """At the same address: what the kernel has in memory is of the one before."""
    with after(tmp_path, target.remote, serial=b"ANOTHER") as door:
        said = "another disk is there: its serial is not that of the one in use; serve that one there"
        assert any(said in line for line in iter(door.says, ""))
        assert door.process.wait(PATIENCE_S) == 1
