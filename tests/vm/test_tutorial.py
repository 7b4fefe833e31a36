"""The tutorial, as it is written, on two machines with systemd; and after both were started anew."""

import base64
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.checkers.tutorial import TUTORIAL, Part, parts
from tests.support.labs.debian import deb_kept
from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import PATIENCE_S, needs_qemu, udp_card
from tests.support.labs.peers import image
from tests.support.labs.ports import own_address
from tests.support.waiting import wait_for
from tests.vm.conftest import SECTORS, root_for

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

MACS = {"server": bytes.fromhex("020000000001"), "client": bytes.fromhex("020000000002")}
"""As it has them."""
REBOOT_AFTER = "Client"
"""The part that ends with what is there after a reboot."""

Machines = dict[str, DebianGuest]


def test_it_is_executed_as_written(tmp_path: Path) -> None:
    needs_qemu()
    package = deb_kept()
    homes = {name: home(tmp_path / name, package) for name in MACS}
    before, after = halves(parts(TUTORIAL.read_text()))
    with booted(homes, package) as machines:
        for part in before:
            follow(part, machines)
        for name in ("client", "server"):
            machines[name].power_off()
    with booted(homes) as machines:
        client = machines["client"]
        wait_for(lambda: client.run("cat /mnt/disk/file").output == "kept\n", PATIENCE_S, "not mounted")
        assert client.check("systemctl --failed --no-legend --plain") == ""
        for part in after:
            follow(part, machines)
        assert client.run("dmesg | grep -E 'I/O error|EXT4-fs (error|warning)'").output == ""


def halves(tutorial: list[Part]) -> tuple[list[Part], list[Part]]:
    """What is done before the reboot, and after it: all of it together."""
    (end,) = (number for number, part in enumerate(tutorial, 1) if part.title == REBOOT_AFTER)
    assert tutorial[end:]
    return tutorial[:end], tutorial[end:]


def home(directory: Path, package: Path) -> Path:
    """A machine's root and disk."""
    directory.mkdir()
    root_for(package, directory / "root")
    image(directory / "disk", SECTORS)
    return directory


@contextmanager
def booted(homes: dict[str, Path], *payload: Path) -> Iterator[Machines]:
    """All at once, joined by a cable."""
    ends = [own_address(), own_address()]
    with ExitStack() as stack:
        machines = {}
        for (name, directory), here, there in zip(homes.items(), ends, reversed(ends), strict=True):
            card = udp_card(here, there, mtu=9000, mac=MACS[name])
            disks = (directory / "disk",)
            guest = DebianGuest(directory, kernel(), directory / "root", *card, disks=disks, payload=payload)
            stack.callback(guest.kill)
            machines[name] = guest
        for guest in machines.values():
            stack.enter_context(guest)
        yield machines


def follow(part: Part, machines: Machines) -> None:
    """Do what it says, and see what it shows."""
    assert part.blocks, part.title
    for block in part.blocks:
        shown = execute(machines[block.machine], block.commands)
        if block.shown is not None:
            assert re.fullmatch(pattern(block.shown), shown, re.DOTALL), shown


def execute(guest: DebianGuest, commands: str) -> str:
    """As one script of root's, which ends with the first command that fails."""
    script = base64.b64encode(commands.encode()).decode()
    guest.check(f"echo {script} | base64 -d >/run/script")
    done = guest.run("cd /root && DEBIAN_FRONTEND=noninteractive bash -e /run/script")
    assert done.status == 0, done.output + guest.run("journalctl --no-pager -n 60 -u 'aoe*'").output
    return done.output


def pattern(shown: str) -> str:
    """What may be printed: `...` is anything, and so is the width of a gap."""
    return ".*".join(r"\s+".join(map(re.escape, re.split(r"\s+", it))) for it in shown.split("..."))
