"""What other people's tests use: the example as they would run it, and that each fault is one."""

import asyncio
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import aoe.testing
from aoe.disk.faulty import FaultyDisk
from aoe.disk.memory import MemoryDisk
from aoe.errors import DiskError, RequestError, Unreachable
from aoe.testing import Lab
from tests.initiator.helpers import limited
from tests.link.collector import until
from tests.support.waiting import PROMPT_S

SIZE = 1 << 20
BOTH = ("e1.0", "e2.0")


def example() -> str:
    """The code in the module's docstring."""
    lines = textwrap.dedent(aoe.testing.__doc__ or "").split("\n\n", 2)[2]
    return textwrap.dedent(lines.rsplit("\n\n", 1)[0])


def owner(disk: aoe.initiator.remote.RemoteDisk) -> str:
    return next((path.name.split()[-1] for path in disk.paths if path.owner), "")


def pytest_of_others(tmp_path: Path, code: str) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "test_theirs.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)


# As others use it


def test_the_example_passes_in_a_project_of_others(tmp_path: Path) -> None:
    done = pytest_of_others(tmp_path, example())
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_example_can_fail(tmp_path: Path) -> None:
    done = pytest_of_others(tmp_path, example().replace('== b"kept"', '== b"lost"'))
    assert done.returncode == 1
    assert "1 failed" in done.stdout


def test_the_helpers_need_no_pytest() -> None:
    script = """
import sys
sys.modules["pytest"] = None
import asyncio
from aoe.disk.memory import MemoryDisk
from aoe.testing import Lab

async def run():
    lab = Lab()
    async with lab.serve(MemoryDisk(1 << 20)), lab.attach("e0.0") as disk:
        await disk.write(0, b"x")

asyncio.run(run())
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=30)


def test_the_fixture_is_a_lab_of_its_own(tmp_path: Path) -> None:
    code = """
pytest_plugins = ["aoe.testing"]
seen = []

def test_one(aoe_lab):
    seen.append(aoe_lab)

def test_two(aoe_lab):
    assert aoe_lab not in seen
"""
    assert "2 passed" in pytest_of_others(tmp_path, code).stdout


# What is there


@limited
async def test_a_target_and_a_client() -> None:
    lab, store = Lab(), MemoryDisk(SIZE)
    async with lab.serve(store), lab.attach("e0.0") as disk:
        await disk.write(0, b"data")
        assert await disk.read(0, 4) == store.data[:4] == b"data"
        assert disk.counters.keys() <= {"retransmits", "late_replies"}, "a busy machine's"
    assert store.data[:4] == b"data"


@limited
async def test_who_is_not_on_the_same_segment_is_not_seen() -> None:
    lab = Lab()
    async with lab.serve(MemoryDisk(SIZE), on=[1]):
        with pytest.raises(RequestError, match="does not answer"):
            async with lab.attach("e0.0", on=[0], find_s=0.1):
                pass
        async with lab.attach("e0.0", on=[0, 1]) as disk:
            assert len(disk.paths) == 1


@limited
async def test_one_disk_is_one_disk_and_another_is_another() -> None:
    lab, store = Lab(), MemoryDisk(SIZE)
    async with (
        lab.serve(store, "e1.0"),
        lab.serve(store, "e2.0"),
        lab.serve(MemoryDisk(SIZE), "e3.0"),
        lab.attach("e1.0", "e2.0", "e3.0") as disk,
    ):
        states = ["usable", "usable", "refused"]
        await until(lambda: [path.state for path in disk.paths] == states, what=f"{disk.paths}")


@limited
async def test_options_reach_both_ends() -> None:
    lab = Lab(mtu=1500)
    serving = lab.serve(MemoryDisk(SIZE), serial="MINE", buffer_count=3)
    async with serving as primary, lab.attach("e0.0", timeout_s=0.1) as disk:
        assert disk.identity == "MINE"
        assert disk.timeout_s == 0.1
        assert primary.target.server.responder.buffer_count == 3
        assert primary.cables[0].mtu == lab.client[0].mtu == 1500


# Faults of the network


def lost(lab: Lab) -> int:
    return lab.client[0].counters["fault_lost"]


@limited
async def test_frames_are_lost_on_cables_that_are_there_and_on_later_ones() -> None:
    lab = Lab()
    async with lab.serve(MemoryDisk(SIZE)) as primary, lab.attach("e0.0") as disk:
        assert lost(lab) == 0
        lab.faults(lose=0.2, repeat=0.2, late=0.2, delay_s=0.001)
        await disk.write(0, bytes(SIZE))
        assert lost(lab) > 0
        assert primary.cables[0].counters["fault_lost"] > 0
        assert disk.counters["retransmits"] > 0
        assert disk.counters["unknown_tag"] > 0, "replies were repeated"
        await primary.restart()
        assert primary.cables[0].lose == 0.2
        lab.faults()
        assert (primary.cables[0].lose, lab.client[0].repeat, lab.client[0].late) == (0, 0, 0)


@pytest.mark.parametrize(("seed", "same"), [(1, True), (2, False)])
def test_a_seed_decides_what_is_lost(seed: int, same: bool) -> None:
    def fates(seed: int) -> list[bool]:
        lab = Lab(seed=seed)
        lab.faults(lose=0.5)
        (cable,) = lab.cables(lab.new_host(), [0]).values()
        seen = []
        for _ in range(64):
            before = cable.counters["fault_lost"]
            cable.send(bytes(60))
            seen.append(cable.counters["fault_lost"] > before)
        return seen

    assert (fates(1) == fates(seed)) is same


@limited
async def test_a_cable_is_pulled_out_and_put_in() -> None:
    lab, segments = Lab(), (0, 1)
    async with (
        lab.serve(MemoryDisk(SIZE), on=segments) as primary,
        lab.attach("e0.0", on=segments) as disk,
    ):
        lab.client[0].plug(False)
        await disk.write(0, b"the other way")
        lab.client[0].plug()
        primary.cables[0].plug(False)
        primary.cables[1].plug(False)
        timeout_s, disk.timeout_s = disk.timeout_s, 0.3
        asked_s = time.monotonic()
        with pytest.raises(Unreachable):
            await disk.read(0, 512)
        assert time.monotonic() - asked_s < PROMPT_S, "the time that earlier requests had"
        primary.cables[1].plug()
        disk.timeout_s = timeout_s
        assert await disk.read(0, 3) == b"the"


# Faults of disks and servers


@limited
async def test_a_disk_fails_for_one_server_only() -> None:
    lab, store = Lab(), MemoryDisk(SIZE)
    async with (
        lab.serve(store, "e1.0") as one,
        lab.serve(store, "e2.0"),
        lab.attach("e1.0") as sick,
        lab.attach("e2.0") as well,
    ):
        one.disk.bad_offsets = {1024}
        with pytest.raises(DiskError):
            await sick.read(0, 4096)
        assert await well.read(0, 4096) == bytes(4096)


@limited
async def test_a_disk_hangs_and_leaving_does_not() -> None:
    lab = Lab()
    async with lab.serve(MemoryDisk(SIZE)) as primary:
        async with lab.attach("e0.0", timeout_s=0.2) as disk:
            primary.disk.hang.clear()
            with pytest.raises(Unreachable):
                await disk.read(0, 512)
        started = time.monotonic()
    assert time.monotonic() - started < PROMPT_S


@limited
async def test_a_faulty_disk_of_the_callers_own() -> None:
    lab, sick = Lab(), FaultyDisk(MemoryDisk(SIZE), bad_offsets={0})
    async with lab.serve(sick, "e1.0"), lab.serve(sick, "e2.0"), lab.attach(*BOTH) as disk:
        with pytest.raises(DiskError):
            await disk.read(0, 512)


@limited
async def test_a_server_that_was_killed_says_and_does_nothing_more() -> None:
    lab, store = Lab(), MemoryDisk(SIZE)
    async with lab.serve(store) as primary, lab.attach("e0.0", timeout_s=0.2) as disk:
        held = primary.disk
        held.hang.clear()
        writing = asyncio.ensure_future(disk.write(0, b"x" * 512))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await primary.kill()
        assert time.monotonic() - started < PROMPT_S, "a disk that hangs must not hold it up"
        with pytest.raises(Unreachable):
            await writing
        assert store.data[:512] == bytes(512)
        await primary.kill()


def then_restart(lab: Lab, store: MemoryDisk) -> Coroutine[Any, Any, None]:
    async def run() -> None:
        async with lab.serve(store) as primary, lab.attach("e0.0") as disk:
            await disk.write(0, b"before")
            await primary.kill()
            writing = asyncio.ensure_future(disk.write(512, b"after"))
            await asyncio.sleep(0.05)
            assert not writing.done()
            await primary.restart()
            await writing
            primary.disk.bad_offsets = {0}
            await primary.restart()
            assert await disk.read(0, 6) == b"before"

    return run()


def then_failover(lab: Lab, store: MemoryDisk) -> Coroutine[Any, Any, None]:
    async def run() -> None:
        async with lab.serve(store, "e1.0") as one, lab.serve(store, "e2.0"), lab.attach(*BOTH) as disk:
            assert owner(disk) == "e1.0"
            await one.kill()
            await disk.write(512, b"after")
            assert owner(disk) == "e2.0"
            await one.restart()

    return run()


@pytest.mark.parametrize("after", [then_restart, then_failover])
def test_a_server_is_killed_and(after: Callable[[Lab, MemoryDisk], Coroutine[Any, Any, None]]) -> None:
    @limited
    async def run() -> None:
        store = MemoryDisk(SIZE)
        await after(Lab(), store)
        assert store.data[512:517] == b"after"

    run()


@limited
async def test_the_disk_is_not_closed() -> None:
    closed = []

    class Watched(MemoryDisk):
        def close(self) -> None:
            closed.append(self)

    lab = Lab()
    async with lab.serve(Watched(SIZE)) as primary:
        await primary.restart()
    assert not closed


def test_the_docstring_has_a_whole_test() -> None:
    assert re.findall(r"^def (test_\w+)", example(), re.MULTILINE)
