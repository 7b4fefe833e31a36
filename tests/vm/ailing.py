"""A disk whose sync fails once: one of the guest's own, and while a file is there, its writes are refused."""

from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.machine import PATIENCE_S
from tests.vm.conftest import Site
from tests.vm.unit import UNIT, serves, succeeds

ADDRESS = "e1.3"
_EXPORT = '\\n# ailing\\n[[export]]\\npath = "/dev/nbd1"\\ndirect = false\\nshelf = 1\\nslot = 3\\n'
_REFUSES, _SOCKET, _STORE = "/run/refuse", "/run/ailing.socket", "/srv/ailing"
_NBDKIT = (
    f"nbdkit --foreground --unix {_SOCKET} --filter=error file {_STORE} "
    f"error-pwrite=EIO error-pwrite-rate=100% error-pwrite-file={_REFUSES}"
)
_RUN = "systemd-run --quiet --unit=ailing --property=KillSignal=SIGKILL"
"""It would wait for the kernel to let go of the disk."""
_DATA = bytes(range(256)) * 2


def add(guest: DebianGuest) -> None:
    """Have it, and name it in the file."""
    guest.check(f"truncate -s 4M {_STORE} && modprobe nbd && {_RUN} {_NBDKIT}")
    guest.check(f"until test -S {_SOCKET}; do sleep .1; done && nbd-client -unix {_SOCKET} /dev/nbd1")
    guest.check(f"printf '{_EXPORT}' >>/etc/aoe-target.toml")


def fail(debian: Site, guest: DebianGuest, others: int) -> None:
    """A write is lost. Then nothing is wrong with the disk any more, but nobody knows what else it lacks."""
    guest.check(f"touch {_REFUSES}")
    refused(debian)
    guest.check(f"rm {_REFUSES}")
    serves(guest, others, failed=1)
    refused(debian)
    told = f"SYSTEMD_COLORS=0 journalctl --boot --unit={UNIT} --output=cat --no-pager AOE_EXPORT={ADDRESS}"
    succeeds(guest, f"{told} | grep '^{ADDRESS}: .*sync'")


def refused(debian: Site) -> None:
    """It takes no write, and says so to the client."""
    process = debian.writes(ADDRESS)
    _, err = process.communicate(_DATA, timeout=PATIENCE_S)
    assert process.returncode == 1, err.decode()
    assert err.splitlines()[-1].startswith(b"aoe.errors.DiskError:"), err.decode()


def well(debian: Site) -> None:
    """It takes a write again, and has it."""
    debian.write(ADDRESS, _DATA)
    assert debian.read(ADDRESS) == _DATA


def remove(guest: DebianGuest) -> None:
    """From the file that is read when the machine boots, where it is no more."""
    guest.check("sed -i '/^# ailing$/,/^slot = 3$/d' /etc/aoe-target.toml")
