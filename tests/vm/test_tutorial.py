"""The tutorial, as it is written, on two machines with systemd; and after both were started anew."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.checkers.tutorial import TUTORIAL, Block, Part, parts
from tests.support.labs.debian import deb_kept
from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import PATIENCE_S, needs_qemu, udp_card
from tests.support.labs.peers import image
from tests.support.labs.ports import own_address
from tests.support.waiting import wait_for
from tests.vm.conftest import SECTORS, root_for
from tests.vm.unit import write

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

MACS = {"server": bytes.fromhex("020000000001"), "client": bytes.fromhex("020000000002")}
"""As it has them."""
REBOOT_AFTER = "Client"
"""The part that ends with what is there after a reboot."""
UNIT, WORDS = "aoe-nbd@nbd0", "/etc/aoe/nbd0.conf"
LOOK = re.compile(r"((aoe|cat /).*\n)+")
"""Commands that change nothing are repeated: a disk answers, and a path is usable, some time after its server
was started."""

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
        is_mounted_when_its_server_comes(machines)
        for part in after:
            follow(part, machines)
        assert client.run("dmesg | grep -E 'I/O error|EXT4-fs (error|warning)'").output == ""


def is_mounted_when_its_server_comes(machines: Machines) -> None:
    """The disk, where the mount has given up before."""
    client, server = machines["client"], machines["server"]
    client.check(f"systemctl stop {UNIT} && sed -i 's/eth0/eth0 --find 1/' {WORDS}")
    server.check("systemctl stop aoe-target")
    assert client.run("systemctl start mnt-disk.mount").status
    server.check("systemctl start aoe-target")
    wait_for(lambda: not client.run("mountpoint -q /mnt/disk").status, PATIENCE_S, "not mounted", every_s=0.5)
    client.check(f"sed -i 's/ --find 1//' {WORDS}")


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
    """Joined by a cable. The server is the first: who mounts its disk waits for a minute, and no longer."""
    ends = [own_address(), own_address()]
    with ExitStack() as stack:
        machines = {}
        for (name, directory), here, there in zip(homes.items(), ends, reversed(ends), strict=True):
            card = udp_card(here, there, mtu=9000, mac=MACS[name])
            disks = (directory / "disk",)
            guest = DebianGuest(directory, kernel(), directory / "root", *card, disks=disks, payload=payload)
            machines[name] = stack.enter_context(guest)
        yield machines


def follow(part: Part, machines: Machines) -> None:
    """Do what it says, and see what it shows."""
    assert part.blocks, part.title
    for block in part.blocks:
        execute(machines[block.machine], block)


def execute(guest: DebianGuest, block: Block) -> None:
    """As one script of root's, which ends with the first command that fails."""
    write(guest, "/run/script", block.commands)
    said = [""]

    def done() -> bool:
        status, said[0] = guest.run("cd /root && DEBIAN_FRONTEND=noninteractive bash -e /run/script")
        seen = block.shown is None or re.fullmatch(pattern(block.shown), said[0], re.DOTALL)
        return status == 0 and bool(seen)

    if LOOK.fullmatch(block.commands):
        wait_for(done, PATIENCE_S, lambda: said[0], every_s=0.5)
    else:
        assert done(), said[0]


def pattern(shown: str) -> str:
    """What may be printed: `...` is anything, and so is the width of a gap."""
    return ".*".join(r"\s+".join(map(re.escape, re.split(r"\s+", it))) for it in shown.split("..."))
