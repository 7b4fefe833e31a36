"""A whole Debian 12 with systemd: the package is installed, a disk is a service, and stays one."""

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.labs.debian import renumbered
from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.target import Export, ours
from tests.support.labs.peers import image
from tests.support.waiting import wait_for
from tests.vm.conftest import SECTORS, Site

pytestmark = pytest.mark.vm

UNIT = "aoe-target.service"
DATA_BYTES = 8 << 20
EXPOSURE_MAX = 2.5
"""Of `systemd-analyze security`, 0 to 10: raw sockets and the disk are what is left."""


def ended(process: "subprocess.Popen[bytes]", timeout: float = 60) -> str:
    """What it printed; it ends well."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err.decode()
    return out.decode(errors="replace")


def test_a_disk_is_a_service(debian: Site) -> None:
    data = debian.work / "data"
    data.write_bytes(bytes(range(256)) * (DATA_BYTES // 256))
    later = renumbered(debian.package, debian.work, "99.0")
    with debian.booted(debian.package, later) as guest:
        install(guest, debian.package)
        serve(guest)
        check_reload(guest)
        check_crash(guest)
        with clients_write(debian):
            guest.check(f"systemctl restart {UNIT}", 60)
        check_upgrade(guest, later, debian)
        check_nbd(debian, guest)
        check_wrong_file(guest)
        assert exposure(guest) <= EXPOSURE_MAX
        ended(debian.aoe("copy", data, "e1.0", "--verify"))
        guest.power_off()
    with debian.booted() as guest:
        wait_for(
            lambda: guest.property(UNIT, "StatusText").startswith("2 serving;"), 120, "it serves nothing"
        )
        assert guest.check("systemctl --failed --no-legend --plain") == ""
        ended(debian.aoe("copy", "e1.0", debian.work / "back"))
    assert (debian.work / "back").read_bytes()[:DATA_BYTES] == data.read_bytes()


def install(guest: DebianGuest, package: Path) -> None:
    """With the line of the README."""
    there = "mkdir -p /root/here && cd /root/here && export DEBIAN_FRONTEND=noninteractive"
    version = package.name.removeprefix("aoe-target_")
    guest.check(f"{there} && apt-get install -y ../aoe-target_{version}", 200)
    assert guest.check("getent passwd aoe-target").startswith("aoe-target:")
    guest.check("test -f /usr/share/man/man8/aoe-target.8.gz || grep -q share/man /etc/dpkg/dpkg.cfg.d/*")


def serve(guest: DebianGuest) -> None:
    """As the example says."""
    assert guest.property(UNIT, "UnitFileState") == "disabled"
    assert "remote-fs-pre.target" in guest.property(UNIT, "Before").split()
    guest.check("cp /usr/share/doc/aoe-target/examples/aoe-target.toml /etc")
    guest.check("systemctl enable --now aoe-target", 90)
    assert guest.check(f"systemd-analyze verify --man=no {UNIT}", 60) == ""
    assert guest.property(UNIT, "StatusText").startswith("1 serving;")
    assert "e1.0: /dev/vdb" in guest.journal(UNIT)
    assert "without the compiled engine" not in guest.journal(UNIT)
    status = guest.check(f"cat /proc/{guest.pid(UNIT)}/status")
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
    assert re.search(r"^Uid:\t(?!0\t)", status, re.MULTILINE), status
    assert guest.check("stat --format '%U %a' /var/lib/aoe-target").split() == ["aoe-target", "700"]


def check_reload(guest: DebianGuest) -> None:
    """Another disk is served, and the first one is left alone; a file that is wrong changes nothing."""
    before = guest.pid(UNIT)
    guest.check("truncate -s 1M /srv/more.img && chown aoe-target /srv/more.img")
    more = '[[export]]\\npath = "/srv/more.img"\\nshelf = 1\\nslot = 1\\n'
    guest.check(f"printf '{more}' >>/etc/aoe-target.toml")
    guest.check(f"systemctl reload {UNIT}", 60)
    guest.check("cp /etc/aoe-target.toml /root/good.toml && echo nonsense >>/etc/aoe-target.toml")
    assert guest.run(f"systemctl reload {UNIT}", 60).status
    assert "/etc/aoe-target.toml:" in guest.journal(UNIT)
    guest.check("cp /root/good.toml /etc/aoe-target.toml")
    assert (guest.pid(UNIT), guest.property(UNIT, "ActiveState")) == (before, "active")
    wait_for(lambda: guest.property(UNIT, "StatusText").startswith("2 serving;"), 60, "not told")


def check_crash(guest: DebianGuest) -> None:
    """systemd starts it again."""
    before = guest.pid(UNIT)
    guest.check(f"kill -KILL {before}")
    wait_for(lambda: guest.pid(UNIT) not in (0, before), 60, "not started again")
    assert guest.property(UNIT, "NRestarts") == "1"
    wait_for(lambda: guest.property(UNIT, "StatusText").startswith("2 serving;"), 60, "it serves nothing")


@contextmanager
def clients_write(debian: Site) -> Iterator[None]:
    """Meanwhile, over and over, and they see no error."""
    words = ("bench", "e1.0", "--rw", "randwrite", "--overwrite", "--iodepth", "4", "--runtime", "5")
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            ended(debian.aoe(*words))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        time.sleep(2)
        try:
            assert not writing.done(), writing.result()
            yield
        finally:
            over.set()
        writing.result()


def check_upgrade(guest: DebianGuest, later: Path, debian: Site) -> None:
    """A newer package is installed, which starts the service anew."""
    before = guest.pid(UNIT)
    with clients_write(debian):
        guest.check(f"cd /root && dpkg --install {later.name}", 200)
    assert guest.check("dpkg-query --show --showformat '${Version}' aoe-target") == "99.0"
    assert guest.pid(UNIT) not in (0, before)
    assert guest.property(UNIT, "StatusText").startswith("2 serving;")


def check_wrong_file(guest: DebianGuest) -> None:
    """It does not start, says why, and is not tried again."""
    guest.check("echo nonsense >>/etc/aoe-target.toml")
    assert guest.run(f"systemctl restart {UNIT}", 60).status
    assert (guest.property(UNIT, "ActiveState"), guest.property(UNIT, "NRestarts")) == ("failed", "0")
    assert "/etc/aoe-target.toml:" in guest.journal(UNIT).rpartition("Starting")[2]
    guest.check("cp /root/good.toml /etc/aoe-target.toml")
    guest.check(f"systemctl start {UNIT}", 60)


def check_nbd(debian: Site, guest: DebianGuest) -> None:
    """The package's `aoe nbd`, with a disk that this side serves."""
    other = image(debian.work / "other", SECTORS)
    other.write_bytes(b"here" * (SECTORS * 128))
    with ours(Export(other, 2, 0), debian.work, lab=debian.lab):
        guest.check("aoe nbd e2.0 --interface eth0 --socket /run/e2.sock >/run/said 2>&1 & echo $! >/run/nbd")
        wait_for(lambda: "serves" in guest.check("cat /run/said"), 60, "not served")
        guest.check("nbd-client -unix /run/e2.sock /dev/nbd0", 30)
        assert guest.check("head -c 8 /dev/nbd0", 30) == "herehere"
        guest.check("nbd-client -d /dev/nbd0 && kill $(cat /run/nbd)", 30)


def exposure(guest: DebianGuest) -> float:
    """As systemd counts it, 0 to 10."""
    plain = "SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0"
    said = guest.check(f"{plain} systemd-analyze security --no-pager {UNIT}", 60)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])
