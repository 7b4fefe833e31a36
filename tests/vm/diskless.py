"""A machine without a disk: it boots an image that `aoe-cloud` built, from primaries on this host."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.labs.guests.filesystem import trouble
from tests.support.labs.guests.machine import PATIENCE_S, PLAIN_CONSOLE, SIDE, ShellGuest, add_tap, tap_card
from tests.support.labs.guests.target import Export, TargetProcess, ours
from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.tools import tool
from tests.support.waiting import wait_for
from tests.vm.built_image import BuiltImage

MACS = (bytes.fromhex("52540000aa01"), bytes.fromhex("52540000aa02"))
TAPS = ("tap0", "tap1")
AOEROOT = "aoeroot=e1.0,e2.0,mtu=9000,interfaces=52:54:00:00:AA:01+52:54:00:00:AA:02"
SECTORS = 2048
"""Of a disk that is no root."""
UNSET = 0
"""The MTU of a card as long as nothing sets it: the usual one."""
_WRITER = (
    "n=0; while [ ! -e /run/stop ]; do f=w.$((n%20)); head -c 300000 /dev/urandom >/run/new &&"
    " cp /run/new /var/$f && sync /var/$f && (cd /run && sha256sum new | sed s,new,/var/$f, >/run/sum.$f)"
    " || touch /run/failed; n=$((n+1)); echo $n >/run/next && mv /run/next /run/count;"
    " read up _ </proc/uptime; echo $up >>/run/times; done; touch /run/over"
)
"""A file after the other; their checksums are kept where the disk is not."""


class Node(ShellGuest):
    """Boots an image, with these words behind its command line."""

    lifetime_s = 1400.0
    console_at = "ttyS0"
    """One of the two serial ports; the other's driver has no console then."""
    ends_by = "panic=-1"
    """Instead of a shell, where it cannot boot."""

    def __init__(
        self,
        work: Path,
        built: BuiltImage,
        words: str,
        *arguments: str,
        lab: Lab | None = None,
        memory_mib: int = 512,
    ) -> None:
        place, line = built.place, built.builds[0]["command_line"]
        boot = ("-kernel", str(place.kernel), "-initrd", str(place.initramfs))
        common = f"rw console={self.console_at} {self.ends_by} mitigations=off net.ifnames=0 {PLAIN_CONSOLE}"
        append = ("-append", f"{common} {line} {words}")
        super().__init__(work, *boot, *append, "-smp", "2", *arguments, lab=lab, memory_mib=memory_mib)


class Rescued(Node):
    """Its console is its shell."""

    console_at = "ttyS1"

    def last_words(self) -> str:
        """As of every guest."""
        return self.pending()


class Attended(Rescued):
    """With a person before it, who may press Enter."""

    ends_by = ""

    def types(self, text: str) -> None:
        """As that person."""
        self._shell.sendall(text.encode())


class Site:
    """Two cables from the node to this host, each with a primary at its end: e1.0 and e2.0."""

    def __init__(self, lab: Lab, work: Path) -> None:
        self.lab = lab
        self._work = work
        cards = (tap_card(tap, UNSET, mac) for tap, mac in zip(TAPS, MACS, strict=True))
        self.cards = [word for card in cards for word in card]
        for tap in TAPS:
            add_tap(lab, tap, 9000)

    def primary(self, number: int, image: Path, *how: str) -> TargetProcess:
        """One that serves from now on."""
        directory = self._work / f"primary{number}"
        directory.mkdir()
        export = Export(image, number + 1, 0, TAPS[number])
        return ours(export, directory, "--serial", "ROOT", *how, lab=self.lab)

    def other_disk(self) -> TargetProcess:
        """Another one, on the second cable, under the address of the first primary."""
        directory = self._work / "other"
        directory.mkdir()
        export = Export(image(directory / "disk", SECTORS), 1, 0, TAPS[1])
        return ours(export, directory, "--serial", "OTHER", lab=self.lab)

    def cable(self, number: int, state: str) -> None:
        """Is "up" or "down" from now on."""
        self.lab.run(SIDE, "ip", "link", "set", TAPS[number], state, check=True)


@contextmanager
def rescued(built: BuiltImage, site: Site, work: Path, words: str) -> Iterator[Node]:
    """A node that has its disk, and nothing of it mounted."""
    node = Rescued(work, built, f"aoeroot=e1.0,mtu=9000,rescue{words}", *site.cards, lab=site.lab)
    try:
        node.see("nothing of it is mounted")
        node.see("(aoe-root) ")
        yield node
    except BaseException:
        print(node.last_words())
        raise
    finally:
        node.kill()


class Writing:
    """A writer in a node, which begins at once."""

    def __init__(self, node: Node) -> None:
        self._node = node
        node.check(f"({_WRITER}) >/dev/null 2>&1 &")

    def goes_on(self, files: int = 3) -> None:
        """Wait until so many more were written."""
        before = self._count()
        wait_for(lambda: self._count() >= before + files, PATIENCE_S, self._node.text, every_s=0.3)

    def _count(self) -> int:
        return int(self._node.run("cat /run/count 2>/dev/null || echo 0").output)

    def end(self) -> dict[str, str]:
        """Each file, which is what it was written as, and its checksum."""
        node = self._node
        node.check("touch /run/stop")
        wait_for(lambda: not node.run("[ -e /run/over ]").status, PATIENCE_S, node.text, every_s=0.3)
        node.check("sync; echo 3 >/proc/sys/vm/drop_caches; [ ! -e /run/failed ]")
        sums = node.check("cat /run/sum.*")
        assert "FAILED" not in node.check("cat /run/sum.* | sha256sum -c")
        assert not trouble(node)
        return {path: digest for digest, path in (line.split() for line in sums.splitlines())}

    def written_at(self) -> list[float]:
        """When each file was there, in seconds since the boot."""
        return [float(it) for it in self._node.check("cat /run/times").split()]


def copied(built: BuiltImage, to: Path) -> Path:
    """A root of its own."""
    tool("cp", "--sparse=always", "--reflink=auto", built.place.base, to)
    return to


def check_in_order(image: Path) -> None:
    """The root was not in use when the machine stopped."""
    assert "needs_recovery" not in tool("dumpe2fs", "-h", image)
    tool("e2fsck", "-fn", image)


def check_files(image: Path, sums: dict[str, str]) -> None:
    """It has each of these, with its checksum."""
    copy = image.with_name("copy")
    for path, digest in sums.items():
        tool("debugfs", "-R", f"dump {path} {copy}", image)
        assert tool("sha256sum", copy).split()[0] == digest, path
