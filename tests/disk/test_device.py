"""When a loop that must not wait may start I/O on a disk itself."""

from pathlib import Path

import pytest

from aoe import timing
from aoe.disk.device import Batch, Device, beneath, device_of
from aoe.disk.identity import Host
from aoe.disk.opened import Beneath
from aoe.limits import DEVICE_SLOTS_UNKNOWN
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import filled, opened


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def test_a_disk_at_rest_answers_however_long_it_rested() -> None:
    clock = Clock()
    device = Device(2, clock)
    assert device.answers
    clock.now += 10**12
    assert device.answers


def test_a_disk_is_not_given_more_than_it_has_room_for() -> None:
    device = Device(2, Clock())
    device.begin()
    assert device.answers
    device.begin()
    assert not device.answers
    device.end()
    assert device.answers


def test_a_disk_that_owes_an_answer_for_long_gets_no_more_until_it_gives_one() -> None:
    clock = Clock()
    device = Device(8, clock)
    clock.now = 10**12
    device.begin()
    device.begin()
    clock.now += timing.DEVICE_SILENCE_NS - 1
    assert device.answers
    clock.now += 1
    assert not device.answers
    device.end()
    assert device.answers
    clock.now += timing.DEVICE_SILENCE_NS
    assert not device.answers
    device.end()
    assert device.answers


def test_a_disk_without_room_never_does() -> None:
    assert not Device(0, Clock()).answers


def host(tmp_path: Path, *disks: tuple[str, int, int]) -> Host:
    """A sysfs of disks by name, number 8:N, and request slots; 0 slots: not told."""
    for name, minor, slots in disks:
        node = tmp_path / "devices" / name
        (node / "queue").mkdir(parents=True)
        (node / "dev").write_text(f"8:{minor}\n")
        if slots:
            (node / "queue/nr_requests").write_text(f"{slots}\n")
        links = tmp_path / "dev/block"
        links.mkdir(parents=True, exist_ok=True)
        (links / f"8:{minor}").symlink_to(node)
    return Host(sys=tmp_path, udev=tmp_path / "udev")


def number(minor: int) -> int:
    return 8 << 8 | minor


def test_half_of_the_slots_are_left_to_others(tmp_path: Path) -> None:
    made = host(tmp_path, ("sda", 0, 64), ("sdb", 1, 0))
    assert device_of(beneath(number(0), made)).room == 32
    assert device_of(beneath(number(1), made)).room == DEVICE_SLOTS_UNKNOWN // 2


def test_parts_of_a_disk_share_it(tmp_path: Path) -> None:
    made = host(tmp_path, ("sda", 0, 64))
    part = tmp_path / "devices/sda/sda1"
    part.mkdir()
    (part / "partition").write_text("1\n")
    (tmp_path / "dev/block/8:5").symlink_to(part)
    whole = device_of(beneath(number(0), made))
    assert device_of(beneath(number(5), made)) is whole


def test_a_stacked_disk_has_the_slots_of_the_least_below(tmp_path: Path) -> None:
    made = host(tmp_path, ("dm-0", 9, 128), ("sda", 0, 256), ("sdb", 1, 40))
    slaves = tmp_path / "devices/dm-0/slaves"
    slaves.mkdir()
    for name in ("sda", "sdb"):
        (slaves / name).symlink_to(tmp_path / "devices" / name)
    assert device_of(beneath(number(9), made)).room == 20


def test_files_on_one_filesystem_share_its_disk(tmp_path: Path) -> None:
    filled(tmp_path / "one", 8)
    filled(tmp_path / "two", 8)
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        assert one.device is two.device
        assert one.try_read(0, SECTOR) is not None
        for _ in range(one.device.room):
            two.device.begin()
        assert one.try_read(0, SECTOR) is None
        for _ in range(one.device.room):
            two.device.end()
        assert one.try_read(0, SECTOR) is not None


def test_what_is_beneath_is_looked_up_once_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Beneath("/sys/one", 1)]
    monkeypatch.setattr("aoe.disk.device.beneath", lambda *_: found[-1])
    batch = Batch()
    assert batch.beneath(7).node == "/sys/one"
    found.append(Beneath("/sys/other", 1))
    assert (batch.beneath(7).node, batch.beneath(8).node) == ("/sys/one", "/sys/other")
    assert Batch().beneath(7).node == "/sys/other"


def test_what_is_opened_alone_sees_what_is_there_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "one", 8)
    for number in range(2):
        monkeypatch.setattr("aoe.disk.device.beneath", lambda *_, at=number: Beneath(f"/sys/{at}", 1))
        with opened(tmp_path / "one") as disk:
            assert disk.device is device_of(Beneath(f"/sys/{number}", 1))
