"""The blocking twin: the same disk, from threads and scripts, and every way in which it may be left."""

import asyncio
import inspect
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

import aoe
from aoe.disk.memory import MemoryDisk
from aoe.errors import ConfigurationError, DiskError, RequestError, TargetRefused, Unreachable
from aoe.initiator.admin import Admin
from aoe.initiator.blocking import BlockingAdmin, BlockingDisk, _Worker
from aoe.initiator.remote import RemoteDisk
from tests.initiator.target_thread import TargetThread, target_thread
from tests.support.waiting import PATIENCE_S, PROMPT_S

SIZE = 1 << 20
OWN_AFFAIRS = {
    "begin",
    "drain",
    "refresh",
    "measure",
    "try_read",
    "alignment",
    "direct",
    "alone",
    "store_name",
    "failed",
    "reopen",
    "distrust",
    "life",
}
"""What only the asyncio side needs, or a target of a disk that it serves."""


@pytest.fixture
def store() -> MemoryDisk:
    return MemoryDisk(SIZE)


@pytest.fixture
def target(store: MemoryDisk) -> Iterator[TargetThread]:
    with target_thread(store) as there:
        yield there


@pytest.fixture
def disk(target: TargetThread) -> Iterator[BlockingDisk]:
    with opened(target) as disk:
        yield disk


def opened(target: TargetThread, **options: Any) -> BlockingDisk:
    return aoe.open("e1.2", link=target.link_to(), **options)


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aoe ")]


def soon(true: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    """Whether it comes true within the time."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Ctrl-C, with another signal's number: whoever runs the tests may have plans for SIGINT."""

    def press(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, press)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# The same disk


def test_data(disk: BlockingDisk, store: MemoryDisk) -> None:
    disk.write(1000, b"any bytes")
    assert disk.read(998, 13) == b"\0\0any bytes\0\0"
    disk.write(4096, b"x" * 4096, fua=True)
    disk.write_zeroes(4096, 1024)
    disk.trim(6144, 1024)
    disk.flush()
    assert store.data[4096:8192] == bytes(1024) + b"x" * 1024 + bytes(1024) + b"x" * 1024


def test_what_it_is(disk: BlockingDisk) -> None:
    assert (disk.address, disk.size, disk.block, disk.physical_block) == ("e1.2", SIZE, 512, 512)
    assert (disk.read_only, disk.trims, disk.trim_zeroes) == (False, True, True)
    assert disk.identity
    (path,) = disk.paths
    assert (path.state, path.owner) == ("usable", True)
    assert len(disk.peers) == 1
    assert disk.counters.keys() <= {"retransmits", "late_replies"}, "a busy machine's"


def test_paths_are_chosen(disk: BlockingDisk) -> None:
    (path,) = disk.paths
    disk.prefer(path.name)
    disk.fenced(path.name)
    with pytest.raises(RequestError, match="no usable path"):
        disk.prefer("another")


def test_growth_is_seen_when_asked_for(disk: BlockingDisk, target: TargetThread, store: MemoryDisk) -> None:
    store.data += bytes(SIZE)
    target.do(target.server.refresh)
    assert disk.size == SIZE
    disk.revalidate()
    assert disk.size == 2 * SIZE


def test_the_verbs(disk: BlockingDisk) -> None:
    assert disk.admin.config() == b""
    assert disk.admin.set_config(b"one") == b"one"
    assert disk.admin.test_config(b"on", prefix=True)
    with pytest.raises(TargetRefused, match="4"):
        disk.admin.set_config(b"two")
    (own,) = disk.admin.reserve()
    assert disk.admin.reserved() == [own]
    assert disk.admin.release() == []
    assert disk.admin.edit_mask(add=[own]) == disk.admin.mask() == [own]
    assert disk.admin.edit_mask(delete=[own]) == []


def test_a_disk_error_is_the_same_error(disk: BlockingDisk, target: TargetThread) -> None:
    target.disk.bad_offsets = {1024}
    with pytest.raises(DiskError) as caught:
        disk.read(0, 4096)
    assert caught.value.offset == 1024
    assert disk.read(2048, 512) == bytes(512)


@pytest.mark.parametrize(("original", "twin"), [(RemoteDisk, BlockingDisk), (Admin, BlockingAdmin)])
def test_nothing_is_missing(original: type, twin: type) -> None:
    links = {"ready", "changed"}
    names = {name for name in dir(original) if not name.startswith("_")} - links - OWN_AFFAIRS
    assert names <= set(dir(twin))
    for name in names:
        ours, theirs = getattr(twin, name), getattr(original, name)
        if inspect.isfunction(theirs):
            mine = inspect.signature(ours).parameters
            assert list(mine) == list(inspect.signature(theirs).parameters), name


def test_the_check_finds_what_is_missing() -> None:
    class More(RemoteDisk):
        async def added(self) -> None:
            pass

    with pytest.raises(AssertionError):
        test_nothing_is_missing(More, BlockingDisk)


def test_several_threads(disk: BlockingDisk, store: MemoryDisk) -> None:
    def work(part: int) -> None:
        rng, first = random.Random(part), part * SIZE // 8
        for _ in range(30):
            offset, data = first + rng.randrange(SIZE // 8 - 3000), rng.randbytes(rng.randrange(1, 3000))
            disk.write(offset, data)
            assert disk.read(offset, len(data)) == data
            assert disk.paths[0].owner
            assert disk.counters is not None

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert disk.read(0, SIZE) == store.data


def test_one_thread_that_waits_holds_no_other_one_up(disk: BlockingDisk, target: TargetThread) -> None:
    target.do(target.disk.hang.clear)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(disk.read, 0, 512)
        assert soon(lambda: disk.counters.get("retransmits", 0) > 0)
        assert not reading.done()
        target.do(target.disk.hang.set)
        assert reading.result(30) == bytes(512)


# Being interrupted


def test_an_interrupt_ends_the_waiting(disk: BlockingDisk, target: TargetThread) -> None:
    target.do(target.disk.hang.clear)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.2):
        disk.read(0, 512)
    assert time.monotonic() - started < PROMPT_S
    target.do(target.disk.hang.set)
    assert disk.read(0, 512) == bytes(512)


def test_a_write_that_was_interrupted_does_not_undo_a_later_one(
    disk: BlockingDisk, target: TargetThread, store: MemoryDisk
) -> None:
    target.do(target.disk.hang.clear)
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.2):
        disk.write(0, b"a" * 512)
    timer = threading.Timer(0.3, target.do, [target.disk.hang.set])
    timer.start()
    disk.write(0, b"b" * 512)
    timer.join()
    time.sleep(0.1)
    assert store.data[:512] == b"b" * 512


def test_what_was_interrupted_is_not_asked_any_more(target: TargetThread) -> None:
    disk = opened(target)
    target.do(target.disk.hang.clear)
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.2):
        disk.read(0, 512)
    started = time.monotonic()
    disk.close()
    assert time.monotonic() - started < PROMPT_S


def test_an_interrupt_ends_the_opening(target: TargetThread) -> None:
    link = target.link_to()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.2):
        aoe.open("e9.9", link=link, find_s=60)
    assert time.monotonic() - started < PROMPT_S
    assert not workers()
    assert link.socket.fileno() == -1, "the link was not closed"


def test_an_interrupt_ends_the_closing(target: TargetThread) -> None:
    disk = opened(target)
    target.do(target.disk.hang.clear)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(disk.read, 0, 512)
        assert soon(lambda: disk.counters.get("retransmits", 0) > 0)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt), interrupted_after(0.2):
            disk.close()
        assert time.monotonic() - started < PROMPT_S
        with pytest.raises(RequestError, match="was closed"):
            reading.result(30)
    assert not workers()


# Leaving


def test_closing_twice_and_use_after_closing(target: TargetThread) -> None:
    disk = opened(target)
    disk.write(0, b"x" * 512)
    disk.close()
    disk.close()
    assert not workers()
    for call in (
        lambda: disk.read(0, 512),
        lambda: disk.write(0, b"y"),
        disk.flush,
        disk.revalidate,
        disk.admin.config,
        lambda: disk.prefer("any"),
    ):
        with pytest.raises(RequestError, match=r"e1\.2 is closed"):
            call()
    assert disk.size == SIZE
    assert [path.owner for path in disk.paths] == [True]
    assert disk.counters is not None


def test_closing_waits_for_what_is_under_way(target: TargetThread) -> None:
    disk = opened(target)
    target.do(target.disk.hang.clear)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(disk.write, 0, b"x" * 512)
        assert soon(lambda: disk.counters.get("retransmits", 0) > 0)
        timer = threading.Timer(0.3, target.do, [target.disk.hang.set])
        timer.start()
        disk.close()
        writing.result(30)
        timer.join()


def test_what_is_not_answered_in_time_is_an_error_of_closing(
    target: TargetThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = RemoteDisk.drain
    monkeypatch.setattr(RemoteDisk, "drain", lambda remote: drain(remote, 0.1))
    disk = opened(target)
    target.do(target.disk.hang.clear)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(disk.read, 0, 512)
        assert soon(lambda: disk.counters.get("retransmits", 0) > 0)
        with pytest.raises(RequestError, match="not answered"):
            disk.close()
        with pytest.raises(RequestError, match="was closed"):
            reading.result(30)
    disk.close()


def test_an_exception_inside_does_not_wait(target: TargetThread) -> None:
    target.do(target.disk.hang.clear)
    with ThreadPoolExecutor(2) as pool:
        started = time.monotonic()
        with pytest.raises(ZeroDivisionError), opened(target) as disk:
            reading = pool.submit(disk.read, 0, 512)
            waiting = [pool.submit(disk.write, 0, b"x" * 512) for _ in range(2)]
            assert soon(lambda: disk.counters.get("retransmits", 0) > 0)
            raise ZeroDivisionError
        assert time.monotonic() - started < PROMPT_S
        for asked in (reading, *waiting):
            with pytest.raises(RequestError, match="closed"):
                asked.result(30)
    assert not workers()


def test_nobody_is_left_waiting_when_others_close(target: TargetThread) -> None:
    """However close a call comes to the end, it returns."""

    def work(disk: BlockingDisk, failures: list[str]) -> None:
        try:
            while True:
                disk.read(0, 512)
        except RequestError as error:
            failures.append(str(error))

    for turn in range(30):
        disk = opened(target)
        failures: list[str] = []
        threads = [threading.Thread(target=work, args=(disk, failures), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.01)
        disk._end(urgent=bool(turn % 2))
        for thread in threads:
            thread.join(30)
        assert len(failures) == 4
        assert all("closed" in failure for failure in failures)


def test_nobody_is_left_waiting_when_the_disk_ends_by_itself() -> None:
    @asynccontextmanager
    async def short() -> AsyncIterator[Any]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.005, task.cancel)
        yield None

    async def ask(worker: _Worker) -> None:
        await asyncio.sleep(60 if worker._closing else 0)

    def work(worker: _Worker, failures: list[str]) -> None:
        try:
            while True:
                worker.call(ask(worker))
        except RequestError as error:
            failures.append(str(error))

    for _ in range(100):
        worker = _Worker("short", short())
        worker.thread.start()
        worker.opened.result(30)
        failures: list[str] = []
        threads = [threading.Thread(target=work, args=(worker, failures), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        worker.ended.result(30)
        assert len(failures) == 4
        assert all("closed" in failure for failure in failures)


def test_what_cannot_be_opened_leaves_nothing_behind(target: TargetThread) -> None:
    with pytest.raises(ConfigurationError, match="not an address"):
        aoe.open("e1.x", interface="nowhere")
    with pytest.raises(RequestError, match=r"e9\.9 does not answer"):
        aoe.open("e9.9", link=target.link_to(), find_s=0.2)
    with pytest.raises(TypeError):
        aoe.open("e1.2", colour="blue")
    assert not workers()


def test_options_reach_attach(target: TargetThread) -> None:
    with opened(target, timeout_s=0.2) as disk:
        target.do(target.disk.hang.clear)
        with pytest.raises(Unreachable):
            disk.read(0, 512)
        target.do(target.disk.hang.set)


def test_a_disk_that_is_forgotten_ends(target: TargetThread) -> None:
    disk = opened(target)
    admin = disk.admin
    del disk
    assert admin.config() == b"", "its verbs keep it"
    assert workers()
    del admin
    assert soon(lambda: not workers())


FORGETFUL = """
import sys, threading, time
import aoe
from aoe.link.udp import UdpLink, UdpSpec

disk = aoe.open("e1.2", link=UdpLink(UdpSpec.parse(sys.argv[1])))
disk.write(0, b"kept")
threading.Thread(target=disk.read, args=(512, 512), daemon=True).start()
{last}
"""


@pytest.mark.parametrize(("last", "status"), [("time.sleep(0.2)", 0), ("sys.exit(3)", 3), ("1 / 0", 1)])
def test_a_program_that_ends_without_closing_ends(
    target: TargetThread, store: MemoryDisk, last: str, status: int
) -> None:
    spec = f"udp:127.0.0.1:0,mtu=9000,peer={target.link.name.removeprefix('udp:')}"
    script = FORGETFUL.format(last=last)
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", script, spec]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == status, done.stderr
    assert ("ZeroDivisionError" in done.stderr) if status == 1 else (done.stderr == "")
    assert store.data[:4] == b"kept"
