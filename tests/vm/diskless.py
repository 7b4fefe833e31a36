"""A machine that boots an image which `aoe-cloud` built, and copies of the image for it."""

from pathlib import Path

from tests.support.labs.guests.machine import PLAIN_CONSOLE, ShellGuest
from tests.support.labs.network import Lab
from tests.support.tools import tool
from tests.vm.built_image import BuiltImage


class Node(ShellGuest):
    """Boots an image, with these words behind its command line."""

    lifetime_s = 1400.0

    def __init__(
        self, work: Path, built: BuiltImage, words: str, *arguments: str, lab: Lab | None = None
    ) -> None:
        place, line = built.place, built.builds[0]["command_line"]
        boot = ("-kernel", str(place.kernel), "-initrd", str(place.initramfs))
        common = f"rw console=ttyS0 panic=-1 mitigations=off net.ifnames=0 {PLAIN_CONSOLE}"
        append = ("-append", f"{common} {line} {words}")
        super().__init__(work, *boot, *append, "-smp", "2", *arguments, lab=lab, memory_mib=512)


def copied(built: BuiltImage, to: Path) -> Path:
    """A root of its own."""
    tool("cp", "--sparse=always", "--reflink=auto", built.place.base, to)
    return to
