"""A file system on a disk that the same machine serves, mounted through `aoe nbd` as the package's unit has
it: over two cards, between which there is a cable."""

from pathlib import Path

from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.machine import udp_card
from tests.support.labs.ports import own_address
from tests.support.tools import tool
from tests.vm.unit import UNIT, again, write

_ADDED = 'sed -i "s/\\"eth0\\"/\\"eth0\\", \\"eth1\\"/" /etc/aoe-target.toml'
_EXPORT = '[[export]]\\npath = "/dev/vdc"\\nshelf = 1\\nslot = 2\\ninterfaces = ["eth1"]\\n'
_MOUNT = "/dev/nbd0 /mnt/own ext4 _netdev,x-systemd.requires=aoe-nbd@nbd0.service 0 2"
_NBD = "aoe-nbd@nbd0.service"
_NETWORK = """\
[Match]
Name=eth1 eth2
[Link]
MTUBytes=9000
RequiredForOnline=carrier
[Network]
LinkLocalAddressing=no
"""


def cards() -> list[str]:
    """Two more of the guest's."""
    here, there = own_address(), own_address()
    return [*udp_card(here, there, "one", 9000), *udp_card(there, here, "other", 9000)]


def mount(guest: DebianGuest, count: int) -> None:
    """Serve it, so that so many are served, and mount it at each boot."""
    write(guest, "/etc/systemd/network/own.network", _NETWORK)
    guest.check("systemctl enable --now systemd-networkd")
    before = guest.pid(UNIT)
    guest.check(f"{_ADDED} && printf '{_EXPORT}' >>/etc/aoe-target.toml && systemctl restart {UNIT}")
    again(guest, before, count)
    guest.check(
        "echo 'DISK=\"e1.2 --interface eth2\"' >/etc/aoe/nbd0.conf && mkdir -p /mnt/own /var/log/journal"
    )
    guest.check(f"journalctl --flush && systemctl start {_NBD}")
    guest.check("mkfs.ext4 -q /dev/nbd0")
    guest.check(f"echo '{_MOUNT}' >>/etc/fstab && systemctl daemon-reload && mount /mnt/own")
    guest.check("echo kept >/mnt/own/file")


def check(guest: DebianGuest) -> None:
    """It is mounted, and was all the time."""
    guest.check("sync /mnt/own/file && echo 3 >/proc/sys/vm/drop_caches")
    assert guest.check("cat /mnt/own/file") == "kept\n"
    trouble = "dmesg | grep -E 'I/O error|EXT4-fs (error|warning)' | grep -v 'dev nbd1'"
    assert guest.run(trouble).output == ""  # that one is meant to fail


def check_clean(work: Path) -> None:
    """After the machine was powered off, nothing is left to recover: it was unmounted while it was served."""
    said = tool("dumpe2fs", "-h", work / "own")
    assert "has_journal" in said
    assert "needs_recovery" not in said


def check_after_boot(guest: DebianGuest) -> None:
    """It is mounted, and what the journal tells of the last end is in order."""
    guest.check("until mountpoint -q /mnt/own; do sleep .1; done")
    check(guest)
    said = guest.check("journalctl --boot=-1 --output=cat --no-pager _PID=1").splitlines()
    steps = ("Unmounted mnt-own.mount", f"Stopped {_NBD}", f"Stopped {UNIT}")
    at = [max(number for number, line in enumerate(said) if line.startswith(step)) for step in steps]
    assert at == sorted(at), said
