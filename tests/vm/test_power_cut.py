"""The power fails under a target that is being written to: what it acknowledged must be on the disk.

The target runs in a guest whose disks have a volatile cache: nbdkit's, which forgets what was not flushed
when it is killed. Guest and nbdkits die at one instant, with writes in flight.
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.wire.protocol import SECTOR
from tests.support.checkers.guest_writes import DISK_BYTES, Writer, stamp, version_of
from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import (
    PATIENCE_S,
    LinuxGuest,
    killed_together,
    needs_qemu,
    tied,
    udp_card,
)
from tests.support.labs.guests.python import add_python
from tests.support.labs.guests.target import need_engine
from tests.support.labs.ports import UdpPort, own_address
from tests.support.labs.raw_client import Client, NoAnswer
from tests.support.tools import need, which
from tests.support.waiting import wait_for
from tests.vm import guest_serve

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

FILESYSTEM_BYTES = 2 * DISK_BYTES
ANSWERS = 100


class Mode(NamedTuple):
    """How one target process serves its disk: the block device itself, or a file on it."""

    engine: str
    direct: bool
    write_back: bool
    synced: bool

    def __str__(self) -> str:
        how = "direct" if self.direct else "buffered file"
        when = "write-back" if self.write_back else "write-through"
        return f"{self.engine}, {how}, {when}, {'synced' if self.synced else 'not synced'}"


def modes(engine: str) -> list[Mode]:
    """Direct and buffered write-through, and buffered write-back; each also with the sync left out."""
    kinds = [(True, False), (False, False), (False, True)]
    every = [Mode(engine, *kind, synced) for kind in kinds for synced in (True, False)]
    # The flush that write-back rests on cannot be left out of compiled code.
    return [mode for mode in every if mode.synced or not (mode.write_back and engine == "c")]


class Site(NamedTuple):
    """A disk image for each mode: zeroes, or a filesystem with a file that has no blocks yet, so that
    writes to it change metadata, too."""

    directory: Path
    modes: list[Mode]

    @property
    def images(self) -> list[Path]:
        return [self.image(slot) for slot in range(len(self.modes))]

    def image(self, slot: int) -> Path:
        image = self.directory / f"image{slot}"
        if not image.exists():
            make_image(image, self.modes[slot].direct)
        return image

    def content(self, slot: int) -> bytes:
        """What a client would read after the power is back."""
        image = self.image(slot)
        if self.modes[slot].direct:
            return image.read_bytes()
        tool("e2fsck", "-f", "-y", image, accepted=(0, 1))
        copy = image.with_suffix(".content")
        tool("debugfs", "-R", f"dump /disk {copy}", image)
        return copy.read_bytes()

    def guest_files(self) -> GuestFiles:
        """Our target and what it imports, and how each of its processes is called."""
        files = GuestFiles(kernel())
        python = add_python(files, "aoe.cli.target", "aoe.cli.serve", "aoe.engine", "shutil", "json")
        files.add("serve", f"#!/bin/sh\nexec {python} /serve.py /exports\n".encode(), 0o755)
        files.copy(Path(guest_serve.__file__), "serve.py")
        calls = [(mode.synced, command(slot, mode)) for slot, mode in enumerate(self.modes)]
        files.add("exports", json.dumps(calls).encode())
        return files


@pytest.mark.parametrize("engine", ["python", "c"])
def test_nothing_acknowledged_is_lost(tmp_path: Path, engine: str) -> None:
    """And the same test does find losses where the target does not sync, so it would notice."""
    needs_qemu()
    need("nbdkit", "mkfs.ext4")
    need_engine(engine)
    site = Site(tmp_path, modes(engine))
    with power(site) as (guest, port, group):
        writers = [Writer(client(port, slot), mode.write_back) for slot, mode in enumerate(site.modes)]
        write(port, writers, ANSWERS // 2)
        served = served_by_engine(guest, len(writers))
        write(port, writers, ANSWERS)
        send(writers)  # all may have been answered while this process was kept from running
        os.killpg(group, signal.SIGKILL)
        in_flight = sum(writer.in_flight for writer in writers)
        take_answers(port, writers, 0.2)
    assert served is (engine == "c")
    assert in_flight, "an idle target loses nothing"
    for slot, (mode, writer) in enumerate(zip(site.modes, writers, strict=True)):
        found = writer.examine(site.content(slot))
        assert found.wrong == [], str(mode)
        assert bool(found.lost) is not mode.synced, (str(mode), len(writer.vouched), found.lost)


def test_a_sector_is_told_from_every_other() -> None:
    """What `examine` rests on: neither a torn sector nor one of another place passes for a version."""
    sector = stamp(1, 150, 7)
    assert version_of(sector, 1, 150) == 7
    assert version_of(bytes(SECTOR), 1, 150) == 0
    assert version_of(sector, 2, 150) is None
    assert version_of(sector, 1, 151) is None
    assert version_of(sector[:256] + stamp(1, 150, 6)[256:], 1, 150) is None


# Power


@contextlib.contextmanager
def power(site: Site) -> Iterator[tuple[LinuxGuest, UdpPort, int]]:
    """A guest that serves each disk, a port to its network, and the process group to kill."""
    here, there = own_address(), own_address()
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(killed_together())
        drives = [word for image in site.images for word in drive(stack, image, group)]
        card = udp_card(here, there)
        guest = LinuxGuest(
            site.directory,
            kernel(),
            site.guest_files(),
            *drives,
            *card,
            memory_mib=512,
            process_group=group,
        )
        stack.enter_context(guest)
        port = UdpPort(there, local=here)
        stack.callback(port.close)
        start(guest, port, site.modes)
        yield guest, port, group


def drive(stack: contextlib.ExitStack, image: Path, group: int) -> list[str]:
    """QEMU arguments for a disk whose cache is volatile."""
    socket = image.with_suffix(".socket")
    nbdkit = tied(None, "nbdkit", "--foreground", "--unix", socket, "--filter=cache", "file", image)
    child = subprocess.Popen(
        [*nbdkit, "cache=writeback", "cache-min-block-size=4K"],
        env={**os.environ, "TMPDIR": str(image.parent)},
        stdin=subprocess.DEVNULL,
        process_group=group,
    )
    stack.callback(child.wait, PATIENCE_S)
    stack.callback(child.kill)
    wait_for(socket.exists, what="nbdkit does not listen")
    # The guest's flushes reach nbdkit in every cache mode but "unsafe".
    return ["-drive", f"file=nbd+unix:///?socket={socket},format=raw,if=virtio,cache=none"]


def start(guest: LinuxGuest, port: UdpPort, modes: list[Mode]) -> None:
    """Start the targets, and wait for each."""
    guest.check("ip link set eth0 up")
    for slot, mode in enumerate(modes):
        if not mode.direct:
            guest.check(f"mkdir {directory(slot)} && mount -t ext4 {device(slot)} {directory(slot)}")
    guest.check("/serve >/dev/ttyS0 2>&1 &")
    for slot in range(len(modes)):
        wait_for(functools.partial(answers, client(port, slot)), PATIENCE_S, f"no answer from 0.{slot}")


def served_by_engine(guest: LinuxGuest, targets: int) -> bool:
    """Whether the counters of every target say so; False if those of none do."""
    guest.check("kill -USR1 $(cat /pids)")

    def complete() -> list[str]:
        """Lines that have their end."""
        return [it for it in guest.text().split("\n")[:-1] if "counters:" in it]

    lines = wait_for(lambda: len(them := complete()) >= targets and them, PATIENCE_S, guest.text)
    counted = sum("engine_writes=" in line for line in lines)
    assert counted in (0, targets), lines
    return bool(counted)


# Disks


def make_image(image: Path, direct: bool) -> None:
    image.touch()
    os.truncate(image, DISK_BYTES if direct else FILESYSTEM_BYTES)
    if not direct:
        root = image.with_suffix(".root")
        root.mkdir()
        (root / "disk").touch()
        os.truncate(root / "disk", DISK_BYTES)
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", root, image)


def tool(name: str, *arguments: str | Path, accepted: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(
        [which(name) or name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode in accepted, (name, done.returncode, done.stdout, done.stderr)


# Names in the guest


def command(slot: int, mode: Mode) -> list[str]:
    path = device(slot) if mode.direct else f"{directory(slot)}/disk"
    how = "--direct" if mode.direct else "--buffered"
    when = "write-back" if mode.write_back else "write-through"
    where = ["--interface", "eth0", "--state-dir", f"/tmp/state{slot}", "--force"]
    return ["serve", f"{path}=0.{slot}", *where, how, "--durability", when, "--engine", mode.engine]


def device(slot: int) -> str:
    return f"/dev/vd{chr(ord('a') + slot)}"


def directory(slot: int) -> str:
    return f"/mnt/{slot}"


# The network


def client(port: UdpPort, slot: int) -> Client:
    return Client(port, 0, slot, timeout=0.2, retries=0)


def answers(target: Client) -> bool:
    with contextlib.suppress(NoAnswer):
        target.config()
        return True
    return False


def write(port: UdpPort, writers: list[Writer], answers: int) -> None:
    """Write to every export until each has answered so often."""
    deadline = time.monotonic() + PATIENCE_S
    while min(writer.answers for writer in writers) < answers:
        assert time.monotonic() < deadline, [writer.answers for writer in writers]
        send(writers)
        take_answers(port, writers, 0.05)


def send(writers: list[Writer]) -> None:
    for writer in writers:
        writer.send(time.monotonic())


def take_answers(port: UdpPort, writers: list[Writer], timeout: float) -> None:
    """Wait for an answer, and take it and all that have arrived."""
    while (reply := port.receive(timeout)) is not None:
        for writer in writers:
            writer.take(reply)
        timeout = 0
