"""A disk or a target that is used where it cannot work says so at once, and does not touch its owner's."""

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import aoe
from aoe.disk.memory import MemoryDisk
from aoe.errors import AoeError, MisuseError, RequestError
from aoe.initiator.remote import RemoteDisk
from aoe.link.udp import UdpLink, UdpSpec
from aoe.target.offer import Offer
from aoe.target.target import Target
from tests.support.tools import need_engine

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

ATONCE_S = 30.0
languages = pytest.mark.parametrize("engine", ["python", "c"])


def in_child(call: Callable[[], object]) -> str:
    """What a call in a child that is forked here ends with; it must end at once."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(int(ATONCE_S))
        try:
            ended = repr(call())
        except BaseException as error:
            ended = f"{type(error).__name__}: {error}"
        os.write(theirs, ended.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert status == 0, "it hung"
    return said


def links() -> tuple[UdpLink, UdpLink]:
    """A target's and a client's, over the loopback."""
    server = UdpLink(UdpSpec.parse("udp:127.0.0.1:0"))
    host, port = server.socket.getsockname()
    return server, UdpLink(UdpSpec.parse(f"udp:127.0.0.1:0,peer={host}:{port}"))


@asynccontextmanager
async def used(engine: str, **options: Any) -> AsyncIterator[tuple[Target, RemoteDisk]]:
    if engine == "c":
        need_engine()
    server, client = links()
    async with (
        aoe.serve(MemoryDisk(1 << 20), server, check=False) as target,
        aoe.attach("e0.0", link=client, engine=engine, **options) as disk,
    ):
        yield target, disk


def run(scenario: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(bounded())


# The whole disk


@languages
def test_a_child_is_told_and_its_parent_goes_on(engine: str) -> None:
    async def scenario() -> None:
        async with used(engine) as (_, disk):
            await disk.write(0, b"kept")
            asked = [asyncio.ensure_future(disk.read(0, 4)) for _ in range(8)]
            await asyncio.sleep(0)
            said = in_child(lambda: asyncio.run(disk.read(0, 4)))
            assert said.startswith("MisuseError: the disk e0.0 belongs to the process")
            assert "attach it here" in said
            for call in (disk.prefer, disk.fenced):
                assert in_child(lambda call=call: call("x")).startswith("MisuseError")  # type: ignore[misc]
            for look in ("paths", "counters", "peers"):
                assert in_child(lambda look=look: getattr(disk, look)).startswith("MisuseError")  # type: ignore[misc]
            assert in_child(lambda: asyncio.run(disk.admin.config())).startswith("MisuseError")
            assert await asyncio.gather(*asked) == [b"kept"] * 8

    run(scenario())


@languages
def test_a_child_that_closes_it_takes_nothing_from_its_parent(engine: str) -> None:
    """Its epoll sets, rings and timers are the parent's, too."""

    async def scenario() -> None:
        async with used(engine) as (_, disk):
            assert in_child(disk.close) == "None"
            reading = asyncio.ensure_future(disk.read(0, 4))
            await asyncio.sleep(0)
            assert in_child(reading.get_coro().close) == "None"  # as at the end of the child
            assert await reading == bytes(4)
            await disk.write(0, b"goes on")
            assert await disk.read(0, 7) == b"goes on"

    run(scenario())


@languages
def test_a_process_of_multiprocessing_is_told(engine: str) -> None:
    async def scenario() -> None:
        async with used(engine) as (_, disk):
            queue = context.Queue()
            process = context.Process(target=tell, args=(disk, queue))
            process.start()
            said = await asyncio.to_thread(queue.get, True, ATONCE_S)
            await asyncio.to_thread(process.join)
            assert said.startswith("MisuseError")
            assert await disk.read(0, 4) == bytes(4)

    context = multiprocessing.get_context("fork")
    run(scenario())


def tell(disk: RemoteDisk, queue: Any) -> None:
    try:
        asyncio.run(disk.read(0, 4))
    except AoeError as error:
        queue.put(f"{type(error).__name__}: {error}")


@languages
def test_it_cannot_be_sent_to_another_process(engine: str) -> None:
    async def scenario() -> None:
        async with used(engine) as (target, disk):
            for it in (target, disk):
                with pytest.raises(MisuseError, match="another process"):
                    pickle.dumps(it)

    run(scenario())


@languages
def test_another_event_loop_and_another_thread_are_told(engine: str) -> None:
    async def scenario() -> None:
        async with used(engine) as (_, disk):
            began = time.monotonic()
            for call in (lambda: asyncio.run(disk.read(0, 4)), lambda: disk.paths, disk.close):
                with pytest.raises(MisuseError, match=r"another thread; attach it here, or use aoe\.open"):
                    await asyncio.to_thread(call)
            assert time.monotonic() - began < ATONCE_S
            assert await disk.read(0, 4) == bytes(4)

    run(scenario())


@languages
def test_a_loop_that_comes_after_its_own_is_told(engine: str) -> None:
    async def begin() -> RemoteDisk:
        kept.append(used(engine))
        _, disk = await kept[0].__aenter__()
        return disk

    async def leave() -> None:
        await kept[0].__aexit__(None, None, None)

    kept: list[Any] = []
    with asyncio.Runner() as first:
        disk = first.run(begin())
        with asyncio.Runner() as second, pytest.raises(MisuseError, match="another event loop"):
            second.run(disk.read(0, 4))
        assert first.run(disk.read(0, 4)) == bytes(4)
        first.run(leave())


@languages
def test_after_its_end_it_says_so(engine: str) -> None:
    async def scenario() -> None:
        async with used(engine) as (_, disk):
            pass
        for _ in range(2):
            with pytest.raises(RequestError, match="is closed"):
                await disk.read(0, 4)
        assert disk.counters is not None
        assert len(await asyncio.to_thread(lambda: disk.paths)) == 1
        disk.close()

    run(scenario())


# aoe.open


@pytest.fixture
def served() -> Any:
    """A client's link to a disk that is served elsewhere, in a thread."""
    server, client = links()
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with aoe.serve(MemoryDisk(1 << 20), server, check=False):
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    yield client
    over.set()
    thread.join()


@languages
def test_an_open_disk_serves_threads_and_tells_a_child(engine: str, served: UdpLink) -> None:
    if engine == "c":
        need_engine()
    with aoe.open("e0.0", link=served, engine=engine) as disk:
        threads = [threading.Thread(target=disk.write, args=(n * 512, bytes([n]))) for n in range(8)]
        for thread in threads:
            thread.start()
        said = in_child(lambda: disk.read(0, 4))
        assert said.startswith("MisuseError: the disk e0.0 belongs to the process")
        assert "open it again here" in said
        assert in_child(lambda: disk.paths).startswith("MisuseError")
        assert in_child(disk.admin.config).startswith("MisuseError")
        assert in_child(disk.close) == "None"
        assert in_child(lambda: disk.__exit__(None, None, None)) == "None"
        for thread in threads:
            thread.join()
        assert disk.read(7 * 512, 1) == b"\7"
    with pytest.raises(RequestError, match="is closed"):
        disk.read(0, 4)


@languages
def test_a_child_is_told_even_while_a_thread_of_its_parent_is_at_it(engine: str, served: UdpLink) -> None:
    """A lock that was held at the fork is held in the child for ever."""
    if engine == "c":
        need_engine()
    with aoe.open("e0.0", link=served, engine=engine) as disk, disk._worker._lock:
        holding = threading.Thread(target=in_child, args=(lambda: disk.read(0, 4),))
        holding.start()
        holding.join(ATONCE_S)
        assert not holding.is_alive()


# A target


def test_a_target_in_a_child_changes_nothing() -> None:
    async def scenario() -> None:
        async with used("python") as (target, disk):
            offer = Offer(MemoryDisk(512), 1, 0, "ANOTHER")
            for verb in (lambda: target.add(offer), lambda: target.remove(0, 0)):
                said = in_child(lambda verb=verb: asyncio.run(verb()))  # type: ignore[misc]
                assert said.startswith("MisuseError: this target belongs to the process")
            assert in_child(lambda: asyncio.run(target.stop())) == "True"
            assert await disk.read(0, 4) == bytes(4)
            with pytest.raises(MisuseError, match="another thread"):
                await asyncio.to_thread(lambda: asyncio.run(target.refresh()))

    run(scenario())
