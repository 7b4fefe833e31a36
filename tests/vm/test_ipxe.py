"""A PC without a disk: iPXE boots an image from our target, over a tap and over UDP without privilege."""

import sys
import time
from pathlib import Path

import pytest

from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.guests import target as guest_target
from tests.support.labs.guests.machine import (
    Guest,
    add_tap,
    host,
    needs_qemu,
    tap_card,
    tied,
    udp_card,
)
from tests.support.labs.guests.target import Export
from tests.support.labs.ports import own_address
from tests.support.tools import need, need_namespaces, tool, which
from tests.vm.boot_sector import FAILURE, GREETING, write_image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

SHELF, SLOT = 88, 2
READY = "iPXE is up"
TARGET = (sys.executable, "-m", "aoe.cli.target")
STORE_BYTES = 400 << 20

# iPXE gives up after 16 s without an answer, in which a target may start late; on a busy machine it does not.
SCRIPT = f"""#!ipxe
ifopen net0
echo {READY}
:again
sanboot --no-describe --drive 0x80 aoe:e{SHELF}.{SLOT} || goto again
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    needs_qemu()
    need("ipxe")
    return tmp_path / "image"


def ipxe(directory: Path) -> list[str]:
    """QEMU arguments for a machine with no disk; its firmware's screen is COM1 too."""
    script = directory / "script"
    script.write_text(SCRIPT)
    return ["-M", "pc,graphics=off", "-kernel", which("ipxe") or "", "-initrd", str(script)]


def assert_boots(guest: Guest, text: bytes) -> None:
    """The boot sector ran, and the far sectors that it printed are those of the image."""
    console = guest.wait_for(text.decode().strip())
    assert GREETING.decode().strip() in console
    assert FAILURE.decode().strip() not in console


def test_boots_over_a_tap(image: Path, tmp_path: Path) -> None:
    need_namespaces()
    text = write_image(image, seed=1)
    with host() as lab:
        add_tap(lab, "tap0", 1500)
        with Guest(tmp_path, *ipxe(tmp_path), *tap_card("tap0"), lab=lab) as guest:
            guest.wait_for(READY)
            time.sleep(1)
            assert GREETING.decode().strip() not in guest.text(), "booted before there was a target"
            with guest_target.ours(Export(image, SHELF, SLOT), tmp_path, lab=lab):
                assert_boots(guest, text)


def test_boots_a_clone_of_a_template(image: Path, tmp_path: Path) -> None:
    """As an administrator makes it of an image, and a daemon serves it by its name."""
    need_namespaces()
    need("qemu-img")
    text = write_image(image, seed=4)
    config = tmp_path / "target.toml"
    with small_filesystem("xfs", tmp_path / "srv", STORE_BYTES) as store, host() as lab:
        add_tap(lab, "tap0", 1500)
        config.write_text(
            f'[target]\ninterfaces = ["tap0"]\nstate-dir = "{tmp_path}/state"\n'
            f'[[pool]]\nname = "fast"\npath = "{store}"\n'
            f'[[export]]\npath = "fast/web1"\nshelf = {SHELF}\nslot = {SLOT}\n'
        )
        for words in (
            ("pool", "init", "fast"),
            ("volume", "import", image, "fast/base"),
            ("volume", "template", "fast/base"),
            ("volume", "clone", "fast/base", "fast/web1"),
        ):
            tool(*TARGET, *words, "--config", config)
        run = tied(lab, *TARGET, "run", "--config", str(config), "--socket", str(tmp_path / "control"))
        with (
            guest_target.TargetProcess(run, tmp_path),
            Guest(tmp_path, *ipxe(tmp_path), *tap_card("tap0"), lab=lab) as guest,
        ):
            assert_boots(guest, text)


def test_boots_over_udp_without_privilege(image: Path, tmp_path: Path) -> None:
    text = write_image(image, seed=2)
    here, there = own_address(), own_address()
    link = "udp:{}:{},peer={}:{}".format(*here, *there)
    with (
        guest_target.ours(Export(image, SHELF, SLOT), tmp_path, "--link", link),
        Guest(tmp_path, *ipxe(tmp_path), *udp_card(here, there), drop=True) as guest,
    ):
        assert_boots(guest, text)


def test_vblade_on_the_same_tap(image: Path, tmp_path: Path) -> None:
    """The comparison: it boots as well, though its first reply is shorter than an Ethernet frame."""
    need_namespaces()
    text = write_image(image, seed=3)
    with host() as lab:
        add_tap(lab, "tap0", 1500)
        with (
            guest_target.vblade(Export(image, SHELF, SLOT), tmp_path, lab=lab),
            Guest(tmp_path, *ipxe(tmp_path), *tap_card("tap0"), lab=lab) as guest,
        ):
            assert_boots(guest, text)
