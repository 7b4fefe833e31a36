"""A guest that is a whole Debian 12 with systemd; mmdebstrap makes its root, which is kept in .cache."""

import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.kernel import CACHE, RETRIES, Kernel, locked
from tests.support.labs.guests.machine import PATIENCE_S, GuestError, LinuxGuest
from tests.support.labs.network import Lab
from tests.support.tools import need, need_root, unavailable, which

INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in $(cat /modules/order); do
    case $module in
        aoe.ko|nbd.ko|fuse.ko|xfs.ko) ;;
        *) insmod /modules/$module || echo "insmod $module failed" ;;
    esac
done
mount -t ext4 /dev/vda /mnt
cp /payload/* /mnt/root/
modules=/mnt/usr/lib/modules/$(uname -r)
[ -e $modules ] || { mkdir -p $modules && cp /modules/*.ko $modules && chroot /mnt /sbin/depmod; }
umount /proc /sys
mount -o move /dev /mnt/dev
exec switch_root /mnt /lib/systemd/systemd
"""
"""What the root is mounted with is loaded here; the others are there for modprobe."""

SUITE = "bookworm"
PROCESSORS = ("-smp", "2")
"""Much of what systemd does goes on at the same time."""
IMAGE_BYTES = 2 << 30
"""Most of it a hole."""
BASE = ("systemd-sysv", "udev", "dbus", "kmod", "iproute2", "e2fsprogs", "nbd-client", "procps")
"""What a guest has besides what is asked for."""
_MAKE_S = 900
_UNUSED = ("serial-getty@ttyS0.service", "getty@tty1.service", "apt-daily.timer", "apt-daily-upgrade.timer")
SHELL_UNIT = """\
[Unit]
Description=A shell for the tests
After=basic.target

[Service]
ExecStart=/bin/bash /usr/local/sbin/test-shell
StandardInput=tty
StandardOutput=tty
StandardError=journal
TTYPath=/dev/ttyS1
KillMode=process
IgnoreSIGPIPE=no

[Install]
WantedBy=multi-user.target
"""
_INTERRUPT = b"\x03"
SHELL_SCRIPT = """\
exec 2>&1
trap : INT
stty raw -echo isig
echo ready
while read -r line; do eval "$line"; echo "status $?"; done
"""
PATIENCE = f"""\
[Manager]
DefaultTimeoutStartSec={PATIENCE_S:.0f}
DefaultTimeoutStopSec={PATIENCE_S:.0f}
DefaultDeviceTimeoutSec={PATIENCE_S:.0f}
"""
"""The usual 90 s are little for an emulated processor while others have its real one."""
_FILES = {
    "etc/systemd/system/test-shell.service": SHELL_UNIT,
    "usr/local/sbin/test-shell": SHELL_SCRIPT,
    "etc/hostname": "guest\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/fstab": "/dev/vda / ext4 defaults 0 0\n",
    "etc/apt/sources.list": "",
    "etc/systemd/system.conf.d/patience.conf": PATIENCE,
}
_LINKS = {
    "etc/systemd/system/multi-user.target.wants/test-shell.service": "/etc/systemd/system/test-shell.service",
    **{f"etc/systemd/system/{unit}": "/dev/null" for unit in _UNUSED},
}
_LAST_S = 60.0
_LAST_WORDS = (
    "systemctl list-jobs --no-pager --no-legend",
    "systemctl list-units --no-pager --no-legend --plain --failed",
    "systemctl status --no-pager --full --lines=0 'aoe*'",
    "journalctl --boot --no-pager --output=short-monotonic --lines=400",
)
"""Commands that tell what became of a guest whose test failed."""
_LEFT_OUT = ("man", "locale", "doc/*/changelog*", "i18n")


def debian_root(packages: Sequence[str], copy: Path) -> Path:
    """A copy, for one guest, of the cached root that has these packages besides `BASE`. The test that comes
    first makes it (100 s), and the others wait."""
    need_root()
    need("mmdebstrap", "mke2fs")
    what = (SUITE, IMAGE_BYTES, BASE, tuple(sorted(packages)), _LEFT_OUT, _FILES, _LINKS)
    image = CACHE / f"root-{zlib.crc32(repr(what).encode()):08x}.ext4"
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / "root.lock"):
        if not image.exists():
            _make(image, [*BASE, *packages])
    _run("cp", "--sparse=always", "--reflink=auto", image, copy)
    return copy


def _make(image: Path, packages: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        root, made = Path(name, "root"), Path(name, "image")
        less = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in _LEFT_OUT]
        again = f'--aptopt=Acquire::Retries "{RETRIES}"'
        how = ("--mode=root", "--variant=minbase", f"--include={','.join(packages)}", again, *less)
        _run("mmdebstrap", "--quiet", *how, SUITE, root)
        _furnish(root)
        _run("mke2fs", "-q", "-F", "-t", "ext4", "-d", root, made, str(IMAGE_BYTES >> 10))
        made.rename(image)
        shutil.rmtree(root)


def _furnish(root: Path) -> None:
    for place, text in _FILES.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    for place, target in _LINKS.items():
        link = root / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _run(*argv: str | Path) -> None:
    program, *rest = map(str, argv)
    done = subprocess.run(
        [which(program) or program, *rest],
        env={**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        text=True,
        timeout=_MAKE_S,
        check=False,
    )
    if done.returncode:
        unavailable(f"no root for guests: {program}: {done.stderr.strip()[-500:]} (try apt-get update)")


class DebianGuest(LinuxGuest):
    """Boots the image `root` (`/dev/vda`), with these disks behind it (`/dev/vdb`, ...) and these files in
    /root. What happens to an image stays."""

    lifetime_s = 1700.0
    kernel_arguments = f"{LinuxGuest.kernel_arguments} net.ifnames=0 systemd.show_status=no rw"

    def __init__(
        self,
        directory: Path,
        kernel: Kernel,
        root: Path,
        *arguments: str,
        disks: tuple[Path, ...] = (),
        payload: tuple[Path, ...] = (),
        lab: Lab | None = None,
        memory_mib: int = 1024,
    ) -> None:
        files = GuestFiles(kernel, INIT)
        files.add("payload/.keep", b"")
        for path in payload:
            files.copy(path, f"payload/{path.name}")
        drives = [word for number, path in enumerate((root, *disks)) for word in _drive(path, number)]
        machine = (*PROCESSORS, *drives, *arguments)
        super().__init__(directory, kernel, files, *machine, lab=lab, memory_mib=memory_mib)

    def pid(self, unit: str) -> int:
        """Main process of a unit; 0 if it has none."""
        return int(self.property(unit, "MainPID"))

    def property(self, unit: str, name: str) -> str:
        """What `systemctl show` says."""
        return self.properties(unit, name)[name]

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """As `property`, of one moment, and for the price of one."""
        said = self.check(f"systemctl show --property={','.join(names)} {unit}")
        return dict(line.split("=", 1) for line in said.splitlines())

    def journal(self, unit: str) -> str:
        """What it said since this boot."""
        return self.check(f"journalctl --boot --unit={unit} --output=cat --no-pager")

    def last_words(self) -> str:
        """Its journal, too, if the shell still answers; what runs there is interrupted."""
        said = [super().last_words()]
        try:
            if self.is_busy:
                self._shell.sendall(_INTERRUPT)
                said.append(f"--- interrupted\n{self.finish(_LAST_S).output}")
            said += [f"--- {it}\n{self.run(f'SYSTEMD_COLORS=0 {it}', _LAST_S).output}" for it in _LAST_WORDS]
        except (GuestError, OSError) as error:
            said.append(f"the shell says no more: {str(error).splitlines()[0]}")
        return "\n".join(said)

    def power_off(self) -> None:
        """As an administrator does it."""
        self.start("systemctl poweroff")
        self.process.wait(timeout=PATIENCE_S)


def _drive(path: Path, number: int) -> list[str]:
    return [
        *("-drive", f"file={path},format=raw,if=none,id=disk{number},cache=unsafe"),
        *("-device", f"virtio-blk-pci,drive=disk{number}"),
    ]
