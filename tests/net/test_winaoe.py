"""WinAoE and WinVBlock, frame by frame: no config query, a wildcard IDENTIFY, and trial READs.

They send opcodes 0x24 and 0x34 only, set E on everything, number their tags from 1 in the host's byte
order, repeat the same tag when they resend, and look at neither status nor error.
"""

import itertools
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from aoe.wire import ata
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaReply, AtaRequest
from aoe.wire.frame import BROADCAST, FLAG_ERROR, Command, Header, decode
from aoe.wire.protocol import SECTOR, SHELF_ALL, SLOT_ALL
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.raw_client import IDENTIFY, READ_EXT, WRITE_EXT, Client, sectors_of
from tests.support.tools import need_namespaces

MORE_S = 0.25
"""For what should not come."""
DONE_S = 30.0
"""For what must be answered, and may have to wait for the disk."""
OUTSTANDING = 65
SECTORS = {(1, 1): 2048, (1, 2): 4096}


class Disk(NamedTuple):
    """What the probe learned of one disk."""

    mac: bytes
    shelf: int
    slot: int
    sectors: int


class WinAoe:
    """The driver's side of the conversation."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._numbers = itertools.count(1)

    def tag(self) -> int:
        return int.from_bytes(next(self._numbers).to_bytes(4, "little"), "big")

    def frame(self, disk: Disk | None, tag: int, request: AtaRequest) -> bytes:
        to = disk or Disk(BROADCAST, SHELF_ALL, SLOT_ALL, 0)
        fields = {"dst": to.mac, "shelf": to.shelf, "slot": to.slot, "tag": tag}
        return self.client.request(Command.ATA, ata.encode(request), **fields)

    def probe(self) -> list[Disk]:
        tag = self.tag()
        self.client.send(self.frame(None, tag, AtaRequest(AFLAG_EXTENDED, 0, 1, IDENTIFY, 0)))
        found = []
        all_of_them = itertools.islice(self.client.replies({tag}, DONE_S), len(SECTORS))
        for reply in itertools.chain(all_of_them, self.client.replies({tag}, MORE_S)):
            header, registers = parts(reply)
            found.append(Disk(header.src, header.shelf, header.slot, sectors_of(registers.data)))
        return sorted(found)

    def ask(self, disk: Disk, request: AtaRequest, times: int = 1, seconds: float = DONE_S) -> list[AtaReply]:
        """Send one frame, the same tag each time; everything that comes back."""
        tag = self.tag()
        for _ in range(times):
            self.client.send(self.frame(disk, tag, request))
        replies = itertools.islice(self.client.replies({tag}, seconds), times)
        return [parts(reply)[1] for reply in replies]

    def largest_read(self, disk: Disk) -> tuple[int, bool]:
        """Most sectors a frame, found by trying, and whether the one beyond was answered."""
        for count in itertools.count(1):
            replies = self.ask(disk, read(0, count))
            if not replies or len(replies[0].data) < count * SECTOR:
                return count - 1, bool(replies)
        raise AssertionError("unreachable")


def read(lba: int, count: int) -> AtaRequest:
    return AtaRequest(AFLAG_EXTENDED, 0, count, READ_EXT, lba)


def write(lba: int, data: bytes) -> AtaRequest:
    return AtaRequest(AFLAG_EXTENDED | AFLAG_WRITE, 0, len(data) // SECTOR, WRITE_EXT, lba, data)


def parts(reply: bytes) -> tuple[Header, AtaReply]:
    header, registers = decode(reply), ata.decode_reply(reply)
    assert isinstance(header, Header)
    assert isinstance(registers, AtaReply)
    return header, registers


@pytest.fixture(scope="module", params=[1500, 9000], ids="MTU {}".format)
def win(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WinAoe]:
    need_namespaces()
    work = tmp_path_factory.mktemp("winaoe")
    disks = [f"{image(work / f'{at[0]}.{at[1]}', size)}={at[0]}.{at[1]}" for at, size in SECTORS.items()]
    with Lab(mtu=request.param) as lab, AoeTarget(lab, work, *disks):
        yield WinAoe(lab.client())


def test_probe_finds_every_export_and_its_size(win: WinAoe) -> None:
    found = win.probe()
    assert {(disk.shelf, disk.slot): disk.sectors for disk in found} == SECTORS
    assert len(found) == len(SECTORS)
    assert BROADCAST not in {disk.mac for disk in found}


def test_trial_reads_end_at_the_limit_by_an_error_not_by_waiting(win: WinAoe) -> None:
    disk = win.probe()[0]
    found, was_answered = win.largest_read(disk)
    client = win.client
    client.shelf, client.slot = disk.shelf, disk.slot
    assert found == client.config().sector_count > 0
    assert was_answered
    (refused,) = win.ask(disk, read(0, found + 1))
    assert (refused.status, refused.error, len(refused.data)) == (0x41, 0x04, 24)


def test_writes_and_reads_come_back(win: WinAoe) -> None:
    first, second = win.probe()
    for disk, fill in ((first, b"\x11"), (second, b"\x22")):
        (written,) = win.ask(disk, write(7, fill * 2 * SECTOR))
        assert written.status == 0x40
    for disk, fill in ((first, b"\x11"), (second, b"\x22")):
        (got,) = win.ask(disk, read(7, 2))
        assert got.data[: 2 * SECTOR] == fill * 2 * SECTOR


def test_a_resent_tag_is_answered_again(win: WinAoe) -> None:
    disk = win.probe()[0]
    assert [reply.status for reply in win.ask(disk, write(3, b"\x33" * SECTOR), times=3)] == [0x40] * 3
    replies = win.ask(disk, read(3, 1), times=3)
    assert [reply.data[:SECTOR] for reply in replies] == [b"\x33" * SECTOR] * 3


def test_an_error_reply_is_well_formed(win: WinAoe) -> None:
    """The driver copies what follows an error: there must be nothing of anybody's in it."""
    disk = win.probe()[0]
    win.ask(disk, write(0, b"\xee" * 2 * SECTOR))
    tag = win.tag()
    win.client.send(win.frame(disk, tag, read(disk.sectors, 1)))
    reply = next(win.client.replies({tag}, DONE_S))
    header, registers = parts(reply)
    assert not header.flags & FLAG_ERROR
    assert registers.status == 0x41
    assert (len(reply), any(registers.data)) == (60, False)


def test_a_full_window_over_two_disks_is_answered(win: WinAoe) -> None:
    """65 frames at once whatever Buffer Count says: none may be lost."""
    disks = win.probe()
    tags = {win.tag(): disks[n % 2] for n in range(OUTSTANDING)}
    for tag, disk in tags.items():
        win.client.send(win.frame(disk, tag, read(0, 2)))
    deadline = time.monotonic() + DONE_S
    answered: set[int] = set()
    while len(answered) < OUTSTANDING and time.monotonic() < deadline:
        for reply in win.client.replies(set(tags) - answered, 0.02):
            answered.add(parts(reply)[0].tag)
    assert answered == set(tags)
