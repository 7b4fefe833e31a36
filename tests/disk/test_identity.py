"""Which store a path leads to: ids of devices in a sysfs made up for it, of files on the real kernel."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.disk.base import StoreName
from aoe.disk.identity import Host, device_name, file_name, shown_id
from aoe.disk.open import Opening
from aoe.disk.plausible import plausible
from aoe.drive.identify import NO_STORE_ID, StoreId, StoreKind
from tests.disk.helpers import opened, sparse
from tests.support.labs.fault_disk import loop_device
from tests.support.tools import unavailable

NUMBER = os.makedev(253, 7)


def fake_host(root: Path, node: str = "", files: dict[str, str] | None = None, udev: str = "") -> Host:
    """A sysfs in which device 253:7 is `block/<node>`, and what udev knows of it."""
    host = Host(root / "sys", root / "udev")
    for name, text in (files or {}).items():
        (host.sys / "block" / name).parent.mkdir(parents=True, exist_ok=True)
        (host.sys / "block" / name).write_text(text)
    (host.sys / "dev/block").mkdir(parents=True)
    (host.sys / "dev/block/253:7").symlink_to(f"../../block/{node}")
    host.udev.mkdir()
    (host.udev / "b253:7").write_text(udev)
    return host


@pytest.mark.parametrize(
    ("node", "files", "identity"),
    [
        ("dm-0", {"dm-0/dm/uuid": "LVM-abc\n"}, "LVM-abc"),
        ("dm-0", {"dm-0/dm/uuid": "\n"}, None),
        ("md0", {"md0/md/uuid": "12:34\n"}, "12:34"),
        ("sda", {"sda/device/wwid": "t10.ATA     Some   disk\n"}, "t10.ATA Some disk"),
        ("sda/sda2", {"sda/device/wwid": "naa.5\n", "sda/sda2/partition": "2\n"}, "naa.5-2"),
        ("nvme0n1", {"nvme0n1/wwid": "eui.1\n", "nvme0n1/device/serial": "S1\n"}, "eui.1"),
        ("nvme0n1", {"nvme0n1/device/serial": "S1   \n"}, "S1"),
        ("vda", {"vda/serial": "disk-1"}, "disk-1"),
        ("loop0", {"loop0/size": "8"}, None),
    ],
)
def test_what_a_device_says_it_is(
    node: str, files: dict[str, str], identity: str | None, tmp_path: Path
) -> None:
    assert shown_id(NUMBER, fake_host(tmp_path, node, files)) == identity


def test_a_partition_has_the_queue_of_its_disk(tmp_path: Path) -> None:
    files = {"sda/queue/discard_max_bytes": "1", "sda/sda1/partition": "1"}
    host = fake_host(tmp_path, "sda/sda1", files)
    assert host.whole(NUMBER) == (host.sys / "block/sda", "1")


# Ids of devices

LV = "LVM-0Zc5hJc3oQq8N2T0m1vK7xPqYw3uRb9sLd4eFg6hIj8kMn5oPq1rSt2uVw3xYz4A"
MD = "5f2a9c1e-77b0-4d1c-9a3e-0c6d8be412f7"
RBD = {
    "cluster_fsid": "a7f64266-0894-4f1e-a635-d0aeaca0e993\n",
    "pool_id": "2\n",
    "pool_ns": "\n",
    "image_id": "10226b8b4567\n",
    "name": "root-1\n",
    "current_snap": "-\n",
    "snap_id": "18446744073709551614\n",
}


def rbd(**changed: str) -> dict[str, str]:
    return {f"rbd0/device/{name}": text for name, text in (RBD | changed).items()}


@pytest.mark.parametrize(
    ("node", "files", "udev", "name"),
    [
        ("dm-0", {"dm-0/dm/uuid": LV}, "", StoreName(StoreKind.DEVICE, LV)),
        ("md0", {"md0/md/uuid": MD + "\n"}, "", StoreName(StoreKind.DEVICE, MD)),
        ("md0", {"md0/size": "8"}, "E:MD_LEVEL=raid1\nE:MD_UUID=5f2a9c1e:77b04d1c:9a3e0c6d:8be412f7\n", MD),
        ("md0", {"md0/size": "8"}, "E:MD_UUID=00000000:00000000:00000000:00000000\n", StoreName()),
        ("md0", {"md0/size": "8"}, "E:MD_UUID=broken\n", StoreName()),
        ("sda", {"sda/device/wwid": "naa.5000c500a1b2c3d4"}, "", "naa.5000c500a1b2c3d4"),
        (
            "sda/sda2",
            {"sda/device/wwid": "naa.5000c500a1b2c3d4", "sda/sda2/partition": "2"},
            "",
            "naa.5000c500a1b2c3d4-2",
        ),
        # an id that many have is passed over for one behind it
        (
            "nvme0n1",
            {"nvme0n1/wwid": "eui.0000000000000000", "nvme0n1/device/serial": "BTLJ7313033R512B  "},
            "",
            StoreName(StoreKind.SERIAL, "BTLJ7313033R512B"),
        ),
        ("vda", {"vda/serial": "WD-WCC4N0KDJ5S2"}, "", StoreName(StoreKind.SERIAL, "WD-WCC4N0KDJ5S2")),
        ("sda", {"sda/device/wwid": "t10.ATA     QEMU HARDDISK          QM00001 "}, "", StoreName()),
        ("vda", {"vda/serial": "0123456789"}, "", StoreName()),
        ("loop0", {"loop0/size": "8"}, "", StoreName()),
        ("zd0", {"zd0/size": "8"}, "E:ID_FS_UUID=5f2a9c1e-77b0-4d1c-9a3e-0c6d8be412f7\n", StoreName()),
    ],
)
def test_ids_of_devices(
    node: str, files: dict[str, str], udev: str, name: StoreName | str, tmp_path: Path
) -> None:
    expected = StoreName(StoreKind.DEVICE, name) if isinstance(name, str) else name
    assert device_name(NUMBER, fake_host(tmp_path, node, files, udev)) == expected


def rbd_name(root: Path, node: str = "rbd0", **changed: str) -> StoreName:
    root.mkdir()
    files = rbd(**changed) | ({"rbd0/rbd0p1/partition": "1"} if node != "rbd0" else {})
    return device_name(NUMBER, fake_host(root, node, files))


def test_an_rbd_is_its_cluster_pool_image_and_snapshot(tmp_path: Path) -> None:
    plain = rbd_name(tmp_path / "plain")
    assert plain.kind == StoreKind.RBD
    assert rbd_name(tmp_path / "renamed", name="root-2") == plain
    others = [
        rbd_name(tmp_path / "cluster", cluster_fsid="b7f64266-0894-4f1e-a635-d0aeaca0e993"),
        rbd_name(tmp_path / "pool", pool_id="3"),
        rbd_name(tmp_path / "space", pool_ns="tenant"),
        rbd_name(tmp_path / "image", image_id="10226b8b4568"),
        rbd_name(tmp_path / "snapshot", current_snap="before", snap_id="4"),
        rbd_name(tmp_path / "partition", "rbd0/rbd0p1"),
        rbd_name(tmp_path / "first", image_id="<unknown>"),
        rbd_name(tmp_path / "second", image_id="<unknown>", name="root-2"),
    ]
    assert len({plain, *others}) == 9
    assert {other.kind for other in others} == {StoreKind.RBD}
    assert rbd_name(tmp_path / "none", cluster_fsid="") == StoreName()


# Ids that many share


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "00000000000000000000", "eui.0000000000000000", "naa.0000000000000000"),
        *("00000000-0000-0000-0000-000000000000", "uuid.00000000-0000-0000-0000-000000000000"),
        *(
            "QM00001",
            "QM00013",
            "qm00100",
            "t10.ATA     QEMU HARDDISK    QM00001",
            "mpath-QEMU_HARDDISK_QM00002",
        ),
        *("FFFFFFFFFFFFFFFF", "aaaaaaaaaa", "1111111111111111", "ABABABABABAB", "12341234", "xxxxxxxx"),
        *("0123456789", "1234567890", "123456789", "0123456789ABCDEF", "ABCDEF0123456789", "9876543210"),
        *("1234567890ABCDEF", "FEDCBA9876543210", "ABCDEFGHIJ", "01234567890123456789", "23456789"),
        *("AA00000000000001", "000000000033", "SN000001", "DISK0001", "0000000000000000000A"),
        *(
            "DEADBEEF",
            "deadbeef01",
            "To Be Filled By O.E.M.",
            "Default string",
            "None",
            "N/A",
            "unknown",
            "serial-1",
        ),
        *("t10.IET     00010001", "naa.60000000000000000e00000000010001", "beaf11", "QEMU", "disk-1", "S1"),
        *(
            "t10.QEMU    QEMU HARDDISK   drive-scsi0",
            "drive-virtio-disk0",
            "part2-mpath-1QEMU QEMU HARDDISK drive-scsi0-0-0",
        ),
        *(
            "nvme.1b36-6465616462656566-51454d55204e564d65204374726c-00000001",
            "nvme.8086-30303030-4d-00000001",
        ),
        *("CRYPT-PLAIN-swap1234", "CRYPT-PLAIN-d41d8c-root", "naa.5", "eui.1"),
    ],
)
def test_an_id_that_many_share_is_none(text: str) -> None:
    assert not plausible(text)


@pytest.mark.parametrize(
    "text",
    [
        *(LV, MD, "naa.5000c500a1b2c3d4", "eui.0025388b01c4f7a2", "naa.600140589f0f2d1c5ee4f0a8c1b7d9e3"),
        *("naa.60002ac000000000000000110001e3d4", "eui.00000000000000010025385b71b00d5e", "uuid." + MD),
        *(
            "t10.ATA     ST2000DM001-1CH164                      Z1E4XWQR",
            "WD-WCC4N0KDJ5S2",
            "S3Z8NB0K812345X",
        ),
        *("mpath-3600508b400105e210000900000490000", "part1-mpath-3600508b400105e210000900000490000"),
        *(
            "nvme.8086-42544c4a37333133303333523531324220-494e54454c-00000001",
            "CRYPT-LUKS2-5f2a9c1e77b04d1c9a3e0c6d8be412f7-root",
        ),
        *("0x5002538d40a1b2c3", "VB1a2b3c4d-5e6f7a8b", "BTLJ7313033R512B", "PHKE0123456789AB"),
    ],
)
def test_an_id_of_one_disk_is_its_own(text: str) -> None:
    assert plausible(text)


# Ids of files


@pytest.fixture
def directory() -> Iterator[Path]:
    """On a filesystem that has a UUID."""
    for parent in (None, "/dev/shm", "/run"):
        if parent is not None and not os.access(parent, os.W_OK):
            continue
        with tempfile.TemporaryDirectory(dir=parent) as made:
            with opened(sparse(Path(made) / "probe", 8), Opening(direct=False)) as disk:
                name = disk.store_name
            if name.kind:
                yield Path(made)
                return
    unavailable("no filesystem here tells its UUID")


def name_of(path: Path, how: Opening = Opening(direct=False)) -> StoreName:  # noqa: B008
    with opened(path, how) as disk:
        return disk.store_name


def test_a_file_keeps_its_id_under_another_name(directory: Path) -> None:
    path = sparse(directory / "disk", 64)
    name = name_of(path)
    assert name.kind == StoreKind.FILE
    path.rename(directory / "other")
    assert name_of(directory / "other") == name
    (directory / "link").symlink_to("other")
    assert name_of(directory / "link") == name
    assert name_of(sparse(directory / "disk", 64)) != name


def test_a_file_that_took_the_inode_of_one_that_is_gone_is_another(directory: Path) -> None:
    seen = set()
    for _ in range(20):
        seen.add(name_of(sparse(directory / "disk", 64)))
        (directory / "disk").unlink()
    assert len(seen) == 20


def test_a_part_is_another_store(directory: Path) -> None:
    path = sparse(directory / "disk", 64)
    parts = [
        Opening(direct=False, offset=offset, length=length) for offset, length in ((0, 8), (8, 8), (8, None))
    ]
    names = {name_of(path, how) for how in (Opening(direct=False), *parts)}
    assert len({name.id for name in names}) == 4
    assert {name.kind for name in names} == {StoreKind.FILE}


@pytest.mark.parametrize(
    ("uuid", "known"),
    [
        ("5f2a9c1e-77b0-4d1c-9a3e-0c6d8be412f7", True),
        ("00000000-0000-0000-0000-000000000000", False),
        ("", False),
    ],
)
def test_where_the_kernel_does_not_tell_a_filesystems_uuid_udev_does(
    uuid: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sparse(tmp_path / "disk", 8)
    number = path.stat().st_dev
    host = fake_host(tmp_path / "fake")
    (host.udev / f"b{os.major(number)}:{os.minor(number)}").write_text(
        f"E:ID_FS_TYPE=ext4\nE:ID_FS_UUID={uuid}\n"
    )
    monkeypatch.setattr("aoe.disk.syscalls.filesystem_uuid", lambda _: b"")
    with path.open("rb") as file:
        name = file_name(file.fileno(), host)
    assert bool(name.kind) is known
    assert not known or name.text.startswith(uuid.replace("-", ""))


def test_a_device_is_opened_with_the_id_that_it_has(tmp_path: Path) -> None:
    with loop_device(sparse(tmp_path / "file", 64)) as device:
        number = device.stat().st_rdev
        host = fake_host(tmp_path / "fake", "dm-3", {"dm-3/dm/uuid": LV})
        (host.sys / f"dev/block/{os.major(number)}:{os.minor(number)}").symlink_to("../../block/dm-3")
        with opened(device, Opening(length=8), host) as disk:
            assert disk.store_name == StoreName(StoreKind.DEVICE, f"{LV}@0+8")
            assert disk.store_name.id == StoreId.of(StoreKind.DEVICE, f"{LV}@0+8")
            assert disk.identity == LV


@pytest.mark.parametrize(
    ("several_paths", "one_path"),
    [
        ("mpath-3600508b400105e210000900000490000", "naa.600508b400105e210000900000490000"),
        ("part2-mpath-3600508b400105e210000900000490000", "naa.600508b400105e210000900000490000-2"),
        ("mpath-20025388b01c4f7a2", "eui.0025388b01c4f7a2"),
        ("mpath-eui.0025388b01c4f7a2", "eui.0025388b01c4f7a2"),
        ("part1-mpath-uuid." + MD, f"uuid.{MD}-1"),
        ("mpath-1ATA_____ST2000DM001-1CH164____Z1E4XWQR", "t10.ATA ST2000DM001-1CH164 Z1E4XWQR"),
    ],
)
def test_a_host_with_several_paths_shows_the_id_that_one_with_a_single_path_does(
    several_paths: str, one_path: str
) -> None:
    names = [StoreName(StoreKind.DEVICE, text) for text in (several_paths, one_path)]
    assert names[0].id == names[1].id
    assert names[0].part("@8+8").id == names[1].part("@8+8").id != names[0].id


def test_a_store_without_an_id_shows_none() -> None:
    assert StoreName().part("@0+8") == StoreName()
    assert StoreName().id == NO_STORE_ID
