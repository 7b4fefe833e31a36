"""What becomes of disks, their clients and a snapshot where something is in its way."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aoe import limits, timing
from aoe.disk import syscalls
from aoe.disk.file import FileDisk
from aoe.disk.memory import MemoryDisk
from aoe.disk.open import Opening, open_disk
from aoe.errors import AoeError, ConfigurationError, CutError
from aoe.initiator.remote import RemoteDisk
from aoe.target.cutting import Cutting
from aoe.target.offer import Offer
from aoe.target.plain_cut import PlainCut
from aoe.target.serve import serve
from aoe.target.target import Target
from aoe.testing import Lab
from tests.link.collector import until as eventually

STEP = 64 << 10
SIZE = 16 * STEP
OLD, NEW = b"o" * 4096, b"n" * 4096


class Clones:
    """Instead of the file system's: by copying, and as the test wants it."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.error = 0

    def clone(self, fd: int, of: int, offset: int, length: int) -> None:
        self.calls.append(offset)
        assert self.may_go.wait(60)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        os.pwrite(fd, os.pread(of, length, offset), offset)


@pytest.fixture
def clones(monkeypatch: pytest.MonkeyPatch) -> Clones:
    made = Clones()
    monkeypatch.setattr(syscalls, "clone_range", made.clone)
    monkeypatch.setattr(limits, "CUT_RANGE", STEP)
    monkeypatch.setattr(limits, "CUT_EXTENTS_MAX", 0)
    return made


class Served(NamedTuple):
    target: Target
    client: RemoteDisk
    into: int
    snapshot: Path

    async def cut(self) -> Cutting:
        return await self.target.cut({(1, 0): self.into})


@asynccontextmanager
async def served(work: Path, **how: Any) -> AsyncIterator[Served]:
    lab, disk, snapshot = Lab(), work / "disk", work / "snapshot"
    disk.write_bytes(OLD * (SIZE // len(OLD)))
    with ExitStack() as held:
        into = os.open(snapshot, os.O_RDWR | os.O_CREAT, 0o600)
        held.callback(os.close, into)
        links = lab.cables(lab.new_host(), (0,)).values()
        async with (
            serve(open_disk(disk, Opening(**how)), *links, address="e1.0", check=False) as target,
            lab.attach("e1.0") as client,
        ):
            yield Served(target, client, into, snapshot)


def run(test: Callable[[Served], Coroutine[None, None, None]], work: Path, **how: Any) -> None:
    async def whole() -> None:
        async with served(work, **how) as it:
            await test(it)

    asyncio.run(whole())


def test_a_snapshot_has_what_was_there_and_the_disk_what_came_later(clones: Clones, tmp_path: Path) -> None:
    async def test(it: Served) -> None:
        await it.client.write(0, NEW)
        clones.may_go.clear()
        cutting = await it.cut()
        later = asyncio.ensure_future(it.client.write(5 * STEP, NEW))
        await eventually(lambda: clones.calls, what="nothing is cloned")
        assert await it.client.read(5 * STEP + 4096, 4096) == OLD, "reads go on"
        assert not later.done()
        assert cutting.progress == 0
        clones.may_go.set()
        await asyncio.gather(later, cutting.whole())
        assert cutting.progress == 1
        assert await it.client.read(5 * STEP, 4096) == NEW
        assert it.snapshot.read_bytes() == NEW + OLD * (SIZE // len(OLD) - 1)
        assert clones.calls.index(5 * STEP) <= 1, "what is waited for comes first"
        assert sorted(clones.calls) == list(range(0, SIZE, STEP)), "each range once"

    run(test, tmp_path)


def test_few_extents_are_cloned_at_once(
    clones: Clones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CUT_EXTENTS_MAX", 64)
    monkeypatch.setattr(syscalls, "extents", lambda _: iter([None] * 64))

    async def test(it: Served) -> None:
        await (await it.cut()).whole()
        assert clones.calls == [0]

    run(test, tmp_path)


def test_holes_are_not_cloned(clones: Clones, tmp_path: Path) -> None:
    async def test(it: Served) -> None:
        with (tmp_path / "disk").open("r+b") as file:
            file.truncate(STEP)
            file.truncate(SIZE)
        await (await it.cut()).whole()
        assert clones.calls == [0]
        assert it.snapshot.read_bytes() == (tmp_path / "disk").read_bytes()

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errno.ENOSPC, "the store is full"),
        (errno.EOPNOTSUPP, "cannot let files share blocks"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_clients_meet_no_error_of_a_snapshot(error: int, said: str, clones: Clones, tmp_path: Path) -> None:
    async def test(it: Served) -> None:
        clones.may_go.clear()
        cutting = await it.cut()
        write = asyncio.ensure_future(it.client.write(0, NEW))
        await eventually(lambda: clones.calls, what="nothing is cloned")
        clones.error = error
        clones.may_go.set()
        with pytest.raises(CutError, match=f"^e1.0: no snapshot: .*{said}"):
            await cutting.whole()
        await write
        await it.client.write(SIZE - 4096, NEW)
        clones.error = 0
        await (await it.cut()).whole()
        assert it.snapshot.read_bytes() == NEW + OLD * (SIZE // len(OLD) - 2) + NEW

    run(test, tmp_path)


def test_a_disk_that_hangs_has_no_snapshot(
    clones: Clones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes, before = threading.Event(), FileDisk._write

    def slow(disk: FileDisk, *what: Any) -> None:
        assert goes.wait(60)
        before(disk, *what)

    async def test(it: Served) -> None:
        monkeypatch.setattr(FileDisk, "_write", slow)
        hangs = asyncio.ensure_future(it.client.write(0, NEW))
        (export,) = it.target.exports
        await eventually(lambda: export.busy, what="nothing hangs")
        with pytest.raises(CutError, match="took over 250 ms"):
            await it.cut()
        goes.set()
        await hangs
        await it.client.write(4096, NEW)
        assert not clones.calls
        await (await it.cut()).whole()
        assert it.snapshot.read_bytes()[: 2 * 4096] == 2 * NEW

    run(test, tmp_path)


def test_a_disk_that_does_not_answer_at_all_is_not_waited_for(
    clones: Clones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes, before = threading.Event(), FileDisk._sync

    def slow(disk: FileDisk) -> None:
        assert goes.wait(60)
        before(disk)

    async def test(it: Served) -> None:
        monkeypatch.setattr(FileDisk, "_sync", slow)
        monkeypatch.setattr(timing, "CUT_READY_S", 0.01)
        with pytest.raises(CutError, match="its disk took over 0 s to be ready"):
            await it.cut()
        goes.set()
        monkeypatch.setattr(timing, "CUT_READY_S", 30.0)
        await (await it.cut()).whole()

    run(test, tmp_path)


@pytest.mark.parametrize("leaves", ["export", "target"])
def test_what_is_served_no_more_has_no_snapshot(leaves: str, clones: Clones, tmp_path: Path) -> None:
    async def test(it: Served) -> None:
        clones.may_go.clear()
        cutting = await it.cut()
        write = asyncio.ensure_future(it.client.write(0, NEW))
        await eventually(lambda: clones.calls and it.target.exports[0].busy, what="nothing waits")
        leaving = it.target.remove(1, 0) if leaves == "export" else it.target.stop()
        left = asyncio.ensure_future(leaving)
        await write
        clones.may_go.set()
        with pytest.raises(CutError, match="is served no more" if leaves == "export" else "the target stops"):
            await cutting.whole()
        assert await left
        assert (tmp_path / "disk").read_bytes().startswith(NEW)

    run(test, tmp_path)


@pytest.mark.parametrize("leaves", ["export", "target"])
@pytest.mark.parametrize("until", ["ready", "held"])
def test_what_begins_asks_nothing_of_what_is_gone(
    until: str, leaves: str, clones: Clones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs in a sync, or for a change under way, while its disk or all goes."""
    goes, waits = threading.Event(), threading.Event()
    name = "_sync" if until == "ready" else "_write"
    before, end, begin = getattr(FileDisk, name), PlainCut.end, PlainCut.begin
    done: list[str] = []

    def slow(disk: FileDisk, *what: Any) -> None:
        waits.set()
        assert goes.wait(60)
        before(disk, *what)

    def begun(side: PlainCut) -> None:
        done.append("begin")
        begin(side)

    def ended(side: PlainCut) -> None:
        done.append("end")
        end(side)

    async def test(it: Served) -> None:
        monkeypatch.setattr(FileDisk, name, slow)
        monkeypatch.setattr(PlainCut, "begin", begun)
        monkeypatch.setattr(PlainCut, "end", ended)
        monkeypatch.setattr(timing, "CUT_HOLD_S", 60.0)
        hangs = asyncio.ensure_future(it.client.write(0, NEW)) if until == "held" else None
        if hangs:
            await eventually(waits.is_set, what="nothing hangs")
        cut = asyncio.ensure_future(it.cut())
        await eventually(
            lambda: waits.is_set() and (until == "ready" or "begin" in done), what="it has begun"
        )
        leaving = it.target.remove(1, 0) if leaves == "export" else it.target.stop()
        left = asyncio.ensure_future(leaving)
        if until == "held":
            await eventually(lambda: "end" in done, what="it waits for what is under way")
        goes.set()
        with pytest.raises(CutError, match="is served no more" if leaves == "export" else "the target stops"):
            await cut
        assert done.count("begin") == (until == "held")
        await left
        if hangs:
            await hangs

    run(test, tmp_path)


def test_one_at_a_time(clones: Clones, tmp_path: Path) -> None:
    async def test(it: Served) -> None:
        clones.may_go.clear()
        cutting = await it.cut()
        with pytest.raises(ConfigurationError, match=r"e1\.0: a snapshot is under way; wait for that"):
            await it.cut()
        clones.may_go.set()
        await cutting.whole()
        await (await it.cut()).whole()

    run(test, tmp_path)


def test_a_cut_that_is_given_up_ends(clones: Clones, tmp_path: Path) -> None:
    async def test(it: Served) -> None:
        clones.may_go.clear()
        cutting = await it.cut()
        cutting.give_up("nobody wants it")
        await it.client.write(0, NEW)
        clones.may_go.set()
        with pytest.raises(CutError, match="nobody wants it"):
            await cutting.whole()

    run(test, tmp_path)


async def refused(target: Target, into: int, key: tuple[int, int] = (1, 0)) -> str:
    with pytest.raises(AoeError) as problem:
        await target.cut({key: into})
    return str(problem.value)


def test_what_has_no_snapshots(clones: Clones, tmp_path: Path) -> None:
    async def in_memory() -> None:
        lab = Lab()
        links = lab.cables(lab.new_host(), (0,)).values()
        async with serve(MemoryDisk(SIZE), *links, address="e1.0", check=False) as target:
            assert "only a disk that is a whole file" in await refused(target, 0)
            assert "e1.1 is not served here" in await refused(target, 0, (1, 1))
            with pytest.raises(ConfigurationError, match="1 to 64 disks"):
                await target.cut({})

    async def shared(it: Served) -> None:
        assert "--shared" in await refused(it.target, it.into)

    async def part(it: Served) -> None:
        assert "a whole file" in await refused(it.target, it.into)

    async def in_parts(it: Served) -> None:
        other = open_disk(tmp_path / "disk", Opening(offset=8 * STEP // 512, locked=True))
        await it.target.add(Offer(other, 1, 1, "OTHER"), check=False)
        assert "other parts of its file are served, too" in await refused(it.target, it.into)

    async def cut_short(it: Served) -> None:
        os.truncate(tmp_path / "disk", SIZE // 2)
        assert "its file has become shorter than the disk" in await refused(it.target, it.into)

    async def sick(it: Served) -> None:
        it.target.server.served(it.target.exports[0]).disk.distrust()
        assert "reopen it first" in await refused(it.target, it.into)

    asyncio.run(in_memory())
    run(shared, tmp_path, shared=True)
    run(part, tmp_path, offset=8)
    run(in_parts, tmp_path, length=8 * STEP // 512)
    run(cut_short, tmp_path)
    run(sick, tmp_path)
    assert not clones.calls
