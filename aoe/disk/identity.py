"""Which store a path leads to: the id of its own that a block device or a file has."""

import os
import uuid
from pathlib import Path
from typing import NamedTuple

from aoe.disk import syscalls
from aoe.disk.base import StoreName
from aoe.disk.plausible import plausible
from aoe.drive.identify import StoreKind

_ATTRIBUTES = {
    "dm/uuid": StoreKind.DEVICE,
    "md/uuid": StoreKind.DEVICE,
    "wwid": StoreKind.DEVICE,
    "device/wwid": StoreKind.DEVICE,
    "serial": StoreKind.SERIAL,
    "device/serial": StoreKind.SERIAL,
}
"""Where the kernel shows the id of a device: device-mapper and md a UUID, disks a WWID or a serial."""


class Host(NamedTuple):
    """Where the kernel and udev tell of devices and processes: sysfs(5), proc(5), udev's database."""

    sys: Path = Path("/sys")
    udev: Path = Path("/run/udev/data")
    proc: Path = Path("/proc")
    dev: Path = Path("/dev")

    def node(self, device: int) -> Path:
        """The directory of a block device, by its number."""
        return (self.sys / "dev/block" / f"{os.major(device)}:{os.minor(device)}").resolve()

    def whole(self, device: int) -> tuple[Path, str]:
        """The directory of the disk that a device is or is a part of, and the partition (empty: none)."""
        node = self.node(device)
        part = text_of(node / "partition")
        return (node.parent if part else node), part

    def property(self, device: int, name: str) -> str:
        """What udev found out about a device."""
        entries = raw_text(self.udev / f"b{os.major(device)}:{os.minor(device)}").split("\n")
        found = [entry for entry in entries if entry.startswith(f"E:{name}=")]
        return found[0].partition("=")[2] if found else ""


HERE = Host()


def raw_text(path: Path) -> str:
    """What a file of the kernel's says, empty where there is none."""
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""


def text_of(path: Path) -> str:
    """What a file of one value says, each run of blanks as one."""
    return " ".join(raw_text(path).split())


def number_of(path: Path) -> int:
    """The number that a file of one value says, 0 where it says none."""
    text = text_of(path)
    return int(text) if text.isdigit() else 0


def shown_id(device: int, host: Host = HERE) -> str | None:
    """What a device says it is, although thousands may say the same."""
    disk, part = host.whole(device)
    return next((_with(part, name.text) for name in _shown(disk)), None)


def device_name(device: int, host: Host = HERE) -> StoreName:
    """The id of a block device; none where it has none that can be its own alone."""
    disk, part = host.whole(device)
    rbd = _rbd(disk / "device") or _rbd(host.sys / "devices/rbd" / disk.name.removeprefix("rbd"))
    if rbd:
        return StoreName(StoreKind.RBD, _with(part, rbd))
    array = StoreName(StoreKind.DEVICE, _md_uuid(host.property(device, "MD_UUID")))
    for kind, text in (*_shown(disk), array):
        if plausible(text):
            return StoreName(kind, _with(part, text))
    return StoreName()


def file_name(fd: int, host: Host = HERE) -> StoreName:
    """The id of a file: its filesystem's UUID and what it is called in there."""
    told = host.property(os.fstat(fd).st_dev, "ID_FS_UUID").replace("-", "").lower()
    filesystem = next(filter(plausible, (syscalls.filesystem_uuid(fd).hex(), told)), "")
    handle = syscalls.file_handle(fd)
    return StoreName(StoreKind.FILE, f"{filesystem}/{handle}") if handle and filesystem else StoreName()


def _shown(disk: Path) -> list[StoreName]:
    names = [StoreName(kind, text_of(disk / attribute)) for attribute, kind in _ATTRIBUTES.items()]
    return [name for name in names if name.text]


def _with(part: str, text: str) -> str:
    return f"{text}-{part}" if part else text


def _rbd(device: Path) -> str:
    """Cluster, pool, namespace, image and snapshot by their ids, which outlive a renaming."""
    cluster, pool = text_of(device / "cluster_fsid"), text_of(device / "pool_id")
    image = text_of(device / "image_id")
    if not image or image == "<unknown>":  # images of the first format have only a name
        image = text_of(device / "name")
    if not (cluster and pool and image):
        return ""
    snapshot = text_of(device / "snap_id") or text_of(device / "current_snap")
    return "/".join((cluster, pool, text_of(device / "pool_ns"), image, snapshot))


def _md_uuid(text: str) -> str:
    """As the kernel writes it, from udev's form: older kernels do not show it."""
    try:
        return str(uuid.UUID(text.replace(":", "")))
    except ValueError:
        return ""
