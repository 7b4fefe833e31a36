"""How long a machine without a disk takes to boot: python -m bench.root, as root.

From the first line of the kernel to the login prompt, its root being two copies of an image on two targets,
with an overlay in memory, as README "A machine without a disk" has it; beside the same image with the same
initramfs on a disk of the emulator's, in turn. It prints a line for each boot, and the medians. The emulator
has no help of the processor's (TCG). `cpu_s` is what the emulator took meanwhile and says the same on a busy
machine; `stages_s` is when the kernel said what (since its start); `door_s` is what the door took in the
machine until then. `--written` has both roots written to instead: one target, no overlay.
`--pairs 3 --mtu 9000` takes five minutes.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.contest import cpu_ns
from tests.support.labs.guests.machine import BOOT_S, SIDE, add_tap, host, tap_card
from tests.support.labs.guests.target import Export, TargetProcess, ours
from tests.support.labs.network import Lab
from tests.vm.built_image import BuiltImage, built_image
from tests.vm.diskless import Node, copied

FIRST, LAST = "Linux version", "login: "
MTUS = (9000, 1500)
STEADY = "tsc=reliable systemd.mask=ssh.service"
"""For both: a kernel that gives this clock up, as on a busy machine, takes long to tell the time, and to find
primes for ssh takes a time of chance."""
MOST = 1.5
"""How much longer it may take without a disk, at an MTU of 9000."""
STAGES = {
    "initramfs": "Run /init",
    "disk": "is there, ",
    "mounted": "mounted filesystem",
    "systemd": "systemd[1]: systemd ",
}
"""What the kernel's log says first of each."""
DOOR = "cat /proc/$(pgrep -f ^@/usr/bin/nbdkit)/task/*/schedstat"


class Boot(NamedTuple):
    """Of one boot, from the first line of the kernel to the login prompt."""

    wall_s: float
    cpu_s: float
    target_s: float
    """What the targets took."""
    door_s: float
    """What the door took in the machine, by its own clock."""
    frames: int
    """Those that the machine sent."""
    requests: int
    mib: float
    """What was read of the disk, in so many requests of the kernel."""
    stages_s: dict[str, float]


class Site:
    """Where it boots: a cable to this machine, with as many targets as have a disk."""

    def __init__(self, lab: Lab, work: Path, built: BuiltImage, mtu: int, *, is_written: bool) -> None:
        self.lab, self.work, self.built, self.mtu, self.is_written = lab, work, built, mtu, is_written

    @contextmanager
    def _targets(self) -> Iterator[list[TargetProcess]]:
        how = () if self.is_written else ("--copy-of", self.built.builds[0]["id"])
        with ExitStack() as stack:
            found = []
            for number in range(1 if self.is_written else 2):
                directory = self.work / f"target{number}"
                directory.mkdir(exist_ok=True)
                export = Export(copied(self.built, directory / "root"), number + 1, 0)
                target = ours(export, directory, "--serial", "ROOT", *how, lab=self.lab)
                found.append(stack.enter_context(target))
            yield found

    def without_disk(self) -> Boot:
        """A boot with its root on the targets."""
        with self._targets() as targets:
            addresses = ",".join(f"e{number + 1}.0" for number in range(len(targets)))
            words = f"aoeroot={addresses}{'' if self.is_written else ',overlay=tmpfs'}"
            return self._boot(words, (), [it.process.pid for it in targets])

    def with_disk(self) -> Boot:
        """A boot with its root on a disk of its own."""
        root = copied(self.built, self.work / "root")
        drive = f"file={root},format=raw,if=virtio,cache=writeback"
        return self._boot("root=/dev/vda", ("-drive", drive), [])

    def _boot(self, words: str, arguments: Sequence[str], targets: Sequence[int]) -> Boot:
        card = tap_card("tap0", self.mtu)
        node = Node(self.work, self.built, f"{STEADY} {words}", *card, *arguments, lab=self.lab)
        try:
            node.wait_for(FIRST, BOOT_S)
            began_s, cpu, of_targets = time.monotonic(), cpu_ns(node.process.pid), sum(map(cpu_ns, targets))
            node.wait_for(LAST, BOOT_S)
            wall_s = time.monotonic() - began_s
            cpu, of_targets = cpu_ns(node.process.pid) - cpu, sum(map(cpu_ns, targets)) - of_targets
            frames = self._frames()
            with node:
                requests, mib = _read(node, "nbd0" if targets else "vda")
                door_s = _ran_s(node) if targets else 0.0
                return Boot(wall_s, cpu / 1e9, of_targets / 1e9, door_s, frames, requests, mib, _stages(node))
        finally:
            node.kill()

    def _frames(self) -> int:
        """What came out of the cable: all that the last machine sent, as each has the cable anew."""
        said = self.lab.run(SIDE, "cat", "/sys/class/net/tap0/statistics/rx_packets", check=True)
        return int(said.stdout)


def _read(node: Node, device: str) -> tuple[int, float]:
    """Requests and MiB (Documentation/block/stat.rst)."""
    requests, _, sectors, *_ = map(int, node.check(f"cat /sys/block/{device}/stat").split())
    return requests, sectors / 2048


def _ran_s(node: Node) -> float:
    return sum(int(line.split()[0]) for line in node.check(DOOR).splitlines()) / 1e9


def _stages(node: Node) -> dict[str, float]:
    said = node.check("dmesg")
    found = {name: re.search(rf"\[ *([0-9.]+)\] .*{re.escape(it)}", said) for name, it in STAGES.items()}
    return {name: float(it[1]) for name, it in found.items() if it}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--mtu", type=int, action="append")
    parser.add_argument("--written", action="store_true")
    said = parser.parse_args()
    built = built_image()
    for mtu in said.mtu or MTUS:
        kinds: dict[str, list[Boot]] = {"disk": [], "without": []}
        for _ in range(said.pairs):
            for kind, boots in kinds.items():
                with host() as lab, tempfile.TemporaryDirectory() as work:
                    add_tap(lab, "tap0", mtu)
                    site = Site(lab, Path(work), built, mtu, is_written=said.written)
                    boots.append(site.with_disk() if kind == "disk" else site.without_disk())
                print(json.dumps({"mtu": mtu, "kind": kind, **_rounded(boots[-1])}), flush=True)
        print(_verdict(mtu, kinds["disk"], kinds["without"]))


def _rounded(boot: Boot) -> dict[str, Any]:
    found = boot._asdict()
    return {name: round(it, 1) if isinstance(it, float) else it for name, it in found.items()}


def _verdict(mtu: int, disk: Sequence[Boot], without: Sequence[Boot]) -> str:
    """The medians, and what the one is of the other."""

    def median(of: Sequence[Boot], name: str) -> float:
        return statistics.median(getattr(it, name) for it in of)

    parts: list[Any] = [f"MTU {mtu}:"]
    for name in ("wall_s", "cpu_s"):
        here, there = median(disk, name), median(without, name)
        paired = statistics.median(
            getattr(one, name) / getattr(other, name) for one, other in zip(without, disk, strict=True)
        )
        parts.append(f"{name} {there:.1f} of {here:.1f}, {there / here:.2f} (paired {paired:.2f});")
    slow = mtu == max(MTUS) and median(without, "wall_s") > MOST * median(disk, "wall_s")
    return " ".join([*parts, "too long" if slow else "good"])


if __name__ == "__main__":
    main()
