"""Volumes of pools, as the package's units have them: raw ones on XFS, and qcow2 on the root (ext4)."""

from pathlib import Path

from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.machine import PATIENCE_S
from tests.support.waiting import wait_for
from tests.vm.conftest import Site
from tests.vm.unit import PACKAGE_S, UNIT, again, serves, succeeds

_POOLS = {"fast": "/mnt/fast", "root": "/srv/pool"}
_DISKS = {"fast/disk": "e1.5", "root/disk": "e1.6"}
_COPIES = {"fast/copy": "e1.7", "root/copy": "e1.8"}
_IMAGES = "aoe-target-images.service"
_DAEMON = "qemu-storage-daemon"
_FIRST, _SECOND, _THIRD = (bytes([number]) * 512 for number in (1, 2, 3))


def check(debian: Site, guest: DebianGuest, later: Path, others: int) -> None:
    """They are made, served, cut, cloned, and gone on with, also by a later package; while so many others are
    served."""
    guest.check("cp /etc/aoe-target.toml /root/without.toml")
    make(guest)
    serve(guest, others + 2)
    cut(debian, guest)
    restart(debian, guest, others + 4)
    upgrade(debian, guest, later, others + 4)
    kill(debian, guest)
    stop(guest)
    guest.check(f"cp /root/without.toml /etc/aoe-target.toml && systemctl start {UNIT}")
    serves(guest, others)


def make(guest: DebianGuest) -> None:
    """The opener does, and has qemu-img look at what is brought."""
    guest.check("mkdir -p /mnt/fast /srv/pool && mount -t xfs /dev/vdd /mnt/fast")
    add(guest, *(f'[[pool]]\\nname = "{name}"\\npath = "{path}"\\n' for name, path in _POOLS.items()))
    guest.check("aoe-target pool init fast && aoe-target pool init --plain root")
    guest.check(f"systemctl reload {UNIT}")
    for name in _DISKS:
        guest.check(f"aoe-target volume create {name} 8M")
    guest.check("qemu-img create -q -f qcow2 /srv/brought.qcow2 1M")
    guest.check("aoe-target volume import /srv/brought.qcow2 root/brought")


def add(guest: DebianGuest, *tables: str) -> None:
    """To the file."""
    guest.check(f"printf '{''.join(tables)}' >>/etc/aoe-target.toml")


def exports(them: dict[str, str]) -> list[str]:
    """Tables of the file."""
    table = '[[export]]\\npath = "{}"\\nshelf = 1\\nslot = {}\\n'
    return [table.format(name, address[-1]) for name, address in them.items()]


def serve(guest: DebianGuest, count: int) -> None:
    add(guest, *exports(_DISKS))
    guest.check(f"systemctl reload {UNIT}")
    serves(guest, count)
    assert len(daemons(guest)) == 1
    assert mounted(guest) == ""


def cut(debian: Site, guest: DebianGuest) -> None:
    """While they are served; what is written later is not in the copies."""
    for name, address in _DISKS.items():
        debian.write(address, _FIRST)
        guest.check(f"aoe-target volume snapshot {name}@one")
        debian.write(address, _SECOND)
    for name, copy in zip(_DISKS, _COPIES, strict=True):
        guest.check(f"aoe-target volume clone {name}@one {copy}")


def restart(debian: Site, guest: DebianGuest, count: int) -> None:
    """With the copies as exports; all have what they had."""
    add(guest, *exports(_COPIES))
    (serves_disk,) = daemons(guest)
    before = guest.pid(UNIT)
    guest.check(f"systemctl restart {UNIT}")
    again(guest, before, count)
    assert serves_disk in daemons(guest)
    check_data(debian)


def upgrade(debian: Site, guest: DebianGuest, later: Path, count: int) -> None:
    """All that serves images goes on, and what has them served is of the new release."""
    before, serve = guest.pid(UNIT), daemons(guest)
    guest.check(f"cd /root && DEBIAN_FRONTEND=noninteractive apt-get install -y ./{later.name}", PACKAGE_S)
    again(guest, before, count)
    assert (len(serve), daemons(guest)) == (2, serve)
    check_data(debian)


def check_data(debian: Site) -> None:
    has(debian, *_DISKS.values(), data=_SECOND)
    has(debian, *_COPIES.values(), data=_FIRST)


def has(debian: Site, *addresses: str, data: bytes) -> None:
    for address in addresses:
        assert debian.read(address) == data, address


def kill(debian: Site, guest: DebianGuest) -> None:
    """What serves the images: clients see a pause, and nothing else."""
    before = daemons(guest)
    assert len(before) == 2
    guest.check(f"kill -KILL {' '.join(before)}")
    for address in _COPIES.values():
        debian.write(address, _THIRD)
    has(debian, *_COPIES.values(), data=_THIRD)
    has(debian, *_DISKS.values(), data=_SECOND)
    after = daemons(guest)
    assert len(after) == 2
    assert not set(before) & set(after)


def stop(guest: DebianGuest) -> None:
    """Nothing of it is left but what opens, and that has nothing open."""
    guest.check(f"systemctl stop {UNIT}")
    wait_for(lambda: not daemons(guest), PATIENCE_S, lambda: guest.journal(_IMAGES), every_s=0.2)
    assert mounted(guest) == ""
    succeeds(guest, "umount /mnt/fast && ! compgen -G '/run/aoe-image-*'")
    assert guest.check(f"systemctl list-units --failed --no-legend --plain '{_IMAGES}'") == ""


def daemons(guest: DebianGuest) -> list[str]:
    """Their numbers."""
    return guest.run(f"pgrep -f ^{_DAEMON}").output.split()


def mounted(guest: DebianGuest) -> str:
    """What an image is mounted at."""
    return guest.run("grep aoe-image /proc/1/mountinfo").output
