"""A whole Debian 12 with systemd: the package is installed, a disk is a service, and stays one."""

import re
from pathlib import Path

import pytest

from tests.support.labs.debian import renumbered
from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.machine import PATIENCE_S
from tests.support.waiting import wait_for
from tests.vm import ailing, confined, own_disk, pooled, told
from tests.vm.conftest import Site
from tests.vm.unit import (
    PACKAGE_S,
    UNIT,
    again,
    drop_in,
    given,
    holds,
    metrics,
    restarts,
    says,
    serves,
    settled,
    succeeds,
    written,
)

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

DATA_BYTES = 8 << 20
DATA_AT = "16777216"
"""Behind what the writers write."""
LATER, OTHER_NAMES = "99.0", "aoe9"
"""Of a package that is newer, and has other names for what is held."""


def test_a_disk_is_a_service(debian: Site) -> None:
    later = renumbered(debian.package, debian.work, LATER, names_otherwise)
    with debian.booted(debian.package, later, *confined.FORBIDDEN, cards=own_disk.cards()) as guest:
        install(guest, debian.package)
        serve(guest)
        check_reload(guest)
        confined.check(guest, 2)
        ailing.add(guest)
        own_disk.mount(guest, 4)
        told.check_doctor(guest)
        confined.check_without_opener(guest, 4)
        told.check_metrics(guest)
        ailing.fail(debian, guest, 3)
        told.check_journal(guest, ailing.ADDRESS)
        count = settled(guest)
        check_store(debian, guest, count)
        ailing.refused(debian)
        check_watchdog(debian, guest, count)
        check_packages(debian, guest, later, count)
        ailing.refused(debian)
        check_stop(guest, count)
        ailing.well(debian)
        check_wrong_file(guest)
        pooled.check(debian, guest, later, 4)
        ailing.remove(guest)
        guest.power_off()
    own_disk.check_clean(debian.work)
    with debian.booted(cards=own_disk.cards()) as guest:
        serves(guest, 3)
        own_disk.check_after_boot(guest)
        assert guest.check("systemctl --failed --no-legend --plain") == ""
        debian.read("e1.0", sectors=8)
        remove(guest)


def names_otherwise(files: Path) -> None:
    """In a package's files."""
    (module,) = files.rglob("aoe/node/held.py")
    text, count = re.subn(r'(?m)^_VERSION = ".*"$', f'_VERSION = "{OTHER_NAMES}"', module.read_text())
    assert count == 1
    module.write_text(text)


def install(guest: DebianGuest, package: Path) -> None:
    """With the line of the README. It says how to go on, and so does the service."""
    there = "mkdir -p /root/here && cd /root/here && export DEBIAN_FRONTEND=noninteractive"
    version = package.name.removeprefix("aoe-target_")
    said = guest.check(f"{there} && apt-get install -y ../aoe-target_{version}", PACKAGE_S)
    assert "examples/tutorial.md" in said
    guest.check("test -f /usr/share/doc/aoe-target/examples/tutorial.md")
    assert guest.check("getent passwd aoe-target").startswith("aoe-target:")
    assert guest.property(UNIT, "UnitFileState") == "disabled"
    refused = guest.run("systemctl enable --now aoe-target")
    assert refused.status
    remedy = "/etc/aoe-target.toml does not exist; write it: man aoe-target.toml"
    succeeds(guest, f"systemctl status --no-pager --full {UNIT} | grep '{remedy}'")
    guest.check("systemctl disable aoe-target")


def serve(guest: DebianGuest) -> None:
    """As the example says."""
    assert "remote-fs-pre.target" in guest.property(UNIT, "Before").split()
    guest.check("cp /usr/share/doc/aoe-target/examples/aoe-target.toml /etc")
    guest.check("systemctl enable --now aoe-target")
    units = f"{UNIT} {confined.OPENER}"
    assert guest.check(f"systemd-analyze verify --man=no {units}") == ""
    serves(guest, 1)
    says(guest, "e1.0: /dev/vdb")
    assert "without the compiled engine" not in guest.journal(UNIT)
    status = guest.check(f"cat /proc/{guest.pid(UNIT)}/status")
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
    assert re.search(r"^Uid:\t(?!0\t)", status, re.MULTILINE), status
    assert guest.check("stat --format '%U %a' /var/lib/aoe-target").split() == ["aoe-target", "700"]


def check_reload(guest: DebianGuest) -> None:
    """Another disk is served, and the first one is left alone; a file that is wrong changes nothing."""
    before = guest.pid(UNIT)
    guest.check("(umask 077 && truncate -s 1M /srv/more.img)")
    more = '[[export]]\\npath = "/srv/more.img"\\nshelf = 1\\nslot = 1\\n'
    guest.check(f"printf '{more}' >>/etc/aoe-target.toml")
    guest.check(f"systemctl reload {UNIT}")
    serves(guest, 2)
    guest.check("cp /etc/aoe-target.toml /root/good.toml && echo nonsense >>/etc/aoe-target.toml")
    assert guest.run(f"systemctl reload {UNIT}").status
    says(guest, "/etc/aoe-target.toml:")
    guest.check("cp /root/good.toml /etc/aoe-target.toml")
    assert (guest.pid(UNIT), guest.property(UNIT, "ActiveState")) == (before, "active")
    assert metrics(guest).output.count('state="serving"} 1') == 2


def check_store(debian: Site, guest: DebianGuest, count: int) -> None:
    """What systemd holds for it is the same after whatever becomes of it, and clients see a pause at most. A
    disk that has failed stays so."""
    assert count >= 2
    with drop_in(guest, "ExecStartPre=/usr/bin/test ! -e /run/fail"), written(debian.writing_client()):
        before = guest.pid(UNIT)
        guest.check(f"systemctl restart {UNIT}")
        again(guest, before, 3, failed=1)
        names = given(guest)
        assert names
        assert all(name.startswith("aoe") for name in names)
        before = guest.pid(UNIT)
        guest.check(f"kill -KILL {before}")
        again(guest, before, 3, failed=1)
        assert (restarts(guest), given(guest)) == (1, kept(names))
        holds(guest, count)
        check_failed_start(guest)
        assert given(guest) == kept(names)
        holds(guest, count)
        guest.check("ip link set eth0 down && sleep 1 && ip link set eth0 up")
        holds(guest, count)


def kept(names: list[str]) -> list[str]:
    """What is left of the names after an end that was no clean one: nothing is for the next life alone."""
    return [name for name in names if "-life-" not in name]


def check_failed_start(guest: DebianGuest) -> None:
    """Of some; the next one that does not fail goes on with what was held."""
    before, times = guest.pid(UNIT), restarts(guest)
    guest.check(f"touch /run/fail && kill -KILL {before}")
    wait_for(lambda: restarts(guest) > times + 2, PATIENCE_S, "it is not tried again")
    guest.check("rm /run/fail")
    again(guest, before, 3, failed=1)


def check_watchdog(debian: Site, guest: DebianGuest, count: int) -> None:
    """A process that hangs is ended and started again, by the unit as it is; clients wait."""
    before, times = guest.pid(UNIT), restarts(guest)
    with written(debian.writing_client()):
        guest.check(f"kill -STOP {before}")
        again(guest, before, 3, failed=1)
    says(guest, "atchdog timeout")
    assert restarts(guest) == times + 1
    holds(guest, count)


def check_packages(debian: Site, guest: DebianGuest, later: Path, count: int) -> None:
    """A newer package is installed and the older one again. What the other one had held is closed, which is
    said, and opened afresh; no client sees an error. What is mounted goes on."""
    old = version(guest)
    with written(debian.writing_client()):
        change_package(guest, later)
        assert version(guest) == LATER
        check_afresh(guest, count, "aoe1")
        change_package(guest, debian.package)
        assert version(guest) == old
        check_afresh(guest, count, OTHER_NAMES)
    before = guest.pid(UNIT)
    guest.check(f"systemctl restart {UNIT}")
    again(guest, before, 3, failed=1)
    assert named(given(guest), "aoe1")
    own_disk.check(guest)


def change_package(guest: DebianGuest, package: Path) -> None:
    before = guest.pid(UNIT)
    how = "DEBIAN_FRONTEND=noninteractive apt-get install -y --allow-downgrades"
    guest.check(f"cd /root && {how} ./{package.name}", PACKAGE_S)
    again(guest, before, 3, failed=1)


def check_afresh(guest: DebianGuest, count: int, names: str) -> None:
    """After an upgrade: what it was given has names of the other version, and as much is held again. The name
    of its life it has understood: it is no service that was stopped."""
    theirs = given(guest)
    assert named(theirs, names)
    what = "is of another version of the service: closed, and opened afresh"
    says(guest, *(f"{name} {what}" for name in theirs if "-name-" not in name))
    holds(guest, count)


def named(them: list[str], version: str) -> bool:
    """Whether there are some, and all of that version."""
    return bool(them) and all(name.startswith(f"{version}-") for name in them)


def version(guest: DebianGuest) -> str:
    return guest.check("dpkg-query --show --showformat '${Version}' aoe-target")


def check_wrong_file(guest: DebianGuest) -> None:
    """It does not start, says why, and is not tried again."""
    guest.check("cp /etc/aoe-target.toml /root/good.toml && echo nonsense >>/etc/aoe-target.toml")
    assert guest.run(f"systemctl restart {UNIT}").status
    assert (guest.property(UNIT, "ActiveState"), restarts(guest)) == ("failed", 0)
    says(guest, "/etc/aoe-target.toml:", since="Starting")
    guest.check("cp /root/good.toml /etc/aoe-target.toml")
    guest.check(f"systemctl start {UNIT}")


def check_stop(guest: DebianGuest, count: int) -> None:
    """It lets go of all, and says so; who asks for metrics starts nothing. It forgets which disk failed."""
    guest.check(f"systemctl stop {UNIT}")
    says(guest, "systemctl stop lets go of them", since="Stopping")
    holds(guest, 0)
    told.check_metrics_stopped(guest)
    guest.check(f"systemctl start {UNIT}")
    serves(guest, 4)
    told.check_metrics(guest)
    assert given(guest) == []
    holds(guest, count)


def remove(guest: DebianGuest) -> None:
    """Nothing of it runs any more, and nothing is left that it made."""
    guest.check("DEBIAN_FRONTEND=noninteractive apt-get purge -y aoe-target", PACKAGE_S)
    succeeds(guest, "! pgrep --list-full -u aoe-target && ! pgrep --list-full -f 'aoe nbd|aoe-target|nbdkit'")
    guest.check("test ! -e /var/lib/aoe-target && test -e /etc/aoe-target.toml && ! mountpoint -q /mnt/own")
    states = "--state=active,activating,deactivating,failed"
    succeeds(guest, f"! systemctl list-units {states} --no-legend --plain 'aoe-*' | grep .")
