"""A machine without a disk, from its boot until it is off, while its primaries and its door come and go: what
it wrote is there in the end, and nothing is left to recover. Each of these raises what is wrong; `tools/soak`
runs them. They return what its ledger wants: "calls" are files that were written.
"""

import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.checkers import executed
from tests.support.labs.fault_disk import FuseDisk
from tests.support.labs.guests import versions
from tests.support.labs.guests.machine import BOOT_S as COMES_UP_S
from tests.support.labs.guests.machine import PATIENCE_S, host
from tests.support.labs.guests.target import TargetProcess
from tests.support.labs.recorded import RecordedDisk
from tests.support.waiting import wait_for
from tests.vm.built_image import BuiltImage, built_image
from tests.vm.diskless import AOEROOT, Node, Site, Writing, check_files, check_in_order, copied, rescued
from tests.vm.volatile import VolatileDisk

KINDS = ("killed", "paused", "cut off", "restarted")
PAUSED_S = 5.0
BOOT_S, RUN_S, END_S = 40.0, 3.0, 4.0
"""In which part of a phase its fault begins."""
AWAY_S = 300.0
STALE_S = 2.0
"""Longer than a frame may wait at a target."""
RESIDENT_MAX_KIB = 32 << 10
SMALL_MIB = 256
_TROUBLE = r"I/O error|EXT4-fs (error|warning)|Aborting journal|Kernel panic|Out of memory|oom-kill"
_HUNG = "blocked for more than"
_RESTARTS = "reboot: Restarting system"
"""The last line of a kernel that does not power off."""
_LAST = "head -c 4000000 /dev/urandom >/run/last && cp /run/last /var/last && sha256sum </run/last"
"""A file that is written back only as the machine stops."""
_STABLE = (
    "n=0; while :; do f=/var/s.$n; n=$((n+1)); head -c 300000 /dev/urandom >/run/s && cp /run/s $f && sync $f"
    " && sha256sum </run/s | sed s,-,$f, >>/run/stable; done"
)
"""A file after the other; each is told of once it is stable."""
_UNSTABLE = "n=0; while :; do head -c 300000 /dev/urandom >/var/u.$((n%20)); n=$((n+1)); done"
REPAIRS = ": recovering journal"
"""What the console says of a root that was in use."""
_DIRTY = (
    "n=0; while [ ! -e /run/stop ]; do dd if=/dev/zero of=/var/dirty.$((n%2)) bs=1M count=80"
    " || touch /run/failed; n=$((n+1)); done"
)

_MOUNTS = 'case "$(cat /proc/mounts)" in *nbd0*) n=1 ;; *) n=0 ;; esac; echo in $n mounts'


class Enduring(Node):
    lifetime_s = 3600.0


class Fault(NamedTuple):
    """What happens to which primary, and how long after the phase began."""

    kind: str
    primary: int
    after_s: float


class Pair(NamedTuple):
    """Two primaries of one root."""

    site: Site
    image: Path
    primaries: tuple[TargetProcess, ...]

    @contextmanager
    def under(self, fault: Fault) -> Iterator[None]:
        """One of them is gone until the end of the block, or was for a moment before it."""
        primary = self.primaries[fault.primary]
        if fault.kind == "killed":
            primary.kill()
            yield
            primary.restart()
        elif fault.kind == "cut off":
            self.site.cable(fault.primary, "down")
            yield
            self.site.cable(fault.primary, "up")
        elif fault.kind == "paused":
            with stopped(primary):
                time.sleep(PAUSED_S)
            yield
        else:
            end(primary)
            primary.restart()
            yield


@contextmanager
def stopped(primary: TargetProcess) -> Iterator[None]:
    """What comes for it waits, and it takes that up at the end of the block."""
    primary.process.send_signal(signal.SIGSTOP)
    yield
    primary.process.send_signal(signal.SIGCONT)


def end(primary: TargetProcess) -> None:
    """In good order."""
    primary.process.terminate()
    primary.process.wait(timeout=PATIENCE_S)


@contextmanager
def _node(
    work: Path,
    memory_mib: int = 512,
    image_of: Callable[[], BuiltImage] = built_image,
    disk: FuseDisk | None = None,
) -> Iterator[tuple[Pair, Node]]:
    """A machine that has just been turned on. Its root is on `disk`, if there is one."""
    built = image_of()
    image = copied(built, disk.store if disk else work / "root")
    with ExitStack() as stack:
        site = Site(stack.enter_context(host()), work)
        served = stack.enter_context(disk).path if disk else image
        both = [stack.enter_context(site.primary(number, served, "--shared")) for number in range(2)]
        node = Enduring(work, built, AOEROOT, *site.cards, lab=site.lab, memory_mib=memory_mib)
        stack.callback(node.kill)
        yield Pair(site, image, tuple(both)), node


def cycle(work: Path, seed: int, image_of: Callable[[], BuiltImage] = built_image) -> dict[str, Any]:
    """Boot, write, power off: one fault in each of these. `pause_s` is the longest time between two files."""
    rng = random.Random(seed)
    boot, run, off = (_fault(rng, phase_s) for phase_s in (BOOT_S, RUN_S, END_S))
    with _node(work, image_of=image_of) as (pair, node):
        time.sleep(boot.after_s)
        with ExitStack() as stack:
            with pair.under(boot):
                stack.enter_context(node)
            writing = Writing(node)
            writing.goes_on()
            time.sleep(run.after_s)
            with pair.under(run):
                writing.goes_on()
            writing.goes_on()
            sums, said = writing.end(), _said(writing, 3)
            _off(pair, node, sums, off)
    return said


def _fault(rng: random.Random, phase_s: float) -> Fault:
    return Fault(rng.choice(KINDS), rng.randrange(2), rng.uniform(0, phase_s))


def _said(writing: Writing, moves: int) -> dict[str, Any]:
    at_s = writing.written_at()
    longest_s = max(after - before for before, after in pairwise(at_s))
    return {"pause_s": longest_s, "moves": moves, "calls": len(at_s), "faults": []}


def door_killed(work: Path, seed: int, times: int) -> dict[str, Any]:
    """Kill the door so often, every other time while a primary is stopped, which then has what the door had
    under way. `pause_s` is the longest pause of the door where both primaries were there, `pause_absent_s`
    where one was not."""
    rng = random.Random(seed)
    disk = RecordedDisk(work / "disk")
    with _node(work, disk=disk) as (pair, node), node:
        node.check(f"dd if=/dev/zero of=/var/{versions.FILE} bs=4k count=2 conv=fsync status=none")
        for place in versions.PLACES:
            node.check(f"({versions.writer(place, '/var', '/run')}) >/dev/null 2>&1 &")
        writing = Writing(node)
        for number in range(times):
            writing.goes_on(1)
            time.sleep(rng.uniform(0, 2))
            primary = pair.primaries[rng.randrange(2)]
            with stopped(primary) if number % 2 else nullcontext():
                time.sleep(rng.uniform(0, 1))
                node.check(f"kill -9 {_door(node)}")
                time.sleep(STALE_S)
            _wait_for_doors(node, number + 1)
        writing.goes_on()
        sums, pauses_s = writing.end(), _pauses_s(node)
        ended = " -a ".join(f"-e /run/over.{place}" for place in versions.PLACES)
        wait_for(lambda: not node.run(f"[ {ended} ]").status, PATIENCE_S, node.text, every_s=0.3)
        assert node.run("cat /run/stale").status, "what was read is older than what was written"
        newest = {it: int(node.check(f"cat /run/p.{it}").split()[1]) for it in versions.PLACES}
        sums[f"/var/{versions.FILE}"] = node.check("cat /run/p.[0-9] | sha256sum").split()[0]
        said = _said(writing, times)
        _off(pair, node, sums)
        said["faults"] = executed.faults_of_versions(disk.writes(), newest)
    return said | {"pause_s": max(pauses_s[::2]), "pause_absent_s": max(pauses_s[1::2], default=0.0)}


def _door(node: Node) -> str:
    """Its number."""
    return node.check("pgrep -f ^@/usr/bin/nbdkit").strip()


def _wait_for_doors(node: Node, times: int) -> None:
    wait_for(lambda: len(_pauses_s(node)) == times, PATIENCE_S, node.text, every_s=0.3)


def _pauses_s(node: Node) -> list[float]:
    """Of each door that took over."""
    return [float(it) for it in re.findall(r"I/O goes on after ([0-9.]+) s", node.check("dmesg"))]


def both_away(work: Path, seed: int, image_of: Callable[[], BuiltImage] = built_image) -> dict[str, Any]:
    """For five minutes there is no primary; then one is back, and later the other."""
    first, second = random.Random(seed).sample(range(2), 2)
    with _node(work, image_of=image_of) as (pair, node), node:
        writing = Writing(node)
        writing.goes_on()
        for primary in pair.primaries:
            primary.kill()
        time.sleep(AWAY_S)
        for number in (first, second):
            pair.primaries[number].restart()
            writing.goes_on()
        sums, said = writing.end(), _said(writing, 2)
        _off(pair, node, sums, may_hang=True)
    return said


def rebooted(work: Path, _: int, image_of: Callable[[], BuiltImage] = built_image) -> dict[str, Any]:
    """Boot, write, reboot, write, power off. The reset ends the emulator, and another one boots the root."""
    with _node(work, image_of=image_of) as (pair, node):
        with node:
            sums, said = _written(node)
            _off(pair, node, sums, verb="reboot")
            assert _RESTARTS in node.text()
        with _again(work, pair, image_of) as again:
            newer, _ = _written(again)
            _off(pair, again, sums | newer)
            assert _RESTARTS not in again.text()
    return said


def _again(work: Path, pair: Pair, image_of: Callable[[], BuiltImage] = built_image) -> Node:
    """The machine, when it has just been turned on once more."""
    return Enduring(work, image_of(), AOEROOT, *pair.site.cards, lab=pair.site.lab)


def _written(node: Node) -> tuple[dict[str, str], dict[str, Any]]:
    """Some files."""
    writing = Writing(node)
    writing.goes_on()
    return writing.end(), _said(writing, 1)


def power_cut(work: Path, seed: int) -> dict[str, Any]:
    """The machine loses its power as it writes, every other time with its primaries and the cache of their
    disk. It starts again, says that it repairs its root, and has all that was stable."""
    rng, disk = random.Random(seed), VolatileDisk(work / "disk")
    with _node(work, disk=disk) as (pair, node):
        with node:
            sums = pull_the_plug(node, rng.randrange(5, 20))
        if seed % 2:
            lose_power(pair.primaries, disk)
        with _again(work, pair) as again:
            assert REPAIRS in again.text(), again.last_words()
            _off(pair, again, sums)
    return {"calls": len(sums), "faults": []}


def pull_the_plug(node: Node, files: int) -> dict[str, str]:
    """As soon as it has told that so many files are stable, while it writes the next ones; and their
    checksums."""
    for writer in (_STABLE, _UNSTABLE):
        node.check(f"({writer}) >/dev/null 2>&1 &")

    def told() -> list[str]:
        return node.run("cat /run/stable").output.splitlines()

    told_of = wait_for(lambda: len(them := told()) >= files and them, PATIENCE_S, node.text, every_s=0.3)
    node.kill()
    return {path: digest for digest, path in (line.split() for line in told_of)}


def lose_power(primaries: Sequence[TargetProcess], disk: VolatileDisk) -> None:
    """Both, and they are turned on again."""
    for primary in primaries:
        primary.kill()
    disk.lose_power()
    for primary in primaries:
        primary.restart()


def rescue(work: Path, _: int, image_of: Callable[[], BuiltImage] = built_image) -> dict[str, Any]:
    """A person looks at the disk, of which nothing is mounted; then the boot goes on."""
    built = image_of()
    with host() as lab:
        site = Site(lab, work)
        served = site.primary(0, built.place.base, "--read-only")
        with served, rescued(built, site, work, ",overlay=tmpfs") as node:
            node.start(f"fstype /dev/nbd0; {_MOUNTS}")
            node.see("FSTYPE=ext4")
            node.see("in 0 mounts")
            node.start("exit")
            node.see(f"root {built.builds[0]['id']} active END", COMES_UP_S)
    return {"calls": 1, "faults": []}


def short_of_memory(work: Path, seed: int, minutes: float) -> dict[str, Any]:
    """A small machine writes more than it has memory for, while one primary after the other is restarted."""
    rng, times = random.Random(seed), 0
    with _node(work, SMALL_MIB) as (pair, node), node:
        node.check(f"({_DIRTY}) >/dev/null 2>&1 &")
        writing = Writing(node)
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            for primary in pair.primaries:
                rng.choice((end, TargetProcess.kill))(primary)
                time.sleep(rng.uniform(0, 2))
                primary.restart()
                time.sleep(rng.uniform(5, 15))
                writing.goes_on()
                times += 1
        peak_kib = int(node.check(f"grep VmHWM /proc/{_door(node)}/status").split()[1])
        assert peak_kib <= RESIDENT_MAX_KIB, f"{peak_kib} KiB of the door were resident"
        assert not _pauses_s(node), "the door was started again"
        sums, said = writing.end(), _said(writing, times)
        _off(pair, node, sums)
    return said | {"peak_kib": peak_kib}


def _off(
    pair: Pair,
    node: Node,
    sums: dict[str, str],
    fault: Fault | None = None,
    *,
    may_hang: bool = False,
    verb: str = "poweroff",
) -> None:
    """The machine is turned off, and all that it wrote is looked at on this host."""
    last = node.check(_LAST).split()[0]
    node.start(f"systemctl {verb}")
    time.sleep(fault.after_s if fault else 0)
    with pair.under(fault) if fault else nullcontext():
        node.process.wait(timeout=PATIENCE_S)
    for pattern in (_TROUBLE, *([] if may_hang else [_HUNG])):
        assert not (found := re.search(pattern, node.text())), found
    check_in_order(pair.image)
    check_files(pair.image, sums | {"/var/last": last})
