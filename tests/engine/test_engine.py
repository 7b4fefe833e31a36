"""The engine as part of a target: how it is chosen, what it does without, how far it goes."""

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from aoe.limits import FRAME_ROOM, RING_BUFFER
from aoe.wire import frame
from aoe.wire.frame import Command
from aoe.wire.protocol import SECTOR, SHELF_ALL, SLOT_ALL
from tests.support.labs.engine_target import LAUNCH, counted, engine_target
from tests.support.labs.fault_disk import FuseDisk
from tests.support.labs.load import (
    DATA,
    PIECE,
    latency,
    leave_outstanding,
    read_request,
    repeated,
    replies,
    write_request,
)
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.raw_client import Client, NoAnswer
from tests.support.tools import need, need_engine, need_namespaces, unavailable, which
from tests.support.waiting import PATIENCE_S, ran_s, wait_for

SECTORS = 32768
CONFIG_QUERY = bytes(8)
NOBODY = 65534


def asking_once(lab: Lab, slot: int = 1) -> Client:
    """A client of 1.slot that asks again only after so long that all it asks for is counted once."""
    return lab.client(1, slot, timeout=PATIENCE_S)


def launcher(*ways: str | Path) -> list[str | Path]:
    """For a target in a world that lacks something."""
    return [LAUNCH, *ways, "--"]


# Which code serves


ONE_LINE = "aoe-target: serving without the compiled engine: "


def test_auto_says_in_one_line_why_it_does_without(lab: Lab, tmp_path: Path) -> None:
    disk = f"{image(tmp_path / 'disk')}=1.1"
    with AoeTarget(lab, tmp_path, disk, "--engine", "auto", launcher=launcher("no-engine")) as target:
        (line,) = target.says(ONE_LINE).splitlines()
        assert line.startswith(ONE_LINE)
        assert re.search("install gcc, .*liburing-dev", line)
        assert python_serves(target, asking_once(lab))


def test_auto_serves_datagrams_without_it_and_without_a_word(lab: Lab, tmp_path: Path) -> None:
    """The engine is for Ethernet: that it does not serve UDP is no fault."""
    need_engine()
    disk = f"{image(tmp_path / 'disk')}=1.1"
    with AoeTarget(lab, tmp_path, disk, "--engine", "auto", "--link", "udp:127.0.0.1:0") as target:
        assert target.errors == ""
        assert python_serves(target, asking_once(lab))


def test_auto_uses_it_where_it_can(lab: Lab, tmp_path: Path) -> None:
    need_engine()
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1", "--engine", "auto") as target:
        client = asking_once(lab)
        client.write(0, DATA)
        assert client.read(0, PIECE) == DATA
        assert target.errors == ""
        numbers = counted(target)
        assert (numbers["engine_reads"], numbers["engine_writes"]) == (1, 1)


def test_python_is_a_choice(lab: Lab, tmp_path: Path) -> None:
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1", "--engine", "python") as target:
        assert target.errors == ""
        assert python_serves(target, asking_once(lab))


def python_serves(target: AoeTarget, client: Client) -> bool:
    client.write(0, DATA)
    assert client.read(0, PIECE) == DATA
    numbers = counted(target)
    assert (numbers["reads"], numbers["writes"]) == (1, 1)
    return not any(name.startswith("engine_") for name in numbers)


@pytest.mark.parametrize(
    ("ways", "options", "remedy"),
    [
        (("no-engine",), (), "install gcc, python3-dev and liburing-dev"),
        ((), ("--link", "udp:127.0.0.1:0"), "Ethernet interfaces only"),
    ],
    ids=["not-built", "udp"],
)
def test_c_is_refused_with_the_remedy(
    ways: Sequence[str], options: Sequence[str], remedy: str, lab: Lab, tmp_path: Path
) -> None:
    need_engine()
    disk = f"{image(tmp_path / 'disk')}=1.1"
    target = engine_target(lab, tmp_path, disk, *options, launcher=launcher(*ways)).launch()
    assert target.wait() == 2
    (line,) = target.errors.splitlines()
    assert remedy in line
    assert "--engine python" in line
    assert target.output == ""


# Without io_uring


def test_an_ordinary_kernel_is_not_complained_about(lab: Lab, tmp_path: Path) -> None:
    with engine_target(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1") as target:
        if "io_uring" in target.errors:
            unavailable(f"this kernel, or what confines us, refuses io_uring: {target.errors}")
        assert target.errors == ""


@pytest.mark.parametrize("way", ["no-uring", "no-locked-memory"])
def test_where_io_uring_is_refused_threads_do_its_work(way: str, lab: Lab, tmp_path: Path) -> None:
    cpus = ("--cpus", ",".join(map(str, two_cpus())))
    disks = [f"{image(tmp_path / f'disk{n}', SECTORS)}=1.{n}" for n in range(2)]
    with engine_target(lab, tmp_path, *disks, *cpus, launcher=launcher(way)) as target:
        if way == "no-uring":
            target.says("io_uring")
        for slot in range(2):
            exercise(asking_once(lab, slot))
        served_by_engine(target, 2)
        assert target.errors.count("io_uring") <= 1, "said for each thread"


def test_an_ordinary_user_may_use_the_engine(lab: Lab) -> None:
    with ordinary_work() as work:
        disk = f"{image(work / 'disk', SECTORS)}=1.1"
        give_away(work)
        prefix = ordinary_user()
        with engine_target(lab, work, disk, launcher=launcher("no-uring"), prefix=prefix) as target:
            assert target.says("io_uring").count("io_uring") == 1
            exercise(asking_once(lab))
            served_by_engine(target, 1)


def exercise(client: Client) -> None:
    """Reads, writes and a flush, so that each would show if it were not done."""
    rng = random.Random(5)
    expected = {lba: rng.randbytes(PIECE * SECTOR) for lba in rng.sample(range(0, SECTORS, PIECE), 40)}
    for number, (lba, data) in enumerate(expected.items()):
        client.write(lba, data, fua=bool(number % 2))
    client.flush()
    for lba, data in expected.items():
        assert client.read(lba, PIECE) == data


def served_by_engine(target: AoeTarget, times: int) -> None:
    numbers = counted(target)
    served = [numbers[f"engine_{name}"] for name in ("reads", "writes", "flushes")]
    assert served == [40 * times, 40 * times, times]


@contextmanager
def ordinary_work() -> Iterator[Path]:
    """A directory that any user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="aoe-") as made:
        yield Path(made)


def give_away(directory: Path) -> None:
    if ordinary_user():
        for path in (directory, *directory.iterdir()):
            os.chown(path, NOBODY, NOBODY)


def ordinary_user() -> list[str]:
    """What makes a command run as nobody with CAP_NET_RAW; in a user namespace that is what we are."""
    need("setpriv")
    if len(Path("/proc/self/uid_map").read_text().splitlines()[0].split()) != 3 or not may_be(NOBODY):
        return []
    raw = [
        "--inh-caps",
        "-all,+net_raw",
        "--ambient-caps",
        "-all,+net_raw",
        "--bounding-set",
        "-all,+net_raw",
    ]
    prefix = [which("setpriv") or "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *raw]
    tried = subprocess.run(
        [*prefix, sys.executable, "-c", "import aoe.cli.target"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        unavailable(f"an ordinary user cannot run {sys.executable}: install the package where he can")
    return prefix


def may_be(uid: int) -> bool:
    """Whether this user namespace knows a user."""
    ranges = [map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= uid < first + count for first, _, count in ranges)


DELAY_S = 1
"""Of a read: long enough that a processor that comes late does not look like one read after the other."""


@pytest.mark.parametrize("way", ["no-uring", None])
def test_direct_requests_run_at_the_same_time(way: str | None, lab: Lab, tmp_path: Path) -> None:
    slow = ["--filter=delay", "memory", "16M", f"delay-read={DELAY_S}"]
    with FuseDisk(tmp_path / "slow", plugin=slow) as disk:
        options = launcher(*([way] if way else []))
        with engine_target(lab, tmp_path, f"{disk.path}=1.1", "--direct", launcher=options) as target:
            client = lab.client()
            began = time.monotonic()
            leave_outstanding(client, 16, 0)
            assert len(list(itertools.islice(replies(client, 30), 16))) == 16
            assert time.monotonic() - began < 16 * DELAY_S / 2
            assert counted(target)["engine_reads"] == 16


# More than fits


def test_more_than_the_ring_holds_is_lost_and_survived(lab: Lab, tmp_path: Path) -> None:
    ring = RING_BUFFER // FRAME_ROOM
    with engine_target(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1") as target:
        client = asking_once(lab)
        client.write(0, DATA)
        target.pause()
        for _ in range(2 * ring):
            client.send(read_request(client, 0, 1))
        target.resume()
        answered = Counter[int]()

        def all_answered() -> bool:
            lost = counted(target)["ring_full"]
            answered.update(header.tag for header in replies(client, 0.5))
            return answered.total() + lost >= 2 * ring

        wait_for(all_answered)
        assert set(answered.values()) == {1}
        assert ring / 2 < len(answered) < 2 * ring, "nothing was lost: this tested nothing"
        client.write(8, DATA)
        assert client.read(0, 2 * PIECE) == 2 * DATA
        numbers = counted(target)
        assert numbers["engine_reads"] == len(answered) + 1
        assert numbers["ring_full"] == 2 * ring - len(answered)


# Many exports


def test_1000_exports(lab: Lab, tmp_path: Path) -> None:
    exports = {(1 + n // 250, n % 250): tmp_path / f"disk{n}" for n in range(1000)}
    for address, path in exports.items():
        path.write_bytes(content(*address))
    paths = [f"{path}={shelf}.{slot}" for (shelf, slot), path in exports.items()]
    options = {"launcher": launcher("few-descriptors")}
    with memory() as state, engine_target(lab, tmp_path, *paths, state_dir=state, **options) as target:
        client = asking_once(lab)
        assert discover(client, set(exports))
        rng = random.Random(7)
        for shelf, slot in rng.choices(list(exports), k=2000):
            lba = rng.randrange(8)
            data = client.read(lba, shelf=shelf, slot=slot)
            assert data == content(shelf, slot)[lba * SECTOR : (lba + 1) * SECTOR]
        assert target.resident_kib < 100 << 10
        assert counted(target)["engine_reads"] == 2000


def content(shelf: int, slot: int) -> bytes:
    """Eight sectors that no other export has."""
    return b"".join(bytes((shelf, slot, lba, 0)) * (SECTOR // 4) for lba in range(8))


def discover(client: Client, everyone: set[tuple[int, int]]) -> bool:
    """Whether there is a wildcard query that each of these answers, and that nobody answers twice: one of a
    few, for what a busy machine keeps waiting beyond SEND_BACKLOG_NS or SEND_BACKLOG_MAX is not sent. What
    the start has asked is answered first."""
    list(replies(client, 1.0))
    found = Counter[tuple[int, int, int]]()
    for _ in range(QUERIES):
        query = client.header(Command.CONFIG, shelf=SHELF_ALL, slot=SLOT_ALL)
        client.send(frame.encode(query, CONFIG_QUERY))
        found.update((it.tag, it.shelf, it.slot) for it in replies(client, 1.0))
        assert {(shelf, slot) for _, shelf, slot in found} <= everyone
        assert max(found.values(), default=1) == 1, "somebody answers twice"
        if all((query.tag, *it) in found for it in everyone):
            return True
    return False


QUERIES = 20


# Several threads


def test_two_threads_share_the_exports_and_rest_when_idle(lab: Lab, tmp_path: Path) -> None:
    cpus = two_cpus()
    exports = [f"{image(tmp_path / f'disk{n}', 64)}={1 + n // 128}.{n % 128}" for n in range(256)]
    exports += ["--cpus", ",".join(map(str, cpus))]
    with memory() as state, engine_target(lab, tmp_path, *exports, state_dir=state) as target:
        threads = {cpu: pinned(target, cpu) for cpu in cpus}
        client = asking_once(lab)
        busy = []
        for slot in (2, 3):
            before = {cpu: cpu_ns(task) for cpu, task in threads.items()}
            for n in range(500):
                client.read(n % 64, slot=slot)
            spent = {cpu: cpu_ns(task) - before[cpu] for cpu, task in threads.items()}
            busy.append(max(spent, key=lambda cpu: spent[cpu]))
            assert min(spent.values()) < max(spent.values()) / 5, "an export has two owners"
        assert set(busy) == set(cpus), "one thread owns all"
        numbers = counted(target)
        assert numbers["engine_reads"] == numbers["reads"] == 1000
        before_s = ran_s(target.pid)
        time.sleep(IDLE_S)
        assert ran_s(target.pid) - before_s < IDLE_SHARE * IDLE_S


IDLE_S = 5.0
IDLE_SHARE = 0.005
"""Of one core, with 256 exports and nobody asking."""


def two_cpus() -> list[int]:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        unavailable("needs two CPUs")
    return cpus


def pinned(target: AoeTarget, cpu: int) -> Path:
    """The one thread that may run on this CPU only."""
    wanted = re.compile(rf"^Cpus_allowed_list:\s{cpu}$", re.MULTILINE)
    tasks = Path(f"/proc/{target.pid}/task").iterdir()
    (found,) = [task for task in tasks if wanted.search((task / "status").read_text())]
    return found


def cpu_ns(task: Path) -> int:
    """Time on a CPU (proc(5), schedstat)."""
    return int((task / "schedstat").read_text().split()[0])


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_writes_by_two_interfaces_are_done_in_the_order_of_reception(kind: str, tmp_path: Path) -> None:
    """To the same sectors, alternating as the Linux driver does; all have arrived before any is taken."""
    need_namespaces()
    cpus = ",".join(map(str, two_cpus()))
    with Lab(mtu=9000, cables=2) as lab, memory() if kind == "memory" else nullcontext(tmp_path) as work:
        exports = [f"{image(work / f'disk{n}')}=1.{n}" for n in range(8)]
        options = ("--cpus", cpus, "--max-frame-age", "60")
        with engine_target(lab, tmp_path, *exports, *options, interfaces=["v0", "v1"]) as target:
            clients = [lab.client(interface=name, timeout=PATIENCE_S) for name in ("v0", "v1")]
            for turn in range(ROUNDS):
                target.pause()
                for number, slot in itertools.product(range(WRITES), range(8)):
                    overwrite(clients[(number + turn) % 2], slot, number)
                target.resume()
                for client in clients:
                    assert len(list(itertools.islice(replies(client, 30), 4 * WRITES))) == 4 * WRITES
                for slot in range(8):
                    assert clients[0].read(0, PIECE, slot=slot) == bytes([WRITES - 1]) * (PIECE * SECTOR)
            numbers = counted(target)
            assert numbers["engine_writes"] == ROUNDS * WRITES * 8
            assert numbers["engine_reads"] == ROUNDS * 8


ROUNDS = 5
WRITES = 20


def overwrite(client: Client, slot: int, number: int) -> None:
    client.slot = slot
    client.send(write_request(client, 0, bytes([number]) * (PIECE * SECTOR)))


@contextmanager
def memory() -> Iterator[Path]:
    """A directory in memory, where nothing waits for a disk, and which the engine serves in another way."""
    with tempfile.TemporaryDirectory(prefix="aoe-", dir="/dev/shm") as made:
        yield Path(made)


# What Python does meanwhile


def quick_disk(work: Path) -> FuseDisk:
    """Of 16 MiB; the machine's own may be slow for reasons of its own."""
    return FuseDisk(work / "quick", plugin=["memory", "16M"])


def stalling(lab: Lab, work: Path, disk: FuseDisk, flag: Path) -> AoeTarget:
    return engine_target(lab, work, f"{disk.path}=1.1", launcher=launcher("stall", flag))


def test_a_python_that_stands_still_does_not_show_on_the_wire(lab: Lab, tmp_path: Path) -> None:
    flag = tmp_path / "stall"
    with quick_disk(tmp_path) as disk, stalling(lab, tmp_path, disk, flag) as target:
        client, curious = lab.client(timeout=30, retries=0), lab.client(timeout=0.3, retries=0)
        flag.touch()
        wait_for(flag.with_suffix(".held").exists)
        writes = latency(lambda n: client.write(PIECE * n, DATA), 50)
        reads = latency(lambda n: client.read(PIECE * n, PIECE), 50)
        with pytest.raises(NoAnswer):
            curious.config()  # this is Python's to answer
        assert reads.p90 < 1
        assert writes.p90 < 1
        flag.unlink()
        curious.retries = 100
        curious.config()
        numbers = counted(target)
        assert (numbers["engine_reads"], numbers["engine_writes"]) == (50, 50)


def test_a_storm_of_signals_disturbs_nobody(lab: Lab, tmp_path: Path) -> None:
    with quick_disk(tmp_path) as disk, engine_target(lab, tmp_path, f"{disk.path}=1.1") as target:
        client = lab.client(timeout=30, retries=0)
        client.write(0, DATA)
        with repeated(lambda: storm(target)):
            wait_for(lambda: target.output.count("counters:") > 20, what="no storm")
            tries = next((it for it in range(1, 20) if undisturbed(client)), 0)
            assert tries, "not even once"
        numbers = counted(target)
        assert (numbers["engine_reads"], numbers["engine_writes"]) == (100 * tries, 20 * tries + 1)
        assert target.stop()
        assert target.status == 0


def undisturbed(client: Client) -> bool:
    reads = latency(lambda _: client.read(0, PIECE), 100)
    writes = latency(lambda n: client.write(PIECE * n, DATA), 20)
    return reads.p90 < 0.02 and writes.p90 < 0.1


def storm(target: AoeTarget) -> None:
    for number in (signal.SIGUSR1, signal.SIGHUP):
        os.kill(target.pid, number)
    time.sleep(0.001)
