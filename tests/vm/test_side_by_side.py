"""Linux's own initiator and ours on one target at the same time, as if they were on one host.

A guest and a side of the lab have the same MAC and hang on a bridge that learns nothing: every reply reaches
both, as it reaches the kernel's driver and a program on one interface.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import aoe
from aoe.initiator.remote import RemoteDisk
from aoe.wire import ata
from aoe.wire.frame import Command
from aoe.wire.protocol import SECTOR
from tests.support.checkers.guest_writes import stamp, version_of
from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import PATIENCE_S, SIDE, LinuxGuest, add_tap, needs_qemu, tap_card
from tests.support.labs.guests.target import Export, TargetProcess, need_engine, ours
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.peers import image
from tests.support.labs.raw_client import READ_EXT, ata_request
from tests.support.tools import need_namespaces
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

ENGINES = ("python", "c")
CLIENT = "client"
SECTORS = 8192
ROUNDS = 4
PIECE = 64 << 10
AT_ONCE = 4


class Region(NamedTuple):
    """Sectors that only one of the two writes to; every sector says whose it is, where, and how new."""

    owner: int
    first: int
    sectors: int = 512

    def content(self, version: int) -> bytes:
        return b"".join(stamp(self.owner, lba, version) for lba in self._lbas)

    def versions(self, data: bytes) -> set[int | None]:
        """Of all sectors; None among them if one is not of its place."""
        return {
            version_of(data[(lba - self.first) * SECTOR :][:SECTOR], self.owner, lba) for lba in self._lbas
        }

    @property
    def offset(self) -> int:
        return self.first * SECTOR

    @property
    def size(self) -> int:
        return self.sectors * SECTOR

    @property
    def _lbas(self) -> range:
        return range(self.first, self.first + self.sectors)


# Next to each other, so that a write that reaches too far is seen.
THEIRS = Region(1, 1024)
OURS = Region(2, 1024 + 512)


class Site(NamedTuple):
    lab: Lab
    guest: LinuxGuest
    targets: list[TargetProcess]
    repeated: set[int]
    """Tags of the driver's that it has used again for a copy."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A guest and a side of the lab on one bridge, with a target for each engine."""
    needs_qemu()
    need_namespaces()
    with ExitStack() as stack:
        lab = stack.enter_context(Lab((SIDE, CLIENT)))
        add_tap(lab, "tap0", 1500)
        join(lab, "tap0", "v0")
        targets = [target(stack, lab, tmp_path_factory.mktemp("target"), slot) for slot in range(2)]
        card = tap_card("tap0", mac=lab.cables[0].b.mac)
        directory = tmp_path_factory.mktemp("guest")
        guest = stack.enter_context(LinuxGuest(directory, kernel(), guest_files(), *card, lab=lab))
        guest.check("ip link set eth0 up && echo > /dev/etherd/discover")
        for slot in range(2):
            wait_for(lambda slot=slot: up(guest, slot), PATIENCE_S, f"e0.{slot} is not up")
        yield Site(lab, guest, targets, set())


def join(lab: Lab, *ports: str) -> None:
    """A bridge over some interfaces that sends every frame to all of them."""
    lab.run(SIDE, "ip", "link", "add", "br0", "type", "bridge", "ageing_time", "0", check=True)
    for port in ports:
        lab.run(SIDE, "ip", "link", "set", port, "master", "br0", check=True)
    lab.run(SIDE, "ip", "link", "set", "br0", "up", check=True)


def target(stack: ExitStack, lab: Lab, directory: Path, slot: int) -> TargetProcess:
    """Not "c", so that the other engine can be tested where it is not built."""
    export = Export(image(directory / "image", SECTORS), 0, slot, "br0")
    chosen = "python" if ENGINES[slot] == "python" else "auto"
    return stack.enter_context(ours(export, directory, "--engine", chosen, lab=lab))


def guest_files() -> GuestFiles:
    """What the guest writes and expects to read: a file for each version of each region."""
    files = GuestFiles(kernel())
    for version in range(1, ROUNDS + 1):
        for region in (THEIRS, OURS):
            files.add(stamps(region, version), region.content(version))
    return files


def stamps(region: Region, version: int) -> str:
    return f"/stamps/{region.owner}-{version}"


def up(guest: LinuxGuest, slot: int) -> bool:
    return guest.run(f"cat '/sys/block/etherd!e0.{slot}/state'").output == "up\n"


# What the guest does


def write(slot: int, region: Region, version: int) -> str:
    """Command that writes a region past the guest's page cache."""
    where = f"of=/dev/etherd/e0.{slot} bs=4k seek={region.offset >> 12} oflag=direct"
    return f"dd if={stamps(region, version)} {where}"


def compare(slot: int, region: Region, version: int) -> str:
    """Command that reads a region past the guest's page cache, and fails unless all of it is of a version."""
    extent = f"bs=4k skip={region.offset >> 12} count={region.size >> 12}"
    return f"dd if=/dev/etherd/e0.{slot} {extent} iflag=direct | cmp - {stamps(region, version)}"


def unexpected(site: Site) -> set[int]:
    """Tags of replies that the driver took though it had never sent them, since it was last asked.

    Of a request that it repeated, the first copy may be answered late.
    """
    said = site.guest.run("timeout 2 cat /dev/etherd/err").output
    taken, repeated = (
        {int(tag, 16) for tag in re.findall(rf"{what}.* {name}=([0-9a-f]{{8}})", said)}
        for what, name in (("unexpected rsp", "tag"), ("retransmit", "oldtag"))
    )
    site.repeated.update(repeated)
    return taken - site.repeated


# What we do


@asynccontextmanager
async def attached(slot: int) -> AsyncIterator[RemoteDisk]:
    async with aoe.attach(f"e0.{slot}", interface="v0") as disk:
        yield disk


async def write_all(disk: RemoteDisk, region: Region, version: int) -> None:
    """In pieces, some of them at a time."""
    data = region.content(version)
    pieces = range(0, region.size, PIECE)
    for at in range(0, len(pieces), AT_ONCE):
        some = pieces[at : at + AT_ONCE]
        await asyncio.gather(*(disk.write(region.offset + it, data[it : it + PIECE]) for it in some))


async def versions(disk: RemoteDisk, region: Region) -> set[int | None]:
    return region.versions(await disk.read(region.offset, region.size))


async def work_side_by_side(site: Site, slot: int) -> dict[str, int]:
    """Rounds in which both write and read what is their own, and after each read what the other has written.

    Meanwhile we look at the guest's region: each sector is as it was before the round, or as it is after it.
    Where nothing was done at the same time, as this process was kept from running, they do it again.
    """
    async with attached(slot) as disk:
        for version in range(1, ROUNDS + 1):
            command = f"{write(slot, THEIRS, version)} && {compare(slot, THEIRS, version)}"
            writes = 0
            while writes <= 1:
                writes = 0
                theirs = asyncio.ensure_future(asyncio.to_thread(site.guest.check, command))
                while not theirs.done():
                    writes += 1
                    await write_all(disk, OURS, 1000 * version + writes)
                    assert await versions(disk, OURS) == {1000 * version + writes}
                    assert await versions(disk, THEIRS) <= {version - 1, version}
                await theirs
            await write_all(disk, OURS, version)
            assert await versions(disk, THEIRS) == {version}
            await asyncio.to_thread(site.guest.check, compare(slot, OURS, version))
        return disk.counters


each_engine = pytest.mark.parametrize("slot", range(2), ids=ENGINES)


@each_engine
def test_neither_is_disturbed_by_the_other(site: Site, slot: int) -> None:
    need_engine(ENGINES[slot])
    unexpected(site)
    counters = in_namespace(site.lab.namespace(CLIENT), lambda: asyncio.run(work_side_by_side(site, slot)))
    assert unexpected(site) == set()
    assert counters["unknown_tag"] > ROUNDS, "the replies to the driver did not reach us"
    assert "unfit_reply" not in counters, "one of them passed for ours"
    assert ("engine_writes=" in site.targets[slot].counters()) is (ENGINES[slot] == "c")


def test_the_checks_notice_what_they_are_for(site: Site) -> None:
    """A reply with a tag of the driver's half reaches the driver, and a sector of another version is seen."""
    body = ata.encode(ata_request(READ_EXT, 0, 1))
    client = site.lab.client(0, 0, side=CLIENT)

    def noticed() -> bool:
        assert client.ask(Command.ATA, body, tag=0x1234)
        return 0x1234 in unexpected(site)

    wait_for(noticed, PATIENCE_S)

    first, second = OURS.content(1)[:SECTOR], OURS.content(2)[SECTOR : 2 * SECTOR]
    client.write(OURS.first, first + second)
    assert site.guest.run(compare(0, OURS, 1)).status
    assert OURS.versions(first + second + bytes(OURS.size - 2 * SECTOR)) == {0, 1, 2}
    assert None in OURS.versions(OURS.content(1)[SECTOR:] + first)
