"""An image of `aoe-cloud` is small, the same each time, and starts a machine."""

from pathlib import Path

import pytest

from aoe.cloud import library
from tests.support.labs.guests.machine import BOOT_S, PLAIN_CONSOLE, Guest, needs_qemu
from tests.support.tools import tool
from tests.vm.built_image import KEY, OF_DEB, OF_INITRAMFS, BuiltImage, built_image, unpacked

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]
ROOT_BYTES_MAX, INITRAMFS_BYTES_MAX = 450 << 20, 32 << 20
DOOR_BYTES_MAX = 4_300_000
"""Of its archive, compressed as mkinitramfs compresses it."""


@pytest.fixture(scope="module")
def built() -> BuiltImage:
    needs_qemu()
    return built_image()


def test_two_builds_of_it_are_the_same(built: BuiltImage) -> None:
    names = ("id", "root_sha256", "kernel_sha256", "initramfs_sha256", "command_line")
    first, second = ({name: it[name] for name in names} for it in built.builds)
    assert first == second, built.differing
    record = library.look(built.place)
    assert list(library.problems(built.place, record, thorough=True)) == []


def test_it_is_small_and_whole(built: BuiltImage) -> None:
    root = built.place.base
    assert root.stat().st_blocks * 512 < ROOT_BYTES_MAX
    assert built.place.initramfs.stat().st_size < INITRAMFS_BYTES_MAX
    tool("e2fsck", "-fn", root)
    listed = tool("debugfs", "-R", "ls -p /usr/bin", root)
    assert "/perl" in listed  # which is that of perl-base
    for absent in ("/perlbug", "/python", "/qemu"):
        assert absent not in listed
    assert tool("debugfs", "-R", f"cat /{OF_DEB}", root) == "of a deb"
    assert tool("debugfs", "-R", "cat /root/.ssh/authorized_keys", root) == KEY.strip()


def test_its_initramfs_is_one_to_those_who_unpack_it(built: BuiltImage, tmp_path: Path) -> None:
    made = unpacked(built.base.parent, tmp_path / "root") / OF_INITRAMFS
    assert (made / "init").is_file()
    assert (made / "scripts" / "aoe-root").is_file()
    assert (made / "usr" / "sbin" / "fsck.ext4").exists()
    _has_a_small_door(made)


def _has_a_small_door(initramfs: Path) -> None:
    """And no Python."""
    archive = initramfs / "usr" / "lib" / "aoe-root.cpio"
    compressed = archive.with_suffix(".zst")
    tool("zstd", "-q", "-9", archive, "-o", compressed)
    assert compressed.stat().st_size <= DOOR_BYTES_MAX
    assert b"python" not in archive.read_bytes()
    assert not list(initramfs.rglob("*python*"))


def test_it_boots_to_a_login_prompt(built: BuiltImage, tmp_path: Path) -> None:
    place, line, id = built.place, built.builds[0]["command_line"], built.builds[0]["id"]
    boot = ("-kernel", str(place.kernel), "-initrd", str(place.initramfs))
    disk = ("-drive", f"file={place.base},format=raw,if=virtio,snapshot=on")
    append = ("-append", f"{line} rw console=ttyS0 panic=-1 mitigations=off {PLAIN_CONSOLE}")
    with Guest(tmp_path, *boot, *disk, *append, "-smp", "2", memory_mib=512) as guest:
        guest.wait_for("login:", BOOT_S)  # before which agetty writes the rest of the line
        text = guest.wait_for("active END")
    assert f"initramfs {id} END" in text, "the last member of the initramfs"
    assert f"root {id} active END" in text, "with host keys of its own, sshd runs"
